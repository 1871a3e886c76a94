/* A session goes on with a new client: who may, what dies with the old one, and what comes late from him. */
#include "world.h"

#include "base/clock.h"
#include "ident/key.h"

#define TCP "'127.0.0.1:5432'"

/* web-1 connected as connection 7, one tcp session of alice's, and a second client's key. */
struct running {
	struct world *w;
	char id[65], path[96], token[64], target_token[64], body[320];
	EVP_PKEY *other;
};

static void keep(char out[64], const json_t *json, const char *key)
{
	snprintf(out, 64, "%s", text_at(json, key));
	assert_int_equal(strlen(out), 43);
}

static void keep_offer(char out[64], wsconn_id conn, int64_t generation)
{
	json_t *offer = fake_ws_last(conn, "offer");
	keep(out, offer, "token");
	assert_int_equal(json_integer_value(json_object_get(offer, "generation")), generation);
	json_decref(offer);
}

static struct running up(void)
{
	struct running r = { .w = world_up() };
	struct err e;
	char key[256];
	enrol(r.w, "web-1", "'role':'web'");
	hello(r.w, "web-1", 7, "");
	struct answer a = start_tcp(r.w, "web-1", TCP);
	snprintf(r.id, sizeof r.id, "%s", text_at(a.json, "session.id"));
	snprintf(r.path, sizeof r.path, "/v1/sessions/%s/resume", r.id);
	keep(r.token, a.json, "token");
	answer_free(&a);
	keep_offer(r.target_token, 7, 1);
	r.other = key_generate(&e);
	assert_int_equal(key_public_text(r.other, key, &e), 0);
	snprintf(r.body, sizeof r.body, "{'client_key':'%s'}", key);
	return r;
}

static void down(struct running *r)
{
	EVP_PKEY_free(r->other);
	world_down(r->w);
}

static struct answer resume(struct running *r, const char *who)
{
	return call(r->w, "POST", r->path, "", who, r->body);
}

static void refused(struct running *r, const char *who, int status, const char *code)
{
	struct answer a = resume(r, who);
	if (a.status != status)
		fail_msg("%d %s", a.status, a.raw.body);
	assert_string_equal(text_at(a.json, "code"), code);
	answer_free(&a);
}

/* By alice; fills the new tokens. */
static void resumed(struct running *r, wsconn_id conn, int64_t generation, char token[64], char target_token[64])
{
	struct answer a = resume(r, "alice");
	if (a.status != 200)
		fail_msg("%d %s", a.status, a.raw.body);
	assert_string_equal(text_at(a.json, "session.id"), r->id);
	assert_string_equal(text_at(a.json, "relay_url"), "https://" HOST);
	assert_int_equal(strlen(text_at(a.json, "target_pin")), 43);
	keep(token, a.json, "token");
	answer_free(&a);
	keep_offer(target_token, conn, generation);
	assert_int_equal(fake_relay_generation(r->id), generation);
}

static void test_the_new_client_has_it_and_the_old_one_has_not(void **state)
{
	(void)state;
	struct attach_decision d;
	struct running r = up();
	char token[64], target_token[64];
	assert_int_equal(attach(r.w, r.id, r.token, r.w->client, &d), 0);
	assert_int_equal(d.generation, 1);
	resumed(&r, 7, 2, token, target_token);
	assert_int_equal(attach(r.w, r.id, r.token, r.w->client, &d), 4001);
	assert_non_null(strstr(d.text, "resumed by another client"));
	assert_int_equal(attach(r.w, r.id, r.target_token, r.w->link, &d), 4001);
	assert_int_equal(attach(r.w, r.id, token, r.w->client, &d), 4401); /* the new token, the old key */
	assert_int_equal(attach(r.w, r.id, token, r.other, &d), 0);
	assert_int_equal(d.generation, 2);
	assert_int_equal(attach(r.w, r.id, target_token, r.w->link, &d), 0);
	assert_int_equal(d.generation, 2);
	json_t *last = audit_last(r.w, "session.resume"), *doc = record_of(r.w, r.id);
	assert_string_equal(text_at(last, "session"), r.id);
	assert_string_equal(text_at(last, "principal"), "alice");
	assert_string_equal(text_at(last, "remote_address"), "192.0.2.7");
	assert_int_equal(json_integer_value(json_object_get(last, "generation")), 2);
	assert_null(json_object_get(doc, "unfinished"));
	char *text = json_dumps(doc, 0);
	assert_null(strstr(text, token)); /* only hashes are kept */
	assert_null(strstr(text, target_token));
	free(text);
	json_decref(last);
	json_decref(doc);
	down(&r);
}

