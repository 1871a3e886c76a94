/* Each single allocation that a call of the API makes fails once: the caller is told that it is the server, or gets
 * what he asked for, whole; the next call is served; nothing leaks (under AddressSanitizer). Documents and what is sent
 * to others are not to be refused: the reserve is for them (base/certain.h). */
#include "world.h"

#include "base/clock.h"
#include "support/failing_alloc.h"

#define TCP "'127.0.0.1:5432'"
#define ROUNDS_MAX 3000 /* a call makes fewer allocations */

static struct world *up(void)
{
	failing_alloc_json(false);
	struct world *w = world_up();
	enrol(w, "web-1", "");
	hello(w, "web-1", 7, "");
	return w;
}

struct request {
	struct world *w;
	const char *method, *path, *body;
	int status; /* when all is well */
	size_t refused;
};

/* Well, or the server's fault and said so; an answer that could not even be made has no body. */
static void check_answer(const struct request *q, const struct answer *a, bool failed)
{
	if (a->status == q->status)
		return;
	if (!failed || (a->status != 500 && a->status != 503))
		fail_msg("%s %s: %d; expected %d: %s", q->method, q->path, a->status, q->status,
			 text_at(a->json, "detail"));
	if (a->raw.body)
		assert_string_not_equal(text_at(a->json, "detail"), "");
}

static struct answer ask(struct request *q, bool *out_failed)
{
	struct answer a = call(q->w, q->method, q->path, "", "alice", q->body);
	*out_failed = failing_alloc_over();
	check_answer(q, &a, *out_failed);
	q->refused += a.status != q->status;
	return a;
}

static bool ask_once(void *arg)
{
	bool failed;
	struct answer a = ask(arg, &failed);
	answer_free(&a);
	return failed;
}

/* What can be asked again and again with one result. */
static void test_calls_that_repeat(void **state)
{
	(void)state;
	static const struct request calls[] = {
		{ .method = "GET", .path = "/v1/whoami", .status = 200 },
		{ .method = "GET", .path = "/v1/targets", .status = 200 },
		{ .method = "GET", .path = "/v1/targets/web-1", .status = 200 },
		{ .method = "GET", .path = "/v1/sessions", .status = 200 },
		{ .method = "GET", .path = "/v1/policies", .status = 200 },
		{ .method = "GET", .path = "/v1/audit", .status = 200 },
		{ .method = "GET", .path = "/v1/nodes", .status = 200 },
		{ .method = "PUT",
		  .path = "/v1/policies/extra",
		  .body = "{'Version':'2026-01-01','Statement':[{'Sid':'x','Effect':'Deny','Principal':{'User':['bob']}"
			  ","
			  "'Action':['tunnel:OpenTcp'],'Resource':['*'],'Condition':{'NumericEquals':{'tunnel:Port':["
			  "22]}}}]}",
		  .status = 200 },
		{ .method = "POST",
		  .path = "/v1/policies:simulate",
		  .body = "{'subject':'bob','action':'tunnel:StartSession','resource':'target/web-1'}",
		  .status = 200 },
		{ .method = "POST", .path = "/v1/policies:who-can", .body = "{'target':'web-1'}", .status = 200 },
		{ .method = "GET", .path = "/v1/revocations", .status = 200 },
		{ .method = "POST", .path = "/v1/enrollments", .body = "{'target':'web-2'}", .status = 201 },
		{ .method = "POST", .path = "/v1/revocations", .body = "{'credential':'t9'}", .status = 200 },
	};
	for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
		struct request q = calls[i];
		q.w = up();
		size_t n = failing_alloc_sweep(ask_once, &q);
		if (n > ROUNDS_MAX)
			fail_msg("%s %s: %zu allocations", q.method, q.path, n);
		world_down(q.w);
	}
}

/* ---- sessions ---- */

static const char start_body[] = "{'target':'web-1','kind':'%s','client_key':'%s',%s%s%s}";

