/* Routing and what all calls share. A request is matched against one table; the router answers 404 and 405, finds out
 * who calls where the row wants it, asks policy where the row names a resource, and hands over to the handler. Every
 * refusal is a problem document, made in one place. */
#include "server/api.h"

#include "base/buf.h"
#include "base/json.h"
#include "base/log.h"
#include "base/secret.h"
#include "base/text.h"
#include "server/api_call.h"
#include "server/audit.h"
#include "server/http_status.h"
#include "server/metrics.h"
#include "server/policies.h"
#include "server/revocations.h"
#include "server/server.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

const struct api_route api_routes[] = {
	{ "POST", "/v1/sessions", api_sessions_post, API_IDENTITY, "tunnel:StartSession", NULL },
	{ "GET", "/v1/sessions", api_sessions_list, API_IDENTITY, "tunnel:DescribeSessions", NULL },
	{ "GET", "/v1/sessions/{id}", api_sessions_get, API_IDENTITY, "tunnel:DescribeSessions", NULL },
	{ "DELETE", "/v1/sessions/{id}", api_sessions_delete, API_HANDLER, "tunnel:TerminateSession", NULL },
	{ "POST", "/v1/sessions/{id}/attach", api_sessions_attach, API_HANDLER, "tunnel:ResumeSession", NULL },
	{ "POST", "/v1/sessions/{id}/resume", api_sessions_resume, API_IDENTITY, "tunnel:ResumeSession", NULL },
	{ "POST", "/v1/sessions/{id}/renew", api_sessions_renew, API_IDENTITY, "tunnel:ResumeSession", NULL },
	{ "GET", "/v1/targets", api_targets_list, API_IDENTITY, "tunnel:ListTargets", NULL },
	{ "POST", "/v1/targets", api_targets_post, API_HANDLER, NULL, NULL },
	{ "GET", "/v1/targets/{id}", api_targets_get, API_IDENTITY, "tunnel:ListTargets", NULL },
	{ "DELETE", "/v1/targets/{id}", api_targets_delete, API_IDENTITY, "tunnel:DeregisterTarget", NULL },
	{ "POST", "/v1/enrollments", api_enrollments_post, API_IDENTITY, "tunnel:EnrollTarget", NULL },
	{ "GET", "/v1/policies", api_policies_list, API_IDENTITY, "tunnel:GetPolicy", NULL },
	{ "POST", "/v1/policies:simulate", api_policies_simulate, API_IDENTITY, "tunnel:GetPolicy", "policy/*" },
	{ "POST", "/v1/policies:who-can", api_policies_who_can, API_IDENTITY, "tunnel:GetPolicy", "policy/*" },
	{ "GET", "/v1/policies/{name}", api_policies_get, API_IDENTITY, "tunnel:GetPolicy", "policy/{}" },
	{ "PUT", "/v1/policies/{name}", api_policies_put, API_IDENTITY, "tunnel:PutPolicy", "policy/{}" },
	{ "DELETE", "/v1/policies/{name}", api_policies_delete, API_IDENTITY, "tunnel:PutPolicy", "policy/{}" },
	{ "GET", "/v1/revocations", api_revocations_list, API_IDENTITY, "tunnel:Revoke", NULL },
	{ "POST", "/v1/revocations", api_revocations_post, API_IDENTITY, "tunnel:Revoke", NULL },
	{ "DELETE", "/v1/revocations/{id}", api_revocations_delete, API_IDENTITY, "tunnel:Revoke", NULL },
	{ "GET", "/v1/audit", api_audit_get, API_IDENTITY, "tunnel:ReadAudit", "audit" },
	{ "GET", "/v1/whoami", api_whoami_get, API_IDENTITY, NULL, NULL },
	{ "GET", "/healthz", api_healthz_get, API_NOBODY, NULL, NULL },
	{ "GET", "/readyz", api_readyz_get, API_NOBODY, NULL, NULL },
	{ "GET", "/v1/nodes", api_nodes_list, API_IDENTITY, "tunnel:ListNodes", "nodes" },
	{ "GET", "/metrics", api_metrics_get, API_IDENTITY, "tunnel:ReadMetrics", "metrics" },
	{ .method = NULL },
};

/* ---- answers ---- */

#define RETRY_AFTER_S 1 /* of a 503: a full queue is shorter by then */

static void set_json(struct api_response *r, int status, const char *content_type, const json_t *json)
{
	free(r->body);
	r->body = json ? json_text(json) : NULL;
	r->status = r->body ? status : 500;
	r->body_len = r->body ? strlen(r->body) : 0;
	r->content_type = r->body ? content_type : NULL;
}

static void put_problem(struct api_response *r, const char *request_id, int status, const char *code, json_t *members,
			const char *fmt, va_list ap) __attribute__((format(printf, 6, 0)));
