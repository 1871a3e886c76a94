/* A session's life: start, offer, attach, the many ways to end, and what a restart leaves. */
#include "world.h"

#include "base/clock.h"
#include "base/limits.h"
#include "ident/key.h"
#include "server/session_record.h"
#include "server/store.h"

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>

#define TCP "'127.0.0.1:5432'"

/* web-1 connected as connection 7, one tcp session of alice's. */
struct running {
	struct world *w;
	struct answer started;
	char id[65], token[64], target_token[64];
};

static struct running up_with_session(void)
{
	struct running r = { .w = world_up() };
	enrol(r.w, "web-1", "'role':'web'");
	hello(r.w, "web-1", 7, "");
	r.started = start_tcp(r.w, "web-1", TCP ",'db.internal:5432'");
	snprintf(r.id, sizeof r.id, "%s", text_at(r.started.json, "session.id"));
	snprintf(r.token, sizeof r.token, "%s", text_at(r.started.json, "token"));
	json_t *offer = fake_ws_last(7, "offer");
	snprintf(r.target_token, sizeof r.target_token, "%s", text_at(offer, "token"));
	json_decref(offer);
	return r;
}

static void down(struct running *r)
{
	answer_free(&r->started);
	world_down(r->w);
}

static void assert_ended(struct running *r, unsigned code)
{
	json_t *doc = record_of(r->w, r->id);
	assert_string_equal(text_at(doc, "state"), "ended");
	assert_int_equal(json_integer_value(json_object_get(json_object_get(doc, "end"), "code")), code);
	assert_null(json_object_get(doc, "unfinished"));
	json_decref(doc);
	assert_int_equal(audited(r->w, "session.end", "session", r->id), 1);
	assert_int_equal(sessions_count_anythread(r->w->server.sessions, NULL), 0);
}

static void assert_ended_by(struct running *r, unsigned code, const char *by)
{
	assert_ended(r, code);
	json_t *end = audit_last(r->w, "session.end");
	assert_string_equal(text_at(end, "by"), by);
	json_decref(end);
}

static void test_start_is_recorded_audited_and_offered(void **state)
{
	(void)state;
	struct running r = up_with_session();
	json_t *offer = fake_ws_last(7, "offer"), *doc = record_of(r.w, r.id);
	assert_string_equal(text_at(r.started.json, "session.state"), "starting");
	assert_string_equal(text_at(r.started.json, "relay_url"), "https://" HOST);
	assert_int_equal(strlen(r.token), 43);
	assert_string_equal(text_at(offer, "session"), r.id);
	assert_string_equal(text_at(offer, "principal"), "alice");
	assert_int_equal(json_array_size(json_object_get(json_object_get(offer, "grant"), "tcp")), 2);
	assert_string_not_equal(r.target_token, r.token);
	char *text = json_dumps(doc, 0);
	assert_null(strstr(text, r.token)); /* only hashes are kept */
	assert_null(strstr(text, r.target_token));
	free(text);
	assert_int_equal(audited(r.w, "session.start", "session", r.id), 1);
	assert_null(json_object_get(doc, "unfinished"));
	json_decref(offer);
	json_decref(doc);
	down(&r);
}

/* The node's name is by default that of its host, which may get another one. */
static void test_a_renamed_node_keeps_its_sessions(void **state)
{
	(void)state;
	struct attach_decision d;
	char name[70];
	struct running r = up_with_session();
	r.w->server.node = "node-2";
	world_restart(r.w);
	assert_int_equal(sessions_count_anythread(r.w->server.sessions, NULL), 1);
	snprintf(name, sizeof name, "'%s'", r.id);
	hello(r.w, "web-1", 8, name);
	assert_int_equal(fake_ws_count(8, "grant"), 1);
	assert_int_equal(attach(r.w, r.id, r.token, r.w->client, &d), 0);
	assert_int_equal(attach(r.w, r.id, r.target_token, r.w->link, &d), 0);
	json_t *doc = record_of(r.w, r.id);
	assert_string_equal(text_at(doc, "node"), "node-2");
	json_decref(doc);
	/* Under another name and another URL it is another node. */
	r.w->server.node = "node-3";
	r.w->server.public_url = "https://node-3:8443";
	world_restart(r.w);
	assert_int_equal(sessions_count_anythread(r.w->server.sessions, NULL), 0);
	assert_int_equal(attach(r.w, r.id, r.token, r.w->client, &d), 4009);
	assert_string_equal(d.relay_url, "https://" HOST);
	down(&r);
}

