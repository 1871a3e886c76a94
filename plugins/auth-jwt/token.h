/* A compact JWS: its form, its header, its signature. What the claims mean is claims.h's. */
#ifndef AUTH_JWT_TOKEN_H
#define AUTH_JWT_TOKEN_H

#include "key.h"

#include <jansson.h>
#include <stddef.h>

#define TOKEN_MAX 8192u /* bytes of a token */

struct token {
	const char *text; /* the whole; borrowed, NUL-terminated */
	size_t len;
	size_t head_len;   /* bytes of the first part */
	size_t signed_len; /* bytes of "header.claims", which the signature covers */
	json_t *header, *claims;
	int verified;
	const char *alg; /* borrowed from header */
	const char *kid; /* NULL: names none */
};

/* Is it three parts between dots, as a JWT is (and a session or enrolment token is not)? */
int token_has_form(const char *text);
/* Checks the form strictly and parses header and claims. 0, or -1 with a sentence that does not hold the token. Nothing
 * in *out is to be believed yet. */
int token_read(const char *text, struct token *out, char *err, size_t err_len);
/* 0: signed by that key, with that key's algorithm. */
int token_verify(struct token *token, const struct key *key);
/* Of which issuer it says it is; NULL: of none. Nobody has verified that: it is good for asking somebody else. */
const char *token_claimed_issuer(const struct token *token);
/* The claims, borrowed; NULL before token_verify said 0. */
json_t *token_claims(const struct token *token);
void token_clear(struct token *token);

#endif
