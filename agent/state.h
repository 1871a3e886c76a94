/* The agent's state folder: its keys and who it is. */
#ifndef AGENT_STATE_H
#define AGENT_STATE_H

#include "base/err.h"

#include <openssl/evp.h>
#include <stdint.h>
#include <sys/types.h>

#define STATE_PATH 4200

struct state {
	char target[65];
	char server[600]; /* the URL used to enrol */
	EVP_PKEY *identity;
	EVP_PKEY *next; /* is to take its place (agent/rotation.h); NULL: none is */
};

/* folder/name */
int state_path(const char *folder, const char *name, char out[STATE_PATH], struct err *e);
/* Creates the folder (0700) and holds it for this process alone; the descriptor is closed to let go. ERR_CONFLICT. */
int state_lock(const char *folder, int *out_fd, struct err *e);
/* Lets others find out who holds it: the pid of who said so, 0: nobody does. */
int state_announce(int lock_fd, struct err *e);
int state_holder(const char *folder, pid_t *out_pid, struct err *e);
/* ERR_NOT_FOUND with "run: tunnel-agent enroll" when not enrolled. */
int state_load(const char *folder, struct state *out, struct err *e);
void state_free(struct state *s);
/* The key that workers prove themselves with. */
int state_load_link_key(const char *folder, EVP_PKEY **out_key, struct err *e);

/* The next identity key: made and kept beside the present one, or the one that is there already. */
int state_make_next(const char *folder, struct err *e);
/* One that was made since state_load, or by another process. */
int state_find_next(const char *folder, struct state *s, struct err *e);
int state_has_next(const char *folder); /* 1, 0; negative: unknown */
/* It takes the present one's place, on disk and in s. */
int state_take_next(const char *folder, struct state *s, struct err *e);
/* When the present identity key was made. */
int state_identity_age_ms(const char *folder, int64_t wall_ms, int64_t *out_ms, struct err *e);

/* New keys, kept beside the present ones until the server took them; those of an attempt before that had no answer. */
int state_prepare_keys(const char *folder, EVP_PKEY **out_identity, EVP_PKEY **out_link, struct err *e);
/* They were refused. */
void state_forget_new_keys(const char *folder);
int state_commit(const char *folder, const char *target, const char *server, struct err *e);

#endif
