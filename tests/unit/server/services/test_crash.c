/* The process dies in each single call of the store that a start, a resumption or an end makes, before and after the
 * call's effect. Whatever the caller was told holds after the next start, and no session is left behind. */
#include "world.h"

#include "base/clock.h"
#include "ident/key.h"

#define TCP "'127.0.0.1:5432'"
#define CALLS_MAX 60 /* an operation makes fewer */

struct stage {
	struct world *w;
	char id[65], token[64], path[96]; /* of the session that stands already */
	char body[320];
	EVP_PKEY *other;
	int status; /* of the operation */
	char new_token[64];
};

static struct stage up(bool with_session)
{
	struct stage s = { .w = world_up() };
	struct err e;
	char key[256];
	enrol(s.w, "web-1", "");
	hello(s.w, "web-1", 7, "");
	s.other = key_generate(&e);
	assert_int_equal(key_public_text(s.other, key, &e), 0);
	snprintf(s.body, sizeof s.body, "{'client_key':'%s'}", key);
	if (with_session) {
		struct answer a = start_tcp(s.w, "web-1", TCP);
		snprintf(s.id, sizeof s.id, "%s", text_at(a.json, "session.id"));
		snprintf(s.token, sizeof s.token, "%s", text_at(a.json, "token"));
		answer_free(&a);
	}
	return s;
}

static void down(struct stage *s)
{
	EVP_PKEY_free(s->other);
	world_down(s->w);
}

static void keep(struct stage *s, struct answer *a)
{
	s->status = a->status;
	snprintf(s->new_token, sizeof s->new_token, "%s", text_at(a->json, "token"));
	if (*text_at(a->json, "session.id"))
		snprintf(s->id, sizeof s->id, "%s", text_at(a->json, "session.id"));
	answer_free(a);
}

static void start_with(struct stage *s, const char *more)
{
	char body[512];
	snprintf(body, sizeof body, "{'target':'web-1','kind':'tcp','allow':[" TCP "],'client_key':'%s'%s}",
		 s->w->client_key, more);
	struct answer a = call(s->w, "POST", "/v1/sessions", "", "alice", body);
	keep(s, &a);
}

static void start(struct stage *s)
{
	start_with(s, "");
}

static void start_keyed(struct stage *s)
{
	start_with(s, ",'idempotency_key':'k'");
}

static void resume(struct stage *s)
{
	char path[96];
	snprintf(path, sizeof path, "/v1/sessions/%s/resume", s->id);
	struct answer a = call(s->w, "POST", path, "", "alice", s->body);
	keep(s, &a);
}

static void end(struct stage *s)
{
	char path[96];
	snprintf(path, sizeof path, "/v1/sessions/%s", s->id);
	struct answer a = call(s->w, "DELETE", path, "", "alice", NULL);
	keep(s, &a);
}

/* The next process. An agent that was offered a session runs it. */
static void reborn(struct stage *s)
{
	char running[160] = "";
	json_t *offer = fake_ws_last(7, "offer");
	if (offer)
		snprintf(running, sizeof running, "'%s','generation':%d", text_at(offer, "session"),
			 (int)json_integer_value(json_object_get(offer, "generation")));
	json_decref(offer);
	fake_store_heal();
	world_restart(s->w);
	hello(s->w, "web-1", 8, running);
}

static json_t *all_sessions(struct stage *s)
{
	struct answer a = call(s->w, "GET", "/v1/sessions", "", "alice", NULL);
	assert_int_equal(a.status, 200);
	json_t *sessions = json_incref(json_object_get(a.json, "sessions"));
	answer_free(&a);
	return sessions;
}

static void once(struct stage *s, const char *event, const char *id)
{
	size_t n = audited(s->w, event, "session", id);
	if (n != 1)
		fail_msg("%s: %zu times %s", id, n, event);
}

/* Nobody comes back: each session that ever was ends, and the log says when it began and why it ended. One that the
 * sweep has to find in the store first gets its grace from then on. */
static void nothing_is_left(struct stage *s)
{
	for (int64_t i = 1; i <= 3; i++)
		sweep_in(s->w, i * (s->w->settings.detach_grace_ms + 70000));
	json_t *sessions = all_sessions(s);
	for (size_t i = 0; i < json_array_size(sessions); i++) {
		const char *id = text_at(json_array_get(sessions, i), "id");
		json_t *doc = record_of(s->w, id);
		assert_string_equal(text_at(doc, "state"), "ended");
		assert_null(json_object_get(doc, "unfinished"));
		assert_string_not_equal(text_at(json_object_get(doc, "end"), "text"), "");
		once(s, "session.start", id);
		once(s, "session.end", id);
		json_decref(doc);
	}
	json_decref(sessions);
	assert_int_equal(sessions_count_anythread(s->w->server.sessions, NULL), 0);
}

