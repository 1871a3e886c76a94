/* Inside of the sessions module: its state and the steps its files share. */
#ifndef SERVER_SESSION_STATE_H
#define SERVER_SESSION_STATE_H

#include "base/list.h"
#include "server/auth.h"
#include "server/replay.h"
#include "server/session_table.h"
#include "server/sessions.h"

#include <jansson.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#define SESSION_SETTLERS 16u

struct sessions {
	struct server *server;
	struct session_table *live;
	struct replay *proofs;
	_Atomic int64_t judgements; /* how many were begun: the number of the last one */
	atomic_bool rejudge_owed;   /* a judgement after a policy change could not be made; the sweep tries again */
	int64_t scanned_mono_ms;    /* when the sweep last looked through the store; its thread's alone */
	int64_t turned_wall_ms;     /* when it last asked whether a time that a policy names has come */
	int64_t looked_mono_ms;     /* when it last looked for policies and revocations of other nodes */
	int64_t rows_mono_ms;       /* when it last looked whether its sessions' records still say so */
	int64_t homes_mono_ms;      /* when it last looked after agents that have left for another node */
	bool blind_scan, blind_revocations, blind_policies; /* it could not look, and has told so */

	/* Whoever pays what a record owes to the audit log holds the session's; so it is paid once. */
	pthread_mutex_t settling[SESSION_SETTLERS];
	/* Whoever judges a session and tells its agent what it may holds the session's; so the last word is that of the
	 * newest policies. */
	pthread_mutex_t judging[SESSION_SETTLERS];

	/* Who waits until sessions that were cut are gone (session_gone.c). */
	pthread_mutex_t watch_lock;
	struct list watches;

	pthread_t sweeper;
	bool sweeping;
	pthread_mutex_t lock; /* for stop */
	pthread_cond_t wake;
	bool stop;
};

/* A session is to end, and so. */
struct session_verdict {
	char session[LIMIT_ID + 1], target[LIMIT_ID + 1];
	unsigned code;
	char text[SESSION_END_TEXT], by[SESSION_END_BY];
};
/* Marks the live row and cuts the legs, at once and without the store; who does this sees to it that the end is
 * written. An end that came before stands. false: there is no such row. */
bool session_cut_anythread(struct server *server, const struct session_verdict *v);

/* When it ends, as the record has it. */
void session_row_times(struct session_live *row, const json_t *record);
/* That, and by whose credential, if the record is of the row's generation and it is not to end. */
void session_row_follow(struct session_live *row, const json_t *record);
/* Puts a record's session into the live table. */
bool session_adopt(struct sessions *s, const json_t *record, int64_t mono_ms);
/* Writes the audit records that an unfinished record owes (start, resumption, end) and clears the mark. fresh: the
 * caller has made the debt just now, so nobody has tried to pay it; else the log is asked first. *out_doc (may be
 * NULL): the record as it then stands. */
int session_settle_blocking(struct server *server, const char *id, bool fresh, json_t **out_doc, struct err *e);
/* Ends a session whose start nobody was told of; its record says so, and a repetition of the request may start it anew
 * over that. doc: as the start wrote it. ERR_CONFLICT: it has ended, or another request has started it anew. */
int session_take_back_blocking(struct server *server, const json_t *doc, const char *text, struct err *e);
/* Ends a session whose time, expires_ms, is over. ERR_CONFLICT also when it was renewed in between. */
int session_expire_blocking(struct server *server, const char *id, int64_t expires_ms, const char *text, struct err *e);
/* Once more, the end that the row has; a copy of it. */
int session_end_again_blocking(struct server *server, const struct session_live *row, struct err *e);
/* Ended, being ended, or past its time (then this ends it): out->close_code says so. */
void session_check_alive_blocking(struct server *server, const json_t *record, struct attach_decision *out);

/* One pass at these times; the sweep's thread runs it each second. */
void session_sweep_blocking(struct sessions *s, int64_t mono_ms, int64_t wall_ms);
/* Loads what lives on this node and settles what is owed. */
int session_load_blocking(struct sessions *s, int64_t mono_ms, int64_t wall_ms, struct err *e);

/* The node where the session lives, when that is another one, is told that it has ended. */
void session_tell_ended_blocking(struct server *server, const json_t *record);
/* False when the agent is not connected here. The offer has the record's generation. */
bool session_send_offer(struct server *server, const json_t *record, const char *token);
void session_send_terminate(struct server *server, const char *target, const char *session, unsigned code,
			    const char *text);
pthread_mutex_t *session_judging(struct sessions *s, const char *id);
/* Whoever judges a session asks without that lock, since a provider may hang. What he has heard counts if, with the
 * lock held, the session is what he asked about: its record, and where its client is; and if no judgement that was
 * begun later counts already. */
struct session_judgement {
	int64_t number;
	struct session_live row; /* as it was when this was begun; of zeros: there was none */
};
void session_judgement_begin(struct sessions *s, const char *id, struct session_judgement *out);
/* With the lock held; from then on it does. doc: the record that it was about. */
bool session_judgement_counts(struct server *server, const struct session_judgement *j, const json_t *doc);
#define SESSION_JUDGE_TRIES 4 /* of a session that changes while it is judged */
/* Has all live sessions judged again, by a job, if that could not be done before. */
void session_rejudge_owed_anythread(struct server *server);
/* Of a session that this node has got in the middle of a connection: the grant; the offer, if it never was up. */
void session_tell_agent_blocking(struct server *server, const char *target, const char *session);
void session_send_grant(struct server *server, const char *target, const char *session, json_t *grant);
/* The client is about to be let in from this address, and from here on policies are about that one: what they leave of
 * the grant there is told to the agent and recorded. ERR_DENIED, and other errors: he may not be let in, and nothing
 * has moved. */
int session_move_client_blocking(struct server *server, const json_t *record, const char *remote_address,
				 struct err *e);
/* Right after the offer, and when the session has got another credential: policies may have changed since the start was
 * judged, and what was then sent about the session reached an agent that did not know it; and who was revoked meanwhile
 * was not yet to be found as its owner. offered: the grant that its agent was offered. ERR_DENIED: it is ended again.
 */
int session_judge_started_blocking(struct server *server, const char *id, const char *target, const json_t *offered,
				   struct err *e);

/* Who holds this token and proof, and may he act on the session now? out->close_code says why not. *out_record is set
 * when the session is known and the proof is good. */
struct session_proof {
	const char *session, *token, *dpop, *method, *path, *host;
	const char *remote_address;
};
void session_prove_blocking(struct server *server, const struct session_proof *proof, struct attach_decision *out,
			    json_t **out_record);
/* Policy for the client's (re)attach. caller NULL: as the record has him. */
void session_judge_attach_blocking(struct server *server, const json_t *record, const struct identity *caller,
				   const char *remote_address, struct attach_decision *out);
/* The record in the audit log of policy's refusal to go on with a session. */
void session_audit_refusal(struct server *server, const json_t *record, const struct identity *caller,
			   const char *remote_address, const char *text);

#endif
