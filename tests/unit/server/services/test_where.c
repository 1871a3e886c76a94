/* Policies that look at tunnel:SourceIp are about where the client is, from its attach on. */
#include "world.h"

#include "base/clock.h"
#include "server/session_state.h"

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>

#define HOME "192.0.2.7" /* where calls come from */
#define AWAY "198.51.100.9"

/* The first of its two endpoints is not for anybody; or not for who is AWAY. */
#define FIRST "'StringEquals':{'tunnel:Host':'127.0.0.1'}"
#define IS_AWAY "'IpAddress':{'tunnel:SourceIp':'198.51.100.0/24'}"
#define NARROW "{'Effect':'Deny','Principal':'*','Action':['*'],'Resource':['*'],'Condition':{" FIRST "}}"
#define NARROW_AWAY \
	"{'Effect':'Deny','Principal':'*','Action':['*'],'Resource':['*'],'Condition':{" IS_AWAY "," FIRST "}}"

/* web-1 connected as connection 7, one tcp session of alice's to two endpoints, bound to a credential of ten minutes.
 * Started from HOME. */
struct running {
	struct world *w;
	char id[65], token[64];
};

static struct running up(void)
{
	struct running r = { .w = world_up() };
	char body[1024];
	r.w->settings.bind_to_identity = true;
	enrol(r.w, "web-1", "'role':'web'");
	hello(r.w, "web-1", 7, "");
	snprintf(body, sizeof body,
		 "{'target':'web-1','kind':'tcp','allow':['127.0.0.1:5432','db.internal:5432'],'client_key':'%s'}",
		 r.w->client_key);
	struct answer a = call(r.w, "POST", "/v1/sessions", "", "alice - t1 600", body);
	assert_int_equal(a.status, 201);
	snprintf(r.id, sizeof r.id, "%s", text_at(a.json, "session.id"));
	snprintf(r.token, sizeof r.token, "%s", text_at(a.json, "token"));
	answer_free(&a);
	sweep_in(r.w, 0); /* no judgement is owed any more */
	return r;
}

static unsigned attach_from(struct running *r, const char *address)
{
	char url[512], proof[PROOF_TEXT_MAX];
	struct attach_decision d;
	snprintf(url, sizeof url, "https://" HOST "/v1/sessions/%s/leg", r->id);
	make_proof(r->w->client, "GET", url, r->token, clock_wall_ms(), proof);
	const struct attach_request request = {
		.session = r->id, .token = r->token, .dpop = proof, .host = HOST, .remote_address = address
	};
	sessions_attach_blocking(&r->w->server, &request, &d);
	return d.close_code;
}

static void deny_from(struct running *r, const char *net)
{
	char text[256];
	snprintf(text, sizeof text,
		 "{'Sid':'net','Effect':'Deny','Principal':'*','Action':['*'],'Resource':['*'],"
		 "'Condition':{'IpAddress':{'tunnel:SourceIp':'%s'}}}",
		 net);
	put_policy(r->w, "net", text);
	sessions_rejudge_blocking(&r->w->server);
}

static void narrow(struct running *r)
{
	put_policy(r->w, "net", NARROW);
	sessions_rejudge_blocking(&r->w->server);
}

static void narrow_away(struct running *r)
{
	put_policy(r->w, "net", NARROW_AWAY);
	sessions_rejudge_blocking(&r->w->server);
}

static size_t endpoints(const json_t *holder)
{
	return json_array_size(json_object_get(json_object_get(holder, "grant"), "tcp"));
}

/* So many endpoints are in the record's grant, and in the last one that the agent was told (0: of none yet). */
static void may_reach(struct running *r, size_t recorded, size_t told)
{
	json_t *doc = record_of(r->w, r->id), *grant = fake_ws_last(7, "grant");
	assert_int_equal(endpoints(doc), recorded);
	assert_int_equal(endpoints(grant), told);
	json_decref(doc);
	json_decref(grant);
}

