/* Ending many sessions at once: all are cut before the first record is written, and a caller may wait until nothing of
 * them lives. Blocking but for _anythread. */
#ifndef SERVER_SESSION_ENDS_H
#define SERVER_SESSION_ENDS_H

#include "server/session_state.h"

#include <jansson.h>

/* Carries out what session_cut_anythread began: records and audit, several at a time. Returns when they are written, or
 * after a few seconds: very many are finished by jobs, and what cannot be written now the sweep repeats. */
void session_write_ends_blocking(struct server *server, const struct session_verdict *verdicts, size_t n);

/* In two steps: cuts every session of this node that the revocation is about, without the store (NULL: out of memory);
 * then waits until its agents have said that it is gone, and writes the ends. out: {"sessions": how many, "unreached":
 * [target], "unconfirmed": [session], "took_ms"}: how long until the last one was gone; targets whose agent is not
 * connected, sessions whose agent did not answer in time. */
struct session_revocation {
	const char *principal, *credential, *session; /* one of them */
	const char *target;                           /* of the session */
	const char *text, *by;
};
struct revoking;
struct revoking *sessions_revoke_begin_anythread(struct server *server, const struct session_revocation *what);
json_t *sessions_revoke_finish_blocking(struct revoking **revoking);
int64_t sessions_revoke_begun_ms(const struct revoking *r); /* mono */
void sessions_revoke_free(struct revoking **revoking);      /* what was cut is; its ends are written by the sweep */

#endif