/* ---- reports ---- */

#define REPORTS 5

static void report(struct stage *s, wsconn_id conn)
{
	char text[REPORTS][256];
	const char *at[REPORTS];
	for (int i = 0; i < REPORTS; i++) {
		snprintf(text[i], sizeof text[i],
			 "{'type':'stream-opened','seq':%d,'session':'%s','stream':1,'kind':'tcp','endpoint':'x:%d',"
			 "'at_ms':1}",
			 i + 1, s->id, i + 1);
		at[i] = text[i];
	}
	say_many(s->w, "web-1", conn, at, REPORTS);
}

/* Once each, or twice: what was taken together is repeated together, and nothing is missing. */
static void expect_reports(struct stage *s, bool twice)
{
	size_t n = audited(s->w, "stream.open", "session", s->id);
	assert_true(n == REPORTS || (twice && n == 2 * REPORTS));
	for (int i = 1; i <= REPORTS; i++) {
		char endpoint[16];
		snprintf(endpoint, sizeof endpoint, "x:%d", i);
		assert_int_equal(audited(s->w, "stream.open", "endpoint", endpoint), n / REPORTS);
	}
}

/* Whatever was acknowledged is in the log, and what was not comes again with the next connection. */
static void test_reports_that_came_together(void **state)
{
	(void)state;
	for (int after = 0; after < 2; after++) {
		bool crashed = true;
		for (int n = 1; crashed; n++) {
			assert_true(n < CALLS_MAX);
			struct stage s = up(true);
			fake_store_crash_at(n, after);
			report(&s, 7);
			crashed = fake_store_crashed();
			bool acked = fake_ws_count(7, "ack") != 0;
			assert_true(acked || crashed);
			fake_store_heal();
			if (acked)
				expect_reports(&s, false);
			reborn(&s);
			report(&s, 8);
			assert_int_equal(fake_ws_count(8, "ack"), 1);
			expect_reports(&s, crashed);
			down(&s);
			assert_true(crashed || n > 2);
		}
	}
}

static void check_start(struct stage *s)
{
	struct attach_decision d;
	if (s->status != 201)
		return;
	assert_int_equal(audited(s->w, "session.start", "session", s->id), 1);
	assert_int_equal(attach(s->w, s->id, s->new_token, s->w->client, &d), 0);
}

static void check_resume(struct stage *s)
{
	struct attach_decision d;
	char answered[64];
	bool ok = s->status == 200;
	memcpy(answered, s->new_token, sizeof answered);
	json_t *doc = record_of(s->w, s->id);
	assert_string_equal(text_at(doc, "state"), "starting");
	bool renewed = json_integer_value(json_object_get(doc, "generation")) == 2;
	json_decref(doc);
	if (ok)
		assert_int_equal(attach(s->w, s->id, answered, s->other, &d), 0);
	if (ok || renewed)
		once(s, "session.resume", s->id);
	else
		assert_int_equal(audited(s->w, "session.resume", NULL, NULL), 0);
	/* The old client has all of it or nothing. */
	assert_int_equal(attach(s->w, s->id, s->token, s->w->client, &d), renewed ? 4001 : 0);
	resume(s); /* and it can be taken over (again) */
	assert_int_equal(s->status, 200);
	assert_int_equal(attach(s->w, s->id, s->new_token, s->other, &d), 0);
	if (ok)
		assert_int_equal(attach(s->w, s->id, answered, s->other, &d), 4001);
}

static void check_end(struct stage *s)
{
	struct attach_decision d;
	if (s->status == 204)
		assert_int_equal(attach(s->w, s->id, s->token, s->w->client, &d), 4000);
}

static void deregister(struct stage *s)
{
	struct answer a = call(s->w, "DELETE", "/v1/targets/web-1", "", "alice", NULL);
	s->status = a.status;
	answer_free(&a);
}

static void check_deregistered(struct stage *s)
{
	struct attach_decision d;
	struct answer a = call(s->w, "GET", "/v1/targets/web-1", "", "alice", NULL);
	assert_int_equal(a.status, 404);
	answer_free(&a);
	assert_int_equal(attach(s->w, s->id, s->token, s->w->client, &d), 4011);
	once(s, "session.end", s->id);
	enrol(s->w, "web-1", ""); /* another machine may have the name */
	hello(s->w, "web-1", 9, "");
	assert_int_equal(fake_ws_count(9, "welcome"), 1);
}

