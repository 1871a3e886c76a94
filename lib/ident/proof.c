/* The JWTs the programs make themselves. One compact form (RFC 7515) with one algorithm, ES256: the header must say so
 * and the key must be P-256, so there is nothing to be confused about. A token is taken apart strictly (three base64url
 * parts, JSON without duplicate keys) and its claims are read only after the signature holds. Signatures are r || s on
 * the wire and DER inside OpenSSL. */
#include "ident/proof.h"

#include "base/json.h"
#include "base/limits.h"
#include "base/secret.h"
#include "ident/key.h"

#include <openssl/bn.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <string.h>

#define SIG_LEN 64
#define SIG_HALF 32
#define DER_SIG_MAX 80
#define JTI_MIN 16              /* characters: 96 bits as base64url, what RFC 9449's own examples carry */
#define MAX_TIME_S 253402300799 /* year 9999: no overflow in milliseconds */

static int sign_es256(EVP_PKEY *key, const char *text, size_t len, unsigned char out[SIG_LEN], struct err *e)
{
	unsigned char der[DER_SIG_MAX];
	size_t der_len = sizeof der;
	const unsigned char *p = der;
	ECDSA_SIG *sig = NULL;
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	int ok = ctx && EVP_DigestSignInit(ctx, NULL, EVP_sha256(), NULL, key) == 1 &&
		 EVP_DigestSign(ctx, der, &der_len, (const unsigned char *)text, len) == 1 &&
		 (sig = d2i_ECDSA_SIG(NULL, &p, (long)der_len)) != NULL &&
		 BN_bn2binpad(ECDSA_SIG_get0_r(sig), out, SIG_HALF) == SIG_HALF &&
		 BN_bn2binpad(ECDSA_SIG_get0_s(sig), out + SIG_HALF, SIG_HALF) == SIG_HALF;
	ECDSA_SIG_free(sig);
	EVP_MD_CTX_free(ctx);
	return ok ? 0 : err_set_openssl(e, ERR_INTERNAL, "cannot sign with the key");
}

static bool verify_es256(EVP_PKEY *key, const char *text, size_t len, const unsigned char raw[SIG_LEN])
{
	BIGNUM *r = BN_bin2bn(raw, SIG_HALF, NULL), *s = BN_bin2bn(raw + SIG_HALF, SIG_HALF, NULL);
	ECDSA_SIG *sig = ECDSA_SIG_new();
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	unsigned char *der = NULL;
	bool ok = false;
	if (!r || !s || !sig || !ctx || ECDSA_SIG_set0(sig, r, s) != 1)
		goto out;
	r = s = NULL;
	int der_len = i2d_ECDSA_SIG(sig, &der);
	ok = der_len > 0 && EVP_DigestVerifyInit(ctx, NULL, EVP_sha256(), NULL, key) == 1 &&
	     EVP_DigestVerify(ctx, der, (size_t)der_len, (const unsigned char *)text, len) == 1;
out:
	OPENSSL_free(der);
	BN_free(r);
	BN_free(s);
	ECDSA_SIG_free(sig);
	EVP_MD_CTX_free(ctx);
	ERR_clear_error();
	return ok;
}

/* header and claims are taken over (freed), NULL means out of memory. */
static int make(EVP_PKEY *key, json_t *header, json_t *claims, char out[PROOF_TEXT_MAX], struct err *e)
{
	char *head = header ? json_text(header) : NULL, *body = claims ? json_text(claims) : NULL;
	char text[PROOF_TEXT_MAX];
	unsigned char sig[SIG_LEN];
	int rc = ERR_NOMEM;
	if (!head || !body) {
		err_set(e, rc, "out of memory");
		goto out;
	}
	size_t need = TEXT_B64_SIZE(strlen(head)) + TEXT_B64_SIZE(strlen(body)) + TEXT_B64_SIZE(SIG_LEN);
	if (need + 2 > sizeof text) {
		rc = err_set(e, ERR_LIMIT, "a proof would pass %d bytes", PROOF_TEXT_MAX);
		goto out;
	}
	size_t len = text_b64url(head, strlen(head), text, sizeof text);
	text[len++] = '.';
	len += text_b64url(body, strlen(body), text + len, sizeof text - len);
	rc = sign_es256(key, text, len, sig, e);
	if (rc)
		goto out;
	text[len++] = '.';
	text_b64url(sig, sizeof sig, text + len, sizeof text - len);
	memcpy(out, text, strlen(text) + 1);
out:
	free(head);
	free(body);
	json_decref(header);
	json_decref(claims);
	return rc;
}

