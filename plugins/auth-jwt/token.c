/* The order is the protection (RFC 8725): the header is read, strictly, to find the key and for nothing else; the key
 * brings its one algorithm, and the header must name the same; the signature is checked with that key; libjwt must then
 * report that same algorithm, since 1.10.2 can hand back an unverified token of alg "none" when memory runs out; only
 * then are the claims believed, read with jansson, since libjwt reads a text or fractional "exp" as 0.
 *
 * The three parts must be base64url in its one spelling: libjwt skips what it does not know, so that one signature
 * would have many texts. */
#include "token.h"

#include "signature.h"
#include "text.h"

#include <jwt.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

int token_has_form(const char *text)
{
	size_t dots = 0;
	for (const char *p = text; *p; p++)
		dots += *p == '.';
	return dots == 2 && text[0] != '.';
}

static json_t *decode_object(const char *part, size_t n, const char *name, char *err, size_t err_len)
{
	json_error_t bad;
	size_t len = 0;
	json_t *json = NULL;
	unsigned char *bytes = malloc(n * 3 / 4 + 1);
	if (!bytes) {
		say(0, err, err_len, "out of memory");
		return NULL;
	}
	if (n == 0 || base64url_decode(part, n, bytes, &len) != 0)
		say(0, err, err_len, "malformed token: its %s is not base64url without padding", name);
	else if (!(json = json_loadb((const char *)bytes, len, JSON_REJECT_DUPLICATES, &bad)))
		say(0, err, err_len, "malformed token: its %s is not JSON: %s", name,
		    json_error_code(&bad) == json_error_duplicate_key  ? "a key is there twice"
		    : json_error_code(&bad) == json_error_invalid_utf8 ? "invalid UTF-8"
								       : "syntax error");
	else if (!json_is_object(json)) {
		say(0, err, err_len, "malformed token: its %s is not a JSON object", name);
		json_decref(json);
		json = NULL;
	}
	free(bytes);
	return json;
}

/* typ keeps tokens made for other purposes (logout, DPoP, security events) from being taken as credentials. */
static int check_typ(const json_t *header, char *err, size_t err_len)
{
	char a[SHOWN_MAX];
	const json_t *member = json_object_get(header, "typ");
	const char *typ = json_string_value(member);
	if (!member)
		return 0;
	if (!typ || (strcasecmp(typ, "JWT") != 0 && strcasecmp(typ, "at+jwt") != 0 &&
		     strcasecmp(typ, "application/at+jwt") != 0))
		return say(-1, err, err_len, "the token has typ \"%s\"; allowed: JWT, at+jwt",
			   shown(typ ? typ : "(not a text)", a));
	return 0;
}

static int check_header(struct token *t, char *err, size_t err_len)
{
	const json_t *kid = json_object_get(t->header, "kid");
	t->alg = json_string_value(json_object_get(t->header, "alg"));
	t->kid = json_string_value(kid);
	if (!t->alg)
		return say(-1, err, err_len, "malformed token: its header has no alg");
	if (kid && (!t->kid || !text_is_name(t->kid, KEY_KID_MAX)))
		return say(-1, err, err_len, "malformed token: its kid is not a text of 1 to %u characters",
			   KEY_KID_MAX - 1);
	if (json_object_get(t->header, "crit"))
		return say(-1, err, err_len, "the token demands extensions (crit) that are not supported");
	return check_typ(t->header, err, err_len);
}

int token_read(const char *text, struct token *out, char *err, size_t err_len)
{
	struct token t = { .text = text, .len = strlen(text) };
	if (t.len > TOKEN_MAX)
		return say(-1, err, err_len, "the token has %zu bytes; allowed: up to %u", t.len, TOKEN_MAX);
	if (!token_has_form(text))
		return say(-1, err, err_len, "malformed token: expected three parts between dots");
	t.head_len = strcspn(text, ".");
	t.signed_len = (size_t)(strrchr(text, '.') - text);

	unsigned char signature[TOKEN_MAX];
	size_t len = 0;
	if (base64url_decode(text + t.signed_len + 1, t.len - t.signed_len - 1, signature, &len) != 0)
		return say(-1, err, err_len, "malformed token: its signature is not base64url without padding");
	t.header = decode_object(text, t.head_len, "header", err, err_len);
	int rc = t.header ? check_header(&t, err, err_len) : -1;
	if (rc == 0 && len == 0)
		rc = say(-1, err, err_len, "the token is not signed");
	if (rc == 0) {
		t.claims = decode_object(text + t.head_len + 1, t.signed_len - t.head_len - 1, "claims", err, err_len);
		rc = t.claims ? 0 : -1;
	}
	if (rc != 0) {
		token_clear(&t);
		return -1;
	}
	*out = t;
	return 0;
}

/* 1.10.2 reads no typ but "JWT", so no access token of RFC 9068, and it has no PSS; 1.17 has it by name alone. Asked
 * with a token of its own, by form. */
static int libjwt_takes(const struct token *token, const struct key_alg *alg)
{
	static const char probe[] =
		"eyJhbGciOiJIUzI1NiIsInR5cCI6ImF0K2p3dCJ9.e30.AA"; /* {"alg":"HS256","typ":"at+jwt"} */
	const char *typ = json_string_value(json_object_get(token->header, "typ"));
	jwt_t *jwt = NULL;
	if (alg->pss || jwt_str_alg(alg->name) == JWT_ALG_INVAL)
		return 0;
	if (!typ || strcasecmp(typ, "JWT") == 0)
		return 1;
	int ok = jwt_decode(&jwt, probe, NULL, 0) == 0;
	jwt_free(jwt);
	return ok;
}

static int verify_by_libjwt(const struct token *token, const struct key *key)
{
	jwt_t *jwt = NULL;
	int rc = jwt_decode(&jwt, token->text, key->material, (int)key->len);
	int right = rc == 0 && jwt && jwt_get_alg(jwt) == jwt_str_alg(key->alg->name);
	jwt_free(jwt);
	return right;
}

static int verify_by_openssl(const struct token *token, const struct key *key)
{
	unsigned char signature[TOKEN_MAX];
	size_t len = 0;
	const char *text = token->text + token->signed_len + 1;
	return base64url_decode(text, token->len - token->signed_len - 1, signature, &len) == 0 &&
	       signature_is_right(key, token->text, token->signed_len, signature, len);
}

int token_verify(struct token *token, const struct key *key)
{
	if (!key->material || key->len == 0 || strcmp(token->alg, key->alg->name) != 0)
		return -1; /* without a key libjwt verifies nothing and says 0 */
	token->verified = libjwt_takes(token, key->alg) ? verify_by_libjwt(token, key) : verify_by_openssl(token, key);
	return token->verified ? 0 : -1;
}

const char *token_claimed_issuer(const struct token *token)
{
	return json_string_value(json_object_get(token->claims, "iss"));
}

json_t *token_claims(const struct token *token)
{
	return token->verified ? token->claims : NULL;
}

void token_clear(struct token *token)
{
	json_decref(token->header);
	json_decref(token->claims);
	memset(token, 0, sizeof *token);
}