struct sessions_case {
	struct request q;
	char body[2048], path[96];
	size_t whole; /* members of a record, when all was well */
	char id[65], token[64];
};

static size_t members_of(struct world *w, const char *session)
{
	json_t *doc = record_of(w, session);
	size_t n = json_object_size(doc) + json_array_size(json_object_get(doc, "allow")) +
		   json_object_size(json_object_get(doc, "grant"));
	json_decref(doc);
	return n;
}

static void keep(struct sessions_case *s, const struct answer *a)
{
	snprintf(s->id, sizeof s->id, "%s", text_at(a->json, "session.id"));
	snprintf(s->token, sizeof s->token, "%s", text_at(a->json, "token"));
}

/* What was answered is recorded, whole, and good to attach with; what was refused does not run. */
static void check_started(struct sessions_case *s, const struct answer *a, size_t live)
{
	struct attach_decision d;
	if (a->status != 201) {
		sweep_in(s->q.w, 0); /* a session that could not be taken back is found and ended */
		assert_int_equal(sessions_count_anythread(s->q.w->server.sessions, NULL), live);
		return;
	}
	keep(s, a);
	assert_int_equal(audited(s->q.w, "session.start", "session", s->id), 1);
	size_t whole = members_of(s->q.w, s->id);
	if (s->whole == 0)
		s->whole = whole;
	assert_int_equal(whole, s->whole);
	assert_int_equal(attach(s->q.w, s->id, s->token, s->q.w->client, &d), 0);
}

static void end(struct sessions_case *s)
{
	char path[96];
	snprintf(path, sizeof path, "/v1/sessions/%s", s->id);
	struct answer a = call(s->q.w, "DELETE", path, "", "alice", NULL);
	assert_int_equal(a.status, 204);
	answer_free(&a);
}

static bool start_once(void *arg)
{
	struct sessions_case *s = arg;
	size_t live = sessions_count_anythread(s->q.w->server.sessions, NULL);
	bool failed;
	struct answer a = ask(&s->q, &failed);
	check_started(s, &a, live);
	if (a.status == 201)
		end(s);
	answer_free(&a);
	return failed;
}

static struct sessions_case start_case(const char *kind, bool keyed)
{
	bool ssh = strcmp(kind, "ssh") == 0;
	char more[1200];
	struct sessions_case s = { .q = { .w = up(), .method = "POST", .path = "/v1/sessions", .status = 201 } };
	if (ssh)
		snprintf(more, sizeof more, "'login':'deploy','ssh_public_key':'%s'", s.q.w->ssh_key);
	else
		snprintf(more, sizeof more, "'allow':[" TCP "]");
	snprintf(s.body, sizeof s.body, start_body, kind, s.q.w->client_key, more, keyed ? ",'idempotency_key':" : "",
		 keyed ? "'k'" : "");
	return s;
}

static void sweep_starts(const char *kind)
{
	struct sessions_case s = start_case(kind, false);
	s.q.body = s.body;
	failing_alloc_at(0, false);
	start_once(&s); /* what a whole record is */
	size_t n = failing_alloc_sweep(start_once, &s);
	assert_true(n > 1 && n < ROUNDS_MAX && s.whole > 20);
	world_down(s.q.w);
}

static void test_a_start(void **state)
{
	(void)state;
	sweep_starts("tcp");
}

static void test_a_start_of_ssh(void **state)
{
	(void)state;
	sweep_starts("ssh");
}

static struct sessions_case running(const char *method, const char *operation, const char *body, int status)
{
	struct sessions_case s = { .q = { .w = up(), .method = method, .body = body, .status = status } };
	struct answer a = start_tcp(s.q.w, "web-1", TCP);
	keep(&s, &a);
	answer_free(&a);
	snprintf(s.path, sizeof s.path, "/v1/sessions/%s%s", s.id, operation);
	return s;
}

