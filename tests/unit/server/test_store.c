/* server/store.c on the SQLite store. */
#include "plugin_case.h"

#include "base/clock.h"
#include "server/metrics.h"
#include "server/store.h"

#include <pthread.h>

static char folder[64];

static struct store *open_measured(struct metrics *metrics)
{
	char line[128];
	struct section_case s;
	struct store *store = NULL;
	struct err e = { 0 };
	snprintf(line, sizeof line, "path=%s/s.db", folder);
	if (store_open(PLUGINS_DIR, section_of(&s, "store-sqlite", LINES(line)), metrics, &store, &e) != 0)
		fail_msg("%s", e.text);
	return store;
}

static struct store *open_store(void)
{
	return open_measured(NULL);
}

static int make_folder(void **state)
{
	(void)state;
	case_folder(folder);
	return 0;
}

static int remove_folder(void **state)
{
	(void)state;
	case_folder_remove(folder);
	return 0;
}

static void test_documents(void **state)
{
	(void)state;
	struct store *store = open_store();
	struct err e = { 0 };
	json_t *doc = json_pack("{s:s,s:i}", "id", "s-1", "n", 1), *got = NULL;
	uint64_t version = 0;
	const struct tunnel_index indexes[] = { { "principal", "alice" }, { NULL, NULL } };
	assert_int_equal(store_get_blocking(store, "sessions", "s-1", &got, &version, &e), ERR_NOT_FOUND);
	assert_string_equal(e.text, "store: no such document");
	assert_int_equal(
		store_put_blocking(store, "sessions", "s-1", doc, TUNNEL_VERSION_NONE, 0, indexes, &version, &e), 0);
	assert_int_equal(version, 1);
	assert_int_equal(store_put_blocking(store, "sessions", "s-1", doc, 5, 0, NULL, &version, &e), ERR_CONFLICT);
	assert_string_equal(e.text, "store: the version is 1; expected 5");
	assert_int_equal(store_get_blocking(store, "sessions", "s-1", &got, &version, &e), 0);
	assert_true(json_equal(doc, got));
	json_decref(got);
	assert_int_equal(store_get_blocking(store, "sessions", "s-1", NULL, NULL, &e), 0);
	assert_int_equal(store_get_blocking(store, "Bad Name", "s-1", &got, NULL, &e), ERR_INTERNAL);
	assert_int_equal(store_del_blocking(store, "sessions", "s-1", 9, &e), ERR_CONFLICT);
	assert_int_equal(store_del_blocking(store, "sessions", "s-1", 1, &e), 0);
	assert_int_equal(store_del_blocking(store, "sessions", "s-1", 1, &e), ERR_NOT_FOUND);
	assert_int_equal(store_health_blocking(store, &e), 0);
	json_decref(doc);
	store_close(&store);
}

struct walked {
	char text[256];
	int stop_after;
};

static int walk(void *arg, const char *key, json_t *doc, uint64_t version)
{
	struct walked *w = arg;
	size_t used = strlen(w->text);
	snprintf(w->text + used, sizeof w->text - used, "%s:%d:%d ", key,
		 (int)json_integer_value(json_object_get(doc, "n")), (int)version);
	return w->stop_after && --w->stop_after == 0;
}

static void test_scans_by_key_and_index(void **state)
{
	(void)state;
	struct store *store = open_store();
	struct err e = { 0 };
	for (int i = 0; i < 5; i++) {
		char key[8];
		const struct tunnel_index indexes[] = { { "parity", i % 2 ? "odd" : "even" }, { NULL, NULL } };
		json_t *doc = json_pack("{s:i}", "n", i);
		snprintf(key, sizeof key, "%c/%d", i < 3 ? 'a' : 'b', i);
		assert_int_equal(store_put_blocking(store, "docs", key, doc, TUNNEL_VERSION_ANY, 0, indexes, NULL, &e),
				 0);
		json_decref(doc);
	}
	char cursor[TUNNEL_CURSOR_MAX] = "";
	struct walked w = { .text = "" };
	assert_int_equal(store_scan_blocking(store, "docs", NULL, NULL, 3, cursor, walk, &w, &e), 0);
	assert_string_equal(w.text, "a/0:0:1 a/1:1:1 a/2:2:1 ");
	assert_int_not_equal(cursor[0], '\0');
	assert_int_equal(store_scan_blocking(store, "docs", NULL, NULL, 3, cursor, walk, &w, &e), 0);
	assert_string_equal(w.text, "a/0:0:1 a/1:1:1 a/2:2:1 b/3:3:1 b/4:4:1 ");
	assert_string_equal(cursor, "");
	memset(&w, 0, sizeof w);
	assert_int_equal(store_scan_blocking(store, "docs", NULL, "b/", 3, cursor, walk, &w, &e), 0);
	assert_string_equal(w.text, "b/3:3:1 b/4:4:1 ");
	memset(&w, 0, sizeof w);
	assert_int_equal(store_scan_blocking(store, "docs", "parity", "odd", 3, cursor, walk, &w, &e), 0);
	assert_string_equal(w.text, "a/1:1:1 b/3:3:1 ");
	w = (struct walked){ .stop_after = 1 };
	assert_int_equal(store_scan_blocking(store, "docs", "parity", "even", 3, cursor, walk, &w, &e), 0);
	assert_string_equal(w.text, "a/0:0:1 ");
	store_close(&store);
}

