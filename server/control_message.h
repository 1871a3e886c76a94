/* Inside of control: its state, and one message on its way to its handler. */
#ifndef SERVER_CONTROL_MESSAGE_H
#define SERVER_CONTROL_MESSAGE_H

#include "base/err.h"
#include "base/limits.h"
#include "server/agent_table.h"
#include "server/audit.h"
#include "server/control.h"
#include "server/replay.h"

#include <jansson.h>

struct control {
	struct server *server;
	struct agent_table *agents;
	struct replay *assertions;
	unsigned char nonce_key[32];
	size_t looked; /* at so many connections; the sweep's */
	bool blind;    /* it could not look, and has told so; the sweep's */
};

#define CONTROL_NONCE 44 /* base64url of a SHA-256, with NUL */
/* What a connection's proofs are bound to; no other connection has it. */
void control_nonce(const struct control *c, wsconn_id conn, char out[CONTROL_NONCE]);

/* Reports of streams that came one behind the other: they are recorded, and acknowledged, together. */
struct control_reports {
	struct audit_entry entries[AUDIT_TOGETHER];
	size_t n;
	uint64_t seq;               /* of the last one; 0: none is there */
	bool repeated;              /* one was taken before, and wants its ack again */
	char session[LIMIT_ID + 1]; /* that was looked up last: most are of the same */
	json_t *record;             /* its own, or NULL */
	bool foreign;               /* it is another target's */
};

struct message {
	struct server *server;
	struct control *control;
	wsconn_id conn;
	const char *target, *identity;
	struct control_reports *reports;
	json_t *json;
	struct err e;
};

/* Which generation of a session a message is about; absent: the first. */
#define CONTROL_GENERATION(at)                                        \
	{                                                             \
		"generation", JSON_FIELD_INT, false, 1, INT64_MAX, at \
	}

/* Does the message come by a key that is still the target's, and from where its record has the agent? ERR_DENIED,
 * ERR_NOT_FOUND: by another key; others: not from there, or not known. */
int control_check_sender_blocking(struct message *m);
/* Closes this connection, unless another has taken its place. */
void control_drop_blocking(struct server *server, wsconn_id conn, const char *target, unsigned code,
			   const char *reason);

/* Handlers of control_reports.c and control_rotate.c. 0; ERR_INVALID, ERR_PROTOCOL: the message is illegal; others: not
 * now. */
int control_on_refused(struct message *m);
int control_on_session_closed(struct message *m);
/* These two only gather: what they took counts, and is acknowledged, when it is written. */
int control_on_stream_opened(struct message *m);
int control_on_stream_closed(struct message *m);
int control_reports_write_blocking(struct message *m);
int control_on_rotate(struct message *m);

/* A "welcome" or "ssh-ca" as far as it is about SSH; host_keys: of the agent, checked. New reference. *out_generation:
 * that of the CA's keys in it (sshca.h). */
json_t *control_ssh_message(struct server *server, const char *type, const char *target, const json_t *host_keys,
			    uint64_t *out_generation);
/* Tells the target's agent until what it was told last is what there is; known: the generation that it has, 0: none. */
void control_tell_ssh_blocking(struct server *server, const char *target, uint64_t known);

#endif
