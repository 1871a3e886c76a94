/* Revocations, and judging live sessions again when a provider does not answer. */
#include "world.h"

#include "base/clock.h"
#include "server/revocations.h"
#include "server/session_state.h"
#include "server/store.h"
#include "tunnel/plugin.h"

#include <poll.h>
#include <string.h>

#define TCP "'127.0.0.1:5432'"
#define BOB "{'Effect':'Allow','Principal':{'User':['alice','bob']},'Action':['*'],'Resource':['*']}"

static struct world *world_with_bob(void)
{
	struct world *w = world_up();
	put_policy(w, "base", BOB);
	enrol(w, "web-1", "");
	hello(w, "web-1", 7, "");
	return w;
}

static int start_as(struct world *w, const char *who, char id[65], char token[65])
{
	char body[1024];
	snprintf(body, sizeof body, "{'target':'web-1','kind':'tcp','allow':[" TCP "],'client_key':'%s'}",
		 w->client_key);
	struct answer a = call(w, "POST", "/v1/sessions", "", who, body);
	int status = a.status;
	if (id)
		snprintf(id, 65, "%s", text_at(a.json, "session.id"));
	if (token)
		snprintf(token, 65, "%s", text_at(a.json, "token"));
	answer_free(&a);
	return status;
}

static int revoke(struct world *w, const char *body)
{
	struct answer a = call(w, "POST", "/v1/revocations", "", "alice", body);
	int status = a.status;
	answer_free(&a);
	return status;
}

static void assert_ended(struct world *w, const char *id, bool ended)
{
	json_t *doc = record_of(w, id);
	assert_string_equal(text_at(doc, "state"), ended ? "ended" : "starting");
	json_decref(doc);
}

static void test_he_is_out_and_his_sessions_end(void **state)
{
	(void)state;
	char his[65], token[65], mine[65];
	struct attach_decision d;
	struct world *w = world_with_bob();
	assert_int_equal(start_as(w, "bob", his, token), 201);
	assert_int_equal(start_as(w, "alice", mine, NULL), 201);
	/* Nobody answers for the agent: so it is told of as not confirmed. */
	struct answer a = call(w, "POST", "/v1/revocations", "", "alice", "{'principal':'bob','reason':'gone'}");
	assert_int_equal(a.status, 200);
	assert_string_equal(json_string_value(json_array_get(json_object_get(a.json, "unconfirmed"), 0)), his);
	assert_int_equal(json_array_size(json_object_get(a.json, "unconfirmed")), 1);
	answer_free(&a);
	assert_ended(w, his, true);
	assert_ended(w, mine, false);
	assert_int_equal(fake_relay_ended(his), 4007);
	assert_int_equal(fake_ws_count(7, "terminate"), 1);
	assert_int_equal(start_as(w, "bob", NULL, NULL), 403);
	assert_int_equal(start_as(w, "alice", NULL, NULL), 201);
	assert_int_equal(attach(w, his, token, w->client, &d), 4007);
	world_down(w);
}

static void test_it_holds_after_a_restart_and_for_what_ran_meanwhile(void **state)
{
	(void)state;
	char his[65], token[65];
	struct attach_decision d;
	struct world *w = world_with_bob();
	assert_int_equal(start_as(w, "bob", his, token), 201);
	control_on_closed_blocking(&w->server, 7, "web-1", "lost"); /* so that nobody is waited for */
	/* In the store, and nothing more: as by another node, or before a crash. */
	fake_store_fail_after(0, -1);
	assert_int_equal(revoke(w, "{'principal':'bob'}"), 200);
	assert_ended(w, his, false);
	fake_store_heal();
	world_restart(w);
	assert_int_equal(attach(w, his, token, w->client, &d), 4007);
	sweep_in(w, 0);
	assert_ended(w, his, true);
	assert_int_equal(start_as(w, "bob", NULL, NULL), 403);
	world_down(w);
}

