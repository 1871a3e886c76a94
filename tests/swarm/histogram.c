#include "histogram.h"

#define STEPS 16u /* buckets a power of two */

static unsigned bucket_of(int64_t value)
{
	uint64_t v = value > 0 ? (uint64_t)value : 0;
	unsigned shift = 0;
	while (v >> shift >= 2 * STEPS)
		shift++;
	return shift ? shift * STEPS + (unsigned)(v >> shift) : (unsigned)v;
}

/* The largest value in it. */
static int64_t bucket_end(unsigned bucket)
{
	if (bucket < 2 * STEPS)
		return (int64_t)bucket;
	unsigned shift = bucket / STEPS - 1;
	return (int64_t)(((uint64_t)(bucket % STEPS + STEPS + 1) << shift) - 1);
}

void histogram_add(struct histogram *h, int64_t value)
{
	unsigned bucket = bucket_of(value);
	h->buckets[bucket < HISTOGRAM_BUCKETS ? bucket : HISTOGRAM_BUCKETS - 1]++;
	h->count++;
	if (value > h->max)
		h->max = value;
}

int64_t histogram_permille(const struct histogram *h, unsigned permille)
{
	uint64_t seen = 0, wanted = (h->count * permille + 999) / 1000;
	for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
		seen += h->buckets[i];
		if (seen && seen >= wanted)
			return bucket_end(i) < h->max ? bucket_end(i) : h->max;
	}
	return 0;
}