static void test_both_ends_attach_with_their_own_keys(void **state)
{
	(void)state;
	struct attach_decision d;
	struct running r = up_with_session();
	assert_int_equal(attach(r.w, r.id, r.token, r.w->client, &d), 0);
	assert_int_equal(d.role, LEG_CLIENT);
	assert_int_equal(attach(r.w, r.id, r.target_token, r.w->link, &d), 0);
	assert_int_equal(d.role, LEG_TARGET);
	sessions_on_attached_blocking(&r.w->server, r.id, LEG_CLIENT, 1, "192.0.2.7");
	sessions_on_paired_blocking(&r.w->server, r.id, 1, 1);
	json_t *doc = record_of(r.w, r.id);
	assert_string_equal(text_at(doc, "state"), "active");
	json_decref(doc);
	assert_int_equal(audited(r.w, "session.attach", "role", "client"), 1);
	down(&r);
}

/* As many letters of two bytes as make the reason longer than its place, at an odd offset and at an even one. */
static void test_an_end_whose_reason_is_cut_is_an_end(void **state)
{
	(void)state;
	for (int shift = 0; shift < 2; shift++) {
		struct attach_decision d;
		struct running r = up_with_session();
		char by[257] = "", text[400], name[65];
		for (size_t i = 0; i + 2 < sizeof by; i += 2)
			memcpy(by + i, "\xc3\xbc", 3);
		snprintf(text, sizeof text, "%sended by %s", shift ? "-" : "", by);
		struct err e;
		assert_int_equal(sessions_end_blocking(&r.w->server, r.id, 4003, text, by, &e), 0);
		assert_ended(&r, 4003);
		assert_int_equal(fake_ws_count(7, "terminate"), 1);
		json_t *end = audit_last(r.w, "session.end");
		assert_non_null(strstr(text_at(end, "reason"), "ended by \xc3\xbc"));
		json_decref(end);
		assert_int_equal(attach(r.w, r.id, r.token, r.w->client, &d), 4003);
		snprintf(name, sizeof name, "'%.60s'", r.id);
		hello(r.w, "web-1", 8, name);
		json_t *terminate = fake_ws_last(8, "terminate");
		assert_int_equal(json_integer_value(json_object_get(terminate, "code")), 4003);
		json_decref(terminate);
		down(&r);
	}
}

/* A record that says "ended" and not how, as an earlier version could leave it. */
static void test_an_end_without_a_code_refuses(void **state)
{
	(void)state;
	struct attach_decision d;
	struct running r = up_with_session();
	json_t *doc = record_of(r.w, r.id);
	struct err e;
	json_object_set_new(doc, "state", json_string("ended"));
	json_object_set_new(doc, "ended_ms", json_integer(clock_wall_ms()));
	assert_int_equal(record_put_blocking(&r.w->server, doc, TUNNEL_VERSION_ANY, NULL, &e), 0);
	json_decref(doc);
	world_restart(r.w);
	assert_int_equal(attach(r.w, r.id, r.token, r.w->client, &d), 4003);
	char name[70];
	snprintf(name, sizeof name, "'%s'", r.id);
	hello(r.w, "web-1", 8, name);
	json_t *terminate = fake_ws_last(8, "terminate");
	assert_int_equal(json_integer_value(json_object_get(terminate, "code")), 4003);
	json_decref(terminate);
	down(&r);
}

static void test_attach_refuses_a_stolen_token(void **state)
{
	(void)state;
	struct attach_decision d;
	struct running r = up_with_session();
	assert_int_equal(attach(r.w, r.id, r.token, r.w->link, &d), 4401);
	assert_non_null(strstr(d.text, "another key"));
	assert_int_equal(attach(r.w, r.id, r.target_token, r.w->client, &d), 4401);
	assert_int_equal(attach(r.w, r.id, "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", r.w->client, &d), 4401);
	assert_int_equal(attach(r.w, "s-nobody", r.token, r.w->client, &d), 4404);
	down(&r);
}

