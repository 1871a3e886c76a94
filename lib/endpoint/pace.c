#include "endpoint/pace.h"

#include "base/secret.h"

#include <stdbool.h>
#include <stddef.h>

static const int64_t eager[] = { 0, 50, 100, 200, 300 };
#define EAGER (sizeof eager / sizeof eager[0])

int64_t pace_spread_ms(int64_t ms)
{
	uint32_t random;
	secret_random(&random, sizeof random);
	return ms / 2 + (int64_t)(random % (uint32_t)(ms - ms / 2 + 1));
}

void pace_reset(struct pace *p)
{
	*p = (struct pace){ .since_ms = 0 };
}

static bool is_late(struct pace *p, int64_t now_ms)
{
	if (!p->since_ms)
		p->since_ms = now_ms;
	return now_ms - p->since_ms >= PACE_EAGER_MS;
}

static int64_t late_ms(struct pace *p)
{
	int64_t ms = eager[EAGER - 1];
	if (p->late < 32)
		p->late++;
	for (unsigned i = 0; i < p->late && ms < PACE_MOST_MS; i++)
		ms *= 2;
	return ms < PACE_MOST_MS ? ms : PACE_MOST_MS;
}

int64_t pace_next_ms(struct pace *p, int64_t now_ms)
{
	size_t n = p->attempts < EAGER ? p->attempts : EAGER - 1;
	if (p->attempts < EAGER)
		p->attempts++;
	if (is_late(p, now_ms) && n > 0)
		return pace_spread_ms(late_ms(p));
	return pace_spread_ms(eager[n]);
}

int64_t pace_hold_ms(struct pace *p, int64_t now_ms)
{
	if (!is_late(p, now_ms))
		return pace_spread_ms(PACE_HOLD_MS);
	int64_t ms = pace_spread_ms(late_ms(p));
	return ms > PACE_HOLD_MS ? ms : PACE_HOLD_MS;
}
