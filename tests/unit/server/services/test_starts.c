/* Starts that fail halfway, and their repetition. */
#include "world.h"

#include "server/audit.h"
#include "server/session_record.h"
#include "server/store.h"

#define TCP "'127.0.0.1:5432'"

static void test_nothing_starts_without_its_audit_record(void **state)
{
	(void)state;
	struct world *w = world_up();
	enrol(w, "web-1", "");
	hello(w, "web-1", 7, "");
	char body[512];
	snprintf(body, sizeof body, "{'target':'web-1','kind':'tcp','allow':[" TCP "],'client_key':'%s'}",
		 w->client_key);
	fake_store_fail_after(-1, 0);
	struct answer a = call(w, "POST", "/v1/sessions", "", "alice", body);
	assert_int_equal(a.status, 503);
	answer_free(&a);
	assert_int_equal(fake_ws_count(7, "offer"), 0);
	fake_store_heal();
	world_restart(w);
	assert_int_equal(audited(w, "session.start", NULL, NULL), 1);
	assert_int_equal(audited(w, "session.end", NULL, NULL), 1);
	world_down(w);
}

struct keyed {
	struct world *w;
	char body[512], id[65], token[64];
	int status;
};

static struct keyed up_keyed(void)
{
	struct keyed k = { .w = world_up() };
	enrol(k.w, "web-1", "");
	hello(k.w, "web-1", 7, "");
	snprintf(k.body, sizeof k.body,
		 "{'target':'web-1','kind':'tcp','allow':[" TCP "],'client_key':'%s','idempotency_key':'k'}",
		 k.w->client_key);
	return k;
}

static void start_keyed(void *arg)
{
	struct keyed *k = arg;
	struct answer a = call(k->w, "POST", "/v1/sessions", "", "alice", k->body);
	k->status = a.status;
	snprintf(k->id, sizeof k->id, "%s", text_at(a.json, "session.id"));
	snprintf(k->token, sizeof k->token, "%s", text_at(a.json, "token"));
	answer_free(&a);
}

/* The one session there is: offered once, and the caller's. */
static void assert_runs_once(struct keyed *k)
{
	struct attach_decision d;
	assert_int_equal(k->status, 201);
	assert_int_equal(fake_ws_count(7, "offer"), 1);
	json_t *offer = fake_ws_last(7, "offer");
	assert_int_equal(attach(k->w, k->id, k->token, k->w->client, &d), 0);
	assert_int_equal(attach(k->w, k->id, text_at(offer, "token"), k->w->link, &d), 0);
	json_decref(offer);
	assert_int_equal(sessions_count_anythread(k->w->server.sessions, NULL), 1);
}

static void test_a_start_that_could_not_be_recorded_can_be_repeated(void **state)
{
	(void)state;
	struct keyed k = up_keyed();
	fake_store_fail_after(-1, 0);
	start_keyed(&k);
	assert_int_equal(k.status, 503);
	start_keyed(&k);
	assert_int_equal(k.status, 503);
	fake_store_heal();
	start_keyed(&k);
	assert_runs_once(&k);
	/* The log tells of both. */
	assert_int_equal(audited(k.w, "session.start", "session", k.id), 2);
	assert_int_equal(audited(k.w, "session.end", "session", k.id), 1);
	world_down(k.w);
}

static void test_a_start_without_an_answer_of_the_store_can_be_repeated(void **state)
{
	(void)state;
	struct keyed k = up_keyed();
	fake_store_unanswered("sessions");
	start_keyed(&k);
	assert_int_equal(k.status, 503);
	start_keyed(&k);
	assert_runs_once(&k);
	assert_int_equal(audited(k.w, "session.start", "session", k.id), 1);
	assert_int_equal(audited(k.w, "session.end", NULL, NULL), 0);
	world_down(k.w);
}

/* The newest start in the log is that of the session as it is. */
static void assert_log_says(struct keyed *k, const char *credential, const char *target)
{
	json_t *doc = record_of(k->w, k->id), *record = audit_last(k->w, "session.start");
	assert_string_equal(text_at(record, "session"), k->id);
	assert_string_equal(text_at(record, "credential"), credential);
	assert_string_equal(text_at(record, "target"), target);
	assert_string_equal(record_text(doc, "credential"), credential);
	assert_string_equal(record_text(doc, "target"), target);
	json_decref(record);
	json_decref(doc);
}

/* Its record was written, without an answer, and then the store was away: the repetition finds it. But that one is by
 * another credential, and goes to another target. */
static void test_the_log_tells_of_the_start_that_counts(void **state)
{
	(void)state;
	struct keyed k = up_keyed();
	struct answer a, b;
	enrol(k.w, "web-2", "'role':'web'");
	enrol(k.w, "web-3", "'role':'web'");
	hello(k.w, "web-2", 8, "");
	snprintf(k.body, sizeof k.body,
		 "{'selector':{'role':'web'},'kind':'tcp','allow':[" TCP "],'client_key':'%s','idempotency_key':'k'}",
		 k.w->client_key);
	fake_store_unanswered("audit");
	fake_store_fail_after(1, -1);
	a = call(k.w, "POST", "/v1/sessions", "", "alice - t1", k.body);
	assert_int_equal(a.status, 503);
	fake_store_heal();
	control_on_closed_blocking(&k.w->server, 8, "web-2", "gone");
	hello(k.w, "web-3", 9, "");
	b = call(k.w, "POST", "/v1/sessions", "", "alice - t2", k.body);
	assert_int_equal(b.status, 201);
	snprintf(k.id, sizeof k.id, "%s", text_at(b.json, "session.id"));
	assert_log_says(&k, "t2", "web-3");
	assert_int_equal(audited(k.w, "session.start", "session", k.id), 2);
	answer_free(&a);
	answer_free(&b);
	world_down(k.w);
}