static void test_policies_are_about_where_the_client_is(void **state)
{
	(void)state;
	struct running r = up();
	assert_int_equal(attach_from(&r, AWAY), 0);
	deny_from(&r, "192.0.2.0/24"); /* he is not there any more */
	assert_int_equal(audited(r.w, "session.end", NULL, NULL), 0);
	assert_int_equal(attach_from(&r, HOME), 4403); /* and one who is not let in is not the client */
	sessions_rejudge_blocking(&r.w->server);
	assert_int_equal(audited(r.w, "session.end", NULL, NULL), 0);
	deny_from(&r, "198.51.100.0/24");
	assert_int_equal(audited(r.w, "session.end", "session", r.id), 1);
	assert_int_equal(fake_relay_ended(r.id), 4007);
	world_down(r.w);
}

/* Without anything else that would have it judged. */
static void test_an_attach_from_elsewhere_changes_the_grant(void **state)
{
	(void)state;
	struct running r = up();
	narrow_away(&r);
	may_reach(&r, 2, 0);
	assert_int_equal(attach_from(&r, AWAY), 0);
	may_reach(&r, 1, 1);
	assert_int_equal(attach_from(&r, HOME), 0);
	may_reach(&r, 2, 2);
	size_t told = fake_ws_count(7, "grant");
	assert_int_equal(attach_from(&r, HOME), 0);
	assert_int_equal(fake_ws_count(7, "grant"), told);
	world_down(r.w);
}

static void test_who_cannot_be_given_his_grant_is_not_let_in(void **state)
{
	(void)state;
	struct running r = up();
	narrow_away(&r);
	assert_int_equal(attach_from(&r, AWAY), 0);
	fake_store_fail_after(0, -1);
	assert_int_equal(attach_from(&r, HOME), 4503);
	may_reach(&r, 1, 2); /* the agent was told, and the record does not say so */
	fake_store_heal();
	sweep_in(r.w, 0); /* the client is still AWAY */
	may_reach(&r, 1, 1);
	world_down(r.w);
}

/* Policies change and change back: the one judgement falls between the offer and that behind it. */
static void test_the_judgement_behind_the_offer_has_the_last_word(void **state)
{
	(void)state;
	struct running r = up();
	struct err e;
	json_t *offer = fake_ws_last(7, "offer");
	narrow(&r);
	may_reach(&r, 1, 1);
	put_policy(r.w, "net", "{'Effect':'Deny','Principal':'*','Action':['tunnel:OpenSsh'],'Resource':['*']}");
	assert_int_equal(
		session_judge_started_blocking(&r.w->server, r.id, "web-1", json_object_get(offer, "grant"), &e), 0);
	may_reach(&r, 2, 2);
	json_decref(offer);
	world_down(r.w);
}

/* What happens while a provider is asked what is true of a moment before. */
static void narrow_meanwhile(void *arg)
{
	narrow(arg);
}

static void move_meanwhile(void *arg)
{
	assert_int_equal(attach_from(arg, AWAY), 0);
	may_reach(arg, 1, 1);
}

static void test_policies_that_change_during_an_attach_have_the_last_word(void **state)
{
	(void)state;
	struct running r = up();
	fake_auth_then(narrow_meanwhile, &r);
	assert_int_equal(attach_from(&r, AWAY), 0);
	may_reach(&r, 1, 1);
	world_down(r.w);
}

static void test_a_client_that_moves_while_it_is_judged_keeps_the_grant_of_there(void **state)
{
	(void)state;
	struct running r = up();
	narrow_away(&r);
	fake_auth_then(move_meanwhile, &r);
	sessions_rejudge_blocking(&r.w->server);
	may_reach(&r, 1, 1);
	world_down(r.w);
}

static struct answer renew_then(struct running *r, void (*then)(void *arg), void *arg)
{
	char path[96];
	snprintf(path, sizeof path, "/v1/sessions/%s/renew", r->id);
	fake_auth_then(then, arg);
	return call(r->w, "POST", path, "", "alice - t2 900", NULL);
}

