/* The session's document in the store (collection "sessions", key = id): its form, its indexes (state, principal,
 * target, node while it lives, idem, and "unfinished" while a start, a resumption or an end still has to reach the
 * audit log), and what the API shows of it. Blocking functions belong on workers or the sweep's thread. */
#ifndef SERVER_SESSION_RECORD_H
#define SERVER_SESSION_RECORD_H

#include "base/err.h"
#include "base/json.h"
#include "base/text.h"
#include "ident/key.h"
#include "server/auth.h"

#include <stdbool.h>
#include <stdint.h>

struct server;

#define SESSION_ID_TEXT 65
#define SESSION_COLLECTION "sessions"
#define SESSION_TOKEN_HASH TEXT_B64_SIZE(32) /* base64url of SHA-256, with NUL */

const char *record_text(const json_t *doc, const char *key); /* "" when absent or null */
int64_t record_int(const json_t *doc, const char *key);      /* 0 when absent */
bool record_ended(const json_t *doc);
unsigned record_end_code(const json_t *doc); /* 0 while it lives, and only then */
const char *record_end_text(const json_t *doc);
int64_t record_generation(const json_t *doc); /* 1 until somebody resumes it from a new client */
/* Was this the hash of a token of an earlier generation? Of the last few. */
bool record_had_token(const json_t *doc, const char *hash);
/* The target's next token of this generation. Its agent may have the earlier one all the same: the last few stay good.
 */
void record_offer_token(json_t *doc, const char *hash);
bool record_is_target_token(const json_t *doc, const char *hash);
/* The next generation is about to get tokens of its own. */
void record_retire_tokens(json_t *doc);
/* client_key of a request: its pin. ERR_INVALID. */
int record_client_pin(const char *client_key, char out[KEY_PIN_TEXT], struct err *e);
/* Something of it still has to reach the audit log; where that will stand is behind what is there now. */
void record_owe(struct server *server, json_t *doc);
/* Not being started by somebody at this moment: nobody but him may touch it then. */
bool record_is_settled(const json_t *doc);
/* Its caller is the one who started it. */
bool record_is_of(const json_t *doc, const struct identity *id);
/* The session ends with the credential it is bound to, unless it is renewed. */
bool record_is_bound(const json_t *doc);
/* When it would end under this identity: at its maximum duration, or, bound, with the credential if that is sooner. */
int64_t record_end_under(const json_t *doc, const struct identity *id);
/* From here on the session is his as he calls now: who he is, with which credential, and so when it ends; its grant
 * too.
 */
void record_take_identity(json_t *doc, const struct identity *id);
void record_date_grant(const json_t *doc, json_t *grant); /* when it ends, and whether with its credential */
/* It ends with that credential, sooner than at its maximum duration. */
bool record_by_identity(const json_t *doc);
const char *record_expiry_text(bool by_identity); /* why its time is over */

/* 0; ERR_NOT_FOUND; ERR_UNAVAILABLE … */
int record_get_blocking(struct server *server, const char *id, json_t **out_doc, uint64_t *out_version, struct err *e);
int record_put_blocking(struct server *server, const json_t *doc, uint64_t expect, uint64_t *out_version,
			struct err *e);
/* Reads, lets change() alter the document, and writes it back; again while somebody else was quicker. change returns 0
 * to write, 1 to leave it, negative to fail. *out_doc (may be NULL) is the document as it now stands. */
typedef int record_change_fn(void *arg, json_t *doc, struct err *e);
int record_change_blocking(struct server *server, const char *id, record_change_fn *change, void *arg, json_t **out_doc,
			   struct err *e);

void record_hash_token(const char *token, char out[SESSION_TOKEN_HASH]);
/* Who started it, as policy sees him. identity_free afterwards. */
int record_identity(const json_t *doc, struct identity *out, struct err *e);
/* The session object of PROTOCOL.md. New reference. */
json_t *record_view(struct server *server, const json_t *doc);
json_t *record_end_view(const json_t *doc); /* {code, text} or null. New reference. */
json_t *record_time(int64_t wall_ms);       /* RFC 3339 text; null for 0. New reference. */

#endif
