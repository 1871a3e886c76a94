/* Agents: who is let in, hello, reports that are repeated, what is illegal. */
#include "world.h"

#include "base/clock.h"
#include "ident/key.h"
#include "ident/sshcert.h"
#include "server/audit.h"
#include "server/sshca.h"
#include "server/store.h"
#include "server/targets.h"

#define OPENED                                                                                                         \
	"{'type':'stream-opened','seq':%d,'session':'%s','stream':1,'kind':'tcp','endpoint':'127.0.0.1:5432','at_ms':" \
	"1}"

static struct world *up(void)
{
	struct world *w = world_up();
	enrol(w, "web-1", "'role':'web'");
	return w;
}

static char *start(struct world *w, char id[65])
{
	struct answer a = start_tcp(w, "web-1", "'127.0.0.1:5432'");
	snprintf(id, 65, "%s", text_at(a.json, "session.id"));
	answer_free(&a);
	return id;
}

static void report(struct world *w, wsconn_id conn, const char *format, int seq, const char *session)
{
	char text[512];
	const char *number = strstr(format, "%d"), *name = strstr(format, "%s");
	snprintf(text, sizeof text, "%.*s%d%.*s%s%s", (int)(number - format), format, seq, (int)(name - number - 2),
		 number + 2, session, name + 2);
	say(w, "web-1", conn, text);
}

static unsigned authorize(struct world *w, EVP_PKEY *key, const char *target, char proof[PROOF_TEXT_MAX])
{
	struct control_decision d;
	struct err e;
	if (key)
		assert_int_equal(proof_make_assertion(key, target, "tunnel-server", clock_wall_ms(), proof, &e), 0);
	control_authorize_blocking(&w->server, proof, "192.0.2.9", &d);
	if (d.close_code == 0)
		assert_string_equal(d.target, target);
	return d.close_code;
}

static void test_an_assertion_is_taken_once_and_by_its_key(void **state)
{
	(void)state;
	char proof[PROOF_TEXT_MAX] = "nonsense";
	struct world *w = up();
	assert_int_equal(authorize(w, NULL, "web-1", proof), 4401);
	assert_int_equal(authorize(w, w->identity, "web-1", proof), 0);
	assert_int_equal(authorize(w, NULL, "web-1", proof), 4401); /* replayed */
	assert_int_equal(authorize(w, w->link, "web-1", proof), 4401);
	assert_int_equal(authorize(w, w->identity, "web-2", proof), 4403);
	fake_store_away();
	assert_int_equal(authorize(w, w->identity, "web-1", proof), 4503);
	fake_store_heal();
	world_down(w);
}

static void test_an_assertion_of_another_time_is_not_a_wrong_one(void **state)
{
	(void)state;
	static const int64_t off_ms[] = { -3600000, 63000 };
	char proof[PROOF_TEXT_MAX];
	struct world *w = up();
	struct err e;
	for (size_t i = 0; i < sizeof off_ms / sizeof *off_ms; i++) {
		int64_t at_ms = clock_wall_ms() + off_ms[i];
		assert_int_equal(proof_make_assertion(w->identity, "web-1", "tunnel-server", at_ms, proof, &e), 0);
		assert_int_equal(authorize(w, NULL, "web-1", proof), 4402);
	}
	world_down(w);
}

static void test_hello_is_answered_by_welcome_with_certified_host_keys(void **state)
{
	(void)state;
	struct world *w = up();
	assert_false(control_is_connected_anythread(w->server.control, "web-1"));
	hello(w, "web-1", 7, "");
	json_t *welcome = fake_ws_last(7, "welcome");
	assert_string_equal(fake_ws_first(7), "welcome");
	json_t *certificate = json_array_get(json_object_get(welcome, "host_certificates"), 0);
	assert_non_null(strstr(json_string_value(certificate), "ssh-ed25519-cert-v01@openssh.com "));
	assert_string_equal(json_string_value(json_array_get(json_object_get(welcome, "server_urls"), 0)),
			    "https://" HOST);
	assert_true(control_is_connected_anythread(w->server.control, "web-1"));
	json_decref(welcome);
	say(w, "web-1", 7, "{'type':'hello','version':'1','ssh_host_keys':[],'sessions':[]}");
	assert_int_equal(fake_ws_closed(7), 4008);
	world_down(w);
}