static void test_many_times(void **state)
{
	(void)state;
	struct attach_decision d;
	struct running r = up();
	char token[64], target_token[64], before[64];
	resumed(&r, 7, 2, token, target_token);
	for (int64_t generation = 3; generation < 12; generation++) {
		memcpy(before, token, sizeof before);
		resumed(&r, 7, generation, token, target_token);
		assert_int_equal(attach(r.w, r.id, before, r.other, &d), 4001);
	}
	assert_int_equal(attach(r.w, r.id, r.token, r.w->client, &d), 4401); /* not for ever */
	assert_int_equal(audited(r.w, "session.resume", "session", r.id), 10);
	json_t *doc = record_of(r.w, r.id);
	assert_int_equal(json_array_size(json_object_get(doc, "old_tokens")), 8);
	json_decref(doc);
	down(&r);
}

static void test_who_may_not(void **state)
{
	(void)state;
	struct running r = up();
	put_policy(r.w, "bob", "{'Effect':'Allow','Principal':{'User':['bob']},'Action':['*'],'Resource':['*']}");
	json_t *before = record_of(r.w, r.id), *after;
	refused(&r, "bob", 404, "not-found");
	refused(&r, NULL, 401, "unauthenticated");
	struct answer a = call(r.w, "POST", "/v1/sessions/s-nobody/resume", "", "alice", r.body);
	assert_int_equal(a.status, 404);
	answer_free(&a);
	for (size_t i = 0; i < 3; i++) {
		static const char *const bodies[] = { "{}", "{'client_key':'x'}", "{'client_key':'x','more':1}" };
		a = call(r.w, "POST", r.path, "", "alice", bodies[i]);
		assert_int_equal(a.status, 400);
		answer_free(&a);
	}
	atomic_store(&r.w->server.draining, true);
	refused(&r, "alice", 503, "busy");
	atomic_store(&r.w->server.draining, false);
	control_on_closed_blocking(&r.w->server, 7, "web-1", "lost");
	a = resume(&r, "alice");
	assert_int_equal(a.status, 409);
	assert_string_equal(text_at(a.json, "code"), "target-offline");
	assert_string_not_equal(text_at(a.json, "last_seen"), "");
	answer_free(&a);
	hello(r.w, "web-1", 8, "");
	put_policy(r.w, "late",
		   "{'Effect':'Deny','Principal':{'User':['alice']},'Action':['tunnel:ResumeSession'],"
		   "'Resource':['session/*']}");
	refused(&r, "alice", 403, "forbidden");
	assert_int_equal(audited(r.w, "denied", "action", "tunnel:ResumeSession"), 1);
	after = record_of(r.w, r.id);
	assert_true(json_equal(before, after)); /* nothing of this changed anything */
	assert_int_equal(fake_relay_generation(r.id), 0);
	assert_int_equal(audited(r.w, "session.resume", NULL, NULL), 0);
	json_decref(before);
	json_decref(after);
	down(&r);
}

static void test_the_caller_of_now_is_judged_too(void **state)
{
	(void)state;
	struct running r = up();
	put_policy(
		r.w, "left",
		"{'Effect':'Deny','Principal':{'Group':['left']},'Action':['tunnel:ResumeSession'],'Resource':['*']}");
	refused(&r, "alice left", 403, "forbidden");
	struct answer a = resume(&r, "alice");
	assert_int_equal(a.status, 200);
	answer_free(&a);
	down(&r);
}

