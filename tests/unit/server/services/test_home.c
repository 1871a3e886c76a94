/* What a node does with its own rows when the store says otherwise: another node has taken the session, or renewed it,
 * meanwhile; or the store has lost it. The other node is what it leaves in the store. */
#include "world.h"

#include "base/clock.h"
#include "server/revocations.h"
#include "server/session_peers.h"
#include "server/session_record.h"
#include "server/session_table.h"
#include "server/session_state.h"
#include "server/store.h"

#define TCP "'127.0.0.1:5432'"
#define MINUTE_MS 60000LL

/* web-1 connected as connection 7, and one tcp session of alice's by a credential t1 that is good for ten minutes. */
struct running {
	struct world *w;
	char id[65], token[64];
};

static struct running up(void)
{
	fake_nodes_reset();
	struct running r = { .w = world_up() };
	char body[1024];
	r.w->settings.bind_to_identity = true;
	enrol(r.w, "web-1", "");
	hello(r.w, "web-1", 7, "");
	snprintf(body, sizeof body, "{'target':'web-1','kind':'tcp','allow':[" TCP "],'client_key':'%s'}",
		 r.w->client_key);
	struct answer a = call(r.w, "POST", "/v1/sessions", "", "alice - t1 600", body);
	assert_int_equal(a.status, 201);
	snprintf(r.id, sizeof r.id, "%s", text_at(a.json, "session.id"));
	snprintf(r.token, sizeof r.token, "%s", text_at(a.json, "token"));
	answer_free(&a);
	sweep_in(r.w, 0); /* no judgement is owed any more */
	return r;
}

static bool ended(struct running *r)
{
	json_t *doc = record_of(r->w, r->id);
	bool yes = strcmp(text_at(doc, "state"), "ended") == 0;
	json_decref(doc);
	return yes;
}

static bool has_row(struct running *r)
{
	struct session_live row;
	return session_table_get(r->w->server.sessions->live, r->id, &row);
}

static void change(struct running *r, const char *key, json_t *value)
{
	json_t *doc = record_of(r->w, r->id);
	struct err e;
	json_object_set_new(doc, key, value);
	assert_int_equal(record_put_blocking(&r->w->server, doc, TUNNEL_VERSION_ANY, NULL, &e), 0);
	json_decref(doc);
}

/* Another node has it. */
static void move_away(void *arg)
{
	struct running *r = arg;
	change(r, "node", json_string("node-2"));
	change(r, "relay_url", json_string("https://node-2:8443"));
}

static void renew_elsewhere(struct running *r)
{
	int64_t until_ms = clock_wall_ms() + 40 * MINUTE_MS;
	move_away(r);
	change(r, "renewed_ms", json_integer(clock_wall_ms()));
	change(r, "expires_ms", json_integer(until_ms));
	change(r, "identity_expires_ms", json_integer(until_ms));
}

/* A node that was cut off from everything: its ends have gone elsewhere, and so has the session. */
static void test_what_it_alone_saw_ends_nothing_without_the_store(void **state)
{
	(void)state;
	struct running r = up();
	int64_t grace_ms = r.w->settings.detach_grace_ms = 2 * MINUTE_MS;
	fake_relay_set(r.id, &(struct relay_info){ .detached_mono_ms = clock_mono_ms() });
	fake_store_away();
	sweep_in(r.w, grace_ms + 1000);
	assert_int_equal(fake_relay_ended(r.id), 0);
	fake_store_heal();
	move_away(&r);
	sweep_in(r.w, grace_ms + 2000);
	assert_false(ended(&r));
	assert_false(has_row(&r));
	assert_int_equal(fake_relay_ended(r.id), 4009);
	world_down(r.w);

	r = up(); /* and where nobody has taken it, it is ended a little later */
	grace_ms = r.w->settings.detach_grace_ms = 2 * MINUTE_MS;
	fake_relay_set(r.id, &(struct relay_info){ .detached_mono_ms = clock_mono_ms() });
	fake_store_away();
	sweep_in(r.w, grace_ms + 1000);
	fake_store_heal();
	sweep_in(r.w, grace_ms + 2000);
	assert_true(ended(&r));
	assert_int_equal(fake_relay_ended(r.id), 4006);
	world_down(r.w);
}

