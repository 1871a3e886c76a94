/* The API behind its transport: paths, queries, who calls, bodies. The input is up to eight requests of three lines
 * each: "METHOD path?query", who calls (empty: nobody; "alice", "bob dev", "Bearer …", "@T": the session's token with a
 * proof), and the body, with ' for " and what service_fill puts in. For a method AWAY the store is away, for HEAL it is
 * back.
 *
 * Every answer has a form and a status of the API's own, and no request of any kind makes the server fail; who has no
 * credential, or no rights, learns nothing and changes nothing. */
#include "fuzz.h"
#include "service.h"

#include "base/text.h"

#include <stdlib.h>
#include <string.h>

#define REQUESTS_MAX 8u

struct visit {
	struct service s;
	bool away;
	bool changed; /* somebody with rights changed something: others may have some now */
};

struct request {
	char *method, *path, *query, *who, *body;
};

static bool is_status(int status, bool away)
{
	static const int all[] = { 200, 201, 204, 400, 401, 403, 404, 405, 409, 410, 429 };
	for (size_t i = 0; i < sizeof all / sizeof *all; i++)
		if (all[i] == status)
			return true;
	return status == 503 && away;
}

static void check_form(const struct answer *a)
{
	const char *type = a->raw.content_type ? a->raw.content_type : "";
	if (a->status == 204) {
		FUZZ_CHECK(!a->raw.body);
		return;
	}
	FUZZ_CHECK(a->raw.body && a->raw.body_len == strlen(a->raw.body));
	if (a->status < 400) {
		FUZZ_CHECK(a->json ? strcmp(type, "application/json") == 0 : strncmp(type, "text/plain", 10) == 0);
		return;
	}
	FUZZ_CHECK(a->json && strcmp(type, "application/problem+json") == 0);
	FUZZ_CHECK(json_integer_value(json_object_get(a->json, "status")) == a->status);
	FUZZ_CHECK(*text_at(a->json, "code") && *text_at(a->json, "title") && *text_at(a->json, "detail"));
	FUZZ_CHECK(strcmp(text_at(a->json, "request_id"), "r-1") == 0);
	FUZZ_CHECK(a->status != 405 || a->raw.allow[0]);
}

static bool is_somebody(const char *who)
{
	return *who && strncmp(who, "Bearer ", 7) != 0 && strcmp(who, "wrong") != 0 && strcmp(who, "away") != 0;
}

/* Nobody named: health alone. Somebody without rights: himself, health, and lists of nothing. */
static void check_rights(struct visit *v, const struct request *q, const struct answer *a)
{
	bool done = a->status < 300;
	if (strncmp(q->who, "alice", 5) == 0 || strcmp(q->who, v->s.web_token) == 0) {
		v->changed |= done && strcmp(q->method, "GET") != 0;
		return;
	}
	if (!is_somebody(q->who))
		FUZZ_CHECK(!done || strcmp(q->path, "/healthz") == 0 || strcmp(q->path, "/readyz") == 0);
	if (!done || v->changed || strcmp(q->who, "bob") != 0)
		return;
	FUZZ_CHECK(strcmp(q->method, "GET") == 0 && a->json);
	FUZZ_CHECK(!strstr(a->raw.body, "web-1") && !strstr(a->raw.body, v->s.web_session));
}

static void ask(struct visit *v, const struct request *q)
{
	bool proven = strcmp(q->who, v->s.web_token) == 0;
	bool nameable = text_is_utf8(q->path, strlen(q->path)) && text_is_utf8(q->method, strlen(q->method));
	struct answer a = { .status = 0 };
	if (!proven)
		a = call(v->s.w, q->method, q->path, q->query, *q->who ? q->who : NULL, q->body);
	else if (nameable) /* by a proof */
		a = call_with_token(v->s.w, q->method, q->path, q->who, v->s.w->client);
	else
		return;
	FUZZ_CHECK(is_status(a.status, v->away));
	FUZZ_CHECK(a.status >= 400 || !strstr(q->path, "%00")); /* a name that ends early is another name */
	check_form(&a);
	check_rights(v, q, &a);
	answer_free(&a);
}

static char *filled_part(struct visit *v, struct fuzz_input *in, char separator)
{
	char *part = fuzz_part(in, separator), *filled = service_fill(&v->s, part);
	free(part);
	return filled;
}

/* Other names of people, an auth plugin may not give. */
static bool is_name(const char *who)
{
	for (const char *c = who; *c; c++)
		if ((unsigned char)*c < ' ' || *c == 127)
			return false;
	return *who != ' ' && strlen(who) < 200 && text_is_utf8(who, strlen(who));
}

/* JSON writes some characters as two or six. */
static size_t size_in_json(const char *text)
{
	size_t n = 0;
	for (const char *c = text; *c; c++)
		n += (unsigned char)*c < ' ' ? 6 : *c == '"' || *c == '\\' ? 2 : 1;
	return n;
}

/* What call_with_token has room for. */
static bool fits_proof(const char *method, const char *target)
{
	return size_in_json(method) < 100 && size_in_json(target) < 400;
}

static void take_request(struct visit *v, struct fuzz_input *in)
{
	char *target;
	struct request q = { .method = fuzz_part(in, ' ') };
	target = filled_part(v, in, '\n');
	char *question = strchr(target, '?');
	if (question)
		*question = '\0';
	q.path = target;
	q.query = question ? question + 1 : target + strlen(target);
	q.who = filled_part(v, in, '\n');
	q.body = filled_part(v, in, '\n');
	if (strcmp(q.method, "AWAY") == 0) {
		fake_store_away();
		v->away = true;
	} else if (strcmp(q.method, "HEAL") == 0) {
		fake_store_heal();
	} else if (fits_proof(q.method, target) && is_name(q.who)) {
		ask(v, &q);
	}
	free(q.method);
	free(target);
	free(q.who);
	free(q.body);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = { data, size };
	struct visit v = { .away = false };
	service_up(&v.s);
	for (size_t i = 0; i < REQUESTS_MAX && in.left; i++)
		take_request(&v, &in);
	fake_store_heal();
	service_check_audit(&v.s, "");
	service_down(&v.s);
	return 0;
}