static void test_attach_refuses_a_proof_that_is_replayed_or_for_elsewhere(void **state)
{
	(void)state;
	struct attach_decision d;
	struct running r = up_with_session();
	char url[256], proof[PROOF_TEXT_MAX];
	int64_t now = clock_wall_ms();
	snprintf(url, sizeof url, "https://" HOST "/v1/sessions/%s/leg", r.id);
	make_proof(r.w->client, "GET", url, r.token, now, proof);
	assert_int_equal(attach_with(r.w, r.id, r.token, proof, &d), 0);
	assert_int_equal(attach_with(r.w, r.id, r.token, proof, &d), 4401);
	assert_non_null(strstr(d.text, "used before"));
	make_proof(r.w->client, "POST", url, r.token, now, proof);
	assert_int_equal(attach_with(r.w, r.id, r.token, proof, &d), 4401);
	make_proof(r.w->client, "GET", url, r.target_token, now, proof); /* ath of another token */
	assert_int_equal(attach_with(r.w, r.id, r.token, proof, &d), 4401);
	static const char *const elsewhere[] = {
		"https://evil:8443/v1/sessions/%s/leg",
		"https://" HOST "/v1/sessions/%s/attach",
		"https://" HOST "/v1/sessions/%s/leg?x=1",
		"https://node-1/v1/sessions/%s/leg",
		"/v1/sessions/%s/leg",
	};
	for (size_t i = 0; i < sizeof elsewhere / sizeof *elsewhere; i++) {
		const char *hole = strstr(elsewhere[i], "%s");
		snprintf(url, sizeof url, "%.*s%s%s", (int)(hole - elsewhere[i]), elsewhere[i], r.id, hole + 2);
		make_proof(r.w->client, "GET", url, r.token, now, proof);
		assert_int_equal(attach_with(r.w, r.id, r.token, proof, &d), 4401);
		assert_non_null(strstr(d.text, "htu"));
	}
	snprintf(url, sizeof url, "wss://NODE-1:8443/v1/sessions/%s/leg", r.id);
	make_proof(r.w->client, "GET", url, r.token, now, proof);
	assert_int_equal(attach_with(r.w, r.id, r.token, proof, &d), 0);
	down(&r);
}

/* One end that asks for ever takes the place of none but itself. */
static void test_attaches_of_one_end_are_bounded(void **state)
{
	(void)state;
	struct attach_decision d;
	struct running r = up_with_session();
	unsigned code = 0;
	for (size_t i = 0; i <= LIMIT_REPLAY_SHARE; i++)
		code = attach(r.w, r.id, r.token, r.w->client, &d);
	assert_int_equal(code, 4503);
	assert_non_null(strstr(d.text, "too many attaches"));
	assert_int_equal(attach(r.w, r.id, r.target_token, r.w->link, &d), 0);
	struct answer other = start_tcp(r.w, "web-1", "'127.0.0.1:22'");
	const char *id = text_at(other.json, "session.id"), *token = text_at(other.json, "token");
	assert_int_equal(attach(r.w, id, token, r.w->client, &d), 0);
	answer_free(&other);
	down(&r);
}

/* Not as one that is wrong: its maker may have slept. */
static void test_a_proof_of_another_time_is_told_the_time(void **state)
{
	(void)state;
	static const int64_t off_ms[] = { -63000, 63000, -3600000 };
	struct attach_decision d;
	struct running r = up_with_session();
	char url[256], path[128], proof[PROOF_TEXT_MAX];
	snprintf(url, sizeof url, "https://" HOST "/v1/sessions/%s/leg", r.id);
	snprintf(path, sizeof path, "/v1/sessions/%s/attach", r.id);
	for (size_t i = 0; i < sizeof off_ms / sizeof *off_ms; i++) {
		int64_t before = clock_wall_ms();
		make_proof(r.w->client, "GET", url, r.token, before + off_ms[i], proof);
		assert_int_equal(attach_with(r.w, r.id, r.token, proof, &d), 4402);
		assert_non_null(strstr(d.text, "is the clock right?"));
		struct answer a = call_with_token_at(r.w, "POST", path, r.token, r.w->client, before + off_ms[i]);
		assert_int_equal(a.status, 401);
		assert_string_equal(text_at(a.json, "code"), "clock");
		assert_in_range(json_integer_value(json_object_get(a.json, "now_ms")), before, clock_wall_ms());
		answer_free(&a);
	}
	struct answer a =
		call_with_token(r.w, "POST", path, "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", r.w->client);
	assert_string_equal(text_at(a.json, "code"), "unauthenticated");
	assert_null(json_object_get(a.json, "now_ms"));
	answer_free(&a);
	down(&r);
}