static void test_a_time_that_was_renewed_elsewhere_ends_nothing(void **state)
{
	(void)state;
	struct running r = up();
	fake_store_away();
	sweep_in(r.w, 11 * MINUTE_MS);
	assert_int_equal(fake_relay_ended(r.id), 4004); /* here nobody goes on without the store's word */
	fake_store_heal();
	renew_elsewhere(&r);
	for (int i = 1; i < 4; i++)
		sweep_in(r.w, 11 * MINUTE_MS + 1000 * i);
	assert_false(ended(&r));
	sweep_in(r.w, 13 * MINUTE_MS);
	assert_false(ended(&r));
	assert_false(has_row(&r));
	world_down(r.w);

	r = up(); /* it has slept meanwhile: nothing is cut, the ends are sent on */
	renew_elsewhere(&r);
	sweep_in(r.w, 11 * MINUTE_MS);
	assert_int_equal(fake_relay_ended(r.id), 4009);
	assert_false(ended(&r));
	assert_false(has_row(&r));
	world_down(r.w);
}

/* The client that is gone closed it here, and another one has resumed it elsewhere. */
static void test_an_end_of_an_earlier_client_ends_nothing(void **state)
{
	(void)state;
	struct running r = up();
	fake_store_away();
	sessions_on_client_bye_blocking(&r.w->server, r.id, 1);
	assert_int_equal(fake_relay_ended(r.id), 4000);
	fake_store_heal();
	move_away(&r);
	change(&r, "generation", json_integer(2));
	for (int i = 1; i < 4; i++)
		sweep_in(r.w, 1000 * i);
	assert_false(ended(&r));
	sweep_in(r.w, 2 * MINUTE_MS);
	assert_false(has_row(&r));
	world_down(r.w);
}

static void test_an_end_for_good_counts_before_one_for_time(void **state)
{
	(void)state;
	struct running r = up();
	struct err e;
	fake_store_away();
	sweep_in(r.w, 11 * MINUTE_MS);
	fake_store_heal();
	change(&r, "expires_ms", json_integer(clock_wall_ms() + 40 * MINUTE_MS));
	assert_int_equal(sessions_end_blocking(&r.w->server, r.id, 4003, "enough", "bob", &e), 0);
	json_t *end = audit_last(r.w, "session.end");
	assert_int_equal(json_integer_value(json_object_get(end, "code")), 4003);
	json_decref(end);
	world_down(r.w);
}

/* A failover has lost the last writes, that of the session among them. */
static void test_a_session_that_the_store_has_lost_ends(void **state)
{
	(void)state;
	struct running r = up();
	struct err e;
	assert_int_equal(store_del_blocking(r.w->server.store, SESSION_COLLECTION, r.id, TUNNEL_VERSION_ANY, &e), 0);
	sweep_in(r.w, 2 * MINUTE_MS);
	assert_int_equal(fake_relay_ended(r.id), 4404);
	assert_int_equal(fake_ws_count(7, "terminate"), 1);
	assert_false(has_row(&r));
	json_t *end = audit_last(r.w, "session.end");
	assert_string_equal(text_at(end, "session"), r.id);
	assert_string_equal(text_at(end, "principal"), "alice");
	json_decref(end);
	world_down(r.w);
}

static void change_target(struct running *r, const char *key, json_t *value)
{
	json_t *doc = NULL;
	uint64_t version;
	struct err e;
	assert_int_equal(store_get_blocking(r->w->server.store, "targets", "web-1", &doc, &version, &e), 0);
	json_object_set_new(doc, key, value);
	assert_int_equal(store_put_blocking(r->w->server.store, "targets", "web-1", doc, version, 0, NULL, NULL, &e),
			 0);
	json_decref(doc);
}