static void write_ca(struct world *w, EVP_PKEY *key)
{
	struct err e;
	bool changed = false;
	assert_int_equal(sshkey_save(w->ca_path, key, "", &e), 0);
	assert_int_equal(sshca_reload(w->server.sshca, &(struct sshca_files){ w->ca_path, "" }, &changed, &e), 0);
	assert_true(changed);
}

static void check_signs(wsconn_id conn, const char *type, EVP_PKEY *key)
{
	char text[SSHCERT_KEY_TEXT];
	json_t *message = fake_ws_last(conn, type);
	assert_int_equal(sshkey_public_text(key, text, NULL), 0);
	assert_string_equal(text_at(message, "ssh_ca"), text);
	assert_string_equal(json_string_value(json_array_get(json_object_get(message, "ssh_cas"), 0)), text);
	json_decref(message);
}

static void test_agents_are_told_of_a_change_of_the_ssh_ca(void **state)
{
	(void)state;
	struct world *w = up();
	struct err e;
	EVP_PKEY *next = sshkey_generate(NULL);
	enrol(w, "web-2", "");
	hello(w, "web-1", 7, "");
	hello(w, "web-2", 8, "");
	write_ca(w, next);
	assert_int_equal(control_ssh_changed_blocking(&w->server, &e), 0);
	for (wsconn_id conn = 7; conn <= 8; conn++) {
		check_signs(conn, "ssh-ca", next);
		json_t *message = fake_ws_last(conn, "ssh-ca");
		assert_int_equal(json_array_size(json_object_get(message, "host_certificates")), 1);
		assert_int_equal(fake_ws_count(conn, "ssh-ca"), 1);
		json_decref(message);
	}
	/* Also while the store is away: all but the certificates, which have time. */
	EVP_PKEY *third = sshkey_generate(NULL);
	write_ca(w, third);
	fake_store_away();
	assert_int_equal(control_ssh_changed_blocking(&w->server, &e), 0);
	fake_store_heal();
	check_signs(7, "ssh-ca", third);
	EVP_PKEY_free(next);
	EVP_PKEY_free(third);
	world_down(w);
}

struct crossing {
	struct world *w;
	EVP_PKEY *next;
};

static void change_ca(void *arg)
{
	struct crossing *c = arg;
	write_ca(c->w, c->next);
}

/* The change comes, and sees no connection of that target, when the welcome with the old key is written already. */
static void test_a_change_of_the_ssh_ca_that_crosses_a_hello(void **state)
{
	(void)state;
	struct world *w = up();
	struct crossing c = { w, sshkey_generate(NULL) };
	fake_ws_then(7, change_ca, &c);
	hello(w, "web-1", 7, "");
	assert_string_equal(fake_ws_first(7), "welcome");
	check_signs(7, "ssh-ca", c.next);
	EVP_PKEY_free(c.next);
	world_down(w);
}

static void test_the_newer_connection_wins(void **state)
{
	(void)state;
	struct world *w = up();
	hello(w, "web-1", 7, "");
	hello(w, "web-1", 8, "");
	assert_int_equal(fake_ws_closed(7), 4001);
	control_on_closed_blocking(&w->server, 7, "web-1", "replaced");
	assert_true(control_is_connected_anythread(w->server.control, "web-1"));
	control_on_closed_blocking(&w->server, 8, "web-1", "gone");
	assert_false(control_is_connected_anythread(w->server.control, "web-1"));
	struct answer a = call(w, "GET", "/v1/targets/web-1", "", "alice", NULL);
	assert_string_equal(text_at(a.json, "state"), "disconnected");
	assert_string_not_equal(text_at(a.json, "last_seen"), "");
	answer_free(&a);
	world_down(w);
}

