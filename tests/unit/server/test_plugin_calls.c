#include "plugin_case.h"

#include "base/clock.h"
#include "server/metrics.h"
#include "server/plugin_internal.h"
#include "server/store.h"

#include <pthread.h>
#include <stdatomic.h>
#include <time.h>
#include <unistd.h>

static struct plugin *moody(struct metrics *m, const char *const *lines)
{
	struct section_case s;
	struct plugin *p = NULL;
	struct err e = { 0 };
	if (plugin_open(DOUBLES_DIR, section_of(&s, "auth-moody", lines), TUNNEL_KIND_AUTH, m, &p, &e) != 0)
		fail_msg("%s", e.text);
	return p;
}

static int verify(struct plugin *p, int64_t within_ms, char words[128], struct tunnel_identity *id)
{
	struct tunnel_auth_request q = { .size = sizeof q };
	struct tunnel_call call = { .size = sizeof call, .err = words, .err_len = 128 };
	call.deadline_ms = within_ms ? clock_mono_ms() + within_ms : 0;
	return plugin_auth_verify_blocking(p, &call, &q, id);
}

static void test_strange_results_refuse(void **state)
{
	(void)state;
	static const struct {
		const char *line;
		int want;
	} cases[] = { { "answer=0", TUNNEL_OK },
		      { "answer=1", TUNNEL_DENIED },
		      { "answer=4", TUNNEL_NOT_MINE },
		      { "answer=-1", TUNNEL_UNAVAILABLE },
		      { "answer=-5", TUNNEL_INTERNAL },
		      { "answer=2", TUNNEL_INTERNAL }, /* NOT_FOUND is no answer of verify */
		      { "answer=3", TUNNEL_INTERNAL },
		      { "answer=5", TUNNEL_INTERNAL },
		      { "answer=-6", TUNNEL_INTERNAL },
		      { "answer=1000", TUNNEL_INTERNAL },
		      { "answer=-1000", TUNNEL_INTERNAL } };
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct plugin *p = moody(NULL, LINES("needed=1", cases[i].line));
		struct tunnel_identity id;
		char words[128];
		int rc = verify(p, 0, words, &id);
		if (rc != cases[i].want)
			fail_msg("%s became %d; expected %d", cases[i].line, rc, cases[i].want);
		assert_true(rc == TUNNEL_OK || !id.subject[0]);
		assert_true(rc >= 0 || words[0]);
		plugin_close(&p);
	}
}

static void test_texts_always_end(void **state)
{
	(void)state;
	char words[128];
	struct tunnel_identity id;
	struct plugin *p = moody(NULL, LINES("needed=1", "bad_text=true"));
	assert_int_equal(verify(p, 0, words, &id), TUNNEL_INTERNAL);
	assert_string_equal(words, "auth-moody: accepted a credential without a usable subject");
	plugin_close(&p);
	p = moody(NULL, LINES("needed=1", "bad_text=true", "answer=1"));
	assert_int_equal(verify(p, 0, words, &id), TUNNEL_DENIED);
	assert_int_equal(strlen(words), 127);
	assert_null(strchr(words, '\n'));
	plugin_close(&p);
}

static void test_fails_every_third_call(void **state)
{
	(void)state;
	char words[128];
	struct tunnel_identity id;
	struct plugin *p = moody(NULL, LINES("needed=1", "fail_every=3"));
	for (int i = 1; i <= 9; i++) {
		assert_int_equal(verify(p, 0, words, &id), i % 3 ? TUNNEL_OK : TUNNEL_UNAVAILABLE);
		if (i % 3 == 0)
			assert_string_equal(words, "auth-moody: unavailable");
	}
	plugin_close(&p);
}

static void *verify_twenty(void *arg)
{
	char words[128];
	struct tunnel_identity id;
	for (int i = 0; i < 20; i++)
		if (verify(arg, 0, words, &id) != TUNNEL_OK)
			return arg; /* not NULL: failed */
	return NULL;
}

static void test_serial_calls_never_overlap(void **state)
{
	(void)state;
	pthread_t threads[6];
	char words[128];
	struct tunnel_identity id;
	struct plugin *p = moody(NULL, LINES("needed=1", "delay=1ms"));
	for (size_t i = 0; i < 6; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, verify_twenty, p), 0);
	for (size_t i = 0; i < 6; i++) {
		void *failed = NULL;
		pthread_join(threads[i], &failed);
		assert_null(failed);
	}
	assert_int_equal(verify(p, 0, words, &id), TUNNEL_OK);
	assert_string_equal(id.subject, "calls=121 overlaps=0");
	plugin_close(&p);
}

static atomic_bool enough;

