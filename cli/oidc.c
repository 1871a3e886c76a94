/* What an issuer answers comes from somewhere else: endpoints must be https, texts that people are shown are short and
 * without control characters, and an error is told by its code with the issuer's own words behind it. Which errors
 * mean "not now" is RFC 6749 section 5.2 and RFC 8628 section 3.5; a 5xx, a 429 and no answer at all mean it, too. */
#include "cli/oidc.h"

#include "base/json.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/text.h"
#include "net/http.h"
#include "net/url.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define DOCUMENT_MAX (256u * 1024) /* bytes of an answer */
#define FORM_MAX (512u * 1024)     /* bytes of a request: each part is bounded, and all together fit */
#define CODE_MAX 128               /* bytes of a user code */
#define URI_MAX 1024               /* bytes of a URL */
#define DEVICE_CODE_MAX 4096
#define INTERVAL_S 5 /* RFC 8628 section 3.2: when the issuer does not say */
#define INTERVAL_MAX_S 60
#define EXPIRES_MAX_S 3600 /* nobody looks at a prompt for longer */

#define DEVICE_GRANT "urn:ietf:params:oauth:grant-type:device_code"

static void add_encoded(struct buf *form, const char *text)
{
	for (; *text; text++) {
		unsigned char c = (unsigned char)*text;
		bool plain =
			(c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || strchr("-._~", c);
		buf_printf(form, plain ? "%c" : "%%%02X", c);
	}
}

/* A value that is NULL is left out. */
static void add_field(struct buf *form, const char *name, const char *value)
{
	if (!value)
		return;
	buf_printf(form, "%s%s=", form->len ? "&" : "", name);
	add_encoded(form, value);
}

/* "Authorization: Basic …" (RFC 6749 section 2.3.1: both form-encoded first). */
static char *basic_header(const char *id, const char *secret)
{
	struct buf pair = BUF_INIT(FORM_MAX);
	add_encoded(&pair, id);
	buf_add_text(&pair, ":");
	add_encoded(&pair, secret);
	size_t size = TEXT_B64_SIZE(pair.len), prefix = strlen("Authorization: Basic ");
	char *header = malloc(prefix + size);
	if (header) {
		memcpy(header, "Authorization: Basic ", prefix);
		text_b64(buf_data(&pair), pair.len, header + prefix, size);
	}
	buf_wipe_free(&pair);
	return header;
}

/* The client's secret in its place; without one nothing. *out_header may stay NULL. */
static int authenticate(const struct oidc_issuer *i, struct buf *form, char **out_header, struct err *e)
{
	char *secret = NULL;
	if (!i->settings->client_secret_file)
		return 0;
	int rc = secret_read_text(i->settings->client_secret_file, &secret, e);
	if (rc != 0) {
		err_wrap(e, "client_secret_file");
		return e->code = ERR_INVALID; /* ERR_DENIED is the issuer's own no, which ends a sign-in */
	}
	if (!*secret) {
		secret_free_text(&secret);
		return err_set(e, ERR_INVALID, "client_secret_file: %s is empty", i->settings->client_secret_file);
	}
	if (!i->basic)
		add_field(form, "client_secret", secret);
	else if (!(*out_header = basic_header(i->settings->client_id, secret)))
		rc = err_set(e, ERR_NOMEM, "out of memory");
	secret_free_text(&secret);
	return rc;
}

static int call(const struct oidc_issuer *i, const char *url, const char *header, const char *body,
		struct http_response *out, struct err *e)
{
	const char *headers[] = { header, NULL };
	struct http_request q = { .method = body ? "POST" : "GET",
				  .url = url,
				  .headers = headers,
				  .body = body,
				  .content_type = "application/x-www-form-urlencoded",
				  .ca_file = i->settings->ca_file,
				  .ca_setting = "issuer_ca_file",
				  .proxy = i->proxy,
				  .max_response = DOCUMENT_MAX };
	log_debug("%s %s", q.method, url);
	int rc = http_call_blocking(&q, out, e);
	/* Whoever is there without the issuer's certificate has refused nothing: a hotel's network, often. */
	return rc == ERR_DENIED ? e->code = ERR_UNAVAILABLE : rc;
}

/* Sends the form, which is wiped whatever happens. */
static int post(const struct oidc_issuer *i, const char *url, struct buf *form, struct http_response *out,
		struct err *e)
{
	char *header = NULL, *body = NULL;
	add_field(form, "client_id", i->settings->client_id);
	int rc = authenticate(i, form, &header, e);
	if (rc == 0 && !(body = buf_take_text(form)))
		rc = err_set(e, ERR_NOMEM, "out of memory");
	if (rc == 0)
		rc = call(i, url, header, body, out, e);
	buf_wipe_free(form);
	secret_free_text(&header);
	secret_free_text(&body);
	return rc;
}

/* A text of an answer, for people: *out is a copy. Missing: NULL, or an error when it is required. */
static int take_text(const json_t *from, const char *name, size_t max, bool required, char **out, struct err *e)
{
	const json_t *value = json_object_get(from, name);
	const char *text = json_string_value(value);
	if (!value || json_is_null(value))
		return required ? err_set(e, ERR_INVALID, "the issuer's answer has no %s", name) : 0;
	bool fine = text && *text && strlen(text) <= max;
	for (const char *c = text; fine && *c; c++)
		fine = (unsigned char)*c > 0x20 && (unsigned char)*c < 0x7f;
	if (!fine)
		return err_set(e, ERR_INVALID, "%s of the issuer's answer is not 1 to %zu printable characters", name,
			       max);
	*out = strdup(text);
	return *out ? 0 : err_set(e, ERR_NOMEM, "out of memory");
}

static int take_url(const json_t *from, const char *name, bool required, char **out, struct err *e)
{
	struct url url;
	int rc = take_text(from, name, URI_MAX, required, out, e);
	if (rc == 0 && *out && (rc = url_parse_secure(*out, &url, e)) != 0)
		return err_wrap(e, "the issuer's %s", name);
	return rc;
}

static bool lists(const json_t *array, const char *word)
{
	size_t i;
	const json_t *one;
	json_array_foreach(array, i,
			   one) if (json_string_value(one) && strcmp(json_string_value(one), word) == 0) return true;
	return false;
}

static int read_discovery(const json_t *json, struct oidc_issuer *out, struct err *e)
{
	const char *issuer = json_string_value(json_object_get(json, "issuer"));
	const json_t *methods = json_object_get(json, "token_endpoint_auth_methods_supported");
	if (!json_is_object(json))
		return err_set(e, ERR_INVALID, "it is not a JSON object");
	if (!issuer || strcmp(issuer, out->settings->issuer) != 0)
		return err_set(e, ERR_INVALID, "it is that of the issuer \"%.100s\", expected \"%.100s\"",
			       issuer ? issuer : "", out->settings->issuer);
	int rc = take_url(json, "token_endpoint", true, &out->token_endpoint, e);
	if (rc == 0)
		rc = take_url(json, "device_authorization_endpoint", false, &out->device_endpoint, e);
	if (rc == 0)
		rc = take_url(json, "revocation_endpoint", false, &out->revocation_endpoint, e);
	out->basic = !methods || lists(methods, "client_secret_basic");
	out->pkce = lists(json_object_get(json, "code_challenge_methods_supported"), "S256");
	return rc;
}

int oidc_discover_blocking(const struct oidc_settings *settings, const char *proxy, struct oidc_issuer *out,
			   struct err *e)
{
	char url[URI_MAX + 64];
	size_t len = strlen(settings->issuer);
	struct http_response r = { 0 };
	*out = (struct oidc_issuer){ .settings = settings, .proxy = proxy };
	while (len && settings->issuer[len - 1] == '/')
		len--;
	snprintf(url, sizeof url, "%.*s/.well-known/openid-configuration", (int)len, settings->issuer);
	int rc = call(out, url, NULL, NULL, &r, e);
	if (rc == 0 && r.status >= 500)
		rc = err_set(e, ERR_UNAVAILABLE, "%s: HTTP status %d", url, r.status);
	else if (rc == 0 && (r.status != 200 || !r.json))
		rc = err_set(e, ERR_INVALID, "%s: HTTP status %d%s; is issuer right?", url, r.status,
			     r.status == 200 ? ", but no JSON" : "");
	if (rc == 0 && (rc = read_discovery(r.json, out, e)) != 0)
		err_wrap(e, "%s", url);
	http_response_free(&r);
	if (rc != 0)
		oidc_issuer_free(out);
	return rc;
}

void oidc_issuer_free(struct oidc_issuer *i)
{
	free(i->device_endpoint);
	free(i->token_endpoint);
	free(i->revocation_endpoint);
	memset(i, 0, sizeof *i);
}

/* "invalid_client: wrong secret"; the code alone is in *out_code (borrowed from r). */
static void explain(const struct http_response *r, const char **out_code, struct err *e)
{
	const char *code = json_string_value(json_object_get(r->json, "error"));
	const char *words = json_string_value(json_object_get(r->json, "error_description"));
	*out_code = code ? code : "";
	if (code)
		err_set(e, ERR_DENIED, "%.64s%s%.140s", code, words ? ": " : "", words ? words : "");
	else
		err_set(e, ERR_DENIED, "HTTP status %d", r->status);
}

/* Neither yes nor no. */
static bool is_passing(const struct http_response *r)
{
	return r->status >= 500 || r->status == 429 || (r->status == 200 && !r->json);
}

static int64_t seconds_ms(const json_t *json, const char *name, int64_t standard_s, int64_t max_s)
{
	double s = json_number_value(json_object_get(json, name));
	if (!(s > 0))
		return standard_s * 1000;
	return s < (double)max_s ? (int64_t)(s * 1000) : max_s * 1000;
}

static int read_device(const json_t *json, struct oidc_device *out, struct err *e)
{
	int rc = take_text(json, "device_code", DEVICE_CODE_MAX, true, &out->device_code, e);
	if (rc == 0)
		rc = take_text(json, "user_code", CODE_MAX, true, &out->user_code, e);
	if (rc == 0)
		rc = take_url(json, "verification_uri", true, &out->uri, e);
	if (rc == 0)
		rc = take_url(json, "verification_uri_complete", false, &out->uri_complete, e);
	out->interval_ms = seconds_ms(json, "interval", INTERVAL_S, INTERVAL_MAX_S);
	out->expires_in_ms = seconds_ms(json, "expires_in", EXPIRES_MAX_S, EXPIRES_MAX_S);
	return rc;
}

static void add_challenge(struct buf *form, struct oidc_device *d)
{
	unsigned char hash[32];
	char text[TEXT_B64URL_SIZE(32)];
	secret_token(d->verifier);
	secret_sha256(d->verifier, strlen(d->verifier), hash);
	text_b64url(hash, sizeof hash, text, sizeof text);
	add_field(form, "code_challenge", text);
	add_field(form, "code_challenge_method", "S256");
}

int oidc_device_begin_blocking(const struct oidc_issuer *i, struct oidc_device *out, struct err *e)
{
	struct buf form = BUF_INIT(FORM_MAX);
	struct http_response r = { 0 };
	const char *code;
	memset(out, 0, sizeof *out);
	if (!i->device_endpoint)
		return err_set(e, ERR_INVALID, "%s has no device_authorization_endpoint: it cannot sign in a device",
			       i->settings->issuer);
	add_field(&form, "scope", i->settings->scopes);
	add_field(&form, "audience", i->settings->audience);
	add_field(&form, "resource", i->settings->resource);
	if (i->pkce)
		add_challenge(&form, out);
	int rc = post(i, i->device_endpoint, &form, &r, e);
	if (rc == 0 && is_passing(&r))
		rc = err_set(e, ERR_UNAVAILABLE, "HTTP status %d", r.status);
	else if (rc == 0 && r.status != 200) {
		explain(&r, &code, e);
		rc = e->code;
	}
	if (rc == 0)
		rc = read_device(r.json, out, e);
	http_response_free(&r);
	if (rc != 0) {
		oidc_device_free(out);
		return err_wrap(e, "%s", i->settings->issuer);
	}
	return 0;
}

void oidc_device_free(struct oidc_device *d)
{
	secret_free_text(&d->device_code);
	free(d->user_code);
	free(d->uri);
	free(d->uri_complete);
	secret_wipe(d, sizeof *d);
}

static enum oidc_answer read_refusal(const struct http_response *r, struct err *e)
{
	static const struct {
		const char *code;
		enum oidc_answer answer;
		const char *words;
	} known[] = {
		{ "authorization_pending", OIDC_PENDING, NULL },
		{ "slow_down", OIDC_SLOWER, NULL },
		{ "access_denied", OIDC_OVER, "the sign-in was denied" },
		{ "expired_token", OIDC_OVER, "nobody confirmed the code in time" },
	};
	const char *code;
	explain(r, &code, e);
	for (size_t k = 0; k < sizeof known / sizeof *known; k++)
		if (strcmp(code, known[k].code) == 0) {
			if (known[k].words)
				err_set(e, ERR_DENIED, "%s", known[k].words);
			return known[k].answer;
		}
	return OIDC_OVER;
}

enum oidc_answer oidc_device_poll_blocking(const struct oidc_issuer *i, const struct oidc_device *d,
					   struct oidc_tokens *out, struct err *e)
{
	struct buf form = BUF_INIT(FORM_MAX);
	struct http_response r = { 0 };
	enum oidc_answer answer = OIDC_GRANTED;
	add_field(&form, "grant_type", DEVICE_GRANT);
	add_field(&form, "device_code", d->device_code);
	add_field(&form, "code_verifier", d->verifier[0] ? d->verifier : NULL);
	int rc = post(i, i->token_endpoint, &form, &r, e);
	if (rc == ERR_UNAVAILABLE || rc == ERR_TIMEOUT)
		answer = OIDC_AWAY;
	else if (rc != 0)
		answer = OIDC_OVER;
	else if (is_passing(&r)) {
		err_set(e, ERR_UNAVAILABLE, "HTTP status %d", r.status);
		answer = OIDC_AWAY;
	} else if (r.status != 200)
		answer = read_refusal(&r, e);
	else if (oidc_read_tokens(i->settings, r.json, out, e) != 0)
		answer = OIDC_OVER;
	http_response_free(&r);
	return answer;
}

int oidc_refresh_blocking(const struct oidc_issuer *i, const char *refresh_token, struct oidc_tokens *out,
			  struct err *e)
{
	struct buf form = BUF_INIT(FORM_MAX);
	struct http_response r = { 0 };
	const char *code;
	add_field(&form, "grant_type", "refresh_token");
	add_field(&form, "refresh_token", refresh_token);
	add_field(&form, "audience", i->settings->audience);
	add_field(&form, "resource", i->settings->resource);
	int rc = post(i, i->token_endpoint, &form, &r, e);
	if (rc == 0 && is_passing(&r))
		rc = err_set(e, ERR_UNAVAILABLE, "HTTP status %d", r.status);
	else if (rc == 0 && r.status != 200) {
		explain(&r, &code, e);
		rc = e->code = strcmp(code, "invalid_grant") == 0 ? ERR_DENIED : ERR_INVALID;
	}
	if (rc == 0)
		rc = oidc_read_tokens(i->settings, r.json, out, e);
	http_response_free(&r);
	return rc == 0 ? 0 : err_wrap(e, "%s", i->settings->issuer);
}

int oidc_revoke_blocking(const struct oidc_issuer *i, const char *refresh_token, struct err *e)
{
	struct buf form = BUF_INIT(FORM_MAX);
	struct http_response r = { 0 };
	const char *code;
	if (!i->revocation_endpoint)
		return err_set(e, ERR_NOT_FOUND, "%s has no revocation_endpoint", i->settings->issuer);
	add_field(&form, "token", refresh_token);
	add_field(&form, "token_type_hint", "refresh_token");
	int rc = post(i, i->revocation_endpoint, &form, &r, e);
	if (rc == 0 && r.status != 200) {
		explain(&r, &code, e);
		rc = e->code;
	}
	http_response_free(&r);
	return rc == 0 ? 0 : err_wrap(e, "%s", i->settings->issuer);
}
