/* Who and what is revoked: principals and credentials that no call, no session and no enrolment token of theirs gets
 * past, whatever policy and the auth providers say, until the revocation is lifted or runs out. Kept in the store, in
 * memory for every judgement. */
#ifndef SERVER_REVOCATIONS_H
#define SERVER_REVOCATIONS_H

#include "base/err.h"
#include "server/auth.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

struct server;
struct revocations;

int revocations_open_blocking(struct server *server, struct revocations **out_revocations, struct err *e);
void revocations_close(struct revocations **r);
/* Reads the store again, and records what could not be; on failure those that were known stay. */
int revocations_reload_blocking(struct revocations *r, bool *out_changed, struct err *e);

/* 0, or ERR_DENIED and words that may be shown to him. Either may be NULL or "". Any thread. */
int revocations_check_anythread(struct revocations *r, const char *principal, const char *credential, struct err *e);

/* Other nodes are told by a message on this channel, {"node", "id"}. */
#define REVOCATIONS_CHANNEL "revocations"
#define REVOCATION_ID_TEXT 64
struct revocation {
	const char *principal, *credential; /* one of them */
	const char *reason;                 /* may be NULL */
	const char *by;
	int64_t expires_ms; /* wall; 0: until it is lifted */
};
/* In two steps. In force on this node when it returns 0, and id is its name; the store is not waited for. ERR_INVALID.
 * One that is there already is replaced, but its time is never shortened. Any thread. */
int revocations_enforce_anythread(struct revocations *r, const struct revocation *what, char id[REVOCATION_ID_TEXT],
				  struct err *e);
/* Then: durable when it returns 0, and the other nodes are told; on another error it is recorded later. *out: as the
 * API shows it. ERR_NOT_FOUND: it was lifted meanwhile. */
int revocations_record_blocking(struct revocations *r, const char *id, json_t **out, struct err *e);
/* 0, also for one that was in force here and not recorded yet; ERR_NOT_FOUND. */
int revocations_del_blocking(struct revocations *r, const char *id, struct err *e);
/* New references: one (NULL: there is none), or all as an array. */
json_t *revocations_get(struct revocations *r, const char *id);
json_t *revocations_list(struct revocations *r);

#endif
