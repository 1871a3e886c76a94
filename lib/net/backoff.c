#include "net/backoff.h"

#include "base/secret.h"

#define BACKOFF_FIRST_MS 50
#define BACKOFF_MAX_MS 5000

int64_t backoff_next_ms(struct backoff *b)
{
	unsigned n = b->attempts;
	if (b->attempts < 1000)
		b->attempts++;
	if (n == 0)
		return 0;
	int64_t delay = BACKOFF_FIRST_MS;
	for (unsigned i = 1; i < n && delay < BACKOFF_MAX_MS; i++)
		delay *= 2;
	if (delay > BACKOFF_MAX_MS)
		delay = BACKOFF_MAX_MS;
	/* The random half keeps the ends of a thousand sessions from coming back in step after a relay's death. */
	uint32_t random;
	secret_random(&random, sizeof random);
	return delay / 2 + (int64_t)(random % (uint32_t)(delay - delay / 2 + 1));
}