static void test_a_time_is_not_shortened(void **state)
{
	(void)state;
	struct world *w = world_with_bob();
	assert_int_equal(revoke(w, "{'principal':'bob','reason':'stolen'}"), 200);
	assert_int_equal(revoke(w, "{'principal':'bob','for_s':60}"), 200);
	struct answer a = call(w, "GET", "/v1/revocations", "", "alice", NULL);
	json_t *one = json_array_get(json_object_get(a.json, "revocations"), 0);
	assert_true(json_is_null(json_object_get(one, "expires_at")));
	answer_free(&a);
	assert_int_equal(audited(w, "revocation.put", NULL, NULL), 2);
	world_down(w);
}

static void test_an_agent_that_was_away_is_told_when_it_is_back(void **state)
{
	(void)state;
	char his[65], running[80];
	struct world *w = world_with_bob();
	assert_int_equal(start_as(w, "bob", his, NULL), 201);
	control_on_closed_blocking(&w->server, 7, "web-1", "lost");
	fake_store_fail_after(0, -1); /* so that its record does not say it yet */
	assert_int_equal(revoke(w, "{'principal':'bob'}"), 200);
	snprintf(running, sizeof running, "'%s'", his);
	hello(w, "web-1", 8, running);
	assert_int_equal(fake_ws_count(8, "terminate"), 1);
	fake_store_heal();
	world_down(w);
}

static void revoke_bob(void *arg)
{
	assert_int_equal(revoke(arg, "{'credential':'key-bob'}"), 200);
}

static void test_a_session_that_starts_meanwhile_does_not_slip_through(void **state)
{
	(void)state;
	struct world *w = world_with_bob();
	fake_store_then("sessions", revoke_bob, w);
	assert_int_equal(start_as(w, "bob", NULL, NULL), 403);
	assert_int_equal(sessions_count_anythread(w->server.sessions, NULL), 0);
	world_down(w);
}

static void test_one_that_cannot_be_recorded_is_in_force_and_told(void **state)
{
	(void)state;
	char his[65];
	struct world *w = world_with_bob();
	assert_int_equal(start_as(w, "bob", his, NULL), 201);
	control_on_closed_blocking(&w->server, 7, "web-1", "lost");
	fake_store_away();
	struct answer a = call(w, "POST", "/v1/revocations", "", "alice", "{'principal':'bob'}");
	assert_int_equal(a.status, 503);
	assert_non_null(strstr(text_at(a.json, "detail"), "in force on this node"));
	answer_free(&a);
	assert_int_equal(fake_relay_ended(his), 4007);
	assert_int_equal(start_as(w, "bob", NULL, NULL), 403);
	fake_store_heal();
	sweep_in(w, 61000); /* the store is looked through, and told */
	world_restart(w);
	assert_int_equal(start_as(w, "bob", NULL, NULL), 403);
	assert_ended(w, his, true);
	world_down(w);
}

struct his {
	struct world *w;
	char id[65];
	bool seen;
};

static void see_that_he_is_out(void *arg)
{
	struct his *his = arg;
	struct err e;
	his->seen = true;
	assert_int_equal(revocations_check_anythread(his->w->server.revocations, "bob", NULL, &e), ERR_DENIED);
	assert_int_equal(fake_relay_ended(his->id), 4007);
	assert_int_equal(fake_ws_count(7, "terminate"), 1);
}

static void test_nothing_waits_for_a_store_that_hangs(void **state)
{
	(void)state;
	struct his his = { .w = world_with_bob() };
	assert_int_equal(start_as(his.w, "bob", his.id, NULL), 201);
	fake_store_hang(see_that_he_is_out, &his);
	assert_int_equal(revoke(his.w, "{'principal':'bob'}"), 503);
	assert_true(his.seen);
	fake_store_heal();
	sweep_in(his.w, 61000);
	assert_ended(his.w, his.id, true);
	assert_int_equal(audited(his.w, "revocation.put", "principal", "bob"), 1);
	world_down(his.w);
}