static void lose_7(void *arg)
{
	struct world *w = arg;
	control_on_closed_blocking(&w->server, 7, "web-1", "connection lost");
}

/* The end of the one before is noticed when the record has the newer one, and before that one can be found. */
static void test_an_end_that_crosses_a_hello_is_not_the_agents(void **state)
{
	(void)state;
	json_t *doc = NULL;
	struct err e;
	struct world *w = up();
	hello(w, "web-1", 7, "");
	fake_store_then("targets", lose_7, w);
	hello(w, "web-1", 8, "");
	assert_true(control_is_connected_anythread(w->server.control, "web-1"));
	assert_int_equal(targets_get_blocking(&w->server, "web-1", &doc, &e), 0);
	assert_int_not_equal(json_integer_value(json_object_get(doc, "connected_since")), 0);
	json_decref(doc);
	assert_int_equal(control_check_target_blocking(&w->server, "web-1", &e), 0);
	assert_int_equal(fake_ws_closed(8), 0);
	world_down(w);
}

static void test_illegal_messages_close_with_4008(void **state)
{
	(void)state;
	static const char *const bad[] = {
		"nonsense",
		"[]",
		"{'type':5}",
		"{'type':'accepted'}",
		"{'type':'stream-opened','seq':0,'session':'s-1'}",
		"{'type':'stream-closed','seq':'1'}",
		"{'type':'session-closed','seq':1,'session':'s-1','code':-1}",
		"{'type':'refused','session':'s-1\\u001b[2J','code':5}",
		"{'type':'refused','session':'../s-1','code':5}",
	};
	struct world *w = up();
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		hello(w, "web-1", 20 + i, "");
		assert_int_equal(fake_ws_closed(20 + i), 0);
		say(w, "web-1", 20 + i, bad[i]);
		assert_int_equal(fake_ws_closed(20 + i), 4008);
	}
	say(w, "web-1", 50, "{'type':'accepted','session':'s-1'}"); /* before hello */
	assert_int_equal(fake_ws_closed(50), 4008);
	hello(w, "web-1", 51, "");
	say(w, "web-1", 51, "{'type':'from-the-future','x':1}");
	assert_int_equal(fake_ws_closed(51), 0);
	world_down(w);
}

static void test_a_repeated_report_is_acknowledged_and_recorded_once(void **state)
{
	(void)state;
	char id[65];
	struct world *w = up();
	hello(w, "web-1", 7, "");
	start(w, id);
	report(w, 7, OPENED, 1, id);
	report(w, 7, OPENED, 2, id);
	report(w, 7, OPENED, 1, id);
	assert_int_equal(audited(w, "stream.open", "session", id), 2);
	json_t *ack = fake_ws_last(7, "ack");
	assert_int_equal(json_integer_value(json_object_get(ack, "seq")), 2);
	json_decref(ack);
	world_restart(w); /* the agent saw no ack and repeats */
	hello(w, "web-1", 8, "");
	report(w, 8, OPENED, 2, id);
	assert_int_equal(fake_ws_count(8, "ack"), 1);
	report(w, 8, OPENED, 3, id);
	assert_int_equal(audited(w, "stream.open", "session", id), 3);
	json_t *last = audit_last(w, "stream.open");
	assert_string_equal(text_at(last, "principal"), "alice");
	json_decref(last);
	world_down(w);
}

static void test_a_report_is_not_acknowledged_before_it_is_durable(void **state)
{
	(void)state;
	char id[65];
	struct world *w = up();
	hello(w, "web-1", 7, "");
	start(w, id);
	fake_store_fail_after(-1, 0);
	report(w, 7, OPENED, 1, id);
	assert_int_equal(fake_ws_count(7, "ack"), 0);
	assert_int_equal(fake_ws_closed(7), 4503);
	fake_store_heal();
	hello(w, "web-1", 8, "");
	report(w, 8, OPENED, 1, id);
	assert_int_equal(fake_ws_count(8, "ack"), 1);
	assert_int_equal(audited(w, "stream.open", "session", id), 1);
	world_down(w);
}

