/* A bounded pool of worker threads for everything that may block: plugin calls and the handlers around them. Submitting
 * never waits. */
#ifndef SERVER_POOL_H
#define SERVER_POOL_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct pool;
struct reactors;

int pool_start(size_t workers, size_t queue_limit, struct reactors *reactors, struct pool **out_pool, struct err *e);
/* Runs what is queued, joins. */
void pool_stop(struct pool **pool);

struct pool_job {
	void (*run_blocking)(void *arg); /* on a worker */
	void (*done)(void *arg); /* exactly once afterwards, on reactor `reactor`; or on the worker when reactor < 0 */
	void *arg;
	int reactor;
	bool must; /* taken even when the queue is full: events whose number is bounded elsewhere (one a connection) */
};

/* 0, or ERR_LIMIT when the queue is full (nothing runs then, done is not called). Any thread. */
int pool_submit_anythread(struct pool *pool, const struct pool_job *job);
/* Jobs with the same serial key run one after the other in order of submission (a control connection's messages). */
int pool_submit_serial_anythread(struct pool *pool, uint64_t key, const struct pool_job *job);
size_t pool_queued_anythread(struct pool *pool);

#endif