static void *verify_until_enough(void *arg)
{
	char words[128];
	struct tunnel_identity id;
	while (!enough)
		verify(arg, 0, words, &id);
	return NULL;
}

/* A call that waits its turn gives up at its deadline; one whose deadline has passed does not start. */
static void test_deadline_ends_the_wait_for_a_turn(void **state)
{
	(void)state;
	char words[128];
	struct tunnel_identity id;
	pthread_t slow;
	struct plugin *p = moody(NULL, LINES("needed=1", "delay=60ms"));
	assert_int_equal(verify(p, -1, words, &id), TUNNEL_TIMEOUT);
	assert_string_equal(words, "auth-moody: the deadline had passed before the call");
	assert_int_equal(pthread_create(&slow, NULL, verify_until_enough, p), 0);
	int64_t until = clock_mono_ms() + 60000;
	bool in_queue = false;
	while (!in_queue &&
	       clock_mono_ms() < until) { /* the other thread may have no turn yet, this one sleep too long */
		nanosleep(&(struct timespec){ .tv_nsec = 5000000 }, NULL);
		int rc = verify(p, 20, words, &id);
		assert_int_equal(rc, TUNNEL_TIMEOUT); /* a call alone takes longer */
		in_queue = rc == TUNNEL_TIMEOUT && strstr(words, "the deadline passed in the queue");
	}
	assert_true(in_queue);
	enough = true;
	pthread_join(slow, NULL);
	plugin_close(&p);
}

/* ---- a plugin that hangs ---- */

struct hanging {
	struct plugin *p;
	char folder[64], file[80], held[96];
	pthread_t callers[2]; /* the first is inside, the second waits for its turn */
};

static void *verify_once(void *arg)
{
	char words[128];
	struct tunnel_identity id;
	return verify(arg, 0, words, &id) == TUNNEL_OK ? NULL : arg;
}

static unsigned calls_at(struct plugin *p)
{
	pthread_mutex_lock(&p->lock);
	unsigned n = p->calls;
	pthread_mutex_unlock(&p->lock);
	return n;
}

/* limited: before the first call; else behind the second. */
static struct hanging hang_at(unsigned places, bool limited)
{
	struct hanging h = { .folder = "/tmp/tunnel-calls-XXXXXX" };
	char line[100];
	assert_non_null(mkdtemp(h.folder));
	snprintf(h.file, sizeof h.file, "%s/hold", h.folder);
	snprintf(h.held, sizeof h.held, "%s.held", h.file);
	snprintf(line, sizeof line, "hold=%s", h.file);
	fclose(fopen(h.file, "w"));
	h.p = moody(NULL, LINES("needed=1", line));
	if (limited)
		plugin_limit_calls(h.p, places);
	for (size_t i = 0; i < 2; i++) {
		assert_int_equal(pthread_create(&h.callers[i], NULL, verify_once, h.p), 0);
		while (i == 0 ? access(h.held, F_OK) != 0 : limited && calls_at(h.p) < 2)
			nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
	}
	if (!limited)
		plugin_limit_calls(h.p, places);
	return h;
}

static struct hanging hang(unsigned places)
{
	return hang_at(places, true);
}

static void hang_end(struct hanging *h)
{
	char words[128];
	struct tunnel_identity id;
	unlink(h->file);
	for (size_t i = 0; i < 2; i++) {
		void *failed = NULL;
		pthread_join(h->callers[i], &failed);
		assert_null(failed);
	}
	assert_int_equal(verify(h->p, 0, words, &id), TUNNEL_OK);
	unlink(h->held);
	rmdir(h->folder);
	plugin_close(&h->p);
}

static void test_a_hanging_plugin_gets_no_more_callers_than_it_may_have(void **state)
{
	(void)state;
	char words[128];
	struct tunnel_identity id;
	struct hanging h = hang(2);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(verify(h.p, 0, words, &id), TUNNEL_UNAVAILABLE);
		assert_non_null(strstr(words, "auth-moody: busy"));
	}
	hang_end(&h);
}

/* A call that has begun before takes no place, and gives none back. */
static void test_a_limit_that_comes_late_counts_from_then_on(void **state)
{
	(void)state;
	struct hanging h = hang_at(2, false);
	hang_end(&h);
}

static void test_a_reload_does_not_wait_for_ever(void **state)
{
	(void)state;
	struct err e = { 0 };
	struct hanging h = hang(3);
	assert_int_equal(plugin_reload(h.p, &e), ERR_TIMEOUT);
	assert_says(&e, "plugin auth-moody: reload: its turn did not come");
	hang_end(&h);
}

