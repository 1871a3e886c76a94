#include "world.h"

#include "base/clock.h"
#include "server/guesses.h"
#include "server/metrics.h"

#include <jansson.h>

#define A "192.0.2.7"
#define B "192.0.2.8"

static char *own[] = { (char *)(uintptr_t) "10.1.0.0/16", (char *)(uintptr_t) "2001:db8:9::/48" };

static struct guesses *new_guesses(int64_t per_credential, int64_t per_address)
{
	const struct settings s = { .limit_per_credential = per_credential,
				    .limit_per_address = per_address,
				    .limit_except = { own, 2 } };
	struct guesses *g = NULL;
	struct err e = { 0 };
	assert_int_equal(guesses_new(&s, &g, &e), 0);
	return g;
}

static struct guess from(const char *address, const char *credential)
{
	return (struct guess){ .kind = GUESS_IDENTITY, .address = address, .credential = credential };
}

static int64_t wait(struct guesses *g, const char *address, const char *credential, int64_t at_ms)
{
	const struct guess who = from(address, credential);
	return guesses_wait_ms(g, &who, at_ms);
}

static enum guess_limit wrong(struct guesses *g, const char *address, const char *credential, int64_t at_ms)
{
	const struct guess who = from(address, credential);
	return guesses_wrong(g, &who, at_ms);
}

static void right(struct guesses *g, const char *address, const char *credential, int64_t at_ms)
{
	const struct guess who = from(address, credential);
	guesses_right(g, &who, at_ms);
}

static void test_a_burst_passes_and_then_one_each_few_seconds(void **state)
{
	(void)state;
	struct guesses *g = new_guesses(10, 100);
	for (int i = 0; i < 10; i++) {
		assert_int_equal(wait(g, A, "K", 1000), 0);
		wrong(g, A, "K", 1000);
	}
	assert_int_equal(wait(g, A, "K", 1000), 6000);
	assert_int_equal(wait(g, A, "K", 6999), 1);
	assert_int_equal(wait(g, A, "K", 7000), 0);
	wrong(g, A, "K", 7000);
	assert_int_equal(wait(g, A, "K", 7000), 6000);
	assert_int_equal(wait(g, A, "K", 67000), 0);
	assert_int_equal(wait(g, A, "L", 1000), 0); /* another name */
	assert_int_equal(wait(g, B, "K", 1000), 0); /* its holder, elsewhere */
	guesses_free(&g);
}

static void test_who_was_right_is_not_held_up_by_others_there(void **state)
{
	(void)state;
	char name[16];
	struct guesses *g = new_guesses(10, 100);
	right(g, A, "mine", 0);
	for (int i = 0; i < 100; i++) {
		snprintf(name, sizeof name, "K%d", i);
		wrong(g, A, name, 0);
	}
	assert_int_equal(wait(g, A, "K1", 0), 600);
	assert_int_equal(wait(g, A, "new", 0), 600);
	assert_int_equal(wait(g, A, NULL, 0), 600);
	assert_int_equal(wait(g, A, "mine", 0), 0);
	assert_int_equal(wait(g, B, "new", 0), 0);
	for (int i = 0; i < 10; i++)
		wrong(g, A, "mine", 0);
	assert_int_equal(wait(g, A, "mine", 0), 6000); /* who guesses at it waits, too */
	guesses_free(&g);
}

static void test_origins_and_kinds(void **state)
{
	(void)state;
	struct guesses *g = new_guesses(1, 100);
	wrong(g, "2001:db8:1:2::7", "K", 0);
	assert_int_equal(wait(g, "2001:db8:1:2:ffff::1", "K", 0), 60000); /* the same /64 */
	assert_int_equal(wait(g, "2001:db8:1:3::7", "K", 0), 0);
	wrong(g, "::ffff:192.0.2.7", "K", 0);
	assert_int_equal(wait(g, A, "K", 0), 60000);
	const struct guess session = { .kind = GUESS_SESSION, .address = A, .credential = "K" };
	assert_int_equal(guesses_wait_ms(g, &session, 0), 0);
	wrong(g, "10.1.2.3", "K", 0);
	wrong(g, "2001:db8:9:1::1", "K", 0);
	assert_int_equal(wait(g, "10.1.2.3", "K", 0), 0);
	assert_int_equal(wait(g, "2001:db8:9:1::1", "K", 0), 0);
	assert_false(guesses_count(g, "10.1.2.3"));
	assert_true(guesses_count(g, A));
	guesses_free(&g);
	g = new_guesses(0, 0);
	for (int i = 0; i < 1000; i++)
		wrong(g, A, "K", 0);
	assert_int_equal(wait(g, A, "K", 0), 0);
	guesses_free(&g);
	assert_int_equal(wait(NULL, A, "K", 0), 0);
}

