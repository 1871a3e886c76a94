/* One verification key: made from PEM, JWK or a secret file, bound to exactly one algorithm. */
#ifndef AUTH_JWT_KEY_H
#define AUTH_JWT_KEY_H

#include <jansson.h>
#include <stddef.h>

#define KEY_FILE_MAX (256u * 1024) /* bytes of a PEM, secret or JWKS file */
#define KEY_KID_MAX 256u           /* bytes of a key id */

enum key_family { KEY_HMAC, KEY_RSA, KEY_EC };

struct key_alg {
	const char *name; /* "ES256" */
	enum key_family family;
	int pss;           /* RSA with PSS padding */
	const char *curve; /* EC: OpenSSL's name of it */
	const char *crv;   /* EC: the JWK's name of it */
	size_t coordinate; /* EC: bytes of x and y */
	size_t secret_min; /* HMAC: bytes (RFC 7518 section 3.2: as long as the hash) */
};

struct key {
	const struct key_alg *alg;
	char *kid;               /* NULL: has none */
	char *where;             /* for messages: "server.conf:42", "/etc/…/jwks.json" */
	unsigned char *material; /* PEM of the public key, or the secret */
	size_t len;
};

/* The algorithm of that name; else NULL and a sentence. */
const struct key_alg *key_alg_find(const char *name, size_t n, char *err, size_t err_len);

/* All fill *out and return 0, or return -1 with a sentence. out->kid and out->where are copies. */
int key_from_file(const struct key_alg *alg, const char *kid, const char *path, const char *where, struct key *out,
		  char *err, size_t err_len);
#define KEY_NO_MEMORY (-2)
/* 1 with a sentence: a key that is not for us (encryption, unknown type) and is to be passed over. KEY_NO_MEMORY:
 * nothing is known of it. */
int key_from_jwk(const json_t *jwk, const char *where, struct key *out, char *err, size_t err_len);
void key_clear(struct key *key);

/* Reads a whole file of at most KEY_FILE_MAX bytes; NUL-terminated, free with secret_free. private: it must belong to
 * this user (or root) and have no permission for others. */
int key_read_file(const char *path, int private, unsigned char **out, size_t *out_len, char *err, size_t err_len);
void secret_free(unsigned char *data, size_t len);

#endif
