#include "cli/client.h"

#include "base/json.h"
#include "base/log.h"
#include "base/process.h"
#include "base/secret.h"
#include "cli/ends.h"
#include "net/url.h"

#include <stdlib.h>
#include <string.h>
#include <sys/select.h>
#include <time.h>

/* The pause between guesses that a server allows, unless set otherwise (limits.failures_per_credential). */
#define WAIT_MAX_MS 6000

static int open_client(struct client *c, const struct common_options *common, struct err *e)
{
	*c = (struct client){ .common = common };
	return profile_load(common, &c->profile, e) == 0 ? EXIT_CODE_OK : EXIT_CODE_CONFIG;
}

int client_open_quietly(struct client *c, const struct common_options *common)
{
	struct err e = { 0 };
	return open_client(c, common, &e);
}

int client_open(struct client *c, const struct common_options *common)
{
	struct err e = { 0 };
	int code = open_client(c, common, &e);
	if (code != EXIT_CODE_OK)
		complain("%s", e.text);
	return code;
}

void client_close(struct client *c)
{
	profile_free(&c->profile);
}

struct credential {
	char *header;  /* "Authorization: Bearer …" */
	char *userpwd; /* SigV4 */
	char scope[160];
};

static int credential_get(const struct client *c, struct credential *out, struct err *e)
{
	const struct profile *p = &c->profile;
	memset(out, 0, sizeof *out);
	if (p->auth == PROFILE_HMAC) {
		snprintf(out->scope, sizeof out->scope, "aws:amz:%s:%s", p->region, p->service);
		return profile_hmac(p, &out->userpwd, e);
	}
	char *token = NULL;
	int rc = profile_token(p, c->background, c->outlast_ms, &token, e);
	if (rc != 0)
		return rc;
	size_t size = strlen(token) + 32;
	out->header = malloc(size);
	if (out->header)
		snprintf(out->header, size, "Authorization: Bearer %s", token);
	secret_free_text(&token);
	return out->header ? 0 : err_set(e, ERR_NOMEM, "out of memory");
}

static void credential_free(struct credential *c)
{
	secret_free_text(&c->header);
	secret_free_text(&c->userpwd);
}

/* The body of "session-ended" says how. */
static int ended_exit_code(const json_t *problem)
{
	const json_t *end = json_object_get(problem, "end");
	struct session_ending ending;
	ending_of_record((unsigned)json_integer_value(json_object_get(end, "code")), NULL, &ending);
	return ending.exit_code;
}

static int status_exit_code(const struct http_response *r)
{
	if (strcmp(r->code, "target-offline") == 0)
		return EXIT_CODE_OFFLINE;
	switch (r->status) {
	case 401:
		return EXIT_CODE_UNAUTHENTICATED;
	case 403:
		return EXIT_CODE_FORBIDDEN;
	case 404:
		return EXIT_CODE_NOT_FOUND;
	case 410:
		return ended_exit_code(r->json);
	case 429:
	case 502:
	case 503:
	case 504:
		return EXIT_CODE_UNREACHABLE;
	default:
		return EXIT_CODE_FAILED;
	}
}

static int explain(const struct http_response *r, char why[CLIENT_WHY])
{
	if (r->code[0])
		snprintf(why, CLIENT_WHY, "%s (%s%s)", r->detail, r->code,
			 strcmp(r->code, "busy") == 0 ? ", try again" : "");
	else
		snprintf(why, CLIENT_WHY, "HTTP %d: %s", r->status, r->detail[0] ? r->detail : "no reason given");
	size_t len = strlen(why);
	if (!r->code[0] && r->retry_after_ms) /* ours has it in its words */
		snprintf(why + len, CLIENT_WHY - len, "; it is to be asked again in %d s",
			 (int)(r->retry_after_ms / 1000));
	if (r->status >= 500 && r->request_id[0]) /* the server's log has it on every line about this */
		snprintf(why + len, CLIENT_WHY - len, "; request %s", r->request_id);
	return status_exit_code(r);
}

/* A document with mistakes: each of them on a line. */
static bool complain_mistakes(const struct http_response *r)
{
	const json_t *list = json_object_get(r->json, "mistakes"), *one;
	size_t i, n = (size_t)json_integer_value(json_object_get(r->json, "mistake_count"));
	if (!json_array_size(list))
		return false;
	complain("%zu mistake%s (%s)", n, n == 1 ? "" : "s", r->code);
	json_array_foreach(list, i, one)
	{
		const char *path = json_string_value(json_object_get(one, "path"));
		const char *text = json_string_value(json_object_get(one, "text"));
		complain("%s%s%s", path ? path : "", path && *path ? ": " : "", text ? text : "?");
	}
	if (n > i)
		complain("and %zu more", n - i);
	return true;
}