/* More origins and names than there is memory for: who was right is forgotten last, and what is counted stays right. */
static void test_memory_is_fixed(void **state)
{
	(void)state;
	char address[32];
	struct guesses *g = new_guesses(2, 100);
	right(g, A, "mine", 0);
	for (unsigned i = 0; i < 200000; i++) {
		snprintf(address, sizeof address, "198.%u.%u.%u", 18 + (i >> 16), (i >> 8) & 255, i & 255);
		wrong(g, address, "K", 0);
	}
	for (int i = 0; i < 100; i++)
		wrong(g, A, NULL, 1);
	assert_true(wait(g, A, "new", 1) > 0);
	assert_int_equal(wait(g, A, "mine", 1), 0);
	guesses_free(&g);
}

static void test_what_is_told_does_not_flood(void **state)
{
	(void)state;
	char address[32];
	int told = 0;
	struct guesses *g = new_guesses(1, 0);
	assert_int_equal(wrong(g, A, "K", 1), GUESS_LIMIT_CREDENTIAL);
	assert_int_equal(wrong(g, A, "K", 60001), GUESS_NO_LIMIT);
	assert_int_equal(wrong(g, A, "K", 600001), GUESS_LIMIT_CREDENTIAL);
	for (int i = 0; i < 1000; i++) {
		snprintf(address, sizeof address, "198.18.%d.%d", i / 250, i % 250);
		told += wrong(g, address, "K", 2000000) != GUESS_NO_LIMIT;
	}
	assert_int_equal(told, 10);
	told = 0;
	for (int i = 0; i < 1000; i++) {
		snprintf(address, sizeof address, "198.19.%d.%d", i / 250, i % 250);
		told += wrong(g, address, "K", 2000000 + i * 60) != GUESS_NO_LIMIT;
	}
	assert_true(told <= 7);
	guesses_free(&g);
}

static void test_reload(void **state)
{
	(void)state;
	struct guesses *g = new_guesses(1, 0);
	struct err e = { 0 };
	char *broken[] = { (char *)(uintptr_t) "10.1.0.0/33" };
	wrong(g, A, "K", 0);
	struct settings s = { .limit_per_credential = 0, .limit_except = { broken, 1 } };
	assert_int_equal(guesses_reload(g, &s, &e), ERR_INVALID);
	assert_non_null(strstr(e.text, "limits.except: \"10.1.0.0/33\": prefix length out of range"));
	assert_int_equal(wait(g, A, "K", 0), 60000);
	s.limit_except = (struct conf_strings){ NULL, 0 };
	assert_int_equal(guesses_reload(g, &s, &e), 0);
	assert_int_equal(wait(g, A, "K", 0), 0);
	guesses_free(&g);
}

/* ---- in the services ---- */

static struct world *limited(int64_t per_credential, int64_t per_address)
{
	struct world *w = world_up();
	w->server.guesses = new_guesses(per_credential, per_address);
	return w;
}

static void end_limited(struct world *w)
{
	guesses_free(&w->server.guesses);
	world_down(w);
}

static int whoami(struct world *w, const char *address, const char *who)
{
	w->from = address;
	struct answer a = call(w, "GET", "/v1/whoami", "", who, NULL);
	if (a.status == 429) {
		assert_string_equal(text_at(a.json, "code"), "too-many-attempts");
		assert_true(a.raw.retry_after_s >= 1 && a.raw.retry_after_s <= 60);
	}
	assert_int_equal(a.raw.known, a.status == 200);
	int status = a.status;
	answer_free(&a);
	return status;
}

