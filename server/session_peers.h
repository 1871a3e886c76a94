/* Sessions of other nodes: what is asked here about one of theirs they are asked to do, and what they ask is done here.
 * Blocking: workers only. */
#ifndef SERVER_SESSION_PEERS_H
#define SERVER_SESSION_PEERS_H

#include "server/peers.h"
#include "server/session_ends.h"
#include "server/session_start.h"

extern const struct peers_op session_peers_ops[];

/* Is it the business of another node that lives? Then *out_node is its name, in the record. */
bool session_peers_is_theirs(struct server *server, const json_t *record, const char **out_node);

/* As session_start_blocking, session_resume_blocking and session_renew_blocking, on that node. client_token is what the
 * caller will have; the other node gets its hash. */
int session_peers_start_blocking(struct server *server, const char *node, const struct session_caller *caller,
				 const json_t *body, const char *request_hash, const char *client_token,
				 struct session_started *out, struct err *e);
int session_peers_resume_blocking(struct server *server, const char *node, const struct session_caller *caller,
				  const char *session, const json_t *body, const char *client_token,
				  struct session_started *out, struct err *e);
int session_peers_renew_blocking(struct server *server, const char *node, const struct session_caller *caller,
				 const char *session, json_t **out_record, json_t **out_end, struct err *e);
/* As sessions_end_generation_blocking. A node that does not answer hears of it when its ends come back. */
int session_peers_end_blocking(struct server *server, const json_t *record, int64_t generation, unsigned code,
			       const char *text, const char *by, struct err *e);
/* As sessions_revoke_begin_anythread and …_finish_blocking, on all other nodes that live as well; with "silent":
 * [node], those that did not answer. The other nodes cut before it is recorded: what they end because of the record
 * they would end as policy's, and nobody would have waited for it. here: what was begun on this node; it is taken. what
 * is borrowed until the end. recorded: it is in the store, so it is in force everywhere when this returns. */
struct revoking_everywhere;
struct revoking_everywhere *session_peers_revoke_begin_blocking(struct server *server,
								const struct session_revocation *what,
								struct revoking **here);
json_t *session_peers_revoke_finish_blocking(struct revoking_everywhere **revoking, bool recorded);

#endif