static void test_a_client_that_moves_during_a_renewal_keeps_the_grant_of_there(void **state)
{
	(void)state;
	struct running r = up();
	narrow_away(&r);
	size_t told = fake_ws_count(7, "grant");
	struct answer a = renew_then(&r, move_meanwhile, &r);
	assert_int_equal(a.status, 200);
	answer_free(&a);
	assert_int_equal(fake_ws_count(7, "grant"), told + 2); /* of his move, of the new time */
	may_reach(&r, 1, 1);
	world_down(r.w);
}

/* A judgement of all that is begun behind that of a call, and hears its provider only when that is over. */
struct rival {
	struct running r;
	const char *policy; /* is put before it is begun */
	void (*hear)(void *rival);
	pthread_t thread;
	atomic_bool asked, over;
};

static void wait_until(atomic_bool *flag)
{
	for (int i = 0; i < 10000 && !atomic_load(flag); i++)
		poll(NULL, 0, 1);
	assert_true(atomic_load(flag));
}

static void hear_it_late(void *arg)
{
	struct rival *rival = arg;
	atomic_store(&rival->asked, true);
	wait_until(&rival->over);
}

static void *judge_all(void *arg)
{
	struct rival *rival = arg;
	sessions_rejudge_blocking(&rival->r.w->server);
	return NULL;
}

static void begin_rival(void *arg)
{
	struct rival *rival = arg;
	put_policy(rival->r.w, "net", rival->policy);
	fake_auth_then(rival->hear, rival);
	assert_int_equal(pthread_create(&rival->thread, NULL, judge_all, rival), 0);
	wait_until(&rival->asked);
}

static void end_rival(struct rival *rival)
{
	atomic_store(&rival->over, true);
	pthread_join(rival->thread, NULL);
}

static void test_a_client_that_was_let_in_meanwhile_is_judged_where_he_is(void **state)
{
	(void)state;
	struct rival rival = { .r = up(), .policy = NARROW_AWAY, .hear = hear_it_late };
	fake_auth_then(begin_rival, &rival);
	assert_int_equal(attach_from(&rival.r, AWAY), 0);
	may_reach(&rival.r, 2, 0);
	end_rival(&rival);
	may_reach(&rival.r, 1, 1);
	world_down(rival.r.w);
}

static void refuse_late(void *arg)
{
	hear_it_late(arg);
	fake_auth_refuses_once();
}

/* Between the renewal and its own judgement. */
static void end_rival_when_renewed(void *arg)
{
	struct rival *rival = arg;
	json_t *doc = record_of(rival->r.w, rival->r.id);
	if (strcmp(text_at(doc, "credential"), "t2") == 0)
		end_rival(rival);
	else
		fake_auth_then(end_rival_when_renewed, rival);
	json_decref(doc);
}

static void begin_refused_rival(void *arg)
{
	struct rival *rival = arg;
	begin_rival(rival);
	fake_auth_then(end_rival_when_renewed, rival);
}

static void test_what_is_said_of_the_credential_before_ends_nothing(void **state)
{
	(void)state;
	struct rival rival = { .r = up(), .policy = NARROW, .hear = refuse_late };
	struct answer a = renew_then(&rival.r, begin_refused_rival, &rival);
	assert_true(atomic_load(&rival.over));
	assert_int_equal(a.status, 200);
	answer_free(&a);
	assert_int_equal(fake_relay_ended(rival.r.id), 0);
	assert_int_equal(audited(rival.r.w, "session.end", NULL, NULL), 0);
	world_down(rival.r.w);
}

