/* Claims are read from jansson's values, where a wrong type is seen; whatever is missing, of the wrong type or too
 * large for the identity refuses. Groups are never cut short: a policy may deny by the one that was cut. */
#include "claims.h"

#include "text.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>

#define TIME_MAX_S 253402300799.0 /* the end of year 9999 */

/* 0 and *out; 1 when it is not there. */
static int read_time(const json_t *claims, const char *name, int64_t *out_ms, char *err, size_t err_len)
{
	const json_t *value = json_object_get(claims, name);
	double s = json_number_value(value);
	if (!value)
		return 1;
	if (!json_is_number(value))
		return say(-1, err, err_len, "claim %s is not a number", name);
	if (!(s >= 1 && s <= TIME_MAX_S))
		return say(-1, err, err_len, "claim %s is no time after 1970 and before 10000", name);
	*out_ms = (int64_t)floor(s * 1000.0);
	return 0;
}

int claims_check_time(const struct claim_rules *rules, const struct verdict *v, int64_t now_ms, char *err,
		      size_t err_len)
{
	if (now_ms >= v->expires_ms + rules->leeway_ms)
		return say(TUNNEL_DENIED, err, err_len, "token expired %lld s ago",
			   (long long)((now_ms - v->expires_ms) / 1000));
	if (v->not_before_ms && now_ms < v->not_before_ms - rules->leeway_ms)
		return say(TUNNEL_DENIED, err, err_len, "token is not valid before %lld s from now (nbf)",
			   (long long)((v->not_before_ms - now_ms + 999) / 1000));
	return 0;
}

static int judge_times(const struct claim_rules *rules, const json_t *claims, int64_t now_ms, struct verdict *v,
		       char *err, size_t err_len)
{
	int64_t issued_ms = 0;
	int rc = read_time(claims, "exp", &v->expires_ms, err, err_len);
	if (rc == 1)
		say(0, err, err_len, "claim exp is missing; a token must say when it ends");
	if (rc != 0)
		return TUNNEL_DENIED;
	rc = read_time(claims, "nbf", &v->not_before_ms, err, err_len);
	if (rc == 1 && rules->require_nbf)
		return say(TUNNEL_DENIED, err, err_len, "claim nbf is missing; this server demands it (require_nbf)");
	if (rc < 0)
		return TUNNEL_DENIED;
	rc = read_time(claims, "iat", &issued_ms, err, err_len);
	if (rc < 0)
		return TUNNEL_DENIED;
	if (rc == 0 && issued_ms > now_ms + rules->leeway_ms)
		return say(TUNNEL_DENIED, err, err_len, "token was issued %lld s from now (iat)",
			   (long long)((issued_ms - now_ms) / 1000));
	return claims_check_time(rules, v, now_ms, err, err_len);
}

static int judge_issuer(const struct claim_rules *rules, const json_t *claims, char *err, size_t err_len)
{
	char a[SHOWN_MAX], b[SHOWN_MAX];
	const char *issuer = json_string_value(json_object_get(claims, "iss"));
	if (!issuer)
		return say(TUNNEL_DENIED, err, err_len, "claim iss is missing or not a text; expected \"%s\"",
			   shown(rules->issuer, b));
	if (strcmp(issuer, rules->issuer) != 0)
		return say(TUNNEL_DENIED, err, err_len, "issuer is \"%s\", expected \"%s\"", shown(issuer, a),
			   shown(rules->issuer, b));
	return 0;
}

static int judge_audience(const struct claim_rules *rules, const json_t *claims, char *err, size_t err_len)
{
	char a[SHOWN_MAX], b[SHOWN_MAX];
	const json_t *aud = json_object_get(claims, "aud"), *one;
	const char *first = json_string_value(aud);
	int found = first && strcmp(first, rules->audience) == 0;
	size_t i;
	if (json_is_array(aud))
		json_array_foreach(aud, i, one)
		{
			if (!json_is_string(one))
				return say(TUNNEL_DENIED, err, err_len, "claim aud is not a text or an array of texts");
			found |= strcmp(json_string_value(one), rules->audience) == 0;
			first = first ? first : json_string_value(one);
		}
	if (found)
		return 0;
	if (!first)
		return say(TUNNEL_DENIED, err, err_len, "claim aud is missing or not a text; expected \"%s\"",
			   shown(rules->audience, b));
	return say(TUNNEL_DENIED, err, err_len, "audience is \"%s\"%s, expected \"%s\"", shown(first, a),
		   json_array_size(aud) > 1 ? " and others" : "", shown(rules->audience, b));
}

