/* P-256 keys, their pins and JSON forms. */
#ifndef IDENT_KEY_H
#define IDENT_KEY_H

#include "base/buf.h"
#include "base/err.h"

#include <jansson.h>
#include <openssl/evp.h>

#define KEY_PIN_TEXT 44  /* base64url of SHA-256, with NUL */
#define KEY_TEXT_MAX 256 /* base64url of a P-256 SubjectPublicKeyInfo, with NUL */

/* New P-256 key; NULL only when out of memory. */
EVP_PKEY *key_generate(struct err *e);
/* PKCS#8 PEM, mode 0600; reading refuses loose modes and other key types. */
int key_save(const char *path, EVP_PKEY *key, struct err *e);
int key_load(const char *path, EVP_PKEY **out_key, struct err *e);
/* Loads, or generates and saves when the file is not there; all who do so at once get the same key. */
int key_load_or_create(const char *path, EVP_PKEY **out_key, struct err *e);

/* base64url of the DER SubjectPublicKeyInfo (PROTOCOL.md, "A key"). */
int key_public_text(EVP_PKEY *key, char out[KEY_TEXT_MAX], struct err *e);
/* The reverse; refuses everything but a valid point on P-256. */
int key_from_public_text(const char *text, EVP_PKEY **out_key, struct err *e);
int key_pin(EVP_PKEY *key, unsigned char out_pin[32], struct err *e);
/* The pin of a public key's text that key_from_public_text took before it was kept: the point is not looked at again.
 */
int key_pin_of_text(const char *text, unsigned char out_pin[32], struct err *e);
void key_pin_text(const unsigned char pin[32], char out[KEY_PIN_TEXT]);
int key_pin_parse(const char *text, unsigned char out_pin[32], struct err *e);
/* {"kty":"EC","crv":"P-256","x":…,"y":…} */
json_t *key_to_jwk(EVP_PKEY *key, struct err *e);
int key_from_jwk(const json_t *jwk, EVP_PKEY **out_key, struct err *e);

#endif
