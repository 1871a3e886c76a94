/* The supervisor's side of running sessions: starts workers, finds those of an earlier supervisor again, passes orders
 * down and reports up into the spool. One thread: the loop's. */
#ifndef AGENT_SESSIONS_H
#define AGENT_SESSIONS_H

#include "agent/job.h"
#include "agent/settings.h"
#include "agent/spool.h"
#include "base/err.h"

#include <jansson.h>
#include <uv.h>

struct sessions;

struct sessions_callbacks {
	void (*accepted)(void *user, const char *session, int64_t generation);
	/* code: enum link_code */
	void (*refused)(void *user, const char *session, int64_t generation, unsigned code, const char *text);
	/* After sessions_terminate, now or later: nothing of the session runs. */
	void (*terminated)(void *user, const char *session);
};

/* settings, target and spool must outlive it. Creates the runtime folder (0700) and adopts the workers it finds. */
int sessions_new(uv_loop_t *loop, const struct settings *settings, const char *target, struct spool *spool,
		 const struct sessions_callbacks *callbacks, void *user, struct sessions **out_sessions, struct err *e);
void sessions_free(struct sessions **sessions); /* lets go of the workers; they live on */

/* Answers by accepted or refused, now or later; also for one that runs already. A higher generation ends the worker of
 * the lower one, a lower generation is ignored. */
void sessions_offer(struct sessions *s, const struct offer *offer, json_t *server_urls);
void sessions_grant(struct sessions *s, const char *session, json_t *grant);
/* The settings were read again: for new sessions and, as far as they can change, for those that run. Nothing changes on
 * failure. */
int sessions_reload(struct sessions *s, struct err *e);
/* The control connection is up, or is not: the workers' leases go by it. server_clock_ms, when it is up: as struct
 * offer's, for how long sessions last. */
void sessions_control(struct sessions *s, bool up, int64_t server_clock_ms);
void sessions_terminate(struct sessions *s, const char *session, int64_t code, const char *text);
/* [{"id", "generation"}], new reference */
json_t *sessions_running(const struct sessions *s);
/* The spool has been synced: tells the workers which reports they may forget. */
void sessions_acknowledge(struct sessions *s);

#endif