static void test_a_key_is_guessed_at(void **state)
{
	(void)state;
	struct world *w = limited(3, 100);
	for (int i = 0; i < 3; i++)
		assert_int_equal(whoami(w, A, "alice guessed"), 401);
	for (int i = 0; i < 5; i++)
		assert_int_equal(whoami(w, A, "alice guessed"), 429);
	assert_int_equal(whoami(w, A, "alice"), 429); /* right or wrong: a guess tells nothing now */
	assert_int_equal(whoami(w, B, "alice"), 200); /* its holder */
	assert_int_equal(whoami(w, A, "bob"), 200);
	assert_int_equal(metrics_get(w->server.metrics, METRIC_AUTH_LIMITED), 6);
	assert_int_equal(audited(w, "auth.limited", "credential", "auth-test/alice"), 1);
	assert_int_equal(audited(w, "auth.limited", "remote_address", A), 1);
	end_limited(w);
}

static void test_many_keys_are_guessed_at(void **state)
{
	(void)state;
	char who[32];
	struct world *w = limited(3, 5);
	assert_int_equal(whoami(w, A, "bob"), 200);
	for (int i = 0; i < 5; i++) {
		snprintf(who, sizeof who, "k%d guessed", i);
		assert_int_equal(whoami(w, A, who), 401);
	}
	assert_int_equal(whoami(w, A, "k99 guessed"), 429);
	assert_int_equal(whoami(w, A, "bob"), 200); /* was right there before */
	assert_int_equal(whoami(w, B, "k99 guessed"), 401);
	assert_int_equal(audited(w, "auth.limited", "limit", "limits.failures_per_address"), 1);
	end_limited(w);
}

static void test_tokens_nobody_can_name_are_not_written(void **state)
{
	(void)state;
	struct world *w = limited(3, 100);
	for (int i = 0; i < 4; i++)
		assert_int_equal(whoami(w, A, "Bearer a-token-that-was-true-yesterday"), i < 3 ? 401 : 429);
	json_t *record = audit_last(w, "auth.limited");
	char *text = json_dumps(record, 0);
	assert_null(strstr(text, "yesterday"));
	free(text);
	json_decref(record);
	end_limited(w);
}

static void test_calls_without_a_credential_are_no_guesses(void **state)
{
	(void)state;
	struct world *w = limited(3, 3);
	for (int i = 0; i < 10; i++)
		assert_int_equal(whoami(w, A, NULL), 401);
	assert_int_equal(whoami(w, A, "alice"), 200);
	end_limited(w);
}

static void test_a_session_token_is_guessed_at(void **state)
{
	(void)state;
	struct world *w = limited(3, 5);
	struct attach_decision d;
	w->from = "192.0.2.1";
	enrol(w, "t1", "");
	hello(w, "t1", 1, "");
	struct answer s = start_tcp(w, "t1", "'127.0.0.1:1'");
	const char *id = text_at(s.json, "session.id"), *token = text_at(s.json, "token");
	w->from = A;
	for (int i = 0; i < 3; i++)
		assert_int_equal(attach(w, id, "a-token-that-is-none", w->client, &d), 4401);
	assert_int_equal(attach(w, id, "a-token-that-is-none", w->client, &d), 4503);
	assert_true(d.wait_s > 0 && d.wait_s <= 20);
	assert_non_null(strstr(d.text, "looked at in"));
	char path[128];
	snprintf(path, sizeof path, "/v1/sessions/%s/attach", id);
	struct answer a = call_with_token(w, "POST", path, "a-token-that-is-none", w->client);
	assert_int_equal(a.status, 429);
	assert_true(a.raw.retry_after_s > 0);
	answer_free(&a);
	w->from = B;
	assert_int_equal(attach(w, id, token, w->client, &d), 0);
	for (int i = 0; i < 50; i++) {
		char none[32];
		snprintf(none, sizeof none, "s-none%d", i);
		assert_int_equal(attach(w, none, token, w->client, &d), i < 5 ? 4404 : 4503);
	}
	assert_int_equal(attach(w, id, token, w->client, &d), 0); /* let in from there before */
	answer_free(&s);
	end_limited(w);
}