/* Calls until one gets in before its deadline; what becomes of an answer after it. */
static int late_answer(struct plugin *p, int (*ask)(struct plugin *, int64_t, char *, struct tunnel_identity *),
		       char words[128], struct tunnel_identity *id)
{
	for (int64_t within_ms = 50; within_ms < 60000; within_ms *= 2) {
		int rc = ask(p, within_ms, words, id);
		if (rc != TUNNEL_TIMEOUT || !strstr(words, "the deadline had passed before the call"))
			return rc;
	}
	fail_msg("no call got in");
	return 0;
}

static int authorize(struct plugin *p, int64_t within_ms, char words[128], struct tunnel_identity *id)
{
	struct tunnel_call call = { .size = sizeof call, .err = words, .err_len = 128 };
	call.deadline_ms = within_ms ? clock_mono_ms() + within_ms : 0;
	return plugin_auth_authorize_blocking(p, &call, id, "tunnel:StartSession", "target/web-1", "{}");
}

static void test_a_late_decision_refuses(void **state)
{
	(void)state;
	static const struct {
		const char *verify, *authorize;
		int want;
	} answers[] = {
		{ "answer=0", "opinion=0", TUNNEL_TIMEOUT },
		{ "answer=1", "opinion=1", TUNNEL_TIMEOUT },
		{ "answer=4", "opinion=4", TUNNEL_TIMEOUT },
		{ "answer=-1", "opinion=-1", TUNNEL_UNAVAILABLE }, /* no answer, and it says why */
	};
	for (size_t i = 0; i < sizeof answers / sizeof *answers; i++) {
		struct plugin *p = moody(NULL, LINES("needed=1", "late=true", answers[i].verify, answers[i].authorize));
		struct tunnel_identity id;
		char words[128];
		const char *said = answers[i].want == TUNNEL_TIMEOUT ? "auth-moody: the answer came after the deadline"
								     : "auth-moody: unavailable";
		assert_int_equal(late_answer(p, verify, words, &id), answers[i].want);
		assert_string_equal(words, said);
		assert_string_equal(id.subject, "");
		assert_int_equal(late_answer(p, authorize, words, &id), answers[i].want);
		assert_string_equal(words, said);
		plugin_close(&p);
	}
}

static void test_a_call_without_deadline_is_never_late(void **state)
{
	(void)state;
	struct tunnel_identity id;
	char words[128];
	struct plugin *p = moody(NULL, LINES("needed=1", "late=true", "opinion=0"));
	assert_int_equal(verify(p, 0, words, &id), TUNNEL_OK);
	assert_int_equal(authorize(p, 0, words, &id), TUNNEL_OK);
	plugin_close(&p);
}

/* What a store wrote is written, whenever it says so. */
static void test_a_late_store_has_done_it(void **state)
{
	(void)state;
	struct section_case s;
	struct plugin *p = NULL;
	struct err e = { 0 };
	uint64_t n = 0;
	char words[128] = "";
	struct tunnel_put put = { .size = sizeof put, .collection = "c", .key = "late", .value = "1", .value_len = 1 };
	struct tunnel_call call = { .size = sizeof call, .err = words, .err_len = sizeof words };
	assert_int_equal(plugin_open(DOUBLES_DIR, section_of(&s, "store-liar", NULL), TUNNEL_KIND_STORE, NULL, &p, &e),
			 0);
	int rc = TUNNEL_TIMEOUT;
	for (int64_t within_ms = 50; rc == TUNNEL_TIMEOUT && within_ms < 60000; within_ms *= 2) {
		call.deadline_ms = clock_mono_ms() + within_ms; /* it may have passed before the call */
		rc = plugin_store_put_blocking(p, &call, &put, &n);
	}
	assert_int_equal(rc, TUNNEL_OK);
	assert_true(clock_mono_ms() >= call.deadline_ms);
	assert_int_equal(n, 11);
	n = 0, rc = TUNNEL_TIMEOUT;
	for (int64_t within_ms = 50; rc == TUNNEL_TIMEOUT && within_ms < 60000; within_ms *= 2) {
		call.deadline_ms = clock_mono_ms() + within_ms;
		rc = plugin_store_append_blocking(p, &call, "late", "1", 1, &n);
	}
	assert_int_equal(rc, TUNNEL_OK);
	assert_true(clock_mono_ms() >= call.deadline_ms);
	assert_int_equal(n, 11);
	plugin_close(&p);
}

static void test_counts_and_reloads(void **state)
{
	(void)state;
	struct metrics *m = metrics_new();
	struct err e = { 0 };
	struct plugin *p = moody(m, LINES("needed=1"));
	assert_int_equal(plugin_reload(p, &e), ERR_INVALID);
	assert_string_equal(e.text, "plugin auth-moody: reload: not in the mood");
	char *text = metrics_text(m);
	assert_non_null(strstr(text, "\ntunnel_plugin_auth_moody_opens_total 1\n"));
	assert_null(strstr(text, "Bad"));
	free(text);
	plugin_close(&p);
	metrics_free(&m);
}

