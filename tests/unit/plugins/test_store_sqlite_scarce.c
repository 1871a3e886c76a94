/* Each single allocation of the SQLite store, and of SQLite itself, fails once: while it is opened, and in each of its
 * calls. Then the call is done all the same, or says in words why not; what it said it did is there, and nothing is
 * there that nobody asked for. TUNNEL_SWEEP=1 takes each allocation of an opening; else, behind the first forty, each
 * 97th fails. */
#include "support/case.h"
#include "support/failing_alloc.h"

#include <sqlite3.h>
#include <tunnel/plugin.h>
#include <tunnel/store.h>

const struct tunnel_plugin *tunnel_plugin_entry(void);

/* ---- SQLite's memory: each block behind its size ---- */

#define HEAD 16

static void *sqlite_take(int n)
{
	char *p = malloc((size_t)n + HEAD);
	if (!p)
		return NULL;
	memcpy(p, &n, sizeof n);
	return p + HEAD;
}

static void sqlite_give(void *p)
{
	free((char *)p - HEAD);
}

static void *sqlite_resize(void *p, int n)
{
	char *more = realloc((char *)p - HEAD, (size_t)n + HEAD);
	if (!more)
		return NULL;
	memcpy(more, &n, sizeof n);
	return more + HEAD;
}

static int sqlite_size(void *p)
{
	int n = 0;
	if (p)
		memcpy(&n, (char *)p - HEAD, sizeof n);
	return n;
}

static int sqlite_round(int n)
{
	return (n + 7) & ~7;
}

static int sqlite_begin(void *arg)
{
	(void)arg;
	return SQLITE_OK;
}

static void sqlite_end(void *arg)
{
	(void)arg;
}

static void count_sqlite(void)
{
	static const sqlite3_mem_methods methods = { sqlite_take,  sqlite_give,  sqlite_resize, sqlite_size,
						     sqlite_round, sqlite_begin, sqlite_end,    NULL };
	sqlite3_shutdown();
	assert_int_equal(sqlite3_config(SQLITE_CONFIG_MALLOC, &methods), SQLITE_OK);
	assert_int_equal(sqlite3_config(SQLITE_CONFIG_LOOKASIDE, 0, 0), SQLITE_OK);
}

/* ---- the store ---- */

static int64_t now(void *ctx)
{
	(void)ctx;
	return 1000;
}

static void on_log(void *ctx, enum tunnel_log_level level, const char *text)
{
	(void)ctx, (void)level;
	assert_true(text[0]);
}

static void on_count(void *ctx, const char *name, uint64_t n)
{
	(void)ctx, (void)name, (void)n;
}

static const struct tunnel_host host = {
	.size = sizeof host, .abi = TUNNEL_ABI, .log = on_log, .wall_ms = now, .mono_ms = now, .count = on_count
};

static const struct tunnel_store_ops *ops;
static char folder[64], path[96], words[256];

static const struct tunnel_call *call(void)
{
	static const struct tunnel_call one = { .size = sizeof one, .err = words, .err_len = sizeof words };
	words[0] = '\0';
	return &one;
}

static int open_store(void **out)
{
	const struct tunnel_option o[] = {
		{ .size = sizeof *o, .key = "path", .value = path },
		{ .size = sizeof *o, .key = "busy_timeout", .value = "1000" },
		{ .size = sizeof *o, .key = "purge_interval", .value = "3600000" },
		{ .size = sizeof *o, .key = "readers", .value = "1" },
	};
	words[0] = '\0';
	return tunnel_plugin_entry()->open(&host, o, sizeof o / sizeof *o, out, words, sizeof words);
}

static int set_up(void **state)
{
	(void)state;
	count_sqlite();
	ops = tunnel_plugin_entry()->ops;
	snprintf(path, sizeof path, "%s/store.db", case_folder(folder));
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	case_folder_remove(folder);
	return 0;
}

struct row {
	char value[32];
	uint64_t version;
	unsigned n;
};

static int take_row(void *arg, const struct tunnel_row *row)
{
	struct row *out = arg;
	snprintf(out->value, sizeof out->value, "%.*s", (int)row->value_len, row->value);
	out->version = row->version;
	out->n++;
	return 0;
}

static int put(void *store, unsigned i, uint64_t *out_version)
{
	char value[32];
	const struct tunnel_index index = { .name = "state", .value = "active" };
	snprintf(value, sizeof value, "{\"i\":%u}", i);
	const struct tunnel_put one = { .size = sizeof one,
					.collection = "sessions",
					.key = "s-1",
					.value = value,
					.value_len = strlen(value),
					.expect_version = TUNNEL_VERSION_ANY,
					.indexes = &index,
					.index_count = 1 };
	return ops->put(store, call(), &one, out_version);
}

static int scan(void *store, struct row *out)
{
	char cursor[TUNNEL_CURSOR_MAX];
	const struct tunnel_scan one = { .size = sizeof one, .collection = "sessions", .limit = 10 };
	return ops->scan(store, call(), &one, take_row, out, cursor);
}

/* ---- while it is opened ---- */

static size_t step(void)
{
	const char *sweep = getenv("TUNNEL_SWEEP");
	size_t each = sweep ? strtoul(sweep, NULL, 10) : 97;
	return each ? each : 1;
}