static void test_attach_fails_closed(void **state)
{
	(void)state;
	struct attach_decision d;
	struct running r = up_with_session();
	fake_store_away();
	assert_int_equal(attach(r.w, r.id, r.token, r.w->client, &d), 4503);
	fake_store_heal();
	atomic_store(&r.w->server.draining, true);
	assert_int_equal(attach(r.w, r.id, r.token, r.w->client, &d), 4002);
	atomic_store(&r.w->server.draining, false);
	put_policy(r.w, "night",
		   "{'Effect':'Deny','Principal':{'User':['alice']},'Action':['tunnel:ResumeSession'],"
		   "'Resource':['session/*']}");
	assert_int_equal(attach(r.w, r.id, r.token, r.w->client, &d), 4007);
	assert_int_equal(attach(r.w, r.id, r.target_token, r.w->link, &d), 0); /* the target's end is no caller */
	down(&r);
}

static void test_client_bye_ends_it_once(void **state)
{
	(void)state;
	struct attach_decision d;
	struct err e;
	struct running r = up_with_session();
	fake_relay_set(r.id, &(struct relay_info){ .client = true, .bytes_up = 11, .bytes_down = 22 });
	sessions_on_client_bye_blocking(&r.w->server, r.id, 1);
	sessions_on_client_bye_blocking(&r.w->server, r.id, 1);
	assert_int_equal(sessions_end_blocking(&r.w->server, r.id, 4003, "later", "bob", &e), ERR_CONFLICT);
	assert_ended(&r, 4000);
	json_t *end = audit_last(r.w, "session.end"), *terminate = fake_ws_last(7, "terminate");
	assert_int_equal(json_integer_value(json_object_get(end, "bytes_down")), 22);
	assert_string_equal(text_at(end, "principal"), "alice");
	assert_int_equal(json_integer_value(json_object_get(terminate, "code")), 4000);
	assert_int_equal(fake_relay_ended(r.id), 4000);
	assert_int_equal(attach(r.w, r.id, r.token, r.w->client, &d), 4000);
	json_decref(end);
	json_decref(terminate);
	down(&r);
}

static void test_an_end_survives_a_store_that_is_away(void **state)
{
	(void)state;
	struct attach_decision d;
	struct err e;
	struct running r = up_with_session();
	fake_store_away();
	assert_int_equal(sessions_end_blocking(&r.w->server, r.id, 4003, "enough", "bob", &e), ERR_UNAVAILABLE);
	assert_int_equal(fake_relay_ended(r.id), 4003); /* the legs are cut all the same */
	assert_int_not_equal(sessions_end_blocking(&r.w->server, r.id, 4005, "too late", "server", &e), 0);
	sweep_in(r.w, 0);
	fake_store_heal();
	assert_int_equal(attach(r.w, r.id, r.token, r.w->client, &d), 4003);
	sweep_in(r.w, 0);
	assert_ended_by(&r, 4003, "bob");
	down(&r);
}

static void test_an_end_owed_to_the_audit_log_is_paid_later(void **state)
{
	(void)state;
	struct err e;
	struct running r = up_with_session();
	fake_store_fail_after(-1, 0);
	assert_int_equal(sessions_end_blocking(&r.w->server, r.id, 4003, "enough", "bob", &e), 0);
	fake_store_heal();
	assert_int_equal(audited(r.w, "session.end", NULL, NULL), 0);
	sweep_in(r.w, 0);
	assert_ended(&r, 4003);
	down(&r);
}

static void test_an_end_owed_at_a_crash_is_paid_at_the_next_start(void **state)
{
	(void)state;
	struct err e;
	struct running r = up_with_session();
	fake_store_fail_after(-1, 0);
	sessions_end_blocking(&r.w->server, r.id, 4003, "enough", "bob", &e);
	fake_store_heal();
	world_restart(r.w);
	assert_ended(&r, 4003);
	down(&r);
}

static void test_a_restart_keeps_live_sessions(void **state)
{
	(void)state;
	struct attach_decision d;
	struct running r = up_with_session();
	world_restart(r.w);
	assert_int_equal(sessions_count_anythread(r.w->server.sessions, "web-1"), 1);
	assert_int_equal(attach(r.w, r.id, r.token, r.w->client, &d), 0);
	sweep_in(r.w, r.w->settings.detach_grace_ms - 5000); /* the grace counts from the start */
	json_t *doc = record_of(r.w, r.id);
	assert_string_equal(text_at(doc, "state"), "starting");
	json_decref(doc);
	sweep_in(r.w, r.w->settings.detach_grace_ms + 1000);
	assert_ended(&r, 4006);
	down(&r);
}

