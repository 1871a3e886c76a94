/* A bounded pool of worker threads for everything that may block: plugin calls and the handlers around them. It has
 * lanes, each with workers and a queue of its own, so that what waits for one kind of plugin holds up no other work.
 * Submitting never waits. */
#ifndef SERVER_POOL_H
#define SERVER_POOL_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct pool;
struct reactors;

enum pool_lane {
	POOL_CALLS,    /* API calls: the auth providers are asked who calls */
	POOL_ATTACHES, /* attaches, and policies that changed: a provider may be asked whether a session may go on */
	POOL_EVENTS,   /* asks the store alone: what legs and agents say, health */
	POOL_LANES
};

/* workers, queue_limit: of each lane. */
int pool_start(size_t workers, size_t queue_limit, struct reactors *reactors, struct pool **out_pool, struct err *e);
/* Runs what is queued, joins. */
void pool_stop(struct pool **pool);

struct pool_job {
	void (*run_blocking)(void *arg); /* on a worker */
	void (*done)(void *arg); /* exactly once afterwards, on reactor `reactor`; or on the worker when reactor < 0 */
	void *arg;
	int reactor;
	enum pool_lane lane;
	bool must; /* taken even when the queue is full: what is bounded elsewhere (so many a connection) */
};

/* 0, or ERR_LIMIT when the lane's queue is full (nothing runs then, done is not called). Any thread. */
int pool_submit_anythread(struct pool *pool, const struct pool_job *job);
/* Jobs with the same serial key run one after the other in order of submission, whatever their lanes (a control
 * connection's messages; attaches and events of a session). */
int pool_submit_serial_anythread(struct pool *pool, uint64_t key, const struct pool_job *job);
size_t pool_queued_anythread(struct pool *pool);

#endif
