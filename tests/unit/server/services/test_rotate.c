/* An agent changes its key: both count until the next one is used, from then on that one alone. */
#include "world.h"

#include "base/clock.h"
#include "ident/key.h"

#define OPENED                                                                                                         \
	"{'type':'stream-opened','seq':%d,'session':'%s','stream':1,'kind':'tcp','endpoint':'127.0.0.1:5432','at_ms':" \
	"1}"

struct changing {
	struct world *w;
	EVP_PKEY *next;
	char next_text[KEY_TEXT_MAX];
};

static struct changing up(void)
{
	struct changing c = { .w = world_up() };
	struct err e;
	enrol(c.w, "web-1", "'role':'web'");
	hello(c.w, "web-1", 7, "");
	c.next = key_generate(&e);
	assert_int_equal(key_public_text(c.next, c.next_text, &e), 0);
	return c;
}

static void down(struct changing *c)
{
	EVP_PKEY_free(c->next);
	world_down(c->w);
}

static unsigned authorize(struct world *w, EVP_PKEY *key)
{
	struct control_decision d;
	struct err e;
	char proof[PROOF_TEXT_MAX];
	assert_int_equal(proof_make_assertion(key, "web-1", "tunnel-server", clock_wall_ms(), proof, &e), 0);
	control_authorize_blocking(&w->server, proof, "192.0.2.9", &d);
	return d.close_code;
}

/* What connection conn says, with the nonce that nonce_of was told. */
static void offer(struct changing *c, EVP_PKEY *by, EVP_PKEY *signer, wsconn_id conn, wsconn_id nonce_of)
{
	char audience[128], proof[PROOF_TEXT_MAX], message[PROOF_TEXT_MAX + 512];
	struct err e;
	json_t *welcome = fake_ws_last(nonce_of, "welcome");
	snprintf(audience, sizeof audience, PROOF_ROTATE_AUDIENCE "%s", text_at(welcome, "nonce"));
	json_decref(welcome);
	assert_int_equal(proof_make_assertion(signer, "web-1", audience, clock_wall_ms(), proof, &e), 0);
	snprintf(message, sizeof message, "{'type':'rotate','identity_key':'%s','proof':'%s'}", c->next_text, proof);
	say_by(c->w, by, "web-1", conn, message);
}

static void hello_by(struct changing *c, EVP_PKEY *key, wsconn_id conn)
{
	say_by(c->w, key, "web-1", conn, "{'type':'hello','version':'0.1','ssh_host_keys':[],'sessions':[]}");
}

static void test_both_count_until_the_next_one_is_used(void **state)
{
	(void)state;
	struct changing c = up();
	assert_int_equal(authorize(c.w, c.next), 4401);
	offer(&c, c.w->identity, c.next, 7, 7);
	assert_int_equal(fake_ws_count(7, "rotated"), 1);
	assert_int_equal(audited(c.w, "target.rotate", "target", "web-1"), 1);
	assert_int_equal(authorize(c.w, c.w->identity), 0);
	assert_int_equal(authorize(c.w, c.next), 0);
	hello_by(&c, c.next, 8);
	assert_int_equal(fake_ws_count(8, "welcome"), 1);
	assert_int_equal(fake_ws_closed(7), 4001);
	assert_int_equal(audited(c.w, "target.rotated", "target", "web-1"), 1);
	assert_int_equal(authorize(c.w, c.w->identity), 4401); /* a thief's copy */
	assert_int_equal(authorize(c.w, c.next), 0);
	hello_by(&c, c.w->identity, 9); /* judged before, and late */
	assert_int_equal(fake_ws_closed(9), 4403);
	down(&c);
}

static void test_the_present_one_stays_when_the_next_one_is_never_used(void **state)
{
	(void)state;
	struct changing c = up();
	offer(&c, c.w->identity, c.next, 7, 7);
	world_restart(c.w);
	assert_int_equal(authorize(c.w, c.w->identity), 0);
	hello(c.w, "web-1", 8, "");
	offer(&c, c.w->identity, c.next, 8, 8); /* the same again */
	assert_int_equal(fake_ws_count(8, "rotated"), 1);
	assert_int_equal(audited(c.w, "target.rotate", "target", "web-1"), 1);
	assert_int_equal(authorize(c.w, c.next), 0);
	down(&c);
}

static void test_nobody_offers_a_key_that_is_not_his(void **state)
{
	(void)state;
	struct changing c = up();
	offer(&c, c.w->identity, c.w->identity, 7, 7); /* signed by the present key */
	assert_int_equal(fake_ws_count(7, "rotate-refused"), 1);
	hello(c.w, "web-1", 8, "");
	offer(&c, c.w->identity, c.next, 8, 7); /* for another connection */
	assert_int_equal(fake_ws_count(8, "rotate-refused"), 1);
	assert_int_equal(fake_ws_count(8, "rotated"), 0);
	assert_int_equal(audited(c.w, "target.rotate", NULL, NULL), 0);
	assert_int_equal(authorize(c.w, c.next), 4401);
	say(c.w, "web-1", 8, "{'type':'rotate','identity_key':'x'}");
	assert_int_equal(fake_ws_closed(8), 4008);
	down(&c);
}