static void test_logs(void **state)
{
	(void)state;
	struct store *store = open_store();
	struct err e = { 0 };
	json_t *records[STORE_RECORDS_MAX + 1];
	uint64_t seq = 0;
	size_t n = 0;
	for (size_t i = 0; i <= STORE_RECORDS_MAX; i++)
		records[i] = json_pack("{s:i}", "n", (int)i * 10 + 10);
	assert_int_equal(store_append_blocking(store, "audit", records, 1, &n, &seq, &e), 0);
	assert_true(n == 1 && seq == 1);
	assert_int_equal(store_append_blocking(store, "audit", records + 1, 2, &n, &seq, &e), 0);
	assert_true(n == 2 && seq == 2);
	assert_int_equal(store_append_blocking(store, "more", records, STORE_RECORDS_MAX + 1, &n, &seq, &e), 0);
	assert_true(n == STORE_RECORDS_MAX && seq == 1);
	for (size_t i = 0; i <= STORE_RECORDS_MAX; i++)
		json_decref(records[i]);
	struct walked w = { .text = "" };
	assert_int_equal(store_read_blocking(store, "audit", 2, 10, walk, &w, &e), 0);
	assert_string_equal(w.text, ":20:2 :30:3 ");
	json_t *message = json_pack("{}");
	assert_int_equal(store_publish_blocking(store, "events", message, &e), 0);
	json_decref(message);
	store_close(&store);
}

static unsigned calls(struct metrics *m)
{
	char *text = metrics_text(m), *at = strstr(text, "tunnel_plugin_call_seconds_count{plugin=\"store-sqlite\"} ");
	unsigned n = at ? (unsigned)atoi(strchr(at, ' ')) : 0;
	free(text);
	return n;
}

struct asker {
	pthread_t thread;
	pthread_barrier_t *start;
	struct store *store;
};

static void *ask(void *arg)
{
	struct asker *a = arg;
	struct err e = { 0 };
	pthread_barrier_wait(a->start);
	if (store_health_blocking(a->store, &e) != 0) /* while the first asks */
		assert_string_equal(e.text, "store: it has not answered yet");
	return NULL;
}

static void test_strangers_ask_for_its_health_and_it_is_asked_once(void **state)
{
	(void)state;
	struct metrics *m = metrics_new();
	struct store *store = open_measured(m);
	struct asker askers[8];
	pthread_barrier_t start;
	struct err e = { 0 };
	int64_t from = clock_mono_ms();
	pthread_barrier_init(&start, NULL, 8);
	for (size_t i = 0; i < 8; i++) {
		askers[i] = (struct asker){ .start = &start, .store = store };
		assert_int_equal(pthread_create(&askers[i].thread, NULL, ask, &askers[i]), 0);
	}
	for (size_t i = 0; i < 8; i++)
		pthread_join(askers[i].thread, NULL);
	for (unsigned i = 0; i < 100; i++)
		assert_int_equal(store_health_blocking(store, &e), 0);
	assert_true(calls(m) >= 1 && calls(m) <= 1 + (clock_mono_ms() - from) / 1000);
	for (unsigned before = calls(m); calls(m) == before;) /* but not once for all */
		assert_int_equal(store_health_blocking(store, &e), 0);
	pthread_barrier_destroy(&start);
	store_close(&store);
	metrics_free(&m);
}

static void test_refuses_an_auth_plugin(void **state)
{
	(void)state;
	struct section_case s;
	struct store *store = NULL;
	struct err e = { 0 };
	assert_int_equal(store_open(DOUBLES_DIR, section_of(&s, "auth-minimal", NULL), NULL, &store, &e), ERR_INVALID);
	assert_says(&e, "this is a plugin of kind auth; expected kind store");
	assert_null(store);
}

static void test_metrics_text(void **state)
{
	(void)state;
	struct metrics *m = metrics_new();
	metrics_add(m, METRIC_HTTP_REQUESTS, 3);
	metrics_set(m, METRIC_LEGS_OPEN, 5);
	metrics_add(m, METRIC_LEGS_OPEN, -1);
	for (int i = 0; i < 70; i++) {
		char name[32];
		snprintf(name, sizeof name, "n%c%c", 'a' + i / 26, 'a' + i % 26);
		metrics_plugin_add(m, "auth-x", name, (uint64_t)i);
	}
	metrics_plugin_add(m, "auth-x", "nab", 10);
	char *text = metrics_text(m);
	assert_non_null(text);
	assert_non_null(strstr(text, "# TYPE tunnel_http_requests_total counter\ntunnel_http_requests_total 3\n"));
	assert_non_null(strstr(text, "# TYPE tunnel_legs_open gauge\ntunnel_legs_open 4\n"));
	assert_non_null(strstr(text, "\ntunnel_plugin_auth_x_nab_total 11\n"));
	assert_non_null(strstr(text, "tunnel_plugin_auth_x_ncl_total 63\n"));
	assert_null(strstr(text, "tunnel_plugin_auth_x_ncm_total")); /* the 65th */
	free(text);
	metrics_free(&m);
	assert_null(m);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_documents, make_folder, remove_folder),
		cmocka_unit_test_setup_teardown(test_scans_by_key_and_index, make_folder, remove_folder),
		cmocka_unit_test_setup_teardown(test_logs, make_folder, remove_folder),
		cmocka_unit_test_setup_teardown(test_strangers_ask_for_its_health_and_it_is_asked_once, make_folder,
						remove_folder),
		cmocka_unit_test(test_refuses_an_auth_plugin),
		cmocka_unit_test(test_metrics_text),
	};
	return RUN_CASES(tests);
}
