/* Sessions as the control plane knows them: records in the store, decisions about attaching, their end. All calls block
 * (store); they run on workers. The relay reports what its legs do through sessions_on_*. */
#ifndef SERVER_SESSIONS_H
#define SERVER_SESSIONS_H

#include "base/err.h"
#include "server/relay.h"

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

struct server;
struct sessions;

int sessions_new(struct server *server, struct sessions **out_sessions, struct err *e);
/* Loads live sessions from the store and starts the sweep (1 s): expiry, idleness, detach grace. */
int sessions_start(struct sessions *s, struct err *e);
/* Ends the sweep, which gives jobs to the pool: before pool_stop. */
void sessions_halt(struct sessions *s);
/* Nothing may use it any more: after pool_stop, before the relay, control and the store go. */
void sessions_stop(struct sessions **s);

struct attach_request {
	const char *session, *token, *dpop;
	const char *host; /* Host header of the upgrade */
	const char *remote_address;
	const char *request_id;
};
struct attach_decision {
	unsigned close_code; /* 0: in. Else close with it and text */
	char text[256];
	char relay_url[512]; /* with 4009 */
	enum leg_role role;
	int64_t generation;
	int64_t wait_s; /* with 4503: not before; 0: nothing is said about that */
	char session[65];
};
void sessions_attach_blocking(struct server *server, const struct attach_request *request, struct attach_decision *out);

/* From the relay, on workers, serial per session. generation: of the legs; an older one's bye ends nothing. */
void sessions_on_attached_blocking(struct server *server, const char *session, enum leg_role role, int64_t generation,
				   const char *remote_address);
void sessions_on_detached_blocking(struct server *server, const char *session, enum leg_role role, const char *why);
void sessions_on_paired_blocking(struct server *server, const char *session, int64_t generation, uint64_t epoch);
void sessions_on_client_bye_blocking(struct server *server, const char *session, int64_t generation);

/* Ends a session: record, audit, legs, agent. 0; ERR_NOT_FOUND; ERR_CONFLICT when it had ended; ERR_UNAVAILABLE. */
int sessions_end_blocking(struct server *server, const char *session, unsigned close_code, const char *text,
			  const char *by, struct err *e);
/* The same, asked for by an end of that generation: ERR_CONFLICT, and nothing happens, once a newer client has it. */
int sessions_end_generation_blocking(struct server *server, const char *session, int64_t generation,
				     unsigned close_code, const char *text, const char *by, struct err *e);
/* All of a target's. The first error, after all were tried. */
int sessions_end_target_blocking(struct server *server, const char *target, unsigned close_code, const char *text,
				 const char *by, struct err *e);
/* After any change of policies (PUT, DELETE, SIGHUP, another node's message): every live session of this node is judged
 * again. No longer allowed: ended with 4007. Allowed less or more: its agent gets a new grant. */
void sessions_rejudge_blocking(struct server *server);

/* How many live on this node; target NULL: all. Any thread. */
size_t sessions_count_anythread(struct sessions *s, const char *target);

/* Of this node: target → how many; at most so many targets. New reference. Any thread. */
json_t *sessions_loads_anythread(struct sessions *s, size_t most);

/* From control: the agent has connected and runs these (array of {id, generation}); the others' time to come back
 * starts. */
void sessions_on_agent_blocking(struct server *server, const char *target, const json_t *running);
void sessions_on_agent_gone_anythread(struct sessions *s, const char *target);
/* Its agent says that nothing of the session runs at its target. */
void sessions_on_terminated_anythread(struct sessions *s, const char *session, const char *target);
void sessions_on_accepted_anythread(struct sessions *s, const char *session, int64_t generation, const char *target);

#endif
