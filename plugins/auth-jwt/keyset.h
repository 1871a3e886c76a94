/* All keys of an instance, and the holder that keeps them fresh. */
#ifndef AUTH_JWT_KEYSET_H
#define AUTH_JWT_KEYSET_H

#include "key.h"

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <tunnel/plugin.h>

#define KEYSET_KEYS_MAX 256u   /* keys an instance */
#define KEYSET_FILES_MAX 64u   /* JWKS files in a folder */
#define KEYSET_CHECK_MS 1000   /* how often files are looked at, at most */
#define KEYSET_SOURCES_MAX 64u /* "key" options */

/* One "key" option. */
struct key_source {
	const struct key_alg *alg;
	char *kid; /* NULL: none */
	char *path, *where;
};

/* Never changes once it is shared; the last keyset_unref frees it. */
struct keyset {
	atomic_uint refs;
	uint64_t generation; /* differs for every set of an instance */
	struct key *keys;
	size_t n;
	size_t twice; /* published keys that are not among them, since another has their kid */
};

struct keystore;

/* Loads at once; sources and jwks (NULL: none) become the store's own on success. */
int keystore_open(const struct tunnel_host *host, struct key_source *sources, size_t n, char *jwks,
		  struct keystore **out, char *err, size_t err_len);
void keystore_close(struct keystore **store);
/* The current keys, after a look at the files when the last one is more than a second old. Never NULL. */
struct keyset *keystore_get(struct keystore *store);
/* Reads everything again now. On failure the old keys stay. 0 or an enum tunnel_result. */
int keystore_reload(struct keystore *store, char *err, size_t err_len);
/* A JWKS that where (for messages) has published takes the place of the one before. On failure everything stays. 0 or
 * an enum tunnel_result. Any thread. */
int keystore_put_published(struct keystore *store, const char *where, const char *text, size_t len, char *err,
			   size_t err_len);
void keyset_unref(struct keyset *set);

/* "ES256:/path" or "ES256:kid=ID:/path". */
int key_source_parse(const char *text, const char *where, struct key_source *out, char *err, size_t err_len);
void key_source_clear(struct key_source *source);

/* Is there a key with that kid; NULL: is there any? */
int keyset_has(const struct keyset *set, const char *kid);
#define KEYSET_CANDIDATES_MAX 8u /* keys that one token is tried with */
/* Which keys may verify a token of that kid (NULL: it names none) and algorithm name? A key with that kid alone, if
 * there is one. Else those that carry no kid; for a token without kid all. Only keys whose own algorithm is the named
 * one count. Returns their number; 0 with a sentence. */
size_t keyset_select(const struct keyset *set, const char *kid, const char *alg,
		     const struct key *out[KEYSET_CANDIDATES_MAX], char *err, size_t err_len);

#endif