int client_complain(const struct http_response *r)
{
	char why[CLIENT_WHY];
	int code = explain(r, why);
	if (!complain_mistakes(r))
		complain("%s", why);
	return code;
}

/* One server. 0 and an answer, or negative when none came. */
static int call_one(struct client *c, const char *server, const char *method, const char *path, const char *body,
		    const struct credential *cred, struct http_response *out, struct err *e)
{
	char url[2048];
	int rc = url_join(server, path, url, sizeof url, e);
	if (rc != 0)
		return rc;
	const char *headers[] = { cred->header, NULL };
	struct http_request q = {
		.method = method,
		.url = url,
		.headers = headers,
		.body = body,
		.ca_file = c->profile.ca_file,
		.proxy = c->profile.proxy,
		.sigv4 = cred->userpwd ? cred->scope : NULL,
		.userpwd = cred->userpwd,
		.timeout_ms = c->timeout_ms,
	};
	log_debug("%s %s", method, url);
	return http_call_blocking(&q, out, e);
}

static bool is_stopped(const struct client *c)
{
	return c->interrupted && c->interrupted();
}

/* A server that is busy, or about to stop, leaves it to the next one. When none does it, the answer is that of the last
 * one that gave any. */
static int ask_in_turn(struct client *c, const char *method, const char *path, const char *text,
		       const struct credential *cred, struct http_response *out, struct err *e)
{
	int answered = ERR_UNAVAILABLE;
	for (size_t i = 0; i < c->profile.servers.n && (answered != 0 || out->status == 503); i++) {
		struct http_response r;
		if (i > 0 && is_stopped(c))
			break;
		if (call_one(c, c->profile.servers.at[i], method, path, text, cred, &r, e) != 0)
			continue;
		http_response_free(out);
		*out = r;
		answered = 0;
	}
	return answered;
}

/* Somebody at this address has guessed, and nothing was done: who has to wait for a moment only waits it. */
static bool has_waited(const struct client *c, const struct http_response *r)
{
	if (r->status != 429 || !r->retry_after_ms || r->retry_after_ms > WAIT_MAX_MS || c->background)
		return false;
	log_debug("the server asks to wait %d ms", (int)r->retry_after_ms);
	struct timespec left = { .tv_sec = r->retry_after_ms / 1000 };
	sigset_t before;
	process_block_signals(&before); /* so that none comes between the look and the wait */
	bool waited = !is_stopped(c) && pselect(0, NULL, NULL, NULL, &left, &before) == 0;
	process_unblock_signals(&before);
	return waited && !is_stopped(c);
}

/* The answer of the first server that gives one. 0, or an exit code and why there is none. */
static int ask_servers(struct client *c, const char *method, const char *path, const json_t *body,
		       struct http_response *out, char why[CLIENT_WHY])
{
	struct err e = { 0 };
	struct credential cred;
	if (credential_get(c, &cred, &e) != 0) {
		snprintf(why, CLIENT_WHY, "%s", e.text);
		return exit_for_err(&e) == EXIT_CODE_UNREACHABLE ? EXIT_CODE_UNREACHABLE : EXIT_CODE_CONFIG;
	}
	char *text = body ? json_text(body) : NULL;
	int rc = ask_in_turn(c, method, path, text, &cred, out, &e);
	if (rc == 0 && has_waited(c, out)) {
		http_response_free(out);
		rc = ask_in_turn(c, method, path, text, &cred, out, &e);
	}
	credential_free(&cred);
	free(text);
	if (rc == 0)
		return EXIT_CODE_OK;
	snprintf(why, CLIENT_WHY, "%s", e.text);
	return exit_for_err(&e);
}

static void take_json(struct http_response *r, json_t **out_json)
{
	if (out_json)
		*out_json = json_incref(r->json);
}

int client_try(struct client *c, const char *method, const char *path, const json_t *body, json_t **out_json,
	       char why[CLIENT_WHY])
{
	struct http_response r = { 0 };
	int code = ask_servers(c, method, path, body, &r, why);
	if (code == EXIT_CODE_OK && r.status >= 400)
		code = explain(&r, why);
	else if (code == EXIT_CODE_OK)
		take_json(&r, out_json);
	http_response_free(&r);
	return code;
}

int client_call(struct client *c, const char *method, const char *path, const json_t *body, json_t **out_json)
{
	char why[CLIENT_WHY];
	struct http_response r = { 0 };
	int code = ask_servers(c, method, path, body, &r, why);
	if (code != EXIT_CODE_OK)
		complain("%s", why);
	else if (r.status >= 400)
		code = client_complain(&r);
	else
		take_json(&r, out_json);
	http_response_free(&r);
	return code;
}