static void test_sweep_ends_expired_detached_and_idle(void **state)
{
	(void)state;
	struct running r = up_with_session();
	fake_relay_set(r.id, &(struct relay_info){ .client = true, .target = true, .bytes_up = 5000 });
	sweep_in(r.w, 1000);
	sweep_in(r.w, r.w->settings.session_idle_ms - 1000);
	assert_int_equal(audited(r.w, "session.end", NULL, NULL), 0);
	/* Pings alone are no activity: 1176 bytes a minute. */
	fake_relay_set(r.id, &(struct relay_info){ .client = true, .target = true, .bytes_up = 6400 });
	sweep_in(r.w, r.w->settings.session_idle_ms + 2000);
	assert_ended(&r, 4005);
	down(&r);

	r = up_with_session();
	sweep_in(r.w, r.w->settings.session_max_ms - 5000 - r.w->settings.detach_grace_ms * 4 + 1);
	fake_relay_set(r.id, &(struct relay_info){ .client = true, .target = true });
	sweep_in(r.w, r.w->settings.session_max_ms + 1000);
	assert_ended(&r, 4004);
	down(&r);

	r = up_with_session();
	fake_relay_set(r.id, &(struct relay_info){ .client = true, .detached_mono_ms = clock_mono_ms() });
	sweep_in(r.w, r.w->settings.detach_grace_ms + 1000);
	assert_ended(&r, 4006);
	down(&r);
}

#define NEAR(at, then) ((at) > (then)-10000 && (at) < (then) + 10000)

static void test_foreseen_ends_are_told_to_the_client(void **state)
{
	(void)state;
	struct running r = up_with_session();
	const struct settings *set = r.w->server.settings;
	int64_t start_ms = clock_wall_ms();
	struct relay_info both = { .client = true, .target = true };
	fake_relay_set(r.id, &both);
	sweep_in(r.w, set->session_idle_ms - set->session_warn_ms - 10000);
	assert_int_equal(fake_relay_notice(r.id, 4005), 0);
	sweep_in(r.w, set->session_idle_ms - set->session_warn_ms + 1000);
	assert_true(NEAR(fake_relay_notice(r.id, 4005), start_ms + set->session_idle_ms));
	both.bytes_up = 9000; /* it is used again: the end moves */
	fake_relay_set(r.id, &both);
	sweep_in(r.w, set->session_idle_ms);
	sweep_in(r.w, 2 * set->session_idle_ms - set->session_warn_ms + 1000);
	assert_true(NEAR(fake_relay_notice(r.id, 4005), start_ms + 2 * set->session_idle_ms));
	assert_int_equal(fake_relay_notice(r.id, 4006), 0);
	assert_true(NEAR(fake_relay_notice(r.id, 4004), start_ms + set->session_max_ms));
	assert_int_equal(audited(r.w, "session.end", NULL, NULL), 0);
	down(&r);

	r = up_with_session();
	set = r.w->server.settings;
	struct relay_info alone = { .client = true, .detached_mono_ms = clock_mono_ms() };
	fake_relay_set(r.id, &alone);
	sweep_in(r.w, set->detach_grace_ms - set->session_warn_ms - 10000);
	assert_int_equal(fake_relay_notice(r.id, 4006), 0);
	sweep_in(r.w, set->detach_grace_ms - set->session_warn_ms + 1000);
	assert_true(NEAR(fake_relay_notice(r.id, 4006), clock_wall_ms() + set->detach_grace_ms));
	down(&r);
}

static void test_notices_of_short_times_come_at_their_half(void **state)
{
	(void)state;
	struct running r = up_with_session();
	r.w->settings.session_idle_ms = 60000;
	fake_relay_set(r.id, &(struct relay_info){ .client = true, .target = true });
	sweep_in(r.w, 25000);
	assert_int_equal(fake_relay_notice(r.id, 4005), 0);
	sweep_in(r.w, 31000);
	assert_true(fake_relay_notice(r.id, 4005) != 0);
	r.w->settings.session_max_ms = 60000;
	struct answer a = start_tcp(r.w, "web-1", "'127.0.0.1:5432'");
	const char *brief = text_at(a.json, "session.id");
	fake_relay_set(brief, &(struct relay_info){ .client = true, .target = true });
	sweep_in(r.w, 25000);
	assert_int_equal(fake_relay_notice(brief, 4004), 0);
	sweep_in(r.w, 31000);
	assert_true(fake_relay_notice(brief, 4004) != 0);
	answer_free(&a);
	down(&r);
	r = up_with_session();
	r.w->settings.session_warn_ms = 0;
	fake_relay_set(r.id, &(struct relay_info){ .client = true, .target = true });
	sweep_in(r.w, r.w->settings.session_idle_ms - 1000);
	assert_int_equal(fake_relay_notice(r.id, 4005), 0);
	down(&r);
	r = up_with_session();
	fake_relay_set(r.id, &(struct relay_info){ .target = true, .detached_mono_ms = 1 }); /* nobody to tell */
	sweep_in(r.w, 1000);
	assert_int_equal(fake_relay_notice(r.id, 4006), 0);
	down(&r);
}

