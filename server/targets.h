/* The registry of targets and enrolment tokens, in the store. Blocking: workers only. */
#ifndef SERVER_TARGETS_H
#define SERVER_TARGETS_H

#include "base/err.h"
#include "server/wsconn.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

struct server;

/* Document of collection "targets": {id, tags, identity_key, next_identity_key (target_key.h), link_key, ssh_host_keys,
 * ssh_loopback, features, version, connected_since, last_seen, node, connection (there), enrolled_at}. */
int targets_get_blocking(struct server *server, const char *id, json_t **out_doc, struct err *e);
/* The same, also while the target is being deregistered: to look at it, or to finish that. */
int targets_read_blocking(struct server *server, const char *id, json_t **out_doc, struct err *e);
bool targets_is_leaving(const json_t *doc);
/* What an agent says it is: visible ASCII, since people read it on terminals. */
int targets_check_version(const char *version, struct err *e);
/* A one-time token for POST /v1/targets. */
struct enrollment_ask {
	const char *id, *by, *credential; /* credential: of by */
	const json_t *tags;
	const json_t *replaces; /* tags of the target that is there, which the caller may replace too; NULL: none is */
	int64_t lifetime_ms;
};
int targets_enrollment_blocking(struct server *server, const struct enrollment_ask *ask, char out_token[64],
				int64_t *out_expires_ms, struct err *e);
/* Uses the token up and writes the target. ERR_DENIED when it is unknown, used or expired; ERR_CONFLICT when the
 * target has by now tags that the token's maker was not asked about. */
int targets_enroll_blocking(struct server *server, const char *token, const char *identity_key, const char *link_key,
			    const char *version, json_t **out_doc, struct err *e);
/* Its sessions end, its agent is cut off, and no token that was made for it enrols anybody any more. After an error the
 * target may be there still, marked: it has no use but to be deleted again, which goes on where this one failed. */
int targets_delete_blocking(struct server *server, const char *id, struct err *e);
/* What an agent says of itself in its hello. */
struct targets_agent {
	const char *version;
	json_t *ssh_host_keys;
	bool ssh_loopback; /* its sshd sees SSH connections come from a loopback address */
	json_t *features;  /* array of texts: what its sessions can do that older agents cannot; NULL: nothing */
};
/* The agent said hello on that connection, or that one ended (agent NULL), which says nothing once there is another.
 * identity: pin of the agent's key; ERR_DENIED when the target has another one by now; NULL: whichever it has.
 * *out_changed (may be NULL): and by this hello an earlier key counts no more. */
int targets_seen_blocking(struct server *server, const char *id, const char *identity, wsconn_id conn,
			  const struct targets_agent *agent, bool *out_changed, struct err *e);
/* The public view of a document (PROTOCOL.md, "Target object"). New reference. */
json_t *targets_view(struct server *server, const json_t *doc);

#endif