static int take_any(void *arg, const struct tunnel_row *row)
{
	(void)row;
	++*(int *)arg;
	return 0;
}

static void test_a_lying_store_is_found_out(void **state)
{
	(void)state;
	struct section_case s;
	struct plugin *p = NULL;
	struct err e = { 0 };
	int rows = 0;
	uint64_t n = 7;
	char words[128], cursor[TUNNEL_CURSOR_MAX] = "before";
	struct tunnel_call call = { .size = sizeof call, .err = words, .err_len = sizeof words };
	struct tunnel_put put = { .size = sizeof put, .collection = "c", .key = "k", .value = "1", .value_len = 1 };
	struct tunnel_scan scan = { .size = sizeof scan, .collection = "c", .limit = 2 };
	assert_int_equal(plugin_open(DOUBLES_DIR, section_of(&s, "store-liar", NULL), TUNNEL_KIND_STORE, NULL, &p, &e),
			 0);
	assert_int_equal(plugin_store_get_blocking(p, &call, "c", "no-row", take_any, &rows), TUNNEL_INTERNAL);
	assert_string_equal(words, "store-liar: get answered OK without exactly one row");
	assert_int_equal(plugin_store_get_blocking(p, &call, "c", "twice", take_any, &rows), TUNNEL_INTERNAL);
	assert_int_equal(rows, 1);
	assert_int_equal(plugin_store_get_blocking(p, &call, "c", "denied", take_any, &rows), TUNNEL_INTERNAL);
	assert_int_equal(plugin_store_put_blocking(p, &call, &put, &n), TUNNEL_INTERNAL);
	assert_int_equal(plugin_store_append_blocking(p, &call, "l", "1", 1, &n), TUNNEL_INTERNAL);
	assert_int_equal(n, 7);
	assert_int_equal(plugin_store_del_blocking(p, &call, "c", "k", 1), TUNNEL_INTERNAL);
	rows = 0;
	assert_int_equal(plugin_store_scan_blocking(p, &call, &scan, take_any, &rows, cursor), TUNNEL_INTERNAL);
	assert_int_equal(rows, 2);
	scan.prefix = "x";
	assert_int_equal(plugin_store_scan_blocking(p, &call, &scan, take_any, &rows, cursor), TUNNEL_INTERNAL);
	assert_string_equal(cursor, "before");
	assert_int_equal(plugin_store_read_blocking(p, &call, "l", 1, 3, take_any, &rows), TUNNEL_INTERNAL);
	assert_int_equal(plugin_store_publish_blocking(p, &call, "c", "1", 1), TUNNEL_INTERNAL);
	assert_int_equal(plugin_store_subscribe_blocking(p, &call, NULL, NULL), TUNNEL_UNAVAILABLE);
	assert_string_equal(words, "store-liar: unavailable");
	assert_int_equal(plugin_store_health_blocking(p, &call), TUNNEL_INTERNAL);
	assert_string_equal(words, "store-liar: answered -99, which this operation may not");
	plugin_close(&p);

	struct store *store = NULL;
	json_t *doc = NULL;
	assert_int_equal(store_open(DOUBLES_DIR, section_of(&s, "store-liar", NULL), NULL, &store, &e), 0);
	assert_int_equal(store_get_blocking(store, "c", "not-json", &doc, NULL, &e), ERR_INTERNAL);
	assert_string_equal(e.text, "store: c k, version 1, is not JSON");
	assert_null(doc);
	store_close(&store);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_strange_results_refuse),
		cmocka_unit_test(test_texts_always_end),
		cmocka_unit_test(test_fails_every_third_call),
		cmocka_unit_test(test_serial_calls_never_overlap),
		cmocka_unit_test(test_deadline_ends_the_wait_for_a_turn),
		cmocka_unit_test(test_a_hanging_plugin_gets_no_more_callers_than_it_may_have),
		cmocka_unit_test(test_a_limit_that_comes_late_counts_from_then_on),
		cmocka_unit_test(test_a_reload_does_not_wait_for_ever),
		cmocka_unit_test(test_a_late_decision_refuses),
		cmocka_unit_test(test_a_call_without_deadline_is_never_late),
		cmocka_unit_test(test_a_late_store_has_done_it),
		cmocka_unit_test(test_counts_and_reloads),
		cmocka_unit_test(test_a_lying_store_is_found_out),
	};
	return RUN_CASES(tests);
}