/* The connection is closed by another thread, which may come late. */
static void test_what_is_behind_a_report_that_failed_is_not_taken(void **state)
{
	(void)state;
	char id[65];
	struct world *w = up();
	hello(w, "web-1", 7, "");
	start(w, id);
	fake_store_fail_after(-1, 0);
	report(w, 7, OPENED, 1, id);
	fake_store_heal();
	report(w, 7, OPENED, 2, id);
	assert_int_equal(fake_ws_count(7, "ack"), 0);
	hello(w, "web-1", 8, "");
	report(w, 8, OPENED, 1, id);
	report(w, 8, OPENED, 2, id);
	assert_int_equal(fake_ws_count(8, "ack"), 2);
	assert_int_equal(audited(w, "stream.open", "session", id), 2);
	world_down(w);
}

/* ---- reports that came together ---- */

#define TOGETHER 150 /* more than are written at once */
#define CLOSED                                                                                                 \
	"{'type':'stream-closed','seq':%d,'session':'%s','stream':1,'bytes_in':1,'bytes_out':2,'duration_ms':" \
	"3}"

struct reports {
	char text[TOGETHER][256];
	const char *at[TOGETHER];
};

/* Numbers 1 to TOGETHER of a session. */
static struct reports *many_reports(const char *session)
{
	struct reports *r = calloc(1, sizeof *r);
	assert_non_null(r);
	for (int i = 0; i < TOGETHER; i++) {
		snprintf(r->text[i], sizeof r->text[i], OPENED, i + 1, session);
		r->at[i] = r->text[i];
	}
	return r;
}

static json_int_t acked(wsconn_id conn)
{
	json_t *ack = fake_ws_last(conn, "ack");
	json_int_t seq = json_integer_value(json_object_get(ack, "seq"));
	json_decref(ack);
	return seq;
}

/* The reports in the log are 1 to n, in their order and once each, and the log is whole. */
static void expect_reports(struct world *w, json_int_t n)
{
	json_t *records = NULL;
	uint64_t next = 0;
	struct err e;
	json_int_t last = 0;
	assert_int_equal(audit_read_blocking(w->server.audit, 1, 1000, &records, &next, &e), 0);
	for (size_t i = 0; i < json_array_size(records); i++) {
		const json_t *number = json_object_get(json_array_get(records, i), "report");
		if (number)
			assert_int_equal(json_integer_value(number), ++last);
	}
	assert_int_equal(last, n);
	json_decref(records);
}

static bool same_session(const char *a, const char *b)
{
	return control_same_session(a, strlen(a), b, strlen(b));
}

static void test_reports_of_one_session_are_known_unparsed(void **state)
{
	(void)state;
	static const char one[] = "{\"type\":\"stream-opened\",\"session\":\"s-1\",\"stream\":1}";
	assert_true(same_session(one, "{\"type\":\"stream-closed\",\"seq\":4,\"session\":\"s-1\"}"));
	assert_false(same_session(one, "{\"type\":\"stream-closed\",\"session\":\"s-12\"}"));
	assert_false(same_session(one, "{\"type\":\"stream-closed\",\"session\":\"s-1"));
	assert_false(same_session("{\"session\" :\"s-1\"}", "{\"session\" :\"s-1\"}"));
}

