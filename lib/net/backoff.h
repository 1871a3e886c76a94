/* Delays between attempts: the first at once, then 50 ms doubling to 5 s, each times a random factor in [0.5, 1]. */
#ifndef NET_BACKOFF_H
#define NET_BACKOFF_H

#include <stdint.h>

struct backoff {
	unsigned attempts;
};
static inline void backoff_reset(struct backoff *b)
{
	b->attempts = 0;
}
int64_t backoff_next_ms(struct backoff *b);

#endif