static void test_a_session_is_revoked_while_its_record_cannot_be_read(void **state)
{
	(void)state;
	char body[128];
	struct his his = { .w = world_with_bob() };
	assert_int_equal(start_as(his.w, "bob", his.id, NULL), 201);
	snprintf(body, sizeof body, "{'session':'%s'}", his.id);
	put_policy(his.w, "one",
		   "{'Effect':'Deny','Principal':'*','Action':['tunnel:Revoke'],'Resource':['principal/*']}");
	fake_store_away();
	assert_int_equal(revoke(his.w, body), 503); /* who may not revoke all of bob's must be judged by the record */
	assert_int_equal(fake_relay_ended(his.id), 0);
	fake_store_heal();
	put_policy(his.w, "one", BOB);
	fake_store_away();
	assert_int_equal(revoke(his.w, body), 200);
	assert_int_equal(fake_relay_ended(his.id), 4007);
	fake_store_heal();
	sweep_in(his.w, 0);
	assert_ended(his.w, his.id, true);
	world_down(his.w);
}

/* The only one there is. */
static void name_of_revocation(struct world *w, char id[REVOCATION_ID_TEXT])
{
	json_auto_t *all = revocations_list(w->server.revocations);
	assert_int_equal(json_array_size(all), 1);
	snprintf(id, REVOCATION_ID_TEXT, "%s", text_at(json_array_get(all, 0), "id"));
}

static int lift(struct world *w, const char *id)
{
	char path[128];
	snprintf(path, sizeof path, "/v1/revocations/%s", id);
	struct answer a = call(w, "DELETE", path, "", "alice", NULL);
	int status = a.status;
	answer_free(&a);
	return status;
}

static void is_endless(struct world *w, const char *id)
{
	struct err e;
	json_t *stored = NULL;
	json_auto_t *all = revocations_list(w->server.revocations);
	assert_true(json_is_null(json_object_get(json_array_get(all, 0), "expires_at")));
	assert_int_equal(store_get_blocking(NULL, "revocations", id, &stored, NULL, &e), 0);
	assert_int_equal(json_integer_value(json_object_get(stored, "expires_ms")), 0);
	assert_null(json_object_get(stored, "unrecorded"));
	json_decref(stored);
}

/* Which this one has not heard of. */
static void test_a_time_that_another_node_gave_is_not_shortened(void **state)
{
	(void)state;
	char id[REVOCATION_ID_TEXT];
	struct err e;
	json_t *theirs = NULL;
	struct world *w = world_with_bob();
	assert_int_equal(revoke(w, "{'principal':'bob'}"), 200);
	name_of_revocation(w, id);
	assert_int_equal(store_get_blocking(NULL, "revocations", id, &theirs, NULL, &e), 0);
	for (int late = 0; late < 2; late++) { /* 1: what this node has is recorded later */
		assert_int_equal(lift(w, id), 204);
		if (late)
			fake_store_away();
		else
			assert_int_equal(store_put_blocking(NULL, "revocations", id, theirs, TUNNEL_VERSION_ANY, 0,
							    NULL, NULL, &e),
					 0);
		assert_int_equal(revoke(w, "{'principal':'bob','for_s':60}"), late ? 503 : 200);
		fake_store_heal();
		if (late) {
			assert_int_equal(store_put_blocking(NULL, "revocations", id, theirs, TUNNEL_VERSION_ANY, 0,
							    NULL, NULL, &e),
					 0);
			sweep_in(w, 61000);
		}
		is_endless(w, id);
	}
	json_decref(theirs);
	world_down(w);
}

static void test_one_that_is_not_recorded_yet_can_be_lifted(void **state)
{
	(void)state;
	char id[REVOCATION_ID_TEXT];
	struct world *w = world_with_bob();
	fake_store_away();
	assert_int_equal(revoke(w, "{'principal':'bob'}"), 503);
	fake_store_heal();
	name_of_revocation(w, id);
	assert_int_equal(lift(w, id), 204);
	assert_int_equal(start_as(w, "bob", NULL, NULL), 201);
	assert_int_equal(lift(w, id), 404);
	world_down(w);
}

