/* A session that is bound to a credential goes on under a fresh one: who may, until when, and who is told. */
#include "world.h"

#include "base/clock.h"
#include "server/session_state.h"

#include <inttypes.h>

#define TCP "'127.0.0.1:5432'"
#define MINUTE_MS 60000LL

/* web-1 connected as connection 7, and one tcp session of alice's by a credential t1 that is good for ten minutes. */
struct running {
	struct world *w;
	char id[65], path[96];
	int64_t began_ms;
};

static struct running up(bool bound)
{
	struct running r = { .w = world_up(), .began_ms = clock_wall_ms() };
	char body[1024];
	r.w->settings.bind_to_identity = bound;
	r.w->settings.detach_grace_ms = 24 * 60 * MINUTE_MS; /* nobody attaches here, and nobody is missed */
	r.w->settings.session_idle_ms = 0;
	enrol(r.w, "web-1", "'role':'web'");
	hello(r.w, "web-1", 7, "");
	snprintf(body, sizeof body, "{'target':'web-1','kind':'tcp','allow':[" TCP "],'client_key':'%s'}",
		 r.w->client_key);
	struct answer a = call(r.w, "POST", "/v1/sessions", "", "alice - t1 600", body);
	if (a.status != 201)
		fail_msg("%d %s", a.status, a.raw.body);
	snprintf(r.id, sizeof r.id, "%s", text_at(a.json, "session.id"));
	snprintf(r.path, sizeof r.path, "/v1/sessions/%s/renew", r.id);
	answer_free(&a);
	return r;
}

static int64_t time_at(const json_t *json, const char *path)
{
	int64_t at_ms = 0;
	assert_int_equal(clock_parse(text_at(json, path), &at_ms), 0);
	return at_ms;
}

static int64_t number_of(struct running *r, const char *key)
{
	json_t *doc = record_of(r->w, r->id);
	int64_t n = json_integer_value(json_object_get(doc, key));
	json_decref(doc);
	return n;
}

/* That it ends minutes after its start, and everybody who ends it knows. The times that an answer shows are whole
 * seconds, or thousandths. */
static void ends_after(struct running *r, const struct answer *a, int64_t minutes)
{
	int64_t at_ms = time_at(a->json, "session.expires_at"), late_ms = at_ms - r->began_ms - minutes * MINUTE_MS;
	if (late_ms < -1000 || late_ms > 30000)
		fail_msg("ends %" PRId64 " ms after its start", at_ms - r->began_ms);
	json_t *doc = record_of(r->w, r->id), *grant = json_object_get(doc, "grant");
	int64_t recorded_ms = json_integer_value(json_object_get(doc, "expires_ms"));
	assert_true(recorded_ms >= at_ms && recorded_ms < at_ms + 1000);
	assert_int_equal(json_integer_value(json_object_get(grant, "expires_at_ms")), recorded_ms);
	json_decref(doc);
}

static struct answer renew(struct running *r, const char *who)
{
	return call(r->w, "POST", r->path, "", who, NULL);
}

static void renewed(struct running *r, const char *who, int64_t minutes)
{
	struct answer a = renew(r, who);
	if (a.status != 200)
		fail_msg("%d %s", a.status, a.raw.body);
	assert_string_equal(text_at(a.json, "session.id"), r->id);
	ends_after(r, &a, minutes);
	answer_free(&a);
}

static void refused(struct running *r, const char *who, int status, const char *code)
{
	struct answer a = renew(r, who);
	if (a.status != status)
		fail_msg("%d %s", a.status, a.raw.body);
	assert_string_equal(text_at(a.json, "code"), code);
	answer_free(&a);
}

static bool ended(struct running *r)
{
	json_t *doc = record_of(r->w, r->id);
	bool yes = strcmp(text_at(doc, "state"), "ended") == 0;
	json_decref(doc);
	return yes;
}