static void test_reports_that_come_together_are_recorded_in_their_order(void **state)
{
	(void)state;
	char id[65];
	struct world *w = up();
	hello(w, "web-1", 7, "");
	struct reports *r = many_reports(start(w, id));
	say_many(w, "web-1", 7, r->at, TOGETHER);
	expect_reports(w, TOGETHER);
	assert_int_equal(acked(7), TOGETHER);
	assert_int_equal(fake_ws_count(7, "ack"), 3);
	say_many(w, "web-1", 7, r->at, TOGETHER); /* again: nothing but an ack comes of it */
	expect_reports(w, TOGETHER);
	assert_int_equal(fake_ws_count(7, "ack"), 4);
	json_t *last = audit_last(w, "stream.open");
	assert_string_equal(text_at(last, "principal"), "alice");
	json_decref(last);
	free(r);
	world_down(w);
}

static void test_an_end_stands_behind_what_was_said_before_it(void **state)
{
	(void)state;
	char id[65], other[65], text[4][256];
	struct world *w = up();
	hello(w, "web-1", 7, "");
	start(w, id);
	start(w, other);
	snprintf(text[0], sizeof text[0], OPENED, 1, id);
	snprintf(text[1], sizeof text[1], CLOSED, 2, id);
	snprintf(text[2], sizeof text[2], "{'type':'session-closed','seq':3,'session':'%s','code':0,'text':''}", id);
	snprintf(text[3], sizeof text[3], OPENED, 4, other);
	const char *const all[] = { text[0], text[1], text[2], text[3] };
	say_many(w, "web-1", 7, all, 4);
	json_t *closed = audit_last(w, "stream.close"), *end = audit_last(w, "session.end");
	json_t *opened = audit_last(w, "stream.open");
	json_int_t at = json_integer_value(json_object_get(end, "seq"));
	assert_true(json_integer_value(json_object_get(closed, "seq")) < at);
	assert_true(json_integer_value(json_object_get(opened, "seq")) > at);
	assert_int_equal(acked(7), 4);
	json_decref(closed);
	json_decref(end);
	json_decref(opened);
	world_down(w);
}

static void test_what_stands_before_a_wrong_message_is_taken(void **state)
{
	(void)state;
	char id[65];
	struct world *w = up();
	hello(w, "web-1", 7, "");
	struct reports *r = many_reports(start(w, id));
	r->at[10] = "{'type':'stream-opened','seq':11}";
	say_many(w, "web-1", 7, r->at, TOGETHER);
	expect_reports(w, 10);
	assert_int_equal(acked(7), 10);
	assert_int_equal(fake_ws_closed(7), 4008);
	free(r);
	world_down(w);
}

/* The store takes what is written first and fails then: in the log, or when the number is to be kept. */
static void test_a_store_that_fails_in_the_middle_of_many_reports(void **state)
{
	(void)state;
	for (int appends = 0; appends <= 2; appends++) {
		char id[65];
		struct world *w = up();
		hello(w, "web-1", 7, "");
		struct reports *r = many_reports(start(w, id));
		fake_store_fail_after(-1, appends);
		say_many(w, "web-1", 7, r->at, TOGETHER);
		assert_int_equal(fake_ws_closed(7), 4503);
		assert_int_equal(fake_ws_count(7, "ack"), appends);
		fake_store_heal();
		say_many(w, "web-1", 7, r->at, TOGETHER); /* it is being closed */
		expect_reports(w, appends ? acked(7) : 0);
		hello(w, "web-1", 8, "");
		say_many(w, "web-1", 8, r->at, TOGETHER);
		assert_int_equal(acked(8), TOGETHER);
		expect_reports(w, TOGETHER);
		free(r);
		world_down(w);
	}
	char id[65];
	struct world *w = up();
	hello(w, "web-1", 7, "");
	struct reports *r = many_reports(start(w, id));
	fake_store_unanswered("reports");
	say_many(w, "web-1", 7, r->at, 10);
	assert_int_equal(fake_ws_count(7, "ack"), 0);
	assert_int_equal(fake_ws_closed(7), 4503);
	fake_store_heal();
	hello(w, "web-1", 8, "");
	say_many(w, "web-1", 8, r->at, 10);
	assert_int_equal(acked(8), 10);
	expect_reports(w, 10); /* the number was stored all the same */
	free(r);
	world_down(w);
}

