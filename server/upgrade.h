/* Which WebSocket endpoints there are, and the form that a request for one must have (PROTOCOL.md, sections 2 and 3).
 */
#ifndef SERVER_UPGRADE_H
#define SERVER_UPGRADE_H

#include "server/conn.h"
#include "server/http.h"

#define UPGRADE_AGENT_PATH "/v1/agent"

struct upgrade_refusal {
	int status;
	const char *code;
	const char *text; /* static */
};

/* Is it /v1/sessions/{id}/leg? Then the id. session has LIMIT_ID + 1 bytes. */
bool upgrade_leg_path(const char *path, char *out_session);
/* CONN_OK: the endpoint's ops and state are in c. */
enum conn_result upgrade_judge(struct conn *c, const struct http_head *head, struct upgrade_refusal *out_no);

/* The endpoints; each keeps what it needs of the head. NULL when out of memory. */
extern const struct conn_ops agentconn_ops, legconn_ops;
void *agentconn_new(struct conn *c, const struct http_head *head, const char *bearer);
void *legconn_new(struct conn *c, const struct http_head *head, const char *session, const char *bearer);

/* Queues a message for an agent; one that does not read is cut off. On its reactor. */
void agentconn_send(struct conn *c, const char *text, size_t len);

#endif