/* Nobody would find it: a failover has lost that it is here, or it came back while its leaving was being recorded. */
static void test_an_agent_that_the_store_has_elsewhere_connects_anew(void **state)
{
	(void)state;
	struct running r = up();
	sweep_in(r.w, 0);
	assert_int_equal(fake_ws_closed(7), 0);
	change_target(&r, "node", json_string("node-2"));
	sweep_in(r.w, 0);
	assert_int_equal(fake_ws_closed(7), 4009);
	hello(r.w, "web-1", 8, "");
	change_target(&r, "connected_since", json_integer(0));
	sweep_in(r.w, 0);
	assert_int_equal(fake_ws_closed(8), 4009);
	hello(r.w, "web-1", 9, "");
	sweep_in(r.w, 0);
	assert_int_equal(fake_ws_closed(9), 0);
	world_down(r.w);
}

static void go_elsewhere(void *arg)
{
	move_away(arg);
	change_target(arg, "node", json_string("node-2"));
}

/* It has said hello here, and went on before that was heard: the offer of the other node is the one that counts. */
static void test_an_agent_that_has_left_is_offered_nothing(void **state)
{
	(void)state;
	struct running r = up();
	json_t *doc = record_of(r.w, r.id);
	world_restart(r.w); /* the offer's token is forgotten */
	fake_ws_then(8, go_elsewhere, &r);
	hello(r.w, "web-1", 8, "");
	json_t *now = record_of(r.w, r.id);
	assert_string_equal(text_at(now, "node"), "node-2");
	assert_string_equal(text_at(now, "target_token"), text_at(doc, "target_token"));
	assert_int_equal(fake_ws_count(8, "offer"), 0);
	json_decref(now);
	json_decref(doc);
	world_down(r.w);
}

/* This node was stopped, and reads what the agent said before it went on. There it has said its reports again; and what
 * it refused here it may run by now. */
static void test_what_an_agent_said_before_it_left_is_not_taken(void **state)
{
	(void)state;
	static const char *const said[] = {
		"'stream-opened','seq':1,'stream':1,'kind':'tcp','endpoint':'h:1','at_ms':1",
		"'session-closed','seq':1,'code':4013,'text':'lost'",
		"'refused','code':5,'text':'busy'",
	};
	for (size_t i = 0; i < sizeof said / sizeof *said; i++) {
		struct running r = up();
		char text[256];
		snprintf(text, sizeof text, "{'type':%s,'session':'%s'}", said[i], r.id);
		go_elsewhere(&r);
		say(r.w, "web-1", 7, text);
		assert_int_equal(fake_ws_count(7, "ack"), 0);
		assert_int_equal(fake_ws_closed(7), 4503);
		assert_int_equal(audited(r.w, "stream.open", NULL, NULL), 0);
		assert_false(ended(&r));
		world_down(r.w);
	}
}

/* It goes to another node in the middle of the call: what that one would not know of is not done. */
static void test_what_changes_a_session_is_done_where_it_lives(void **state)
{
	(void)state;
	static const char *const calls[] = { "renew", "resume" };
	for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
		struct running r = up();
		char path[128], body[320];
		snprintf(path, sizeof path, "/v1/sessions/%s/%s", r.id, calls[i]);
		snprintf(body, sizeof body, "{'client_key':'%s'}", r.w->client_key);
		fake_auth_then(go_elsewhere, &r);
		struct answer a = call(r.w, "POST", path, "", "alice - t2 1800", i ? body : NULL);
		assert_int_equal(a.status, 503);
		answer_free(&a);
		json_t *doc = record_of(r.w, r.id);
		assert_string_equal(text_at(doc, "credential"), "t1");
		assert_null(json_object_get(doc, "generation"));
		json_decref(doc);
		world_down(r.w);
	}
}

static void test_a_grant_is_recorded_where_it_lives(void **state)
{
	(void)state;
	struct running r = up();
	put_policy(r.w, "more", "{'Effect':'Deny','Principal':'*','Action':['tunnel:OpenSsh'],'Resource':['*']}");
	change(&r, "grant", json_pack("{s:s}", "of", "the other node"));
	fake_auth_then(move_away, &r);
	sessions_rejudge_blocking(&r.w->server);
	json_t *doc = record_of(r.w, r.id);
	assert_string_equal(text_at(doc, "grant.of"), "the other node");
	json_decref(doc);
	world_down(r.w);
}