static void test_an_agent_cannot_speak_for_another_targets_session(void **state)
{
	(void)state;
	char id[65];
	struct world *w = up();
	enrol(w, "web-2", "");
	hello(w, "web-1", 7, "");
	hello(w, "web-2", 9, "");
	start(w, id);
	char text[256];
	snprintf(text, sizeof text, "{'type':'session-closed','seq':1,'session':'%s','code':0,'text':''}", id);
	say(w, "web-2", 9, text);
	snprintf(text, sizeof text, OPENED, 2, id);
	say(w, "web-2", 9, text);
	/* It goes on: the reports may be of its earlier name, and are not to come again. */
	assert_int_equal(fake_ws_closed(9), 0);
	json_t *ack = fake_ws_last(9, "ack");
	assert_int_equal(json_integer_value(json_object_get(ack, "seq")), 2);
	json_decref(ack);
	assert_int_equal(audited(w, "stream.open", NULL, NULL), 0);
	snprintf(text, sizeof text, "{'type':'refused','session':'%s','code':1,'text':'no'}", id);
	say(w, "web-2", 9, text);
	assert_int_equal(fake_ws_closed(9), 0);
	assert_int_equal(audited(w, "session.end", NULL, NULL), 0);
	assert_int_equal(fake_relay_ended(id), 0);
	say(w, "web-1", 7, text);
	json_t *end = audit_last(w, "session.end");
	assert_int_equal(json_integer_value(json_object_get(end, "code")), 4013);
	assert_non_null(strstr(text_at(end, "reason"), "refused"));
	json_decref(end);
	world_down(w);
}

static void test_session_closed_ends_the_session(void **state)
{
	(void)state;
	char id[65], text[256];
	struct world *w = up();
	hello(w, "web-1", 7, "");
	start(w, id);
	snprintf(text, sizeof text, "{'type':'session-closed','seq':1,'session':'%s','code':0,'text':'bye'}", id);
	say(w, "web-1", 7, text);
	say(w, "web-1", 7, text);
	assert_int_equal(fake_ws_count(7, "ack"), 2);
	assert_int_equal(audited(w, "session.end", "session", id), 1);
	assert_int_equal(fake_relay_ended(id), 4000);
	world_down(w);
}

static void test_hello_reconciles_what_runs(void **state)
{
	(void)state;
	char id[65], other[65], quoted[80];
	struct world *w = up();
	hello(w, "web-1", 7, "");
	start(w, id);
	start(w, other);
	snprintf(quoted, sizeof quoted, "'%s'", id);
	hello(w, "web-1", 8, quoted); /* runs one, lost the other */
	json_t *grant = fake_ws_last(8, "grant");
	assert_string_equal(text_at(grant, "session"), id);
	json_decref(grant);
	sweep_in(w, 9000);
	assert_int_equal(audited(w, "session.end", NULL, NULL), 0);
	sweep_in(w, 11000);
	assert_int_equal(audited(w, "session.end", "session", other), 1);
	assert_int_equal(audited(w, "session.end", "session", id), 0);
	hello(w, "web-1", 9, "'s-unknown'");
	json_t *terminate = fake_ws_last(9, "terminate");
	assert_string_equal(text_at(terminate, "session"), "s-unknown");
	json_decref(terminate);
	snprintf(quoted, sizeof quoted, "'%s'", other);
	hello(w, "web-1", 10, quoted);
	terminate = fake_ws_last(10, "terminate");
	assert_int_equal(json_integer_value(json_object_get(terminate, "code")), 4013);
	json_decref(terminate);
	enrol(w, "web-2", "");
	hello(w, "web-2", 11, quoted); /* neither is another target's agent told how it ended */
	terminate = fake_ws_last(11, "terminate");
	assert_int_equal(json_integer_value(json_object_get(terminate, "code")), 4404);
	assert_string_equal(text_at(terminate, "text"), "no such session of this target");
	json_decref(terminate);
	world_down(w);
}

