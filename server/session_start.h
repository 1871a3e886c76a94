/* StartSession, and resuming one from a new client. Blocking: workers only. */
#ifndef SERVER_SESSION_START_H
#define SERVER_SESSION_START_H

#include "base/err.h"
#include "server/auth.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

struct server;

struct session_started {
	json_t *answer;  /* of PROTOCOL.md; with the token, so not for logs */
	json_t *offline; /* with ERR_CONFLICT: the target is known and not connected; {last_seen} */
	json_t *ended;   /* with ERR_CLOSED: the session has ended; {code, text} */
};

struct session_caller {
	const struct identity *id;
	const char *remote_address;
	bool sent_on;             /* by another node, which has asked who he is: it is done here or not at all */
	const char *request_hash; /* then: of the request as it was made there */
	const char *client_hash;  /* and of the client's token, which that node has made and gives out */
};

/* 0; ERR_INVALID; ERR_NOT_FOUND; ERR_DENIED; ERR_CONFLICT; ERR_CLOSED; ERR_UNAVAILABLE … Where the target's agent, or
 * the session, is on another node, that one does it; unless it was another node that asked. */
int session_start_blocking(struct server *server, const struct session_caller *caller, json_t *body,
			   struct session_started *out, struct err *e);
/* The caller's session goes on with a new client: its next generation. Answers like StartSession. */
int session_resume_blocking(struct server *server, const struct session_caller *caller, const char *session,
			    json_t *body, struct session_started *out, struct err *e);
/* Fills out->offline; ERR_CONFLICT. */
int session_offline(const json_t *target_doc, struct session_started *out, struct err *e);
void session_started_free(struct session_started *s);

#endif