/* The store can be read, and does not say that it has taken it. */
static void test_one_that_is_not_recorded_yet_stays_when_others_are_read(void **state)
{
	(void)state;
	struct err e;
	bool changed;
	struct world *w = world_with_bob();
	fake_store_away();
	assert_int_equal(revoke(w, "{'principal':'bob'}"), 503);
	fake_store_heal();
	fake_store_unanswered("revocations");
	assert_int_equal(revocations_reload_blocking(w->server.revocations, &changed, &e), 0);
	assert_int_equal(start_as(w, "bob", NULL, NULL), 403);
	world_down(w);
}

/* The store has taken it, and did not say so; another node lifts what it sees there. */
static void test_one_that_another_node_has_lifted_does_not_come_back(void **state)
{
	(void)state;
	char id[REVOCATION_ID_TEXT];
	struct err e;
	bool changed;
	struct revocations *theirs = NULL;
	struct world *w = world_with_bob();
	fake_store_unanswered("revocations");
	assert_int_equal(revoke(w, "{'principal':'bob'}"), 503);
	name_of_revocation(w, id);
	assert_int_equal(revocations_open_blocking(&w->server, &theirs, &e), 0);
	assert_int_equal(revocations_del_blocking(theirs, id, &e), 0);
	assert_int_equal(revocations_del_blocking(theirs, id, &e), ERR_NOT_FOUND);
	assert_int_equal(start_as(w, "bob", NULL, NULL), 403);
	assert_int_equal(revocations_reload_blocking(w->server.revocations, &changed, &e), 0);
	assert_int_equal(start_as(w, "bob", NULL, NULL), 201);
	assert_int_equal(lift(w, id), 404);

	/* A later one is another one. */
	poll(NULL, 0, 2);
	fake_store_away();
	assert_int_equal(revoke(w, "{'principal':'bob'}"), 503);
	fake_store_heal();
	assert_int_equal(revocations_reload_blocking(w->server.revocations, &changed, &e), 0);
	assert_int_equal(revocations_reload_blocking(theirs, &changed, &e), 0);
	assert_int_equal(revocations_check_anythread(theirs, "bob", NULL, &e), ERR_DENIED);
	revocations_close(&theirs);
	world_down(w);
}

static void test_mistakes(void **state)
{
	(void)state;
	static const struct {
		const char *body;
		int status;
		const char *words;
	} cases[] = {
		{ "{}", 400, "give one of principal, credential, session" },
		{ "{'principal':'bob','session':'s-1'}", 400, "give one of" },
		{ "{'session':'s-1','for_s':5}", 400, "body.for_s" },
		{ "{'principal':'bob','for_s':0}", 400, "body.for_s" },
		{ "{'principal':''}", 400, "body.principal" },
		{ "{'session':'s-1'}", 404, "s-1" },
		{ "{'principal':'alice'}", 409, "revoke yourself" },
		{ "{'credential':'key-alice'}", 409, "credential of this very call" },
	};
	struct world *w = world_with_bob();
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct answer a = call(w, "POST", "/v1/revocations", "", "alice", cases[i].body);
		assert_int_equal(a.status, cases[i].status);
		assert_non_null(strstr(text_at(a.json, "detail"), cases[i].words));
		answer_free(&a);
	}
	struct answer a = call(w, "DELETE", "/v1/revocations/nothing", "", "alice", NULL);
	assert_int_equal(a.status, 404);
	answer_free(&a);
	assert_int_equal(audited(w, "revocation.put", NULL, NULL), 0);
	world_down(w);
}

