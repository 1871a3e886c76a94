/* The agent's state folder: its keys and who it is. */
#ifndef AGENT_STATE_H
#define AGENT_STATE_H

#include "base/err.h"

#include <openssl/evp.h>

#define STATE_PATH 4200

struct state {
	char target[65];
	char server[600]; /* the URL used to enrol */
	EVP_PKEY *identity;
};

/* folder/name */
int state_path(const char *folder, const char *name, char out[STATE_PATH], struct err *e);
/* Creates the folder (0700) and holds it for this process alone; the descriptor is closed to let go. ERR_CONFLICT. */
int state_lock(const char *folder, int *out_fd, struct err *e);
/* ERR_NOT_FOUND with "run: tunnel-agent enroll" when not enrolled. */
int state_load(const char *folder, struct state *out, struct err *e);
void state_free(struct state *s);
/* The key that workers prove themselves with. */
int state_load_link_key(const char *folder, EVP_PKEY **out_key, struct err *e);

/* New keys, kept beside the present ones until the server took them; those of an attempt before that had no answer. */
int state_prepare_keys(const char *folder, EVP_PKEY **out_identity, EVP_PKEY **out_link, struct err *e);
int state_commit(const char *folder, const char *target, const char *server, struct err *e);

#endif
