/* The token that is used must be a JWT, since it is one that tunnel-server verifies. Its signature is not checked here:
 * it came from the issuer itself over TLS (OpenID Connect Core, section 3.1.3.7), and nothing here is decided by it but
 * when to get the next one. That it is from this issuer and, an id_token, for this client is checked, so that a wrong
 * setting shows at the sign-in. */
#include "base/buf.h"
#include "base/json.h"
#include "base/limits.h"
#include "base/text.h"
#include "cli/oidc.h"

#include <stdlib.h>
#include <string.h>

#define REFRESH_TOKEN_MAX 16384u

static const char *const names[] = { [OIDC_ID_TOKEN] = "id_token", [OIDC_ACCESS_TOKEN] = "access_token" };

/* The claims of a JWT; NULL when it is none. */
static json_t *claims_of(const char *token)
{
	json_t *claims = NULL;
	const char *first = strchr(token, '.'), *second = first ? strchr(first + 1, '.') : NULL;
	size_t len = 0;
	if (!second || strchr(second + 1, '.'))
		return NULL;
	uint8_t *bytes = malloc((size_t)(second - first));
	if (bytes &&
	    text_b64url_decode(first + 1, (size_t)(second - first) - 1, bytes, (size_t)(second - first), &len) == 0 &&
	    json_parse((const char *)bytes, len, &claims, NULL) != 0)
		claims = NULL;
	free(bytes);
	if (json_is_object(claims))
		return claims;
	json_decref(claims);
	return NULL;
}

static bool is_for(const json_t *claims, const char *client)
{
	const json_t *aud = json_object_get(claims, "aud"), *one;
	size_t i;
	if (json_string_value(aud))
		return strcmp(json_string_value(aud), client) == 0;
	json_array_foreach(aud, i,
			   one) if (json_string_value(one) && strcmp(json_string_value(one), client) == 0) return true;
	return false;
}

static int judge_claims(const struct oidc_settings *s, const json_t *claims, struct oidc_tokens *out, struct err *e)
{
	const char *name = names[s->token];
	const char *issuer = json_string_value(json_object_get(claims, "iss"));
	const char *subject = json_string_value(json_object_get(claims, "sub"));
	double exp = json_number_value(json_object_get(claims, "exp"));
	if (!issuer || strcmp(issuer, s->issuer) != 0)
		return err_set(e, ERR_INVALID, "the %s is of the issuer \"%.100s\", expected \"%.100s\"", name,
			       issuer ? issuer : "", s->issuer);
	if (s->token == OIDC_ID_TOKEN && !is_for(claims, s->client_id))
		return err_set(e, ERR_INVALID, "the id_token is not for the client \"%.100s\" (claim aud)",
			       s->client_id);
	if (!(exp > 0 && exp < 253402300800.0))
		return err_set(e, ERR_INVALID, "the %s does not say when it ends (claim exp)", name);
	if (!subject || !*subject || strlen(subject) > LIMIT_SUBJECT)
		return err_set(e, ERR_INVALID, "the %s does not say whose it is (claim sub)", name);
	out->expires_ms = (int64_t)(exp * 1000);
	out->subject = strdup(subject);
	return out->subject ? 0 : err_set(e, ERR_NOMEM, "out of memory");
}

static int take_used(const struct oidc_settings *s, const json_t *answer, struct oidc_tokens *out, struct err *e)
{
	const char *name = names[s->token], *token = json_string_value(json_object_get(answer, name));
	if (!token)
		return err_set(e, ERR_INVALID, "the issuer gave no %s; %s", name,
			       s->token == OIDC_ID_TOKEN ? "do scopes have openid? Else use token = \"access_token\""
							 : "use token = \"id_token\"");
	if (strlen(token) > LIMIT_TOKEN)
		return err_set(e, ERR_INVALID, "the %s has %zu bytes; allowed: up to %u", name, strlen(token),
			       LIMIT_TOKEN);
	json_t *claims = claims_of(token);
	if (!claims)
		return err_set(e, ERR_INVALID, "the %s is not a JWT, so no server could verify it%s", name,
			       s->token == OIDC_ACCESS_TOKEN ? "; issuers give one for an audience or a resource, or "
							       "use token = \"id_token\""
							     : "");
	int rc = judge_claims(s, claims, out, e);
	json_decref(claims);
	if (rc == 0 && !(out->token = strdup(token)))
		rc = err_set(e, ERR_NOMEM, "out of memory");
	return rc;
}

int oidc_read_tokens(const struct oidc_settings *s, const json_t *answer, struct oidc_tokens *out, struct err *e)
{
	struct oidc_tokens t = { 0 };
	const char *refresh = json_string_value(json_object_get(answer, "refresh_token"));
	int rc = take_used(s, answer, &t, e);
	if (rc == 0 && refresh && strlen(refresh) > REFRESH_TOKEN_MAX)
		rc = err_set(e, ERR_INVALID, "the refresh_token is longer than %u bytes", REFRESH_TOKEN_MAX);
	if (rc == 0 && refresh && *refresh && !(t.refresh_token = strdup(refresh)))
		rc = err_set(e, ERR_NOMEM, "out of memory");
	if (rc != 0)
		oidc_tokens_free(&t);
	else
		*out = t;
	return rc;
}

void oidc_tokens_free(struct oidc_tokens *t)
{
	secret_free_text(&t->token);
	secret_free_text(&t->refresh_token);
	free(t->subject);
	memset(t, 0, sizeof *t);
}
