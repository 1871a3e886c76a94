/* One process that plays many agents and the clients of their sessions against a real server. What it plays is made of
 * lib/ alone: control connections here, both ends of each session by lib/endpoint. All of it runs on one loop; REST
 * calls run on libuv's pool.
 *
 *   main.c      the loop, commands on stdin, the end     options.c   the command line
 *   start.c     what is started when                     api.c       REST calls
 *   agent.c     enrolment and control connection         target.c    the target's end of a session, and its echo
 *   session.c   the client's end of a session            traffic.c   what it sends, and the check of what comes back
 *   stats.c     numbers, and their JSON                  histogram.c durations
 */
#ifndef SWARM_SWARM_H
#define SWARM_SWARM_H

#include "base/list.h"
#include "endpoint/endpoint.h"
#include "histogram.h"
#include "net/http.h"
#include "net/ws_client.h"
#include "traffic.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#define SWARM_ID 65         /* room for an id, with NUL */
#define SWARM_ENDS 24u      /* different ways for sessions to end */
#define SWARM_ERRORS 8u     /* texts that stats tells; more are counted */
#define SWARM_CALLS 24u     /* REST calls of our own under way at once */
#define SWARM_AGENTS 20000u /* ceilings of the options, so that a slip of the pen does not fill the machine */
#define SWARM_SESSIONS 50000u

struct options {
	const char *server, *ca_file, *prefix, *report;
	char *userpwd, *bearer; /* one of them: "key:secret" for SigV4, or "Authorization: Bearer …" */
	int64_t agents, sessions, rate, seconds;
	struct traffic_config traffic;
	uint64_t spoil; /* the echo of session 0 changes the byte at this offset; 0: none */
	bool no_legs;   /* offers are taken, and no leg attaches */
	bool hold;      /* sessions begin when they are told to, not when the agents are connected */
	bool verbose;
};

/* Counted since the start. */
struct totals {
	uint64_t errors, mismatches, call_retries, agent_connects, offers, ups, losses, target_ups, target_losses;
	struct {
		unsigned code;
		uint64_t count;
	} ends[SWARM_ENDS];
	size_t end_kinds;
	char error_texts[SWARM_ERRORS][200];
	size_t error_text_count;
};

struct swarm {
	uv_loop_t loop;
	struct options options;
	struct agent *agents;
	struct session *sessions;
	size_t agents_begun, sessions_begun; /* the first so many of each exist */
	unsigned calls;                      /* under way */
	struct totals totals;
	struct histogram outages, round_trips; /* since the last mark; milliseconds, microseconds */
	int64_t started_mono_ms, marked_mono_ms;
	uint64_t marked_losses, marked_ups;

	uv_timer_t pace, seconds, stop_timer;
	int64_t paced_from_ms; /* when the sessions began to start */
	bool stopping;
};

/* options.c. 0: go on; 1: done (--help); 2: a mistake, told on stderr. */
int options_read(int argc, char **argv, struct options *out);
void options_free(struct options *o);

/* start.c */
void start_begin(struct swarm *s);
void start_stop(struct swarm *s);

/* api.c: one call of the control API; done comes once, on the loop, also when no answer came (NULL, and words). */
struct api_request {
	const char *method, *path;
	const char *bearer; /* NULL: the credential of the options */
	const json_t *body;
};
typedef void (*api_done)(void *user, const struct http_response *answer, const char *why_not);
void api_call(struct swarm *s, const struct api_request *request, api_done done, void *user);
/* How long to wait before a call that failed so is made again; negative: never. */
int64_t api_retry_ms(struct swarm *s, const struct http_response *answer);

/* agent.c */
enum agent_state { AGENT_NEW, AGENT_ENROLLING, AGENT_DOWN, AGENT_DIALING, AGENT_GREETING, AGENT_UP };
struct agent {
	struct swarm *swarm;
	size_t number;
	char id[SWARM_ID];
	EVP_PKEY *identity, *link;
	struct net_tls *tls;
	enum agent_state state;
	struct ws_client *ws;
	uv_timer_t retry;
	unsigned attempts;
	bool enrolled, draining;
	char *token;         /* of the enrolment, between its two calls */
	struct list targets; /* running sessions */
	json_t *reports;     /* not acknowledged yet, in the order of their seq */
	uint64_t seq;
};
void agent_start(struct swarm *s, size_t number);
void agent_stop(struct agent *a); /* closes the control connection */
void agent_free(struct agent *a); /* handles close in later turns */
void agent_tell(struct agent *a, json_t *message);
/* Takes the message, gives it a seq and repeats it after each reconnect until it is acknowledged. */
void agent_report(struct agent *a, json_t *message);

/* target.c */
struct target {
	struct list node; /* in its agent's list */
	struct agent *agent;
	char session[SWARM_ID];
	int64_t generation;
	struct net_tls *tls;
	struct endpoint *ep;
	unsigned end_code; /* the server ordered the end; 0: it did not */
	char end_text[256];
};
void target_offer(struct agent *a, json_t *message);
void target_terminate(struct agent *a, json_t *message);
struct target *target_find(struct agent *a, const char *session);
void target_free(struct target **t);

/* session.c */
enum session_step { SESSION_WAITING, SESSION_STARTING, SESSION_LIVE, SESSION_OVER, SESSION_FAILED };
struct session {
	struct swarm *swarm;
	size_t number;
	enum session_step step;
	char id[SWARM_ID], idempotency_key[33];
	EVP_PKEY *key;
	struct net_tls *tls;
	struct endpoint *ep;
	struct traffic *traffic;
	uv_timer_t retry;
	bool was_up, lost, ending;
	int64_t lost_mono_ms, up_wall_ms; /* of the last coming back since the mark; 0: none */
	int64_t over_wall_ms;             /* 0: it is not over */
	uint64_t epochs;
};
void session_start(struct swarm *s, size_t number);
void session_end(struct session *one);
void session_free(struct session *one);

/* stats.c */
void stats_error(struct swarm *s, const char *fmt, ...) PRINTF_LIKE(2, 3);
void stats_end(struct swarm *s, unsigned code);
void stats_mark(struct swarm *s);
json_t *stats_json(struct swarm *s);
json_t *stats_ups_json(struct swarm *s);
json_t *stats_overs_json(struct swarm *s);
/* Sessions of which an end lives, or is being made. */
size_t stats_sessions_live(struct swarm *s);
uint64_t stats_unanswered(struct swarm *s);

#endif