static void put_problem(struct api_response *r, const char *request_id, int status, const char *code, json_t *members,
			const char *fmt, va_list ap)
{
	char detail[512];
	text_vprint(detail, sizeof detail, fmt, ap);
	json_auto_t *json =
		json_pack("{s:s, s:s, s:i, s:s, s:s, s:s}", "type", "about:blank", "title", http_status_text(status),
			  "status", status, "code", code, "detail", detail, "request_id", request_id);
	if (json && members)
		json_object_update(json, members);
	json_decref(members);
	snprintf(r->request_id, sizeof r->request_id, "%s", request_id);
	r->retry_after_s = status == 503 ? RETRY_AFTER_S : 0;
	set_json(r, status, "application/problem+json", json);
}

void api_problem(struct api_response *r, const char *request_id, int status, const char *code, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	put_problem(r, request_id, status, code, NULL, fmt, ap);
	va_end(ap);
}

void api_answer_problem(struct api_call *c, int status, const char *code, json_t *members, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	put_problem(c->out, c->request->request_id, status, code, members, fmt, ap);
	va_end(ap);
}

static void answer_internal(struct api_call *c, const char *why)
{
	log_with(LOG_LEVEL_ERROR, FIELDS({ "request_id", c->request->request_id }, { "error", why }), "%s %s failed",
		 c->request->method, c->request->path);
	api_answer_problem(c, 500, "internal", NULL, "the server failed; its log has this request id");
}