/* Whatever fails, in a process that lives on or dies: while the target is there it is of no use, and the same request
 * finishes what was begun. */
static void test_a_deregistration(void **state)
{
	(void)state;
	for (int how = 0; how < 4; how++) {
		bool crashed = true;
		for (int n = 1; crashed; n++) {
			assert_true(n < CALLS_MAX);
			struct stage s = up(true);
			fake_store_crash_at(n, how & 1);
			deregister(&s);
			crashed = fake_store_crashed();
			fake_store_heal();
			if (how & 2)
				reborn(&s);
			if (s.status != 204)
				deregister(&s);
			assert_true(s.status == 204 || s.status == 404);
			check_deregistered(&s);
			down(&s);
			assert_true(crashed || n > 3);
		}
	}
}

/* The store takes everything but the sessions' ends. */
static void test_a_deregistration_whose_sessions_do_not_end(void **state)
{
	(void)state;
	struct stage s = up(true);
	fake_store_fail_after(0, -1);
	deregister(&s);
	assert_int_equal(s.status, 503);
	struct answer a = call(s.w, "GET", "/v1/targets/web-1", "", "alice", NULL);
	assert_string_equal(text_at(a.json, "state"), "deregistering");
	answer_free(&a);
	fake_store_heal();
	start(&s);
	assert_int_equal(s.status, 404);
	hello(s.w, "web-1", 8, "");
	assert_int_equal(fake_ws_count(8, "welcome"), 0);
	deregister(&s);
	assert_int_equal(s.status, 204);
	check_deregistered(&s);
	down(&s);
}

static void die_everywhere(bool with_session, void (*operate)(struct stage *), void (*check)(struct stage *))
{
	for (int after = 0; after < 2; after++) {
		bool crashed = true;
		for (int n = 1; crashed; n++) {
			assert_true(n < CALLS_MAX);
			struct stage s = up(with_session);
			fake_store_crash_at(n, after);
			operate(&s);
			crashed = fake_store_crashed();
			reborn(&s);
			check(&s);
			nothing_is_left(&s);
			down(&s);
			assert_true(crashed || n > 3); /* else this tests nothing */
		}
	}
}

static void test_a_start(void **state)
{
	(void)state;
	die_everywhere(false, start, check_start);
}

static void test_a_resumption(void **state)
{
	(void)state;
	die_everywhere(true, resume, check_resume);
}

static void test_an_end(void **state)
{
	(void)state;
	die_everywhere(true, end, check_end);
}

/* One call alone fails and the process lives on: the caller may ask again, and no debt is forgotten. */
static void fail_everywhere(bool with_session, void (*operate)(struct stage *))
{
	for (int after = 0; after < 2; after++) {
		bool crashed = true;
		for (int n = 1; crashed; n++) {
			assert_true(n < CALLS_MAX);
			struct stage s = up(with_session);
			fake_store_crash_at(n, after);
			operate(&s);
			crashed = fake_store_crashed();
			fake_store_heal();
			if (crashed)
				operate(&s);
			nothing_is_left(&s);
			down(&s);
		}
	}
}

static void test_one_failure_of_the_store(void **state)
{
	(void)state;
	fail_everywhere(false, start);
	fail_everywhere(true, resume);
	fail_everywhere(true, end);
}

/* Whatever call fails, in a process that lives on or dies: the same request with the same key gets its session. */
static void test_a_start_is_repeated_until_it_is_answered(void **state)
{
	(void)state;
	for (int how = 0; how < 4; how++) {
		bool crashed = true;
		for (int n = 1; crashed; n++) {
			assert_true(n < CALLS_MAX);
			struct stage s = up(false);
			struct attach_decision d;
			fake_store_crash_at(n, how & 1);
			start_keyed(&s);
			crashed = fake_store_crashed();
			fake_store_heal();
			if (how & 2)
				reborn(&s);
			start_keyed(&s);
			assert_int_equal(s.status, 201);
			assert_int_equal(attach(s.w, s.id, s.new_token, s.w->client, &d), 0);
			json_t *sessions = all_sessions(&s);
			assert_int_equal(json_array_size(sessions), 1);
			json_decref(sessions);
			down(&s);
		}
	}
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_reports_that_came_together),
		cmocka_unit_test(test_a_start),
		cmocka_unit_test(test_a_resumption),
		cmocka_unit_test(test_an_end),
		cmocka_unit_test(test_one_failure_of_the_store),
		cmocka_unit_test(test_a_deregistration),
		cmocka_unit_test(test_a_deregistration_whose_sessions_do_not_end),
		cmocka_unit_test(test_a_start_is_repeated_until_it_is_answered),
	};
	return RUN_CASES(tests);
}