static void test_it_lives_as_long_as_the_fresh_one(void **state)
{
	(void)state;
	struct running r = up(true);
	struct answer a = call(r.w, "GET", "/v1/sessions", "", "alice", NULL);
	json_t *session = json_array_get(json_object_get(a.json, "sessions"), 0);
	assert_string_equal(text_at(session, "identity_expires_at"), text_at(session, "expires_at"));
	answer_free(&a);
	size_t grants = fake_ws_count(7, "grant");
	renewed(&r, "alice - t2 1800", 30);
	assert_int_equal(fake_ws_count(7, "grant"), grants + 1);
	json_t *grant = fake_ws_last(7, "grant"), *last = audit_last(r.w, "session.renew"), *doc = record_of(r.w, r.id);
	assert_int_equal(json_integer_value(json_object_get(json_object_get(grant, "grant"), "expires_at_ms")),
			 number_of(&r, "expires_ms"));
	assert_string_equal(text_at(last, "session"), r.id);
	assert_string_equal(text_at(last, "credential"), "t2");
	assert_string_equal(text_at(doc, "credential"), "t2");
	sweep_in(r.w, 29 * MINUTE_MS);
	assert_false(ended(&r));
	assert_int_equal(fake_relay_ended(r.id), 0);
	sweep_in(r.w, 31 * MINUTE_MS);
	assert_true(ended(&r));
	json_decref(doc);
	doc = record_of(r.w, r.id);
	assert_non_null(strstr(text_at(doc, "end.text"), "was not renewed"));
	json_decref(doc);
	json_decref(grant);
	json_decref(last);
	world_down(r.w);
}

static void test_nothing_outlives_the_maximum(void **state)
{
	(void)state;
	struct running r = up(true);
	renewed(&r, "alice - t2 7200", 60);
	renewed(&r, "alice - t3 0", 60); /* one that does not expire */
	sweep_in(r.w, 61 * MINUTE_MS);
	json_t *doc = record_of(r.w, r.id);
	assert_string_equal(text_at(doc, "end.text"), "the session reached its maximum duration");
	json_decref(doc);
	world_down(r.w);
}

static void test_one_that_is_not_fresher_changes_nothing(void **state)
{
	(void)state;
	struct running r = up(true);
	renewed(&r, "alice - t2 1800", 30);
	int64_t at_ms = number_of(&r, "expires_ms");
	renewed(&r, "alice - t1 600", 30);
	assert_int_equal(number_of(&r, "expires_ms"), at_ms);
	assert_int_equal(audited(r.w, "session.renew", "session", r.id), 1);
	json_t *doc = record_of(r.w, r.id);
	assert_string_equal(text_at(doc, "credential"), "t2");
	json_decref(doc);
	world_down(r.w);
}

static void test_a_session_that_is_not_bound_is_as_it_was(void **state)
{
	(void)state;
	struct running r = up(false);
	struct answer a = renew(&r, "alice - t2 1800");
	assert_int_equal(a.status, 200);
	ends_after(&r, &a, 60);
	assert_true(json_is_null(json_object_get(json_object_get(a.json, "session"), "identity_expires_at")));
	answer_free(&a);
	assert_int_equal(audited(r.w, "session.renew", NULL, NULL), 0);
	world_down(r.w);
}

static void test_who_may_not(void **state)
{
	(void)state;
	struct running r = up(true);
	put_policy(r.w, "bob", "{'Effect':'Allow','Principal':{'User':['bob']},'Action':['*'],'Resource':['*']}");
	int64_t at_ms = number_of(&r, "expires_ms");
	refused(&r, "bob - t2 1800", 404, "not-found");
	refused(&r, "wrong", 401, "unauthenticated");
	refused(&r, NULL, 401, "unauthenticated");
	put_policy(r.w, "stay",
		   "{'Effect':'Deny','Principal':{'Group':['guests']},'Action':['tunnel:ResumeSession'],"
		   "'Resource':['*']}");
	refused(&r, "alice guests t2 1800", 403, "forbidden");
	assert_int_equal(audited(r.w, "denied", "action", "tunnel:ResumeSession"), 1);
	assert_int_equal(number_of(&r, "expires_ms"), at_ms);
	assert_int_equal(audited(r.w, "session.renew", NULL, NULL), 0);
	world_down(r.w);
}

static void test_an_ended_one_stays_ended(void **state)
{
	(void)state;
	struct running r = up(true);
	sweep_in(r.w, 11 * MINUTE_MS);
	refused(&r, "alice - t2 1800", 410, "session-ended");
	world_down(r.w);
}