static void test_a_policy_change_shrinks_the_grant_and_then_ends_the_session(void **state)
{
	(void)state;
	struct running r = up_with_session();
	struct answer a = call(r.w, "PUT", "/v1/policies/base", "", "alice",
			       "{'Version':'2026-01-01','Statement':[{'Effect':'Allow','Principal':{'User':['alice']},"
			       "'Action':['*'],'Resource':['*']},{'Effect':'Deny','Principal':'*',"
			       "'Action':['tunnel:OpenTcp'],'Resource':['*'],"
			       "'Condition':{'StringEquals':{'tunnel:Host':['db.internal']}}}]}");
	assert_int_equal(a.status, 200);
	answer_free(&a);
	json_t *grant = fake_ws_last(7, "grant");
	json_t *tcp = json_object_get(json_object_get(grant, "grant"), "tcp");
	assert_int_equal(json_array_size(tcp), 1);
	assert_string_equal(json_string_value(json_array_get(tcp, 0)), "127.0.0.1:5432");
	json_decref(grant);
	assert_int_equal(audited(r.w, "session.end", NULL, NULL), 0);
	a = call(r.w, "PUT", "/v1/policies/more", "", "alice",
		 "{'Version':'2026-01-01','Statement':[{'Effect':'Deny','Principal':'*','Action':['tunnel:OpenTcp'],"
		 "'Resource':['*']}]}");
	assert_int_equal(a.status, 200);
	answer_free(&a);
	assert_ended(&r, 4007);
	assert_int_equal(fake_relay_ended(r.id), 4007);
	down(&r);
}

static void test_an_unanswered_judgement_is_repeated(void **state)
{
	(void)state;
	struct running r = up_with_session();
	put_policy(r.w, "base", "{'Effect':'Deny','Principal':'*','Action':['*'],'Resource':['*']}");
	fake_store_away();
	sessions_rejudge_blocking(&r.w->server);
	fake_store_heal();
	assert_int_equal(audited(r.w, "session.end", NULL, NULL), 0);
	sweep_in(r.w, 0);
	assert_ended_by(&r, 4007, "policy");
	down(&r);
}

static void test_a_deleted_target_takes_its_sessions_along(void **state)
{
	(void)state;
	struct running r = up_with_session();
	struct answer a = call(r.w, "DELETE", "/v1/targets/web-1", "", "alice", NULL);
	assert_int_equal(a.status, 204);
	answer_free(&a);
	assert_ended(&r, 4011);
	assert_int_equal(fake_ws_closed(7), 4403);
	down(&r);
}

static void forbid_tcp(void *arg)
{
	struct world *w = arg;
	put_policy(w, "late",
		   "{'Sid':'late','Effect':'Deny','Principal':'*','Action':['tunnel:OpenTcp'],'Resource':['*']}");
	sessions_rejudge_blocking(&w->server);
}

static void shrink_tcp(void *arg)
{
	struct world *w = arg;
	put_policy(w, "late",
		   "{'Sid':'late','Effect':'Deny','Principal':'*','Action':['tunnel:OpenTcp'],'Resource':['*'],"
		   "'Condition':{'StringEquals':{'tunnel:Host':'db.internal'}}}");
	sessions_rejudge_blocking(&w->server);
}

struct rival {
	struct world *w;
	pthread_t thread;
	atomic_bool done;
};

static void *judge_by_new_policies(void *arg)
{
	struct rival *rival = arg;
	sessions_rejudge_blocking(&rival->w->server);
	atomic_store(&rival->done, true);
	return NULL;
}