/* The same request comes by another credential, and its record takes the place of the one that is being paid for. */
static void take_its_place(void *arg)
{
	struct keyed *k = arg;
	struct err e;
	const struct tunnel_index indexes[] = { { "unfinished", "yes" }, { NULL, NULL } };
	json_t *doc = record_of(k->w, k->id);
	json_object_set_new(doc, "credential", json_string("t2"));
	json_object_set_new(doc, "target_token", json_string("another's"));
	assert_int_equal(store_put_blocking(k->w->server.store, SESSION_COLLECTION, k->id, doc, TUNNEL_VERSION_ANY, 0,
					    indexes, NULL, &e),
			 0);
	json_decref(doc);
}

static void test_a_start_that_takes_anothers_place_is_in_the_log(void **state)
{
	(void)state;
	struct keyed k = up_keyed();
	struct err e;
	start_keyed(&k); /* so that its id is known */
	assert_int_equal(sessions_end_blocking(&k.w->server, k.id, 4003, "", "test", &e), 0);
	assert_int_equal(store_del_blocking(k.w->server.store, SESSION_COLLECTION, k.id, TUNNEL_VERSION_ANY, &e), 0);
	fake_store_unanswered("audit"); /* so the head is written before the log is looked through */
	audit_note_blocking(k.w->server.audit, "test", json_object());
	fake_store_then("audit_heads", take_its_place, &k);
	start_keyed(&k);
	assert_log_says(&k, "t2", "web-1");
	world_down(k.w);
}

static void leave(void *arg)
{
	control_on_closed_blocking(arg, 7, "web-1", "gone");
}

static void test_a_start_whose_target_just_left_can_be_repeated(void **state)
{
	(void)state;
	struct keyed k = up_keyed();
	fake_store_then("sessions", leave, &k.w->server);
	start_keyed(&k);
	assert_int_equal(k.status, 409);
	assert_int_equal(sessions_count_anythread(k.w->server.sessions, NULL), 0);
	hello(k.w, "web-1", 7, "");
	assert_int_equal(fake_ws_count(7, "offer"), 0);
	start_keyed(&k);
	assert_runs_once(&k);
	world_down(k.w);
}

/* The second request comes when the first has written the record, and takes it for one that was left behind. */
static void test_two_starts_with_one_key_run_once(void **state)
{
	(void)state;
	struct keyed k = up_keyed(), second = k;
	fake_store_then("sessions", start_keyed, &second);
	start_keyed(&k);
	assert_int_equal(second.status, 201);
	assert_string_equal(second.id, k.id);
	assert_runs_once(&k);
	assert_int_equal(audited(k.w, "session.start", "session", k.id), 1);
	world_down(k.w);
}

/* While nothing can be written an agent does not come back: the caller is told of the store, not of the target. */
/* He may stay in the session, as from where it is; the answer's fresh token is for who may still start one. */
static void test_a_start_is_repeated_only_for_who_may_still_start(void **state)
{
	(void)state;
	struct keyed k = up_keyed();
	start_keyed(&k);
	assert_int_equal(k.status, 201);
	put_policy(k.w, "base",
		   "{'Effect':'Allow','Principal':'*','Action':['tunnel:ResumeSession','tunnel:OpenTcp'],"
		   "'Resource':['*']}");
	start_keyed(&k);
	assert_int_equal(k.status, 403);
	assert_string_equal(k.token, "");
	world_down(k.w);
}

static void test_a_start_while_records_wait_does_not_blame_the_target(void **state)
{
	(void)state;
	struct keyed k = up_keyed();
	fake_store_fail_after(-1, 0);
	leave(&k.w->server);
	struct answer a = call(k.w, "POST", "/v1/sessions", "", "alice", k.body);
	assert_int_equal(a.status, 503);
	assert_non_null(strstr(text_at(a.json, "detail"), "audit records wait to be written"));
	answer_free(&a);
	fake_store_heal();
	audit_flush_blocking(k.w->server.audit);
	start_keyed(&k);
	assert_int_equal(k.status, 409);
	world_down(k.w);
}

static void end_it(void *arg)
{
	struct keyed *k = arg;
	struct err e;
	assert_int_equal(sessions_end_blocking(&k->w->server, k->id, 4003, "enough", "bob", &e), 0);
}

static void test_a_repetition_is_told_of_an_end_that_comes_meanwhile(void **state)
{
	(void)state;
	struct keyed k = up_keyed();
	start_keyed(&k);
	fake_auth_then(end_it, &k);
	struct answer a = call(k.w, "POST", "/v1/sessions", "", "alice", k.body);
	assert_int_equal(a.status, 410);
	assert_string_equal(text_at(a.json, "end.text"), "enough");
	answer_free(&a);
	world_down(k.w);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_nothing_starts_without_its_audit_record),
		cmocka_unit_test(test_a_start_that_could_not_be_recorded_can_be_repeated),
		cmocka_unit_test(test_a_start_without_an_answer_of_the_store_can_be_repeated),
		cmocka_unit_test(test_a_start_whose_target_just_left_can_be_repeated),
		cmocka_unit_test(test_the_log_tells_of_the_start_that_counts),
		cmocka_unit_test(test_a_start_that_takes_anothers_place_is_in_the_log),
		cmocka_unit_test(test_two_starts_with_one_key_run_once),
		cmocka_unit_test(test_a_start_is_repeated_only_for_who_may_still_start),
		cmocka_unit_test(test_a_start_while_records_wait_does_not_blame_the_target),
		cmocka_unit_test(test_a_repetition_is_told_of_an_end_that_comes_meanwhile),
	};
	return RUN_CASES(tests);
}
