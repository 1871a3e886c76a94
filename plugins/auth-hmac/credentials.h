/* The credentials file: who holds which key id and secret. Read again when it changes. */
#ifndef AUTH_HMAC_CREDENTIALS_H
#define AUTH_HMAC_CREDENTIALS_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <tunnel/auth.h>

#define CREDENTIALS_FILE_MAX (1024u * 1024) /* bytes */
#define CREDENTIALS_MAX 4096u               /* entries */
#define CREDENTIALS_CHECK_MS 1000           /* how often the file is looked at, at most */
#define KEY_ID_MAX 128u                     /* characters of a key id */
#define SECRET_MIN 16u                      /* characters of a secret */
#define SECRET_MAX 256u
#define SECRET_LOCKED 128u /* bytes of one, with its NUL, that is kept in locked memory */

struct credential {
	char *key_id, *subject;
	char *groups; /* JSON array; "" when there are none */
	char *secret;
};

/* Never changes once it is shared; the last credentials_unref wipes and frees it. */
struct credentials {
	atomic_uint refs;
	struct credential *at; /* sorted by key_id */
	size_t n;
};

struct credential_store;

int credential_store_open(const struct tunnel_host *host, const char *path, struct credential_store **out, char *err,
			  size_t err_len);
void credential_store_close(struct credential_store **store);
/* The current ones, after a look at the file when the last one is more than a second old. Never NULL. */
struct credentials *credential_store_get(struct credential_store *store);
int credential_store_reload(struct credential_store *store, char *err, size_t err_len);
/* Fills a zeroed set; what was read before a failure stays in it, for credentials_unref. -1 with file:line. */
int credentials_read_file(const char *path, struct credentials *set, char *err, size_t err_len);
void credentials_unref(struct credentials *set);
/* NULL: unknown. */
const struct credential *credentials_find(const struct credentials *set, const char *key_id);
/* May it be a key id? Letters, digits, "-", "_", "." */
int key_id_is_valid(const char *text, size_t n);

#endif