static void test_a_revoked_credential_renews_nothing(void **state)
{
	(void)state;
	struct running r = up(true);
	put_policy(r.w, "op", "{'Effect':'Allow','Principal':{'User':['op']},'Action':['*'],'Resource':['*']}");
	struct answer a = call(r.w, "POST", "/v1/revocations", "", "op", "{'credential':'t2'}");
	assert_int_equal(a.status, 200);
	answer_free(&a);
	refused(&r, "alice - t2 1800", 403, "forbidden");
	renewed(&r, "alice - t3 1800", 30);
	a = call(r.w, "POST", "/v1/revocations", "", "op", "{'credential':'t3'}"); /* with which it goes on now */
	assert_int_equal(a.status, 200);
	answer_free(&a);
	assert_true(ended(&r));
	world_down(r.w);
}

static void revoke_t2(void *arg)
{
	struct running *r = arg;
	struct answer a = call(r->w, "POST", "/v1/revocations", "", "op", "{'credential':'t2'}");
	assert_int_equal(a.status, 200);
	answer_free(&a);
}

/* When it has been judged and the row does not have it yet: so whoever revokes it does not find the session. */
static void test_a_credential_that_is_revoked_meanwhile_ends_it(void **state)
{
	(void)state;
	struct running r = up(true);
	put_policy(r.w, "op", "{'Effect':'Allow','Principal':{'User':['op']},'Action':['*'],'Resource':['*']}");
	sweep_in(r.w, 0); /* no judgement is owed any more that would end it later */
	fake_auth_then(revoke_t2, &r);
	refused(&r, "alice - t2 1800", 403, "forbidden");
	assert_int_equal(fake_relay_ended(r.id), 4007);
	assert_true(ended(&r));
	assert_int_equal(audited(r.w, "session.end", "session", r.id), 1);
	world_down(r.w);
}

static void see_lock(void *arg)
{
	struct running *r = arg;
	pthread_mutex_t *lock = session_judging(r->w->server.sessions, r->id);
	assert_int_equal(pthread_mutex_trylock(lock), 0);
	pthread_mutex_unlock(lock);
	fake_auth_then(see_lock, r); /* at each question */
}

/* Nobody else waits for it. */
static void test_a_provider_that_hangs_holds_no_lock(void **state)
{
	(void)state;
	struct running r = up(true);
	fake_auth_then(see_lock, &r);
	struct answer a = call(r.w, "POST", r.path, "", "alice - t2 1800", NULL);
	assert_int_equal(a.status, 200);
	ends_after(&r, &a, 30);
	answer_free(&a);
	world_down(r.w);
}

static void test_without_a_record_in_the_log_nothing_is_renewed(void **state)
{
	(void)state;
	struct running r = up(true);
	int64_t at_ms = number_of(&r, "expires_ms");
	fake_store_fail_after(-1, 0);
	refused(&r, "alice - t2 1800", 503, "busy");
	fake_store_heal();
	assert_int_equal(number_of(&r, "expires_ms"), at_ms);
	fake_store_fail_after(0, -1); /* and when the record cannot be changed, the row is as before */
	refused(&r, "alice - t2 1800", 503, "busy");
	fake_store_heal();
	sweep_in(r.w, 11 * MINUTE_MS);
	assert_true(ended(&r));
	world_down(r.w);
}

static void test_the_log_says_what_was_not_renewed(void **state)
{
	(void)state;
	struct running r = up(true);
	fake_store_fail_after(0, -1);
	refused(&r, "alice - t2 1800", 503, "busy");
	fake_store_heal();
	assert_int_equal(audited(r.w, "session.renew", "session", r.id), 1);
	assert_int_equal(audited(r.w, "session.renew_failed", "session", r.id), 1);
	world_down(r.w);
}

static void test_a_change_that_is_not_answered_is_made(void **state)
{
	(void)state;
	struct running r = up(true);
	fake_store_unanswered("sessions");
	renewed(&r, "alice - t2 1800", 30);
	sweep_in(r.w, 12 * MINUTE_MS);
	assert_false(ended(&r));
	assert_int_equal(fake_relay_ended(r.id), 0);
	assert_int_equal(audited(r.w, "session.renew_failed", NULL, NULL), 0);
	world_down(r.w);
}