static void forbid(struct world *w, const char *host)
{
	char text[256];
	snprintf(text, sizeof text,
		 "{'Sid':'late','Effect':'Deny','Principal':'*','Action':['tunnel:OpenTcp'],'Resource':['*'],"
		 "'Condition':{'StringEquals':{'tunnel:Host':'%s'}}}",
		 host);
	put_policy(w, "late", text);
}

/* In the middle of a judgement by the old ones. Gives the new one time to overtake, as far as it can. */
static void change_policies(void *arg)
{
	struct rival *rival = arg;
	forbid(rival->w, "127.0.0.1");
	assert_int_equal(pthread_create(&rival->thread, NULL, judge_by_new_policies, rival), 0);
	for (int i = 0; i < 300 && !atomic_load(&rival->done); i++)
		poll(NULL, 0, 1);
}

static void test_the_last_word_is_that_of_the_newest_policies(void **state)
{
	(void)state;
	struct running r = up_with_session();
	struct rival rival = { .w = r.w };
	forbid(r.w, "127.0.0.1");
	sessions_rejudge_blocking(&r.w->server);
	forbid(r.w, "nowhere"); /* both again, but for a moment */
	fake_auth_then(change_policies, &rival);
	sessions_rejudge_blocking(&r.w->server);
	pthread_join(rival.thread, NULL);
	json_t *doc = record_of(r.w, r.id), *grant = fake_ws_last(7, "grant");
	assert_int_equal(json_array_size(json_object_get(json_object_get(doc, "grant"), "tcp")), 1);
	assert_int_equal(json_array_size(json_object_get(json_object_get(grant, "grant"), "tcp")), 1);
	json_decref(doc);
	json_decref(grant);
	down(&r);
}

static void lose_target(void *arg)
{
	struct world *w = arg;
	struct err e;
	assert_int_equal(store_del_blocking(w->server.store, "targets", "web-1", TUNNEL_VERSION_ANY, &e), 0);
}

/* At another node, which has not seen the session's record. */
static void test_a_target_that_goes_during_the_start_counts(void **state)
{
	(void)state;
	char body[512];
	struct world *w = world_up();
	enrol(w, "web-1", "");
	hello(w, "web-1", 7, "");
	snprintf(body, sizeof body, "{'target':'web-1','kind':'tcp','allow':[" TCP "],'client_key':'%s'}",
		 w->client_key);
	fake_store_then("sessions", lose_target, w);
	struct answer a = call(w, "POST", "/v1/sessions", "", "alice", body);
	assert_int_equal(a.status, 404);
	answer_free(&a);
	json_t *end = audit_last(w, "session.end");
	assert_int_equal(json_integer_value(json_object_get(end, "code")), 4011);
	assert_int_equal(fake_ws_count(7, "terminate"), 1);
	json_decref(end);
	world_down(w);
}

static void test_a_policy_that_changes_during_the_start_counts(void **state)
{
	(void)state;
	char body[512];
	struct world *w = world_up();
	enrol(w, "web-1", "");
	hello(w, "web-1", 7, "");
	snprintf(body, sizeof body,
		 "{'target':'web-1','kind':'tcp','allow':[" TCP ",'db.internal:5432'],'client_key':'%s'}",
		 w->client_key);
	fake_store_then("sessions", shrink_tcp, w);
	struct answer a = call(w, "POST", "/v1/sessions", "", "alice", body);
	assert_int_equal(a.status, 201);
	answer_free(&a);
	json_t *grant = fake_ws_last(7, "grant");
	assert_int_equal(json_array_size(json_object_get(json_object_get(grant, "grant"), "tcp")), 1);
	json_decref(grant);
	put_policy(w, "late",
		   "{'Sid':'none','Effect':'Allow','Principal':{'User':['bob']},'Action':['*'],'Resource':['*']}");
	fake_store_then("sessions", forbid_tcp, w);
	a = call(w, "POST", "/v1/sessions", "", "alice", body);
	assert_int_equal(a.status, 403);
	answer_free(&a);
	assert_true(fake_ws_count(7, "terminate") >= 1); /* also behind the offer */
	assert_int_equal(sessions_count_anythread(w->server.sessions, NULL), 0);
	world_down(w);
}