/* By a leg that comes while the agent's hello is still looked at, or when that could not take it. */
static void test_a_worker_that_runs_keeps_its_token(void **state)
{
	(void)state;
	struct running r = up();
	struct attach_decision d;
	char running[80], first[64];
	json_t *offer = fake_ws_last(7, "offer");
	snprintf(first, sizeof first, "%s", text_at(offer, "token"));
	json_decref(offer);
	snprintf(running, sizeof running, "'%s'", r.id);
	world_restart(r.w); /* this node is not the one that offered it */
	hello(r.w, "web-1", 8, running);
	move_away(&r);
	session_table_remove(r.w->server.sessions->live, r.id);
	assert_int_equal(attach(r.w, r.id, r.token, r.w->client, &d), 0);
	assert_int_equal(fake_ws_count(8, "offer"), 1);
	assert_int_equal(attach(r.w, r.id, first, r.w->link, &d), 0);
	offer = fake_ws_last(8, "offer"); /* what an agent without it would have */
	assert_int_equal(attach(r.w, r.id, text_at(offer, "token"), r.w->link, &d), 0);
	json_decref(offer);
	world_down(r.w);
}

/* Its record was written and the store gave no answer: so there is no row when somebody is revoked. */
static void test_one_that_is_found_late_is_judged(void **state)
{
	(void)state;
	struct running r = up();
	char id[REVOCATION_ID_TEXT];
	struct err e;
	const struct revocation what = { .principal = "alice", .by = "bob" };
	session_table_remove(r.w->server.sessions->live, r.id);
	assert_int_equal(revocations_enforce_anythread(r.w->server.revocations, &what, id, &e), 0);
	sweep_in(r.w, 0);
	sweep_in(r.w, 2 * MINUTE_MS);
	sweep_in(r.w, 2 * MINUTE_MS + 1000);
	assert_true(ended(&r));
	world_down(r.w);
}

/* Ends are sent to where it is now. */
static void test_a_node_with_another_url_takes_its_sessions_along(void **state)
{
	(void)state;
	struct running r = up();
	r.w->server.public_url = "https://node-1.example.com";
	world_restart(r.w);
	assert_true(has_row(&r));
	json_t *doc = record_of(r.w, r.id);
	assert_string_equal(text_at(doc, "relay_url"), "https://node-1.example.com");
	json_decref(doc);
	world_down(r.w);
}

/* Where each node paid what all owe, a record would be there as often as they did it at one time. */
static void test_what_another_node_owes_is_paid_once(void **state)
{
	(void)state;
	struct running r = up();
	struct err e;
	fake_store_fail_after(-1, 0);
	assert_int_equal(sessions_end_blocking(&r.w->server, r.id, 4003, "enough", "bob", &e), 0);
	fake_store_heal();
	session_table_remove(r.w->server.sessions->live, r.id);
	move_away(&r); /* it was that one's end */
	fake_nodes_add("node-2");
	sweep_in(r.w, 5 * MINUTE_MS);
	assert_int_equal(audited(r.w, "session.end", NULL, NULL), 0); /* that node lives, and pays */
	fake_nodes_reset();
	fake_nodes_add("node-0");
	sweep_in(r.w, 10 * MINUTE_MS);
	assert_int_equal(audited(r.w, "session.end", NULL, NULL), 0); /* another one does it for all */
	fake_nodes_reset();
	sweep_in(r.w, 15 * MINUTE_MS);
	assert_int_equal(audited(r.w, "session.end", NULL, NULL), 1);
	world_down(r.w);
}

/* That node was asked to end it, or has asked and waited for no longer: it has written the end and is about to pay. */
static void end_elsewhere(void *arg)
{
	struct running *r = arg;
	json_t *doc = record_of(r->w, r->id);
	struct err e;
	json_object_set_new(doc, "state", json_string("ended"));
	json_object_set_new(doc, "ended_ms", json_integer(clock_wall_ms()));
	json_object_set_new(doc, "ended_on", json_string("node-2"));
	json_object_set_new(doc, "end", json_pack("{s:i, s:s, s:s}", "code", 4003, "text", "enough", "by", "bob"));
	record_owe(&r->w->server, doc);
	assert_int_equal(record_put_blocking(&r->w->server, doc, TUNNEL_VERSION_ANY, NULL, &e), 0);
	json_decref(doc);
}