static void test_what_an_agent_says_of_itself_is_plain(void **state)
{
	(void)state;
	struct world *w = up();
	char text[2048];
	snprintf(text, sizeof text,
		 "{'type':'hello','version':'1','ssh_host_keys':['%s a comment','ssh-rsa AAAA\\n* ssh-rsa BBBB'],"
		 "'sessions':[]}",
		 w->ssh_key);
	say(w, "web-1", 7, text);
	json_t *doc = NULL;
	struct err e;
	assert_int_equal(targets_get_blocking(&w->server, "web-1", &doc, &e), 0);
	json_t *keys = json_object_get(doc, "ssh_host_keys");
	assert_int_equal(json_array_size(keys), 1);
	assert_string_equal(json_string_value(json_array_get(keys, 0)), w->ssh_key);
	json_decref(doc);
	say(w, "web-1", 8, "{'type':'hello','version':'1\\u001b[2J','ssh_host_keys':[],'sessions':[]}");
	assert_int_equal(fake_ws_closed(8), 4008);
	world_down(w);
}

#define HELLO "{'type':'hello','version':'1','ssh_host_keys':[],'sessions':[]}"

static void test_an_agent_that_was_replaced_says_nothing_more(void **state)
{
	(void)state;
	struct err e;
	char id[65];
	struct world *w = up();
	EVP_PKEY *old = w->identity;
	hello(w, "web-1", 7, "");
	start(w, id);
	w->identity = key_generate(&e); /* 7 is connected, 8 was let in and has not said hello */
	enrol(w, "web-1", "'role':'web'");
	assert_int_equal(fake_ws_closed(7), 4403);
	assert_false(control_is_connected_anythread(w->server.control, "web-1"));
	assert_int_equal(audited(w, "agent.disconnect", "target", "web-1"), 1);
	say_by(w, old, "web-1", 7,
	       "{'type':'stream-opened','seq':9,'session':'s-1','stream':1,'kind':'tcp',"
	       "'endpoint':'a:1','at_ms':1}"); /* was on its way */
	assert_int_equal(audited(w, "stream.open", NULL, NULL), 0);
	say_by(w, old, "web-1", 8, HELLO);
	assert_int_equal(fake_ws_closed(8), 4403);
	assert_string_equal(fake_ws_first(8), "");
	assert_false(control_is_connected_anythread(w->server.control, "web-1"));
	say_by(w, w->identity, "web-1", 9, HELLO);
	assert_true(control_is_connected_anythread(w->server.control, "web-1"));
	EVP_PKEY_free(old);
	world_down(w);
}

/* The change may have been made: whoever was there before must not stay. */
static void test_a_change_without_an_answer_cuts_the_agent_off(void **state)
{
	(void)state;
	for (int replaced = 0; replaced < 2; replaced++) {
		char id[65], bearer[128], body[700], key[256];
		struct err e;
		struct world *w = up();
		hello(w, "web-1", 7, "");
		start(w, id);
		struct answer a =
			call(w, "POST", "/v1/enrollments", "", "alice", "{'target':'web-1','tags':{'role':'web'}}");
		snprintf(bearer, sizeof bearer, "Bearer %s", text_at(a.json, "token"));
		answer_free(&a);
		assert_int_equal(key_public_text(w->client, key, &e), 0);
		snprintf(body, sizeof body, "{'identity_key':'%s','link_key':'%s','version':'0.2'}", key, key);
		fake_store_unanswered("targets");
		a = replaced ? call(w, "POST", "/v1/targets", "", bearer, body)
			     : call(w, "DELETE", "/v1/targets/web-1", "", "alice", NULL);
		assert_int_equal(a.status, 503);
		answer_free(&a);
		assert_int_equal(fake_ws_closed(7), 4403);
		if (!replaced) {
			a = call(w, "DELETE", "/v1/targets/web-1", "", "alice", NULL);
			assert_int_equal(a.status, 204);
			answer_free(&a);
		}
		assert_int_equal(fake_relay_ended(id), 4011);
		assert_int_equal(audited(w, "session.end", "session", id), 1);
		assert_int_equal(audited(w, replaced ? "target.enrolled" : "target.deleted", "target", "web-1"), 2);
		world_down(w);
	}
}