static void test_a_lost_offer_is_made_again(void **state)
{
	(void)state;
	char text[256];
	struct running r = up_with_session();
	control_on_closed_blocking(&r.w->server, 7, "web-1", "lost");
	hello(r.w, "web-1", 8, "");
	json_t *offer = fake_ws_last(8, "offer");
	assert_string_equal(text_at(offer, "session"), r.id);
	assert_string_equal(text_at(offer, "token"), r.target_token);
	json_decref(offer);
	snprintf(text, sizeof text, "{'type':'accepted','session':'%s'}", r.id);
	say(r.w, "web-1", 8, text);
	sweep_in(r.w, 11000);
	assert_int_equal(audited(r.w, "session.end", NULL, NULL), 0);
	hello(r.w, "web-1", 9, ""); /* it ran there and does no more: what it carried is lost */
	assert_int_equal(fake_ws_count(9, "offer"), 0);
	sweep_in(r.w, 11000);
	assert_ended(&r, 4013);
	down(&r);
}

static void test_a_refused_attach_is_in_the_audit_log(void **state)
{
	(void)state;
	struct attach_decision d;
	struct running r = up_with_session();
	put_policy(r.w, "late",
		   "{'Sid':'late','Effect':'Deny','Principal':'*','Action':['tunnel:ResumeSession'],'Resource':['*']}");
	assert_int_equal(attach(r.w, r.id, r.token, r.w->client, &d), 4007);
	assert_int_equal(audited(r.w, "denied", "action", "tunnel:ResumeSession"), 1);
	json_t *denied = audit_last(r.w, "denied");
	assert_string_equal(json_string_value(json_object_get(denied, "policy")), "late");
	assert_string_equal(json_string_value(json_object_get(denied, "statement")), "late");
	json_decref(denied);
	down(&r);
}

static void test_a_leg_of_an_ended_session_does_not_stay(void **state)
{
	(void)state;
	struct running r = up_with_session();
	fake_store_away();
	sessions_on_client_bye_blocking(&r.w->server, r.id, 1); /* owed; the leg below was let in before */
	fake_store_heal();
	fake_relay_reset_ends();
	sessions_on_attached_blocking(&r.w->server, r.id, LEG_TARGET, 1, "192.0.2.9");
	assert_int_equal(fake_relay_ended(r.id), 4000);
	sweep_in(r.w, 0);
	fake_store_away();
	fake_relay_reset_ends();
	sessions_on_attached_blocking(&r.w->server, r.id, LEG_TARGET, 1, "192.0.2.9");
	assert_int_equal(fake_relay_ended(r.id), 4503);
	fake_store_heal();
	down(&r);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_start_is_recorded_audited_and_offered),
		cmocka_unit_test(test_a_renamed_node_keeps_its_sessions),
		cmocka_unit_test(test_both_ends_attach_with_their_own_keys),
		cmocka_unit_test(test_an_end_whose_reason_is_cut_is_an_end),
		cmocka_unit_test(test_an_end_without_a_code_refuses),
		cmocka_unit_test(test_attach_refuses_a_stolen_token),
		cmocka_unit_test(test_attach_refuses_a_proof_that_is_replayed_or_for_elsewhere),
		cmocka_unit_test(test_attaches_of_one_end_are_bounded),
		cmocka_unit_test(test_a_proof_of_another_time_is_told_the_time),
		cmocka_unit_test(test_attach_fails_closed),
		cmocka_unit_test(test_client_bye_ends_it_once),
		cmocka_unit_test(test_an_end_survives_a_store_that_is_away),
		cmocka_unit_test(test_an_end_owed_to_the_audit_log_is_paid_later),
		cmocka_unit_test(test_an_end_owed_at_a_crash_is_paid_at_the_next_start),
		cmocka_unit_test(test_a_restart_keeps_live_sessions),
		cmocka_unit_test(test_sweep_ends_expired_detached_and_idle),
		cmocka_unit_test(test_foreseen_ends_are_told_to_the_client),
		cmocka_unit_test(test_notices_of_short_times_come_at_their_half),
		cmocka_unit_test(test_a_policy_change_shrinks_the_grant_and_then_ends_the_session),
		cmocka_unit_test(test_an_unanswered_judgement_is_repeated),
		cmocka_unit_test(test_a_deleted_target_takes_its_sessions_along),
		cmocka_unit_test(test_the_last_word_is_that_of_the_newest_policies),
		cmocka_unit_test(test_a_policy_that_changes_during_the_start_counts),
		cmocka_unit_test(test_a_target_that_goes_during_the_start_counts),
		cmocka_unit_test(test_a_lost_offer_is_made_again),
		cmocka_unit_test(test_a_refused_attach_is_in_the_audit_log),
		cmocka_unit_test(test_a_leg_of_an_ended_session_does_not_stay),
	};
	return RUN_CASES(tests);
}
