/* Messages between nodes: one channel of Redis for all, with the name of ours in front of each message. */
#ifndef EVENTS_H
#define EVENTS_H

#include "pool.h"

int events_publish(struct pool *p, const struct redis_options *o, const struct tunnel_call *call, const char *channel,
		   const char *message, size_t len);

/* The subscriber: a thread with a connection of its own, which comes back when it is lost. */
struct events;
int events_new(const struct dial *dial, const struct redis_options *o, struct master *m, struct events **out_events,
	       struct words w);
int events_subscribe(struct events *v, const struct tunnel_call *call, tunnel_event_fn *event, void *arg);
/* dial->stop_fd is readable. */
void events_free(struct events **events);

#endif