static void check_is_there(void *store)
{
	struct row row = { .n = 0 };
	assert_int_equal(ops->get(store, call(), "sessions", "s-1", take_row, &row), TUNNEL_OK);
	assert_string_equal(row.value, "{\"i\":1}");
}

static void test_opening(void **state)
{
	(void)state;
	void *store = NULL;
	uint64_t version;
	bool failed = true;
	assert_int_equal(open_store(&store), 0);
	assert_int_equal(put(store, 1, &version), 0);
	tunnel_plugin_entry()->close(store);
	for (size_t n = 1; failed; n += n < 40 ? 1 : step()) {
		store = NULL;
		failing_alloc_at(n, false);
		int rc = open_store(&store);
		failed = failing_alloc_over();
		assert_true(rc == 0 ? store != NULL : failed && rc < 0 && words[0] && !store);
		if (rc != 0)
			assert_int_equal(open_store(&store), 0);
		check_is_there(store);
		tunnel_plugin_entry()->close(store);
	}
}

/* ---- in its calls ---- */

struct sweep {
	void *store;
	unsigned runs;
	uint64_t version; /* of what is stored */
	char value[32];
	uint64_t records;
};

/* It says so, and nothing else is stored than before or what was put. */
static bool put_once(void *arg)
{
	struct sweep *s = arg;
	struct row row = { .n = 0 };
	char value[32];
	uint64_t version = 0;
	snprintf(value, sizeof value, "{\"i\":%u}", ++s->runs);
	int rc = put(s->store, s->runs, &version);
	bool failed = failing_alloc_over();
	assert_true(rc == 0 || (failed && rc < 0 && words[0]));
	assert_int_equal(ops->get(s->store, call(), "sessions", "s-1", take_row, &row), TUNNEL_OK);
	if (rc == 0)
		assert_true(row.version == version && strcmp(row.value, value) == 0);
	else
		assert_true(strcmp(row.value, value) == 0 ||
			    (row.version == s->version && strcmp(row.value, s->value) == 0));
	s->version = row.version;
	memcpy(s->value, row.value, sizeof row.value);
	return failed;
}

static bool append_once(void *arg)
{
	struct sweep *s = arg;
	struct row row = { .n = 0 };
	uint64_t seq = 0;
	int rc = ops->append(s->store, call(), "audit", "{}", 2, &seq);
	bool failed = failing_alloc_over();
	assert_true(rc == 0 ? seq == s->records + 1 : failed && rc < 0 && words[0]);
	assert_int_equal(ops->read(s->store, call(), "audit", s->records + 1, 10, take_row, &row), TUNNEL_OK);
	assert_true(row.n <= 1 && (rc != 0 || row.n == 1));
	s->records += row.n;
	return failed;
}

static bool read_once(void *arg)
{
	struct sweep *s = arg;
	struct row got = { .n = 0 }, scanned = { .n = 0 }, read = { .n = 0 };
	char why[3][sizeof words];
	int rc[3];
	rc[0] = ops->get(s->store, call(), "sessions", "s-1", take_row, &got);
	memcpy(why[0], words, sizeof words);
	rc[1] = scan(s->store, &scanned);
	memcpy(why[1], words, sizeof words);
	rc[2] = ops->read(s->store, call(), "audit", 1, 1, take_row, &read);
	memcpy(why[2], words, sizeof words);
	bool failed = failing_alloc_over();
	const struct row *rows[] = { &got, &scanned, &read };
	for (size_t i = 0; i < 3; i++)
		assert_true(rc[i] == 0 ? rows[i]->n == 1 : failed && rc[i] < 0 && why[i][0]);
	return failed;
}

static bool delete_once(void *arg)
{
	struct sweep *s = arg;
	struct row row = { .n = 0 };
	uint64_t version = 0;
	int rc = ops->del(s->store, call(), "sessions", "s-1", TUNNEL_VERSION_ANY);
	bool failed = failing_alloc_over();
	assert_true(rc == 0 || (failed && rc < 0 && words[0]));
	int there = ops->get(s->store, call(), "sessions", "s-1", take_row, &row);
	assert_true(rc == 0 ? there == TUNNEL_NOT_FOUND : there == TUNNEL_OK || there == TUNNEL_NOT_FOUND);
	assert_int_equal(put(s->store, 1, &version), 0);
	return failed;
}

static void sweep_calls(bool (*run)(void *arg))
{
	struct sweep s = { .runs = 1, .value = "{\"i\":1}" };
	uint64_t seq;
	assert_int_equal(open_store(&s.store), 0);
	assert_int_equal(put(s.store, 1, &s.version), 0);
	assert_int_equal(ops->append(s.store, call(), "audit", "{}", 2, &seq), 0);
	s.records = seq;
	assert_true(failing_alloc_sweep(run, &s) > 3);
	tunnel_plugin_entry()->close(s.store);
}

static void test_put(void **state)
{
	(void)state;
	sweep_calls(put_once);
}

static void test_append(void **state)
{
	(void)state;
	sweep_calls(append_once);
}

static void test_reading(void **state)
{
	(void)state;
	sweep_calls(read_once);
}

static void test_del(void **state)
{
	(void)state;
	sweep_calls(delete_once);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_opening, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_put, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_append, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_reading, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_del, set_up, tear_down),
	};
	return RUN_CASES(tests);
}