void api_answer_err(struct api_call *c, int rc, const struct err *e)
{
	static const struct {
		int rc, status;
		const char *code;
	} rows[] = {
		{ ERR_INVALID, 400, "invalid-request" },
		{ ERR_DENIED, 403, "forbidden" },
		{ ERR_NOT_FOUND, 404, "not-found" },
		{ ERR_CONFLICT, 409, "conflict" },
		{ ERR_UNAVAILABLE, 503, "busy" },
		{ ERR_TIMEOUT, 503, "busy" },
		{ ERR_LIMIT, 503, "busy" },
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
		if (rows[i].rc == rc) {
			api_answer_problem(c, rows[i].status, rows[i].code, NULL, "%s", e->text);
			return;
		}
	answer_internal(c, e->text);
}

void api_answer(struct api_call *c, int status, json_t *json)
{
	if (json)
		set_json(c->out, status, "application/json", json);
	if (!json || !c->out->body)
		answer_internal(c, "the answer could not be made");
	json_decref(json);
}

void api_answer_nothing(struct api_call *c)
{
	c->out->status = 204;
}

void api_response_free(struct api_response *r)
{
	if (r->body)
		secret_wipe(r->body, r->body_len); /* may hold a token */
	free(r->body);
	*r = (struct api_response){ .status = 0 };
}

/* ---- requests ---- */

const char *api_header(const struct api_request *q, const char *lower_case_name)
{
	for (size_t i = 0; i < q->header_count; i++)
		if (strcmp(q->headers[i].name, lower_case_name) == 0)
			return q->headers[i].value;
	return NULL;
}

const char *api_bearer(const struct api_request *q)
{
	const char *value = api_header(q, "authorization");
	return value && strncasecmp(value, "Bearer ", 7) == 0 && value[7] ? value + 7 : NULL;
}

static bool is_json_type(const char *type)
{
	static const char wanted[] = "application/json";
	size_t n = sizeof wanted - 1;
	return type && strncasecmp(type, wanted, n) == 0 && strchr(" ;", type[n]) != NULL;
}

json_t *api_body(struct api_call *c)
{
	json_t *json = NULL;
	struct err e;
	if (!is_json_type(api_header(c->request, "content-type")))
		api_answer_problem(c, 400, "invalid-request", NULL, "Content-Type must be application/json");
	else if (c->request->body_len == 0)
		api_answer_problem(c, 400, "invalid-request", NULL, "body: missing (a JSON object)");
	else if (json_parse((const char *)c->request->body, c->request->body_len, &json, &e))
		api_answer_problem(c, 400, "invalid-request", NULL, "body: %s", e.text);
	return json;
}

static int hex_digit(char c)
{
	const char *digits = "0123456789abcdef";
	const char *at = c ? strchr(digits, c >= 'A' && c <= 'F' ? c + 32 : c) : NULL;
	return at ? (int)(at - digits) : -1;
}

/* Percent-decoding; "+" is a blank in queries. false: bad escape, NUL, not UTF-8, or too long. */
static bool decode(const char *s, size_t len, bool plus, char *out, size_t size)
{
	size_t n = 0;
	for (size_t i = 0; i < len; i++) {
		int c = (unsigned char)s[i];
		if (c == '+' && plus)
			c = ' ';
		if (c == '%') {
			int high = i + 2 < len ? hex_digit(s[i + 1]) : -1;
			int low = i + 2 < len ? hex_digit(s[i + 2]) : -1;
			if (high < 0 || low < 0)
				return false;
			c = high * 16 + low;
			i += 2;
		}
		if (c == 0 || n + 1 >= size)
			return false;
		out[n++] = (char)c;
	}
	out[n] = '\0';
	return text_is_utf8(out, n);
}

static bool is_allowed(const char *name, const char *const *allowed)
{
	for (; *allowed; allowed++) {
		size_t n = strlen(*allowed);
		if ((*allowed)[n - 1] == '.' ? strncmp(name, *allowed, n) == 0 && name[n] : strcmp(name, *allowed) == 0)
			return true;
	}
	return false;
}

static void refuse_parameter(struct api_call *c, const char *name, const char *const *allowed)
{
	struct buf names = BUF_INIT(200);
	for (size_t i = 0; allowed[i]; i++)
		buf_printf(&names, "%s%s%s", i ? ", " : "", allowed[i],
			   allowed[i][strlen(allowed[i]) - 1] == '.' ? "<key>" : "");
	char *list = buf_take_text(&names);
	api_answer_problem(c, 400, "invalid-request", NULL, "query parameter '%.64s' is unknown; allowed: %s", name,
			   list && *list ? list : "none");
	free(list);
}

static bool add_parameter(struct api_call *c, const char *at, size_t len, const char *const *allowed, json_t *out)
{
	char name[LIMIT_TAG_TEXT + 16], value[1024];
	const char *equals = memchr(at, '=', len);
	size_t name_len = equals ? (size_t)(equals - at) : len;
	size_t value_at = equals ? name_len + 1 : len;
	if (!decode(at, name_len, true, name, sizeof name) ||
	    !decode(at + value_at, len - value_at, true, value, sizeof value)) {
		api_answer_problem(c, 400, "invalid-request", NULL,
				   "the query is not percent-encoded UTF-8, or a value is longer than 1023 bytes");
		return false;
	}
	if (!is_allowed(name, allowed)) {
		refuse_parameter(c, name, allowed);
		return false;
	}
	if (json_object_get(out, name)) {
		api_answer_problem(c, 400, "invalid-request", NULL, "query parameter '%s' is there twice", name);
		return false;
	}
	json_object_set_new(out, name, json_string(value));
	return true;
}

/* A presigned URL carries its credential in the query; an auth plugin has judged it. */
static bool is_credential(const char *at, size_t len)
{
	static const char prefix[] = "X-Amz-";
	return len >= sizeof prefix - 1 && memcmp(at, prefix, sizeof prefix - 1) == 0;
}

json_t *api_query(struct api_call *c, const char *const *allowed)
{
	json_t *out = json_object();
	const char *at = c->request->query ? c->request->query : "";
	while (*at) {
		size_t len = strcspn(at, "&");
		if (len && !is_credential(at, len) && !add_parameter(c, at, len, allowed, out)) {
			json_decref(out);
			return NULL;
		}
		at += len + (at[len] == '&');
	}
	return out;
}

/* ---- routing ---- */

/* Matches segment by segment; "{…}" takes one that is a name. */
static bool match(const char *pattern, const char *path, char param[API_PARAM_TEXT])
{
	while (*pattern && *path) {
		size_t p = strcspn(pattern + 1, "/") + 1, q = strcspn(path + 1, "/") + 1;
		if (pattern[1] == '{') {
			if (path[0] != '/' || !decode(path + 1, q - 1, false, param, API_PARAM_TEXT) ||
			    !text_is_id(param))
				return false;
		} else if (p != q || memcmp(pattern, path, p) != 0) {
			return false;
		}
		pattern += p;
		path += q;
	}
	return !*pattern && !*path;
}

static const struct api_route *find_route(struct api_call *c)
{
	bool known = false;
	size_t used = 0;
	for (const struct api_route *r = api_routes; r->method; r++) {
		if (!match(r->pattern, c->request->path, c->param))
			continue;
		if (strcmp(r->method, c->request->method) == 0)
			return r;
		int n = snprintf(c->out->allow + used, sizeof c->out->allow - used, "%s%s", known ? ", " : "",
				 r->method);
		used += n > 0 ? (size_t)n : 0;
		known = true;
	}
	if (known)
		api_answer_problem(c, 405, "method-not-allowed", NULL, "%.16s is not possible here; allowed: %s",
				   c->request->method, c->out->allow);
	else
		api_answer_problem(c, 404, "not-found", NULL, "there is nothing at this path");
	return NULL;
}

enum pool_lane api_lane(const char *method, const char *path, bool proof)
{
	char param[API_PARAM_TEXT];
	for (const struct api_route *r = api_routes; r->method; r++)
		if (strcmp(r->method, method) == 0 && match(r->pattern, path, param))
			return r->credential == API_NOBODY             ? POOL_EVENTS
			       : r->credential == API_HANDLER && proof ? POOL_ATTACHES
								       : POOL_CALLS;
	return POOL_EVENTS; /* nobody is asked for a 404 */
}

bool api_require(struct api_call *c, const char *action, const char *resource, const json_t *context)
{
	struct err e;
	int rc =
		policies_require_blocking(c->server, &c->id, c->request->remote_address, action, resource, context, &e);
	if (rc)
		api_answer_err(c, rc, &e);
	return rc == 0;
}

static bool require_route(struct api_call *c, const struct api_route *r)
{
	char resource[sizeof "policy/" + LIMIT_ID];
	const char *hole = strstr(r->resource, "{}");
	if (!hole)
		return api_require(c, r->action, r->resource, NULL);
	snprintf(resource, sizeof resource, "%.*s%s", (int)(hole - r->resource), r->resource, c->param);
	return api_require(c, r->action, resource, NULL);
}

static void refuse_revoked(struct api_call *c, const struct err *why)
{
	metrics_add(c->server->metrics, METRIC_AUTH_DENIED, 1);
	audit_note_blocking(c->server->audit, "denied",
			    json_pack("{s:n, s:s, s:s, s:s, s:s, s:s?, s:s}", "action", "resource", c->request->path,
				      "subject", c->id.subject, "provider", c->id.provider, "credential",
				      c->id.credential, "remote_address", c->request->remote_address, "text",
				      why->text));
	api_answer_problem(c, 403, "forbidden", NULL, "%s", why->text);
}

bool api_may_guess(struct api_call *c, const struct guess *who)
{
	char text[160];
	int64_t wait_s = guess_wait_s(c->server, who);
	if (wait_s == 0)
		return true;
	api_answer_wait(c, wait_s, guess_wait_text(wait_s, text, sizeof text));
	return false;
}

void api_answer_wait(struct api_call *c, int64_t wait_s, const char *text)
{
	api_answer_problem(c, 429, "too-many-attempts", NULL, "%s", text);
	c->out->retry_after_s = wait_s;
}

/* rc: of the verification. */
static void note_guess(struct api_call *c, const struct guess *who, int rc)
{
	if (rc == 0)
		guess_right(c->server, who);
	else if (rc == ERR_DENIED)
		guess_wrong_blocking(c->server, who);
	c->out->known = rc == 0;
}

/* As auth_verify_blocking; ERR_LIMIT: he has to wait, and the problem is answered. */
static int verify(struct api_call *c, struct err *e)
{
	struct guess who;
	char *name = NULL;
	if (!guesses_count(c->server->guesses, c->request->remote_address)) {
		int rc = auth_verify_blocking(c->server->auth, c->request, &c->id, e);
		c->out->known = rc == 0;
		return rc;
	}
	auth_claim_blocking(c->server->auth, c->request, &who, &name);
	int rc = api_may_guess(c, &who) ? auth_verify_blocking(c->server->auth, c->request, &c->id, e) : ERR_LIMIT;
	note_guess(c, &who, rc);
	secret_free_text(&name);
	return rc;
}

bool api_identify(struct api_call *c)
{
	struct err e;
	int rc = verify(c, &e);
	if (rc == ERR_LIMIT)
		return false;
	if (rc == ERR_DENIED || rc == ERR_NOT_FOUND) {
		metrics_add(c->server->metrics, METRIC_AUTH_DENIED, 1);
		api_answer_problem(c, 401, "unauthenticated", NULL, "%s", e.text);
	} else if (rc == ERR_UNAVAILABLE) {
		api_answer_problem(c, 503, "busy", NULL, "the credential could not be checked: %s", e.text);
	} else if (rc) {
		answer_internal(c, e.text);
	} else {
		rc = revocations_check_anythread(c->server->revocations, c->id.subject, c->id.credential, &e);
		if (rc)
			refuse_revoked(c, &e);
	}
	return rc == 0;
}

void api_handle_blocking(struct server *server, const struct api_request *request, struct api_response *out)
{
	struct api_call c = { .server = server, .request = request, .out = out };
	*out = (struct api_response){ .status = 0 };
	memcpy(out->request_id, request->request_id, sizeof out->request_id);
	const struct api_route *r = find_route(&c);
	if (r && (r->credential != API_IDENTITY || api_identify(&c)) && (!r->resource || require_route(&c, r)))
		r->handle(&c);
	identity_free(&c.id);
}
