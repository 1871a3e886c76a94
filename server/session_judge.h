/* What policy says to a session: when somebody asks for it, at each attach of its client, and for all live ones when
 * policies change. The ends' streams are encrypted, so policy becomes a grant that the agent enforces. Blocking. */
#ifndef SERVER_SESSION_JUDGE_H
#define SERVER_SESSION_JUDGE_H

#include "base/err.h"
#include "server/auth.h"

#include <jansson.h>
#include <stdbool.h>

struct server;

struct session_ask {
	const struct identity *id;
	const char *remote_address;
	const char *target;
	const json_t *tags;  /* of the target */
	const char *kind;    /* "ssh" | "tcp" */
	const char *login;   /* ssh */
	const json_t *allow; /* tcp: array of host:port */
};

/* tunnel:StartSession, then every endpoint. 0; ERR_DENIED (recorded, the text names the endpoint); ERR_UNAVAILABLE. */
int session_judge_start_blocking(struct server *server, const struct session_ask *ask, struct err *e);
/* tunnel:StartSession alone, without a record of a refusal: to choose among targets. */
int session_may_start_blocking(struct server *server, const struct session_ask *ask, struct err *e);
/* The stored request against the policies of now, for the caller as he is now (NULL: as the record has him). 0 and the
 * grant they leave of it; ERR_DENIED when nothing is left. */
int session_judge_again_blocking(struct server *server, const json_t *record, const struct identity *caller,
				 const char *remote_address, json_t **out_grant, struct err *e);
/* Only whether a revocation or a statement that denies ends it: nobody is asked, so nothing hangs. 0 or ERR_DENIED. */
int session_judge_denials_anythread(struct server *server, const json_t *record, const char *remote_address,
				    struct err *e);
/* Which statement denies resuming, starting or an endpoint of it, for its record in the audit log; NO_MATCH: none does.
 */
struct policy_decision;
void session_denied_by_anythread(struct server *server, const json_t *record, const struct identity *caller,
				 const char *remote_address, struct policy_decision *out);
/* What policies may look at when they judge an action on session/<id>: kind, login, session:Principal, session:Target,
 * the target's tags. New reference. */
json_t *session_context(const json_t *record);
/* May the logins of an ssh session forward ports? sshd opens those, to anywhere: so whoever may open a TCP stream to
 * every endpoint of the target may. A session of another kind may not. 0 and *out; ERR_UNAVAILABLE. */
int session_judge_forwarding_blocking(struct server *server, const struct session_ask *ask, bool *out, struct err *e);
/* A grant for what was asked, as PROTOCOL.md has it, with the record's time. New reference. */
json_t *session_grant(const json_t *record, const json_t *allow, bool ssh_forwarding);

#endif