static void test_an_ssh_or_ended_session_is_not_resumed(void **state)
{
	(void)state;
	struct err e;
	struct running r = up();
	char body[2048];
	snprintf(body, sizeof body,
		 "{'target':'web-1','kind':'ssh','login':'deploy','client_key':'%s','ssh_public_key':'%s'}",
		 r.w->client_key, r.w->ssh_key);
	struct answer a = call(r.w, "POST", "/v1/sessions", "", "alice", body), b;
	assert_int_equal(a.status, 201);
	snprintf(body, sizeof body, "/v1/sessions/%s/resume", text_at(a.json, "session.id"));
	b = call(r.w, "POST", body, "", "alice", r.body);
	assert_int_equal(b.status, 409);
	assert_string_equal(text_at(b.json, "code"), "conflict");
	assert_non_null(strstr(text_at(b.json, "detail"), "ends with its client"));
	answer_free(&a);
	answer_free(&b);
	assert_int_equal(sessions_end_blocking(&r.w->server, r.id, 4003, "enough", "bob", &e), 0);
	a = resume(&r, "alice");
	assert_int_equal(a.status, 410);
	assert_string_equal(text_at(a.json, "end.text"), "enough");
	answer_free(&a);
	down(&r);
}

static struct running *racing;
static int race_status;

static void race(void *arg)
{
	(void)arg;
	struct answer a = resume(racing, "alice");
	race_status = a.status;
	answer_free(&a);
}

static void test_of_two_at_once_one_has_it_wholly(void **state)
{
	(void)state;
	struct attach_decision d;
	struct running r = up();
	char token[64], target_token[64];
	racing = &r;
	fake_store_then("sessions", race, NULL); /* right after the first one's record is written */
	resumed(&r, 7, 2, token, target_token);
	assert_int_equal(race_status, 409);
	assert_int_equal(attach(r.w, r.id, token, r.other, &d), 0);
	assert_int_equal(attach(r.w, r.id, target_token, r.w->link, &d), 0);
	assert_int_equal(audited(r.w, "session.resume", NULL, NULL), 1);
	race(NULL); /* and afterwards it is free again */
	assert_int_equal(race_status, 200);
	down(&r);
}

static void say_bye(void *arg)
{
	struct running *r = arg;
	sessions_on_client_bye_blocking(&r->w->server, r->id, 1);
}

static void say_bye_2(void *arg)
{
	struct running *r = arg;
	sessions_on_client_bye_blocking(&r->w->server, r->id, 2);
}

static void test_what_comes_late_from_the_old_client_ends_nothing(void **state)
{
	(void)state;
	struct running r = up();
	char token[64], target_token[64], text[256], path[96];
	fake_store_then("sessions", say_bye, &r);
	resumed(&r, 7, 2, token, target_token);
	say_bye(&r);
	snprintf(path, sizeof path, "/v1/sessions/%s", r.id);
	struct answer a = call_with_token(r.w, "DELETE", path, r.token, r.w->client);
	assert_int_equal(a.status, 410);
	assert_int_equal(json_integer_value(json_object_get(json_object_get(a.json, "end"), "code")), 4001);
	answer_free(&a);
	static const char *const late[] = {
		"{'type':'session-closed','seq':1,'session':'%s','code':0,'text':''}",
		"{'type':'session-closed','seq':2,'session':'%s','generation':1,'code':0,'text':''}",
		"{'type':'refused','session':'%s','generation':1,'code':1,'text':'no'}",
		"{'type':'refused','session':'%s','code':1,'text':'no'}",
	};
	for (size_t i = 0; i < sizeof late / sizeof *late; i++) {
		const char *hole = strstr(late[i], "%s");
		snprintf(text, sizeof text, "%.*s%s%s", (int)(hole - late[i]), late[i], r.id, hole + 2);
		say(r.w, "web-1", 7, text);
	}
	assert_int_equal(fake_ws_count(7, "ack"), 2);
	assert_int_equal(fake_ws_closed(7), 0);
	snprintf(text, sizeof text,
		 "{'type':'stream-closed','seq':3,'session':'%s','generation':2,'stream':1,'bytes_in':1,"
		 "'bytes_out':2,'duration_ms':3,'reason':''}",
		 r.id);
	say(r.w, "web-1", 7, text);
	json_t *closed = audit_last(r.w, "stream.close");
	assert_int_equal(json_integer_value(json_object_get(closed, "generation")), 2);
	json_decref(closed);
	assert_int_equal(audited(r.w, "session.end", NULL, NULL), 0);
	assert_int_equal(fake_relay_ended(r.id), 0);
	a = call_with_token(r.w, "DELETE", path, token, r.other); /* the new one may */
	assert_int_equal(a.status, 204);
	answer_free(&a);
	assert_int_equal(audited(r.w, "session.end", "session", r.id), 1);
	down(&r);
}

