/* The identity key of a target's agent, and the next one while the agent changes it. Blocking: workers only. */
#ifndef SERVER_TARGET_KEY_H
#define SERVER_TARGET_KEY_H

#include "base/err.h"

#include <jansson.h>
#include <stdbool.h>

struct server;

/* Document of collection "targets": identity_key, and next_identity_key once the agent has offered one. An agent that
 * comes with either is the target's; the first hello by the next one makes it the only one. */

/* identity: the pin of a connection's key. 0; ERR_DENIED when the target has neither. */
int targets_check_identity(const json_t *doc, const char *identity, struct err *e);
/* The connection of that key offers another one, whose holder has proved himself. Offering the same again changes
 * nothing; another one takes the place of one that was not used yet. ERR_DENIED, ERR_NOT_FOUND: the target is that
 * key's no more. */
int target_key_offer_blocking(struct server *server, const char *id, const char *identity, const char *key,
			      struct err *e);
/* Hello by that key: doc is changed when it is the next one, to be written by the caller; the audit log says so before.
 * *told (false at first): it does already. */
int target_key_confirm_blocking(struct server *server, json_t *doc, const char *identity, bool *told, struct err *e);

#endif