struct jws {
	json_t *header, *claims; /* untrusted until the signature was checked */
	unsigned char sig[SIG_LEN];
	size_t signed_len; /* of the text */
};

static void jws_clear(struct jws *j)
{
	json_decref(j->header);
	json_decref(j->claims);
	memset(j, 0, sizeof *j);
}

static int parse_part(const char *part, size_t len, const char *what, json_t **out, struct err *e)
{
	uint8_t json[PROOF_TEXT_MAX];
	size_t json_len = 0;
	if (text_b64url_decode(part, len, json, sizeof json, &json_len) ||
	    json_parse((const char *)json, json_len, out, NULL))
		return err_set(e, ERR_DENIED, "its %s is not base64url of JSON", what);
	if (!json_is_object(*out))
		return err_set(e, ERR_DENIED, "its %s is not a JSON object", what);
	return 0;
}

/* On failure nothing is held. */
static int parse(const char *text, const char *typ, struct jws *out, struct err *e)
{
	struct jws j = { 0 };
	size_t len = text ? strnlen(text, PROOF_TEXT_MAX) : 0, sig_len = 0;
	if (!len || len >= PROOF_TEXT_MAX)
		return err_set(e, ERR_DENIED, "it is empty or longer than %d bytes", PROOF_TEXT_MAX - 1);
	const char *dot = strchr(text, '.'), *second = dot ? strchr(dot + 1, '.') : NULL;
	if (!second || strchr(second + 1, '.'))
		return err_set(e, ERR_DENIED, "it is not three parts joined by dots");
	int rc = parse_part(text, (size_t)(dot - text), "header", &j.header, e);
	if (!rc)
		rc = parse_part(dot + 1, (size_t)(second - dot - 1), "payload", &j.claims, e);
	if (rc)
		goto out;
	const char *alg = json_string_value(json_object_get(j.header, "alg"));
	const char *said = json_string_value(json_object_get(j.header, "typ"));
	rc = ERR_DENIED;
	if (!alg || strcmp(alg, "ES256") != 0)
		err_set(e, rc, "its alg is not ES256");
	else if (!said || strcmp(said, typ) != 0)
		err_set(e, rc, "its typ is not %s", typ);
	else if (json_object_get(j.header, "crit"))
		err_set(e, rc, "it demands extensions (crit) that do not exist here");
	else if (text_b64url_decode(second + 1, strlen(second + 1), j.sig, sizeof j.sig, &sig_len) ||
		 sig_len != SIG_LEN)
		err_set(e, rc, "its signature is not base64url of %d bytes", SIG_LEN);
	else
		rc = 0;
	j.signed_len = (size_t)(second - text);
out:
	if (rc)
		jws_clear(&j);
	else
		*out = j;
	return rc;
}

static int claim_text(const json_t *claims, const char *name, size_t min, size_t max, const char **out, struct err *e)
{
	const json_t *value = json_object_get(claims, name);
	size_t len = json_is_string(value) ? json_string_length(value) : 0;
	if (len < min || len > max)
		return err_set(e, ERR_DENIED, "its %s is not text of %zu to %zu bytes", name, min, max);
	*out = json_string_value(value);
	return 0;
}

static int claim_time(const json_t *claims, const char *name, int64_t *out_ms, struct err *e)
{
	const json_t *value = json_object_get(claims, name);
	double s = json_is_number(value) ? json_number_value(value) : -1;
	if (!(s >= 0 && s <= (double)MAX_TIME_S))
		return err_set(e, ERR_DENIED, "its %s is not a time in seconds", name);
	*out_ms = (int64_t)(s * 1000);
	return 0;
}

