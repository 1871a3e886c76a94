/* Changing the key that the agent proves itself with to the server (PROTOCOL.md, section 2). The next key stands in the
 * state folder from before the server hears of it until it has taken the present one's place; so there is always one
 * that the server takes, whoever dies when. One thread: the supervisor's. */
#ifndef AGENT_ROTATION_H
#define AGENT_ROTATION_H

#include "agent/settings.h"
#include "agent/state.h"

#include <jansson.h>
#include <stdbool.h>

struct rotation {
	const struct settings *settings;
	struct state *state;
	bool by_next;   /* the connection of now, or the next one, is the next key's */
	bool refused;   /* one of the two was, since one was taken */
	char nonce[64]; /* of the connection of now; "": none, or a server that does not know how */
};

void rotation_init(struct rotation *r, const struct settings *settings, struct state *state);
EVP_PKEY *rotation_key(const struct rotation *r); /* to connect with */
/* The server refused it. True: another one is to be tried at once. */
bool rotation_refused(struct rotation *r);
/* The server took it; nonce may be NULL. The message to send, new reference, or NULL. */
json_t *rotation_welcome(struct rotation *r, const char *nonce, int64_t clock_ahead_ms);
/* Somebody may have made the next key, or the present one is old enough. The same. */
json_t *rotation_look(struct rotation *r, int64_t clock_ahead_ms);
/* The server has stored that key. True: it is ours, and to be connected with now. */
bool rotation_stored(struct rotation *r, const char *key);
void rotation_gone(struct rotation *r); /* the connection is */

#endif