static bool resume_once(void *arg)
{
	struct sessions_case *s = arg;
	struct attach_decision d;
	bool failed;
	struct answer a = ask(&s->q, &failed);
	if (a.status == 200) {
		snprintf(s->token, sizeof s->token, "%s", text_at(a.json, "token"));
		assert_int_equal(attach(s->q.w, s->id, s->token, s->q.w->client, &d), 0);
	}
	answer_free(&a);
	return failed;
}

/* Refused or not, it can be taken over again. */
static void test_a_resumption(void **state)
{
	(void)state;
	struct sessions_case s = running("POST", "/resume", NULL, 200);
	snprintf(s.body, sizeof s.body, "{'client_key':'%s'}", s.q.w->client_key);
	s.q.body = s.body;
	s.q.path = s.path;
	size_t n = failing_alloc_sweep(resume_once, &s);
	assert_true(n < ROUNDS_MAX);
	world_down(s.q.w);
}

static void test_a_renewal(void **state)
{
	(void)state;
	struct sessions_case s = running("POST", "/renew", "{}", 200);
	s.q.path = s.path;
	size_t n = failing_alloc_sweep(ask_once, &s.q);
	assert_true(n < ROUNDS_MAX);
	world_down(s.q.w);
}

/* One session for each allocation: that it has ended is answered, or it goes on, and ends when asked again. */
static void test_an_end(void **state)
{
	(void)state;
	bool failed = true;
	for (size_t n = 1; failed; n++) {
		struct sessions_case s = running("DELETE", "", NULL, 204);
		struct attach_decision d;
		s.q.path = s.path;
		failing_alloc_at(n, false);
		struct answer a = ask(&s.q, &failed);
		assert_true(n < ROUNDS_MAX);
		if (a.status != 204)
			end(&s);
		answer_free(&a);
		assert_int_equal(attach(s.q.w, s.id, s.token, s.q.w->client, &d), 4000);
		assert_int_equal(audited(s.q.w, "session.end", "session", s.id), 1);
		world_down(s.q.w);
	}
}

/* An attach is let in, or refused in a way that has the end try again. */
static void test_an_attach(void **state)
{
	(void)state;
	struct sessions_case s = running("GET", "", NULL, 200);
	char proof[PROOF_TEXT_MAX], url[256];
	bool failed = true;
	snprintf(url, sizeof url, "https://" HOST "%s/leg", s.path);
	for (size_t n = 1; failed; n++) {
		struct attach_decision d;
		make_proof(s.q.w->client, "GET", url, s.token, clock_wall_ms(), proof);
		failing_alloc_at(n, false);
		unsigned code = attach_with(s.q.w, s.id, s.token, proof, &d);
		failed = failing_alloc_over();
		if (code != 0 && (!failed || (code != 4503 && code != 4010 && code != 4402)))
			fail_msg("allocation %zu: %u", n, code);
		assert_true(n < ROUNDS_MAX);
	}
	world_down(s.q.w);
}

/* What an agent says is heard, or its connection is closed so that it says it again. */
static void test_a_hello(void **state)
{
	(void)state;
	bool failed = true;
	for (size_t n = 1; failed; n++) {
		struct world *w = up();
		failing_alloc_at(n, false);
		hello(w, "web-1", 8, "");
		failed = failing_alloc_over();
		if (fake_ws_count(8, "welcome") == 0) {
			assert_true(failed && fake_ws_closed(8) == 4503);
			hello(w, "web-1", 9, "");
			assert_int_equal(fake_ws_count(9, "welcome"), 1);
		}
		assert_true(n < ROUNDS_MAX);
		world_down(w);
	}
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_calls_that_repeat), cmocka_unit_test(test_a_start),
		cmocka_unit_test(test_a_start_of_ssh),    cmocka_unit_test(test_a_resumption),
		cmocka_unit_test(test_a_renewal),         cmocka_unit_test(test_an_end),
		cmocka_unit_test(test_an_attach),         cmocka_unit_test(test_a_hello),
	};
	return RUN_CASES(tests);
}