static void token_hash(const char *token, char out[TEXT_B64_SIZE(32)])
{
	unsigned char sum[32];
	secret_sha256(token, strlen(token), sum);
	text_b64url(sum, sizeof sum, out, TEXT_B64_SIZE(32));
}

int proof_make_dpop(EVP_PKEY *key, const char *htm, const char *htu, const char *token, int64_t now_wall_ms,
		    char out[PROOF_TEXT_MAX], struct err *e)
{
	char jti[SECRET_TOKEN_TEXT], ath[TEXT_B64_SIZE(32)];
	struct err why;
	json_t *jwk = key_to_jwk(key, &why);
	if (!jwk)
		return err_set(e, why.code, "%s", why.text);
	secret_token(jti);
	token_hash(token, ath);
	json_t *header = json_pack("{s:s, s:s, s:o}", "typ", "dpop+jwt", "alg", "ES256", "jwk", jwk);
	json_t *claims = json_pack("{s:s, s:s, s:s, s:I, s:s}", "jti", jti, "htm", htm, "htu", htu, "iat",
				   (json_int_t)(now_wall_ms / 1000), "ath", ath);
	return make(key, header, claims, out, e);
}

static int read_dpop_claims(const json_t *claims, const char *token, int64_t now_ms, int64_t window_ms,
			    struct proof_dpop *out, struct err *e)
{
	const char *htm = NULL, *htu = NULL, *jti = NULL, *ath = NULL;
	int rc;
	if ((rc = claim_text(claims, "htm", 1, sizeof out->htm - 1, &htm, e)) ||
	    (rc = claim_text(claims, "htu", 1, sizeof out->htu - 1, &htu, e)) ||
	    (rc = claim_text(claims, "jti", JTI_MIN, sizeof out->jti - 1, &jti, e)) ||
	    (rc = claim_text(claims, "ath", 1, PROOF_TEXT_MAX, &ath, e)) ||
	    (rc = claim_time(claims, "iat", &out->iat_ms, e)))
		return rc;
	char expected[TEXT_B64_SIZE(32)];
	token_hash(token, expected);
	if (!text_equal_secret(ath, strlen(ath), expected, strlen(expected)))
		return err_set(e, ERR_DENIED, "its ath is not the hash of the token that came with it");
	int64_t age = now_ms - out->iat_ms;
	if (age > window_ms || age < -window_ms)
		return err_set(e, ERR_TIMEOUT, "its iat is %lld s %s; is the clock right?",
			       (long long)((age < 0 ? -age : age) / 1000), age < 0 ? "ahead" : "old");
	strcpy(out->htm, htm);
	strcpy(out->htu, htu);
	strcpy(out->jti, jti);
	return 0;
}

int proof_check_dpop(const char *proof, const char *token, int64_t now_wall_ms, int64_t window_ms,
		     struct proof_dpop *out, struct err *e)
{
	struct jws j = { 0 };
	struct proof_dpop read = { .iat_ms = 0 };
	EVP_PKEY *key = NULL;
	int rc = token ? parse(proof, "dpop+jwt", &j, e) : err_set(e, ERR_DENIED, "there is no token");
	if (rc)
		goto out;
	rc = ERR_DENIED;
	if (key_from_jwk(json_object_get(j.header, "jwk"), &key, e))
		goto out;
	if (!verify_es256(key, proof, j.signed_len, j.sig)) {
		err_set(e, rc, "its signature is wrong");
		goto out;
	}
	rc = read_dpop_claims(j.claims, token, now_wall_ms, window_ms, &read, e);
	if (!rc)
		rc = key_pin(key, read.key_pin, e);
out:
	if (rc) {
		if (e)
			e->code = rc;
		err_wrap(e, "proof");
	} else {
		*out = read;
	}
	EVP_PKEY_free(key);
	jws_clear(&j);
	return rc;
}

