/* When to try again (PROTOCOL.md, "Coming back"). Numbers in, numbers out; the random factor is in it, so that a
 * thousand ends do not come back in step. */
#ifndef ENDPOINT_PACE_H
#define ENDPOINT_PACE_H

#include <stdint.h>

struct pace {
	int64_t since_ms; /* the outage's begin; 0: none */
	unsigned attempts, late;
};

#define PACE_EAGER_MS 30000 /* of an outage; then slower and slower */
#define PACE_MOST_MS 5000
#define PACE_HOLD_MS 500 /* an attempt that has not connected holds up the next one for so long */

void pace_reset(struct pace *p);
/* How long to wait before the next attempt: 0 for the first. */
int64_t pace_next_ms(struct pace *p, int64_t now_ms);
/* How long an attempt that began now may hold up the next one. */
int64_t pace_hold_ms(struct pace *p, int64_t now_ms);
int64_t pace_spread_ms(int64_t ms); /* times 0.5 to 1 */

#endif
