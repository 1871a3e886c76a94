/* The streams of a worker: each is judged by the grant and by the agent's own list, connected, handed to the endpoint,
 * and reported. */
#ifndef AGENT_STREAMS_H
#define AGENT_STREAMS_H

#include "agent/allow.h"
#include "agent/grant.h"
#include "agent/reports.h"
#include "agent/settings.h"
#include "base/err.h"
#include "endpoint/endpoint.h"

#include <uv.h>

struct streams;

struct streams_config {
	uv_loop_t *loop;
	const char *session, *name; /* name: the worker's, for its files */
	int64_t generation;
	const int64_t *server_clock_ms;  /* see job.h; must outlive it, and may change */
	const struct settings *settings; /* must outlive it, as must allow and reports */
	const struct allow *allow;
	struct reports *reports;
};

int streams_new(const struct streams_config *config, const struct grant *grant, struct streams **out_streams,
		struct err *e);
void streams_free(struct streams **streams);
void streams_set_endpoint(struct streams *s, struct endpoint *ep);

void streams_open(struct streams *s, uint32_t id, const struct link_dest *dest);
void streams_closed(struct streams *s, uint32_t id, unsigned code, const char *text, uint64_t bytes_in,
		    uint64_t bytes_out);
/* A new grant: what it no longer allows is reset. */
void streams_set_grant(struct streams *s, const struct grant *grant);
/* A new list of the agent's own, or other settings: what the list no longer holds is reset. allow must outlive s; the
 * old one may go. */
void streams_set_allow(struct streams *s, const struct allow *allow);
/* While it is frozen no stream is opened, and no connection taken from where the target listens. */
void streams_freeze(struct streams *s, bool frozen);
/* The session is over: what is still open is reported as closed with this reason. */
void streams_end(struct streams *s, const char *reason);
void streams_reap(struct streams *s); /* after SIGCHLD */

#endif