static void delete_unseen(struct world *w)
{
	struct err e;
	assert_int_equal(store_del_blocking(w->server.store, "targets", "web-1", TUNNEL_VERSION_ANY, &e), 0);
}

/* As another node does it, whose message does not come. */
static void test_a_change_that_nobody_tells_of_is_seen(void **state)
{
	(void)state;
	struct world *w = up();
	char id[65], text[256];
	hello(w, "web-1", 7, "");
	start(w, id);
	delete_unseen(w);
	snprintf(text, sizeof text,
		 "{'type':'stream-opened','seq':1,'session':'%s','stream':1,'kind':'tcp','endpoint':'a:1','at_ms':1}",
		 id);
	say(w, "web-1", 7, text);
	assert_int_equal(fake_ws_closed(7), 4403);
	assert_int_equal(audited(w, "stream.open", NULL, NULL), 0);
	world_down(w);

	w = up();
	hello(w, "web-1", 8, "");
	delete_unseen(w);
	sweep_in(w, 0);
	assert_int_equal(fake_ws_closed(8), 4403);
	assert_false(control_is_connected_anythread(w->server.control, "web-1"));
	world_down(w);

	w = up();
	struct err e;
	hello(w, "web-1", 9, "");
	assert_int_equal(control_check_target_blocking(&w->server, "web-1", &e), 0);
	assert_true(control_is_connected_anythread(w->server.control, "web-1"));
	delete_unseen(w);
	assert_int_equal(control_check_target_blocking(&w->server, "web-1", &e), 0);
	assert_int_equal(fake_ws_closed(9), 4403);
	world_down(w);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_an_assertion_is_taken_once_and_by_its_key),
		cmocka_unit_test(test_an_assertion_of_another_time_is_not_a_wrong_one),
		cmocka_unit_test(test_hello_is_answered_by_welcome_with_certified_host_keys),
		cmocka_unit_test(test_agents_are_told_of_a_change_of_the_ssh_ca),
		cmocka_unit_test(test_a_change_of_the_ssh_ca_that_crosses_a_hello),
		cmocka_unit_test(test_the_newer_connection_wins),
		cmocka_unit_test(test_an_end_that_crosses_a_hello_is_not_the_agents),
		cmocka_unit_test(test_illegal_messages_close_with_4008),
		cmocka_unit_test(test_a_repeated_report_is_acknowledged_and_recorded_once),
		cmocka_unit_test(test_a_report_is_not_acknowledged_before_it_is_durable),
		cmocka_unit_test(test_what_is_behind_a_report_that_failed_is_not_taken),
		cmocka_unit_test(test_reports_of_one_session_are_known_unparsed),
		cmocka_unit_test(test_reports_that_come_together_are_recorded_in_their_order),
		cmocka_unit_test(test_an_end_stands_behind_what_was_said_before_it),
		cmocka_unit_test(test_what_stands_before_a_wrong_message_is_taken),
		cmocka_unit_test(test_a_store_that_fails_in_the_middle_of_many_reports),
		cmocka_unit_test(test_an_agent_cannot_speak_for_another_targets_session),
		cmocka_unit_test(test_session_closed_ends_the_session),
		cmocka_unit_test(test_hello_reconciles_what_runs),
		cmocka_unit_test(test_what_an_agent_says_of_itself_is_plain),
		cmocka_unit_test(test_a_change_that_nobody_tells_of_is_seen),
		cmocka_unit_test(test_an_agent_that_was_replaced_says_nothing_more),
		cmocka_unit_test(test_a_change_without_an_answer_cuts_the_agent_off),
	};
	return RUN_CASES(tests);
}