static void store_goes(void *arg)
{
	(void)arg;
	fake_store_away();
}

/* It was made, and nobody could find out at the time. */
static void test_a_change_that_stays_unknown_is_found_later(void **state)
{
	(void)state;
	struct running r = up(true);
	sweep_in(r.w, 0);
	fake_store_unanswered("sessions");
	fake_store_then("sessions", store_goes, NULL);
	refused(&r, "alice - t2 1800", 503, "busy");
	fake_store_heal();
	size_t grants = fake_ws_count(7, "grant");
	sweep_in(r.w, 0);
	assert_int_equal(fake_ws_count(7, "grant"), grants + 1);
	sweep_in(r.w, 12 * MINUTE_MS);
	assert_false(ended(&r));
	assert_int_equal(fake_relay_ended(r.id), 0);
	world_down(r.w);
}

static void test_a_restart_in_between(void **state)
{
	(void)state;
	struct running r = up(true);
	renewed(&r, "alice - t2 1800", 30);
	world_restart(r.w);
	sweep_in(r.w, 12 * MINUTE_MS);
	assert_false(ended(&r));
	hello(r.w, "web-1", 8, "");
	renewed(&r, "alice - t3 2400", 40);
	world_down(r.w);
}

struct late {
	struct running *r;
	int status;
};

static void renew_now(void *arg)
{
	struct late *late = arg;
	struct answer a = renew(late->r, "alice - t2 1800");
	late->status = a.status;
	answer_free(&a);
}

/* An end that wins is told; the record never says both. */
static void test_an_end_at_the_same_moment(void **state)
{
	(void)state;
	struct running r = up(true);
	struct late late = { .r = &r };
	fake_store_then("sessions", renew_now, &late); /* behind the write of its end */
	sweep_in(r.w, 11 * MINUTE_MS);
	assert_int_equal(late.status, 410);
	assert_true(ended(&r));
	assert_int_equal(audited(r.w, "session.renew", NULL, NULL), 0);
	world_down(r.w);
}

static void test_a_resumption_brings_its_own_time(void **state)
{
	(void)state;
	struct running r = up(true);
	char path[96], body[320];
	snprintf(path, sizeof path, "/v1/sessions/%s/resume", r.id);
	snprintf(body, sizeof body, "{'client_key':'%s'}", r.w->client_key);
	struct answer a = call(r.w, "POST", path, "", "alice - t2 1800", body);
	if (a.status != 200)
		fail_msg("%d %s", a.status, a.raw.body);
	ends_after(&r, &a, 30);
	answer_free(&a);
	json_t *offer = fake_ws_last(7, "offer");
	assert_int_equal(json_integer_value(json_object_get(offer, "expires_at_ms")), number_of(&r, "expires_ms"));
	json_decref(offer);
	sweep_in(r.w, 12 * MINUTE_MS);
	assert_false(ended(&r));
	world_down(r.w);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_it_lives_as_long_as_the_fresh_one),
		cmocka_unit_test(test_nothing_outlives_the_maximum),
		cmocka_unit_test(test_one_that_is_not_fresher_changes_nothing),
		cmocka_unit_test(test_a_session_that_is_not_bound_is_as_it_was),
		cmocka_unit_test(test_who_may_not),
		cmocka_unit_test(test_an_ended_one_stays_ended),
		cmocka_unit_test(test_a_revoked_credential_renews_nothing),
		cmocka_unit_test(test_a_credential_that_is_revoked_meanwhile_ends_it),
		cmocka_unit_test(test_a_provider_that_hangs_holds_no_lock),
		cmocka_unit_test(test_without_a_record_in_the_log_nothing_is_renewed),
		cmocka_unit_test(test_the_log_says_what_was_not_renewed),
		cmocka_unit_test(test_a_change_that_is_not_answered_is_made),
		cmocka_unit_test(test_a_change_that_stays_unknown_is_found_later),
		cmocka_unit_test(test_a_restart_in_between),
		cmocka_unit_test(test_an_end_at_the_same_moment),
		cmocka_unit_test(test_a_resumption_brings_its_own_time),
	};
	return RUN_CASES(tests);
}
