/* Agents' control connections (PROTOCOL.md, section 2): who is connected, offers to them, reports from them. The
 * transport calls control_on_*; a connection's messages come one at a time, in order, on workers. */
#ifndef SERVER_CONTROL_H
#define SERVER_CONTROL_H

#include "base/err.h"
#include "server/wsconn.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct server;
struct control;

int control_new(struct server *server, struct control **out_control, struct err *e);
void control_free(struct control **control);

struct control_decision {
	unsigned close_code; /* 0: in */
	char text[256];
	char target[65];
	char identity[44]; /* pin of the key that signed the assertion */
};
void control_authorize_blocking(struct server *server, const char *assertion, const char *remote_address,
				struct control_decision *out);
struct control_text {
	const char *at;
	size_t len;
};
/* Messages of one connection, in their order. target and identity: as the decision had them. */
void control_on_texts_blocking(struct server *server, wsconn_id conn, const char *target, const char *identity,
			       const struct control_text *texts, size_t n);
/* Is it one of those that are many, and cost least when they are handed in together? Any thread. */
bool control_is_report(const char *text, size_t len);
/* Are two of them of one session, as far as their text tells without being parsed? Any thread. */
bool control_same_session(const char *a, size_t a_len, const char *b, size_t b_len);
/* The same for a message that says `terminated` and asks for no store: false when it is no such message, and nothing
 * was done. Any thread. */
bool control_on_answer_anythread(struct server *server, wsconn_id conn, const char *target, const char *text,
				 size_t len);
void control_on_closed_blocking(struct server *server, wsconn_id conn, const char *target, const char *why);

bool control_is_connected_anythread(struct control *control, const char *target);
size_t control_sessions_anythread(struct control *control, const char *target); /* of all nodes; for least loaded */
size_t control_agents_anythread(struct control *control);                       /* connected to this node */
/* Sends a message to the target's agent; false when it is not connected to this node. Any thread. */
bool control_send_anythread(struct control *control, const char *target, const json_t *message);
/* Drops a target's connection to this node (deregistered, enrolled again): what it says from here on is refused.
 * Blocking. */
void control_disconnect_blocking(struct server *server, const char *target, unsigned code, const char *reason);
/* The target's record has changed: an agent that is connected by a key which is not the target's any more is cut off
 * with 4403; one that is connected elsewhere by that record with 4009. First: here; second: at the other nodes, which
 * are told; they need not hear it. */
int control_check_target_blocking(struct server *server, const char *target, struct err *e);
void control_tell_target_changed_blocking(struct server *server, const char *target);
/* Looks at some of this node's connections, at each about once a minute, for a change that nobody told of. The sweep's.
 */
void control_sweep_blocking(struct control *control);
/* The keys of the SSH certificate authority have changed: every agent here is told. */
int control_ssh_changed_blocking(struct server *server, struct err *e);
void control_drain_anythread(struct control *control);

#endif