static void test_an_end_by_the_old_client_counts_when_the_resumption_fails(void **state)
{
	(void)state;
	struct running r = up();
	fake_store_fail_after(-1, 0);
	refused(&r, "alice", 503, "busy"); /* generation 2, owed to the audit log */
	fake_store_fail_after(1, -1);
	fake_store_then("sessions", say_bye_2, &r); /* the debt is paid: the next one is at work, and fails */
	refused(&r, "alice", 503, "busy");
	fake_store_heal();
	assert_int_equal(audited(r.w, "session.resume", NULL, NULL), 1);
	sweep_in(r.w, 0);
	assert_int_equal(audited(r.w, "session.end", "session", r.id), 1);
	assert_int_equal(fake_relay_ended(r.id), 4000);
	down(&r);
}

static void test_a_lost_offer_is_repeated(void **state)
{
	(void)state;
	struct attach_decision d;
	struct running r = up();
	char token[64], target_token[64], again[64], running[128], text[160];
	snprintf(text, sizeof text, "{'type':'accepted','session':'%s'}", r.id);
	say(r.w, "web-1", 7, text);
	resumed(&r, 7, 2, token, target_token);
	say(r.w, "web-1", 7, text); /* of generation 1: no answer to this offer */
	snprintf(running, sizeof running, "'%s','generation':1", r.id);
	hello(r.w, "web-1", 8, running);
	keep_offer(again, 8, 2);
	assert_string_equal(again, target_token);
	world_restart(r.w); /* its token is forgotten */
	hello(r.w, "web-1", 9, running);
	keep_offer(again, 9, 2);
	assert_string_not_equal(again, target_token);
	assert_int_equal(attach(r.w, r.id, again, r.w->link, &d), 0);
	assert_int_equal(attach(r.w, r.id, target_token, r.w->link, &d), 0); /* of a worker that was being started */
	assert_int_equal(attach(r.w, r.id, token, r.other, &d), 0);
	snprintf(text, sizeof text, "{'type':'accepted','session':'%s','generation':2}", r.id);
	say(r.w, "web-1", 9, text);
	sweep_in(r.w, 11000);
	assert_int_equal(audited(r.w, "session.end", NULL, NULL), 0);
	snprintf(running, sizeof running, "'%s','generation':2", r.id);
	hello(r.w, "web-1", 10, running);
	assert_int_equal(fake_ws_count(10, "offer"), 0);
	assert_int_equal(fake_ws_count(10, "grant"), 1);
	down(&r);
}

static void test_a_repeated_start_does_not_take_the_new_clients_token(void **state)
{
	(void)state;
	struct attach_decision d;
	struct running r = up();
	char body[512], token[64];
	snprintf(body, sizeof body,
		 "{'target':'web-1','kind':'tcp','allow':[" TCP "],'client_key':'%s','idempotency_key':'k'}",
		 r.w->client_key);
	struct answer a = call(r.w, "POST", "/v1/sessions", "", "alice", body);
	assert_int_equal(a.status, 201);
	snprintf(r.id, sizeof r.id, "%s", text_at(a.json, "session.id"));
	snprintf(r.path, sizeof r.path, "/v1/sessions/%s/resume", r.id);
	answer_free(&a);
	resumed(&r, 7, 2, token, r.target_token);
	a = call(r.w, "POST", "/v1/sessions", "", "alice", body);
	assert_int_equal(a.status, 409);
	answer_free(&a);
	assert_int_equal(attach(r.w, r.id, token, r.other, &d), 0);
	down(&r);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_new_client_has_it_and_the_old_one_has_not),
		cmocka_unit_test(test_many_times),
		cmocka_unit_test(test_who_may_not),
		cmocka_unit_test(test_the_caller_of_now_is_judged_too),
		cmocka_unit_test(test_an_ssh_or_ended_session_is_not_resumed),
		cmocka_unit_test(test_of_two_at_once_one_has_it_wholly),
		cmocka_unit_test(test_what_comes_late_from_the_old_client_ends_nothing),
		cmocka_unit_test(test_an_end_by_the_old_client_counts_when_the_resumption_fails),
		cmocka_unit_test(test_a_lost_offer_is_repeated),
		cmocka_unit_test(test_a_repeated_start_does_not_take_the_new_clients_token),
	};
	return RUN_CASES(tests);
}