int proof_make_assertion(EVP_PKEY *key, const char *target, const char *audience, int64_t now_wall_ms,
			 char out[PROOF_TEXT_MAX], struct err *e)
{
	char jti[SECRET_TOKEN_TEXT];
	json_int_t now = now_wall_ms / 1000;
	secret_token(jti);
	json_t *header = json_pack("{s:s, s:s, s:s}", "typ", "JWT", "alg", "ES256", "kid", target);
	json_t *claims = json_pack("{s:s, s:s, s:s, s:I, s:I, s:s}", "iss", target, "sub", target, "aud", audience,
				   "iat", now, "exp", now + 60, "jti", jti);
	return make(key, header, claims, out, e);
}

int proof_assertion_target(const char *assertion, char out_target[65], struct err *e)
{
	struct jws j = { 0 };
	const char *kid = NULL;
	int rc = parse(assertion, "JWT", &j, e);
	if (!rc)
		rc = claim_text(j.header, "kid", 1, 64, &kid, e);
	if (!rc && !text_is_id(kid))
		rc = err_set(e, ERR_DENIED, "its kid is not a target id");
	if (!rc)
		strcpy(out_target, kid);
	else
		err_wrap(e, "assertion");
	jws_clear(&j);
	return rc;
}

static int read_assertion_claims(const json_t *claims, const char *target, const char *audience, int64_t now_ms,
				 const char **out_jti, int64_t *out_exp_ms, struct err *e)
{
	const int64_t skew_ms = 60000, life_ms = 60000;
	const char *iss = NULL, *sub = NULL, *aud = NULL;
	int64_t iat_ms = 0;
	int rc;
	if ((rc = claim_text(claims, "iss", 1, LIMIT_ID, &iss, e)) ||
	    (rc = claim_text(claims, "sub", 1, LIMIT_ID, &sub, e)) ||
	    (rc = claim_text(claims, "aud", 1, PROOF_TEXT_MAX, &aud, e)) ||
	    (rc = claim_text(claims, "jti", JTI_MIN, PROOF_JTI_MAX - 1, out_jti, e)) ||
	    (rc = claim_time(claims, "iat", &iat_ms, e)) || (rc = claim_time(claims, "exp", out_exp_ms, e)))
		return rc;
	if (strcmp(iss, target) != 0 || strcmp(sub, target) != 0)
		return err_set(e, ERR_DENIED, "its iss and sub are not target %s", target);
	if (strcmp(aud, audience) != 0)
		return err_set(e, ERR_DENIED, "its aud is not %s", audience);
	if (*out_exp_ms <= iat_ms || *out_exp_ms - iat_ms > life_ms)
		return err_set(e, ERR_DENIED, "its exp is not within 60 s after its iat");
	if (now_ms >= *out_exp_ms + skew_ms)
		return err_set(e, ERR_TIMEOUT, "it expired %lld s ago; is the clock right?",
			       (long long)((now_ms - *out_exp_ms) / 1000));
	if (iat_ms > now_ms + skew_ms)
		return err_set(e, ERR_TIMEOUT, "its iat is %lld s ahead; is the clock right?",
			       (long long)((iat_ms - now_ms) / 1000));
	return 0;
}

int proof_check_assertion(const char *assertion, EVP_PKEY *key, const char *target, const char *audience,
			  int64_t now_wall_ms, char out_jti[PROOF_JTI_MAX], int64_t *out_exp_ms, struct err *e)
{
	struct jws j = { 0 };
	const char *jti = NULL;
	int64_t exp_ms = 0;
	unsigned char pin[32];
	int rc = parse(assertion, "JWT", &j, e);
	if (rc)
		goto out;
	rc = ERR_DENIED;
	if (key_pin(key, pin, e)) /* is the key one for ES256 at all? */
		goto out;
	if (!verify_es256(key, assertion, j.signed_len, j.sig)) {
		err_set(e, rc, "its signature is not by the key of target %s", target);
		goto out;
	}
	rc = read_assertion_claims(j.claims, target, audience, now_wall_ms, &jti, &exp_ms, e);
	if (rc)
		goto out;
	strcpy(out_jti, jti);
	*out_exp_ms = exp_ms;
out:
	if (rc) {
		if (e)
			e->code = rc;
		err_wrap(e, "assertion");
	}
	jws_clear(&j);
	return rc;
}
