/* Durations in buckets of a sixteenth of their size: percentiles are told up to 6 % too large, the largest exactly. */
#ifndef SWARM_HISTOGRAM_H
#define SWARM_HISTOGRAM_H

#include <stdint.h>

#define HISTOGRAM_BUCKETS (64u * 16)

struct histogram {
	uint64_t count;
	int64_t max;
	uint64_t buckets[HISTOGRAM_BUCKETS];
};

void histogram_add(struct histogram *h, int64_t value);
/* The value that so many of a thousand do not exceed; 0 when there are none. */
int64_t histogram_permille(const struct histogram *h, unsigned permille);

#endif
