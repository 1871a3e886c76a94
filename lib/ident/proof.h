/* The two JWTs that the programs make themselves: DPoP proofs (RFC 9449) for session tokens, and the agent's assertion
 * for its control connection (RFC 7523 style). Both ES256, built and checked with OpenSSL and jansson here; no other
 * algorithm exists. */
#ifndef IDENT_PROOF_H
#define IDENT_PROOF_H

#include "base/err.h"

#include <openssl/evp.h>
#include <stdint.h>

#define PROOF_TEXT_MAX 1536 /* bytes of a proof or assertion, with NUL */
#define PROOF_JTI_MAX 65

/* htu: scheme, authority and path. token: the session token whose hash goes into ath. */
int proof_make_dpop(EVP_PKEY *key, const char *htm, const char *htu, const char *token, int64_t now_wall_ms,
		    char out[PROOF_TEXT_MAX], struct err *e);

struct proof_dpop {
	char htm[16];
	char htu[512];
	char jti[PROOF_JTI_MAX]; /* for the caller's replay cache */
	unsigned char key_pin[32];
	int64_t iat_ms;
};
/* Checks form, signature by the embedded jwk, ath against token, iat within window_ms of now. The caller compares htm,
 * htu, key_pin and jti. ERR_DENIED with the reason; ERR_TIMEOUT when nothing is wrong but the iat. */
int proof_check_dpop(const char *proof, const char *token, int64_t now_wall_ms, int64_t window_ms,
		     struct proof_dpop *out, struct err *e);

/* The audience of an assertion by which an agent's next key proves itself, before the connection's nonce. */
#define PROOF_ROTATE_AUDIENCE "tunnel-rotate:"
int proof_make_assertion(EVP_PKEY *key, const char *target, const char *audience, int64_t now_wall_ms,
			 char out[PROOF_TEXT_MAX], struct err *e);
/* The target id an assertion claims to be from, unverified: to find the key. */
int proof_assertion_target(const char *assertion, char out_target[65], struct err *e);
/* Signature by key, iss = sub = target, aud, iat/exp (exp - iat <= 60 s, 60 s of clock skew). ERR_DENIED with the
 * reason; ERR_TIMEOUT when nothing is wrong but its time. */
int proof_check_assertion(const char *assertion, EVP_PKEY *key, const char *target, const char *audience,
			  int64_t now_wall_ms, char out_jti[PROOF_JTI_MAX], int64_t *out_exp_ms, struct err *e);

#endif
