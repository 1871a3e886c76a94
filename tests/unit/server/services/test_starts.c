/* Starts that fail halfway, and their repetition. */
#include "world.h"

#include "server/audit.h"

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

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_nothing_starts_without_its_audit_record),
		cmocka_unit_test(test_a_start_that_could_not_be_recorded_can_be_repeated),
		cmocka_unit_test(test_a_start_without_an_answer_of_the_store_can_be_repeated),
		cmocka_unit_test(test_a_start_whose_target_just_left_can_be_repeated),
		cmocka_unit_test(test_two_starts_with_one_key_run_once),
		cmocka_unit_test(test_a_start_while_records_wait_does_not_blame_the_target),
	};
	return RUN_CASES(tests);
}
