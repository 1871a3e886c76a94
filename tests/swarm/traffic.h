/* What a session's client sends over its one stream, and the check of the echo. Each byte follows from the seed and its
 * offset, and each block of 64 begins with its number, so a byte that is wrong, missing or there twice is seen, and
 * where it came from can be told. */
#ifndef SWARM_TRAFFIC_H
#define SWARM_TRAFFIC_H

#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#define TRAFFIC_BLOCK 64u

struct traffic;

struct traffic_config {
	int64_t ping_ms; /* a block each so many milliseconds */
	bool bulk;       /* instead: as fast as it goes */
	uint64_t seed;
};

struct traffic_callbacks {
	void (*round_trip)(void *user, int64_t us);   /* of a block; not with bulk */
	void (*failed)(void *user, const char *text); /* once: a wrong byte (mismatch), or the stream is broken */
};

struct traffic_numbers {
	uint64_t sent, checked;
	bool failed, mismatch;
};

/* Takes fd, whose other end is the stream. Begins paused. */
int traffic_new(uv_loop_t *loop, int fd, const struct traffic_config *config, const struct traffic_callbacks *callbacks,
		void *user, struct traffic **out_traffic, struct err *e);
void traffic_pause(struct traffic *t, bool paused); /* what is under way still comes back and is checked */
struct traffic_numbers traffic_numbers(const struct traffic *t);
void traffic_free(struct traffic **t); /* handles close in later turns */

#endif