static void test_a_proof_that_is_right_but_for_its_time_is_no_guess(void **state)
{
	(void)state;
	struct world *w = limited(3, 100);
	enrol(w, "t1", "");
	hello(w, "t1", 1, "");
	struct answer s = start_tcp(w, "t1", "'127.0.0.1:1'");
	const char *token = text_at(s.json, "token");
	char path[128];
	snprintf(path, sizeof path, "/v1/sessions/%s/attach", text_at(s.json, "session.id"));
	for (int i = 0; i < 10; i++) {
		struct answer a = call_with_token_at(w, "POST", path, token, w->client, clock_wall_ms() - 3600 * 1000);
		assert_int_equal(a.status, 401);
		assert_string_equal(text_at(a.json, "code"), "clock");
		answer_free(&a);
	}
	answer_free(&s);
	end_limited(w);
}

static void test_enrolment_tokens_are_guessed_at(void **state)
{
	(void)state;
	struct world *w = limited(3, 5);
	char body[1024];
	snprintf(body, sizeof body, "{'identity_key':'%s','link_key':'%s','version':'0.1'}", w->client_key,
		 w->client_key);
	for (int i = 0; i < 10; i++) {
		char bearer[64];
		w->from = A;
		snprintf(bearer, sizeof bearer, "Bearer guess-%d", i);
		struct answer a = call(w, "POST", "/v1/targets", "", bearer, body);
		assert_int_equal(a.status, i < 5 ? 401 : 429);
		answer_free(&a);
	}
	assert_int_equal(whoami(w, A, "carol"), 200); /* another kind of guess */
	w->from = B;
	enrol(w, "t1", "");
	assert_int_equal(audited(w, "auth.limited", "kind", "enrollment"), 1);
	end_limited(w);
}

static unsigned authorize(struct world *w, const char *address, EVP_PKEY *key, const char *target)
{
	char assertion[PROOF_TEXT_MAX];
	struct control_decision d;
	struct err e;
	assert_int_equal(proof_make_assertion(key, target, "tunnel-server", clock_wall_ms(), assertion, &e), 0);
	control_authorize_blocking(&w->server, assertion, address, &d);
	return d.close_code;
}

static void test_an_agent_is_imitated(void **state)
{
	(void)state;
	struct world *w = limited(3, 5);
	enrol(w, "t1", "");
	for (int i = 0; i < 6; i++)
		assert_int_equal(authorize(w, A, w->client, "t1"), i < 3 ? 4401 : 4503);
	assert_int_equal(authorize(w, B, w->identity, "t1"), 0);
	for (int i = 0; i < 10; i++) {
		char target[16];
		snprintf(target, sizeof target, "none-%d", i);
		assert_int_equal(authorize(w, B, w->client, target), i < 5 ? 4403 : 4503);
	}
	assert_int_equal(authorize(w, B, w->identity, "t1"), 0);
	end_limited(w);
}

int main(int argc, char **argv)
{
	static const struct CMUnitTest cases[] = {
		cmocka_unit_test(test_a_burst_passes_and_then_one_each_few_seconds),
		cmocka_unit_test(test_who_was_right_is_not_held_up_by_others_there),
		cmocka_unit_test(test_origins_and_kinds),
		cmocka_unit_test(test_memory_is_fixed),
		cmocka_unit_test(test_what_is_told_does_not_flood),
		cmocka_unit_test(test_reload),
		cmocka_unit_test(test_a_key_is_guessed_at),
		cmocka_unit_test(test_many_keys_are_guessed_at),
		cmocka_unit_test(test_tokens_nobody_can_name_are_not_written),
		cmocka_unit_test(test_calls_without_a_credential_are_no_guesses),
		cmocka_unit_test(test_a_session_token_is_guessed_at),
		cmocka_unit_test(test_a_proof_that_is_right_but_for_its_time_is_no_guess),
		cmocka_unit_test(test_enrolment_tokens_are_guessed_at),
		cmocka_unit_test(test_an_agent_is_imitated),
	};
	return RUN_CASES(cases);
}