static void test_a_lapsed_one_says_nothing(void **state)
{
	(void)state;
	struct world *w = world_with_bob();
	assert_int_equal(revoke(w, "{'principal':'bob','for_s':1}"), 200);
	int64_t until = clock_mono_ms() + 20000;
	while (start_as(w, "bob", NULL, NULL) != 201 && clock_mono_ms() < until)
		;
	assert_int_equal(start_as(w, "bob", NULL, NULL), 201);
	struct answer a = call(w, "GET", "/v1/revocations", "", "alice", NULL);
	assert_int_equal(json_array_size(json_object_get(a.json, "revocations")), 0);
	answer_free(&a);
	world_down(w);
}

/* What is denied without a doubt needs no provider, and one that is silent is asked once a round. */
static void test_a_provider_that_is_silent_holds_up_no_denial(void **state)
{
	(void)state;
	char ids[6][65];
	struct world *w = world_with_bob();
	for (size_t i = 0; i < 6; i++)
		assert_int_equal(start_as(w, i % 2 ? "bob" : "alice", ids[i], NULL), 201);
	put_policy(w, "out", "{'Effect':'Deny','Principal':{'User':['bob']},'Action':['tunnel:*'],'Resource':['*']}");
	fake_auth_answers(TUNNEL_UNAVAILABLE);
	sessions_rejudge_blocking(&w->server);
	for (size_t i = 0; i < 6; i++)
		assert_ended(w, ids[i], i % 2);
	assert_int_equal(fake_auth_asked(), 1);
	fake_auth_answers(TUNNEL_DENIED);
	sweep_in(w, 0); /* the judgement is still owed */
	for (size_t i = 0; i < 6; i++)
		assert_ended(w, ids[i], true);
	world_down(w);
}

/* Nobody waits for what a provider is asked about. */
static void see_lock(void *arg)
{
	struct world *w = arg;
	for (size_t i = 0; i < SESSION_SETTLERS; i++) {
		assert_int_equal(pthread_mutex_trylock(&w->server.sessions->judging[i]), 0);
		pthread_mutex_unlock(&w->server.sessions->judging[i]);
	}
	fake_auth_then(see_lock, w); /* at each question */
}

static void test_a_provider_that_hangs_holds_no_lock(void **state)
{
	(void)state;
	char id[65];
	struct world *w = world_with_bob();
	assert_int_equal(start_as(w, "bob", id, NULL), 201);
	for (size_t round = 0; round < 2; round++) {
		fake_auth_then(see_lock, w);
		sessions_rejudge_blocking(&w->server);
	}
	assert_ended(w, id, false);
	world_down(w);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_he_is_out_and_his_sessions_end),
		cmocka_unit_test(test_it_holds_after_a_restart_and_for_what_ran_meanwhile),
		cmocka_unit_test(test_a_time_is_not_shortened),
		cmocka_unit_test(test_an_agent_that_was_away_is_told_when_it_is_back),
		cmocka_unit_test(test_a_session_that_starts_meanwhile_does_not_slip_through),
		cmocka_unit_test(test_one_that_cannot_be_recorded_is_in_force_and_told),
		cmocka_unit_test(test_nothing_waits_for_a_store_that_hangs),
		cmocka_unit_test(test_a_session_is_revoked_while_its_record_cannot_be_read),
		cmocka_unit_test(test_a_time_that_another_node_gave_is_not_shortened),
		cmocka_unit_test(test_one_that_is_not_recorded_yet_can_be_lifted),
		cmocka_unit_test(test_one_that_is_not_recorded_yet_stays_when_others_are_read),
		cmocka_unit_test(test_one_that_another_node_has_lifted_does_not_come_back),
		cmocka_unit_test(test_mistakes),
		cmocka_unit_test(test_a_lapsed_one_says_nothing),
		cmocka_unit_test(test_a_provider_that_is_silent_holds_up_no_denial),
		cmocka_unit_test(test_a_provider_that_hangs_holds_no_lock),
	};
	return RUN_CASES(tests);
}