static void test_a_renewal_from_elsewhere_does_not_move_the_client(void **state)
{
	(void)state;
	struct running r = up();
	char path[96];
	narrow_away(&r);
	assert_int_equal(attach_from(&r, AWAY), 0);
	snprintf(path, sizeof path, "/v1/sessions/%s/renew", r.id);
	struct answer a = call(r.w, "POST", path, "", "alice - t2 1800", NULL); /* from HOME */
	assert_int_equal(a.status, 200);
	answer_free(&a);
	assert_int_equal(audited(r.w, "session.renew", "session", r.id), 1);
	may_reach(&r, 1, 1);
	deny_from(&r, "203.0.113.0/24"); /* somewhere else; both endpoints are his again */
	may_reach(&r, 2, 2);
	world_down(r.w);
}

static void deny_after(struct running *r, int64_t wall_ms)
{
	char when[CLOCK_TEXT_LEN], text[256];
	snprintf(text, sizeof text,
		 "{'Effect':'Deny','Principal':'*','Action':['*'],'Resource':['*'],"
		 "'Condition':{'DateGreaterThan':{'tunnel:CurrentTime':'%s'}}}",
		 clock_text(wall_ms, when));
	put_policy(r->w, "net", text);
}

/* The change of policy is in force, and its sweep has not come to the session yet. */
static void test_who_comes_before_the_sweep_hears_what_it_will_do(void **state)
{
	(void)state;
	struct running r = up();
	put_policy(r.w, "net",
		   "{'Effect':'Deny','Principal':'*','Action':['*'],'Resource':['*'],"
		   "'Condition':{'IpAddress':{'tunnel:SourceIp':'192.0.2.0/24'}}}");
	assert_int_equal(audited(r.w, "session.end", NULL, NULL), 0);
	assert_int_equal(attach_from(&r, HOME), 4007);
	sweep_in(r.w, 0);
	assert_int_equal(audited(r.w, "session.end", "session", r.id), 1);
	assert_int_equal(attach_from(&r, AWAY), 4007);
	world_down(r.w);
}

static void test_sessions_are_judged_when_a_time_comes_that_a_policy_names(void **state)
{
	(void)state;
	struct running r = up();
	int64_t then = clock_wall_ms() + 1; /* the last sweep was before */
	deny_after(&r, then);
	while (clock_wall_ms() <= then)
		continue;
	sweep_in(r.w, 0);
	assert_int_equal(audited(r.w, "session.end", "session", r.id), 1);
	assert_int_equal(fake_relay_ended(r.id), 4007);
	world_down(r.w);
}

static void test_a_clock_that_was_set_back_passes_such_a_time_again(void **state)
{
	(void)state;
	struct running r = up();
	sweep_in(r.w, 20000);
	deny_after(&r, clock_wall_ms() - 1);
	sweep_in(r.w, -20000);
	assert_int_equal(audited(r.w, "session.end", "session", r.id), 1);
	world_down(r.w);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_policies_are_about_where_the_client_is),
		cmocka_unit_test(test_an_attach_from_elsewhere_changes_the_grant),
		cmocka_unit_test(test_who_cannot_be_given_his_grant_is_not_let_in),
		cmocka_unit_test(test_the_judgement_behind_the_offer_has_the_last_word),
		cmocka_unit_test(test_policies_that_change_during_an_attach_have_the_last_word),
		cmocka_unit_test(test_a_client_that_moves_while_it_is_judged_keeps_the_grant_of_there),
		cmocka_unit_test(test_a_client_that_moves_during_a_renewal_keeps_the_grant_of_there),
		cmocka_unit_test(test_a_client_that_was_let_in_meanwhile_is_judged_where_he_is),
		cmocka_unit_test(test_what_is_said_of_the_credential_before_ends_nothing),
		cmocka_unit_test(test_a_renewal_from_elsewhere_does_not_move_the_client),
		cmocka_unit_test(test_who_comes_before_the_sweep_hears_what_it_will_do),
		cmocka_unit_test(test_sessions_are_judged_when_a_time_comes_that_a_policy_names),
		cmocka_unit_test(test_a_clock_that_was_set_back_passes_such_a_time_again),
	};
	return RUN_CASES(tests);
}
