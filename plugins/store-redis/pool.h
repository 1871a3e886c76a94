/* Connections for what changes nothing: each is lent to one errand at a time. They go where the connection for changes
 * goes. */
#ifndef POOL_H
#define POOL_H

#include "master.h"

/* What is done with a connection; made part of a larger struct. */
struct errand {
	int (*run)(struct errand *e, struct conn *c);
	const struct tunnel_call *call;
	struct words w;
	int64_t answer_ms;
	const struct tunnel_host *host;
	bool poisoned; /* the connection is of no use any more */
	bool told;     /* rows were handed on, or subscribers told: it cannot be repeated */
};

struct pool;
int pool_new(const struct dial *dial, struct master *m, size_t connections, int64_t answer_ms, struct pool **out_pool,
	     struct words w);
void pool_free(struct pool **pool);
/* Runs it, once more when the connection turns out to be an old one that the server has closed. */
int pool_run(struct pool *p, struct errand *e, const struct tunnel_call *call);

/* For errands. Sends what was said, hears one reply; an error of the server is a failure. */
int errand_ask(struct errand *e, struct conn *c, const char *doing, redisReply **out_reply);
/* Hears a further one. */
int errand_hear(struct errand *e, struct conn *c, const char *doing, redisReply **out_reply);

#endif