static int take_subject(const struct claim_rules *rules, const json_t *claims, struct verdict *v, char *err,
			size_t err_len)
{
	char a[SHOWN_MAX];
	const char *subject = json_string_value(json_object_get(claims, rules->subject_claim));
	if (!subject || !text_is_name(subject, TUNNEL_SUBJECT_MAX))
		return say(TUNNEL_DENIED, err, err_len,
			   "claim %s is missing or not a text of 1 to %d bytes without control characters",
			   shown(rules->subject_claim, a), TUNNEL_SUBJECT_MAX - 1);
	if (asprintf(&v->subject, "%s%s", rules->prefix ? rules->prefix : "", subject) < 0) {
		v->subject = NULL;
		return say(TUNNEL_INTERNAL, err, err_len, "out of memory");
	}
	if (!text_is_name(v->subject, TUNNEL_SUBJECT_MAX))
		return say(TUNNEL_DENIED, err, err_len,
			   "claim %s is longer than %zu bytes, which is what fits behind the prefix",
			   shown(rules->subject_claim, a), (size_t)TUNNEL_SUBJECT_MAX - 1 - strlen(rules->prefix));
	return 0;
}

/* Compact JSON that fits size bytes with NUL. */
static int take_json(const json_t *json, const char *what, size_t size, char **out, char *err, size_t err_len)
{
	char *text = json_dumps(json, JSON_COMPACT);
	if (!text)
		return say(TUNNEL_INTERNAL, err, err_len, "out of memory");
	if (strlen(text) >= size) {
		int rc = say(TUNNEL_DENIED, err, err_len, "the token's %s take %zu bytes; allowed: up to %zu", what,
			     strlen(text), size - 1);
		free(text);
		return rc;
	}
	*out = text;
	return 0;
}

/* A new array; NULL: out of memory, or a member is no text. */
static json_t *prefixed(const json_t *groups, const char *prefix)
{
	size_t i;
	const json_t *one;
	json_t *out = json_array();
	json_array_foreach(groups, i, one)
	{
		json_t *text = json_is_string(one) ? json_sprintf("%s%s", prefix, json_string_value(one)) : NULL;
		if (json_array_append_new(out, text) != 0) {
			json_decref(out);
			return NULL;
		}
	}
	return out;
}

static int take_groups(const struct claim_rules *rules, json_t *claims, struct verdict *v, char *err, size_t err_len)
{
	char a[SHOWN_MAX];
	json_t *given = json_object_get(claims, rules->groups_claim);
	if (!given || json_is_null(given)) {
		v->groups = strdup("");
		return v->groups ? 0 : say(TUNNEL_INTERNAL, err, err_len, "out of memory");
	}
	json_t *list = json_is_string(given) ? json_pack("[O]", given) : json_incref(given);
	json_t *groups = json_is_array(list) ? prefixed(list, rules->prefix ? rules->prefix : "") : NULL;
	json_decref(list);
	int rc = groups ? take_json(groups, "groups", TUNNEL_GROUPS_MAX, &v->groups, err, err_len)
			: say(TUNNEL_DENIED, err, err_len, "claim %s is not an array of texts",
			      shown(rules->groups_claim, a));
	json_decref(groups);
	return rc;
}

/* jti, or for a token without one a print of what was signed. Not of the whole text: an ECDSA signature can be
 * rewritten into a second valid one. */
static int take_credential(const struct token *token, const json_t *claims, struct verdict *v, char *err,
			   size_t err_len)
{
	const char *jti = json_string_value(json_object_get(claims, "jti"));
	if (jti && text_is_name(jti, sizeof v->credential)) {
		snprintf(v->credential, sizeof v->credential, "%s", jti);
		return 0;
	}
	unsigned char hash[EVP_MAX_MD_SIZE];
	if (EVP_Digest(token->text, token->signed_len, hash, NULL, EVP_sha256(), NULL) != 1)
		return say(TUNNEL_INTERNAL, err, err_len, "cannot hash the token");
	int n = snprintf(v->credential, sizeof v->credential, "sha256:");
	for (size_t i = 0; i < 16; i++, n += 2)
		snprintf(v->credential + n, sizeof v->credential - (size_t)n, "%02x", hash[i]);
	return 0;
}

int claims_judge(const struct claim_rules *rules, const struct token *token, int64_t now_ms, struct verdict *out,
		 char *err, size_t err_len)
{
	struct verdict v = { 0 };
	json_t *claims = token_claims(token);
	if (!claims)
		return say(TUNNEL_INTERNAL, err, err_len, "the token was not verified");
	int rc = judge_issuer(rules, claims, err, err_len);
	if (rc == 0)
		rc = judge_audience(rules, claims, err, err_len);
	if (rc == 0)
		rc = judge_times(rules, claims, now_ms, &v, err, err_len);
	if (rc == 0)
		rc = take_subject(rules, claims, &v, err, err_len);
	if (rc == 0)
		rc = take_groups(rules, claims, &v, err, err_len);
	if (rc == 0)
		rc = take_json(claims, "claims", TUNNEL_CLAIMS_MAX, &v.claims, err, err_len);
	if (rc == 0)
		rc = take_credential(token, claims, &v, err, err_len);
	if (rc != 0)
		verdict_clear(&v);
	else
		*out = v;
	return rc;
}

void verdict_clear(struct verdict *verdict)
{
	free(verdict->subject);
	free(verdict->groups);
	free(verdict->claims);
	memset(verdict, 0, sizeof *verdict);
}