static void test_without_a_record_in_the_log_nothing_changes(void **state)
{
	(void)state;
	struct changing c = up();
	fake_store_fail_after(-1, 0);
	offer(&c, c.w->identity, c.next, 7, 7);
	fake_store_heal();
	assert_int_equal(fake_ws_closed(7), 4503);
	assert_int_equal(authorize(c.w, c.next), 4401);
	hello(c.w, "web-1", 8, "");
	offer(&c, c.w->identity, c.next, 8, 8);
	fake_store_fail_after(-1, 0);
	hello_by(&c, c.next, 9);
	fake_store_heal();
	assert_int_equal(authorize(c.w, c.w->identity), 0); /* not confirmed */
	hello_by(&c, c.next, 10);
	assert_int_equal(authorize(c.w, c.w->identity), 4401);
	down(&c);
}

static void report(struct changing *c, EVP_PKEY *key, wsconn_id conn, int seq, const char *session)
{
	char text[256];
	snprintf(text, sizeof text, OPENED, seq, session);
	say_by(c->w, key, "web-1", conn, text);
}

static void test_sessions_and_report_numbers_go_on(void **state)
{
	(void)state;
	struct changing c = up();
	char running[160], message[512];
	struct answer a = start_tcp(c.w, "web-1", "'127.0.0.1:5432'");
	const char *id = text_at(a.json, "session.id");
	report(&c, c.w->identity, 7, 1, id);
	report(&c, c.w->identity, 7, 2, id);
	offer(&c, c.w->identity, c.next, 7, 7);
	snprintf(running, sizeof running, "{'id':'%s','generation':1}", id);
	snprintf(message, sizeof message, "{'type':'hello','version':'0.1','ssh_host_keys':[],'sessions':[%s]}",
		 running);
	say_by(c.w, c.next, "web-1", 8, message);
	report(&c, c.next, 8, 2, id); /* its ack was lost */
	report(&c, c.next, 8, 3, id);
	assert_int_equal(audited(c.w, "stream.open", "session", id), 3);
	json_t *doc = record_of(c.w, id);
	assert_string_not_equal(text_at(doc, "state"), "ended");
	assert_int_equal(fake_ws_count(8, "terminate"), 0);
	json_decref(doc);
	answer_free(&a);
	down(&c);
}

static void test_enrolling_again_forgets_the_next_one(void **state)
{
	(void)state;
	struct changing c = up();
	struct err e;
	offer(&c, c.w->identity, c.next, 7, 7);
	EVP_PKEY_free(c.w->identity);
	c.w->identity = key_generate(&e);
	enrol(c.w, "web-1", "'role':'web'");
	assert_int_equal(authorize(c.w, c.next), 4401);
	assert_int_equal(authorize(c.w, c.w->identity), 0);
	down(&c);
}

/* The store fails in each single call that the confirming hello makes, before and after the call's effect. */
static void test_one_change_is_recorded_once(void **state)
{
	(void)state;
	for (int after = 0; after < 2; after++) {
		bool crashed = true;
		for (int n = 1; crashed; n++) {
			struct changing c = up();
			struct answer a = start_tcp(c.w, "web-1", "'127.0.0.1:5432'");
			report(&c, c.w->identity, 7, 1, text_at(a.json, "session.id"));
			offer(&c, c.w->identity, c.next, 7, 7);
			fake_store_crash_at(n, after);
			hello_by(&c, c.next, 8);
			crashed = fake_store_crashed();
			fake_store_heal();
			hello_by(&c, c.next, 9);
			assert_int_equal(authorize(c.w, c.w->identity), 4401);
			assert_int_equal(audited(c.w, "target.rotated", "target", "web-1"), 1);
			answer_free(&a);
			down(&c);
			assert_true(crashed || n > 3);
		}
	}
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_both_count_until_the_next_one_is_used),
		cmocka_unit_test(test_the_present_one_stays_when_the_next_one_is_never_used),
		cmocka_unit_test(test_nobody_offers_a_key_that_is_not_his),
		cmocka_unit_test(test_without_a_record_in_the_log_nothing_changes),
		cmocka_unit_test(test_sessions_and_report_numbers_go_on),
		cmocka_unit_test(test_enrolling_again_forgets_the_next_one),
		cmocka_unit_test(test_one_change_is_recorded_once),
	};
	return RUN_CASES(tests);
}