static void test_an_end_that_two_nodes_write_is_paid_once(void **state)
{
	(void)state;
	struct err e;
	for (int lives = 0; lives < 2; lives++) {
		struct running r = up();
		if (lives)
			fake_nodes_add("node-2");
		end_elsewhere(&r);
		assert_int_equal(sessions_end_blocking(&r.w->server, r.id, 4003, "enough", "bob", &e), ERR_CONFLICT);
		assert_int_equal(fake_relay_ended(r.id), 4003);
		assert_false(has_row(&r));
		assert_int_equal(audited(r.w, "session.end", NULL, NULL), lives ? 0 : 1);
		sweep_in(r.w, 2 * MINUTE_MS); /* it has died meanwhile, or was paid */
		assert_int_equal(audited(r.w, "session.end", NULL, NULL), 1);
		world_down(r.w);
	}
}

/* The agent comes from there; and what that node missed of it is asked for again. */
static void test_a_node_that_loses_sessions_is_told(void **state)
{
	(void)state;
	struct running r = up();
	fake_nodes_add("node-2");
	move_away(&r);
	control_on_closed_blocking(&r.w->server, 7, "web-1", "lost");
	hello(r.w, "web-1", 8, "");
	json_t *doc = record_of(r.w, r.id);
	assert_string_equal(text_at(doc, "node"), "node-1");
	json_decref(doc);
	assert_true(fake_nodes_told("node-2 moved"));
	control_on_closed_blocking(&r.w->server, 8, "web-1", "lost");
	change_target(&r, "node", json_string("node-2"));
	change_target(&r, "connected_since", json_integer(clock_wall_ms()));
	sweep_in(r.w, 5000);
	assert_true(fake_nodes_told("node-2 take"));
	world_down(r.w);
}

/* Its answer says that nothing of his starts here any more. */
static void test_a_revocation_that_cannot_be_read_is_not_answered(void **state)
{
	(void)state;
	struct running r = up();
	const struct peers_op *op = session_peers_ops;
	json_t *question =
		json_pack("{s:s, s:s, s:s, s:b}", "principal", "bob", "text", "gone", "by", "alice", "recorded", 1);
	while (strcmp(op->name, "revoke") != 0)
		op++;
	fake_store_away();
	assert_null(op->answer_blocking(&r.w->server, question));
	fake_store_heal();
	json_t *answer = op->answer_blocking(&r.w->server, question);
	assert_int_equal(json_integer_value(json_object_get(answer, "sessions")), 0);
	json_decref(answer);
	json_decref(question);
	world_down(r.w);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_it_alone_saw_ends_nothing_without_the_store),
		cmocka_unit_test(test_a_time_that_was_renewed_elsewhere_ends_nothing),
		cmocka_unit_test(test_an_end_of_an_earlier_client_ends_nothing),
		cmocka_unit_test(test_an_end_for_good_counts_before_one_for_time),
		cmocka_unit_test(test_a_session_that_the_store_has_lost_ends),
		cmocka_unit_test(test_an_agent_that_the_store_has_elsewhere_connects_anew),
		cmocka_unit_test(test_an_agent_that_has_left_is_offered_nothing),
		cmocka_unit_test(test_what_changes_a_session_is_done_where_it_lives),
		cmocka_unit_test(test_a_grant_is_recorded_where_it_lives),
		cmocka_unit_test(test_what_an_agent_said_before_it_left_is_not_taken),
		cmocka_unit_test(test_a_worker_that_runs_keeps_its_token),
		cmocka_unit_test(test_one_that_is_found_late_is_judged),
		cmocka_unit_test(test_a_node_with_another_url_takes_its_sessions_along),
		cmocka_unit_test(test_what_another_node_owes_is_paid_once),
		cmocka_unit_test(test_an_end_that_two_nodes_write_is_paid_once),
		cmocka_unit_test(test_a_node_that_loses_sessions_is_told),
		cmocka_unit_test(test_a_revocation_that_cannot_be_read_is_not_answered),
	};
	return RUN_CASES(tests);
}
