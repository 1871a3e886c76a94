/* Keys, JWKS and tokens for the tests of auth-jwt, made with OpenSSL and jansson. */
#ifndef TESTS_UNIT_PLUGINS_JWT_MAKE_H
#define TESTS_UNIT_PLUGINS_JWT_MAKE_H

#include <jansson.h>
#include <openssl/evp.h>
#include <stddef.h>

EVP_PKEY *make_rsa(unsigned bits);
EVP_PKEY *make_ec(const char *curve);
EVP_PKEY *make_ed25519(void);
/* PEM into folder/name with mode; private: the private half. */
void write_pem(const char *folder, const char *name, EVP_PKEY *pkey, int private);
void write_text(const char *folder, const char *name, const char *text, unsigned mode);
char *public_pem(EVP_PKEY *pkey);
/* The public JWK; alg and kid may be NULL. */
json_t *make_jwk(EVP_PKEY *pkey, const char *alg, const char *kid);
/* {"keys": […]} into the file; takes the keys over. */
void write_jwks(const char *folder, const char *name, json_t *const *keys, size_t n);

/* "alg" says how to sign: RS…, PS…, ES… with pkey, HS… with secret; anything else: no signature. The parts are taken as
 * they are, so that they may be wrong. free() it. */
char *make_token_bytes(const char *alg, EVP_PKEY *pkey, const char *secret, const void *header, size_t header_len,
		       const void *claims, size_t claims_len);
char *make_token(const char *alg, EVP_PKEY *pkey, const char *secret, const char *header, const char *claims);
char *base64url(const void *bytes, size_t n);

#endif
