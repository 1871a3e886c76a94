/* What is particular to the SQLite store: its file, its locks, its failures. The rules of every store are in
 * tests/conformance. */
#include "support/case.h"

#include "base/clock.h"
#include "base/file.h"
#include "server/plugin_host.h"

#include <pthread.h>
#include <signal.h>
#include <sqlite3.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static char folder[64], path[128];

static int make_folder(void **state)
{
	(void)state;
	case_folder(folder);
	snprintf(path, sizeof path, "%s/s.db", folder);
	return 0;
}

static int remove_folder(void **state)
{
	(void)state;
	case_folder_remove(folder);
	return 0;
}

static int try_open(const char *busy_timeout, struct plugin **out, struct err *e)
{
	char name[] = "store-sqlite", plugin[] = "plugin", key[] = "path", where[] = "server.conf:3";
	char busy[] = "busy_timeout", purge[] = "purge_interval", often[] = "20ms", wait[16];
	snprintf(wait, sizeof wait, "%s", busy_timeout);
	struct conf_pair pairs[] = {
		{ plugin, name, where }, { key, path, where }, { busy, wait, where }, { purge, often, where }
	};
	struct conf_section section = { .pairs = pairs, .n = 4, .where = where };
	memset(e, 0, sizeof *e);
	return plugin_open(PLUGIN_DIR, &section, TUNNEL_KIND_STORE, NULL, out, e);
}

static struct plugin *open_store(const char *busy_timeout)
{
	struct plugin *p = NULL;
	struct err e;
	if (try_open(busy_timeout, &p, &e) != 0)
		fail_msg("%s", e.text);
	return p;
}

static void assert_refused(const char *says)
{
	struct plugin *p = NULL;
	struct err e;
	int rc = try_open("50ms", &p, &e);
	if (rc >= 0 || !strstr(e.text, says))
		fail_msg("answered %d: %s; expected: %s", rc, e.text, says);
}

static char words[256];

static int put(struct plugin *p, const char *key, const char *value, size_t len, int64_t within_ms, int64_t expires_ms)
{
	struct tunnel_call call = { .size = sizeof call,
				    .deadline_ms = within_ms ? clock_mono_ms() + within_ms : 0,
				    .err = words,
				    .err_len = sizeof words };
	struct tunnel_put q = { .size = sizeof q,
				.collection = "sessions",
				.key = key,
				.value = value,
				.value_len = len,
				.expect_version = TUNNEL_VERSION_ANY,
				.expires_ms = expires_ms };
	return plugin_store_put_blocking(p, &call, &q, NULL);
}

static int nothing(void *arg, const struct tunnel_row *row)
{
	(void)arg, (void)row;
	return 0;
}

static int get(struct plugin *p, const char *key)
{
	struct tunnel_call call = { .size = sizeof call, .err = words, .err_len = sizeof words };
	return plugin_store_get_blocking(p, &call, "sessions", key, nothing, NULL);
}

static int health(struct plugin *p)
{
	struct tunnel_call call = { .size = sizeof call, .err = words, .err_len = sizeof words };
	return plugin_store_health_blocking(p, &call);
}

/* As the sqlite3 shell would: the first column of the first row. */
static sqlite3 *shell_open(void)
{
	sqlite3 *db = NULL;
	assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
	sqlite3_busy_timeout(db, 5000);
	return db;
}

static void shell(sqlite3 *db, const char *sql, char *out, size_t size)
{
	sqlite3_stmt *s = NULL;
	int rc = sqlite3_prepare_v2(db, sql, -1, &s, NULL);
	if (rc != SQLITE_OK)
		fail_msg("%s: %s", sql, sqlite3_errmsg(db));
	rc = sqlite3_step(s);
	if (rc != SQLITE_ROW && rc != SQLITE_DONE)
		fail_msg("%s: %s", sql, sqlite3_errmsg(db));
	if (out)
		snprintf(out, size, "%s", rc == SQLITE_ROW ? (const char *)sqlite3_column_text(s, 0) : "");
	sqlite3_finalize(s);
}

static unsigned mode_of(const char *suffix)
{
	char file[200];
	struct stat st;
	snprintf(file, sizeof file, "%s%s", path, suffix);
	assert_int_equal(stat(file, &st), 0);
	return st.st_mode & 07777;
}

static void test_files_are_private(void **state)
{
	(void)state;
	mode_t before = umask(0);
	struct plugin *p = open_store("1s");
	umask(before);
	assert_int_equal(put(p, "a", "1", 1, 0, 0), TUNNEL_OK);
	assert_int_equal(mode_of(""), 0600);
	assert_int_equal(mode_of("-wal"), 0600);
	assert_int_equal(mode_of("-shm"), 0600);
	assert_int_equal(mode_of("-lock"), 0600);
	plugin_close(&p);
	assert_int_equal(chmod(path, 0640), 0);
	assert_refused("s.db has mode 0640, which lets others in; expected 0600 (chmod 600)");
}

static void test_newer_schema_is_refused(void **state)
{
	(void)state;
	struct plugin *p = open_store("1s");
	plugin_close(&p);
	sqlite3 *db = shell_open();
	shell(db, "PRAGMA user_version = 99", NULL, 0);
	sqlite3_close(db);
	assert_refused("s.db has schema version 99, from a newer tunnel-server; this one knows up to 1");
	db = shell_open();
	char version[16];
	shell(db, "PRAGMA user_version", version, sizeof version);
	assert_string_equal(version, "99"); /* untouched */
	sqlite3_close(db);
}

static void test_foreign_files_are_refused(void **state)
{
	(void)state;
	struct err e;
	char text[4096];
	memset(text, 'x', sizeof text);
	assert_int_equal(file_write(path, text, sizeof text, 0600, &e), 0);
	assert_refused("s.db: not an SQLite database");
	assert_int_equal(unlink(path), 0);
	sqlite3 *db = shell_open();
	shell(db, "CREATE TABLE somebody_elses(x)", NULL, 0);
	sqlite3_close(db);
	assert_int_equal(chmod(path, 0600), 0);
	assert_refused("s.db is another program's database");
	assert_int_equal(unlink(path), 0);
	assert_int_equal(mkdir(path, 0700), 0);
	assert_refused("s.db: Is a directory");
	snprintf(path, sizeof path, "%s/no/s.db", folder);
	assert_refused("No such file or directory");
}

static void test_damage_is_found_at_open(void **state)
{
	(void)state;
	struct plugin *p = open_store("1s");
	for (int i = 0; i < 200; i++) {
		char key[16];
		snprintf(key, sizeof key, "k%d", i);
		assert_int_equal(put(p, key, "\"0123456789012345678901234567890123456789\"", 42, 0, 0), TUNNEL_OK);
	}
	plugin_close(&p); /* folds the log back into the file */
	struct stat st;
	assert_int_equal(stat(path, &st), 0);
	FILE *f = fopen(path, "r+");
	assert_non_null(f);
	for (long at = 4096; at + 4096 <= st.st_size; at += 4096) { /* the headers of all pages but the first */
		fseek(f, at, SEEK_SET);
		fwrite("\xee\xee\xee\xee\xee\xee\xee\xee\xee\xee\xee\xee", 12, 1, f);
	}
	fclose(f);
	assert_refused("s.db is damaged: ");
}

static void test_one_process_at_a_time(void **state)
{
	(void)state;
	struct plugin *p = open_store("1s");
	assert_refused("s.db is in use by another tunnel-server; expected: one at a time");
	plugin_close(&p);
	p = open_store("1s");
	plugin_close(&p);
}

static void *close_soon(void *arg)
{
	struct plugin *p = arg;
	nanosleep(&(struct timespec){ .tv_nsec = 50000000 }, NULL);
	plugin_close(&p);
	return NULL;
}

static void test_waits_for_a_predecessor(void **state)
{
	(void)state;
	pthread_t closer;
	struct plugin *old = open_store("1s");
	assert_int_equal(pthread_create(&closer, NULL, close_soon, old), 0);
	struct plugin *p = open_store("20s");
	pthread_join(closer, NULL);
	plugin_close(&p);
}

static void test_a_view_for_each_collection(void **state)
{
	(void)state;
	char out[128];
	struct plugin *p = open_store("1s");
	assert_int_equal(put(p, "s-1", "{\"state\":\"active\"}", 18, 0, 4102444800000), TUNNEL_OK);
	assert_int_equal(put(p, "s-2", "{}", 2, 0, 1), TUNNEL_OK); /* expired */
	sqlite3 *db = shell_open();
	shell(db, "SELECT key || ' ' || version || ' ' || expires_at || ' ' || (value->>'$.state') FROM sessions", out,
	      sizeof out);
	assert_string_equal(out, "s-1 1 2100-01-01 00:00:00 active");
	shell(db, "SELECT count(*) FROM sessions", out, sizeof out);
	assert_string_equal(out, "1");
	sqlite3_close(db);
	plugin_close(&p);
	p = open_store("1s"); /* the view is there already */
	assert_int_equal(put(p, "s-3", "{}", 2, 0, 0), TUNNEL_OK);
	plugin_close(&p);
}

static void test_expired_rows_leave_the_file(void **state)
{
	(void)state;
	char out[32] = "";
	struct plugin *p = open_store("1s");
	for (int i = 0; i < 1200; i++) { /* more than one round of the purge */
		char key[16];
		snprintf(key, sizeof key, "k%d", i);
		assert_int_equal(put(p, key, "{}", 2, 0, i % 100 == 0 ? 0 : 1), TUNNEL_OK);
	}
	sqlite3 *db = shell_open();
	for (int64_t until = clock_mono_ms() + 60000; strcmp(out, "12") != 0;) {
		assert_true(clock_mono_ms() < until);
		shell(db, "SELECT count(*) FROM _document", out, sizeof out);
	}
	sqlite3_close(db);
	plugin_close(&p);
}

static void test_a_held_database(void **state)
{
	(void)state;
	struct plugin *p = open_store("300ms");
	assert_int_equal(put(p, "before", "1", 1, 0, 0), TUNNEL_OK);
	sqlite3 *db = shell_open();
	shell(db, "BEGIN IMMEDIATE", NULL, 0);

	int64_t took = 300;
	for (int i = 0; i < 20 && took >= 290; i++) { /* once is proof; a busy machine may be slow */
		int64_t start = clock_mono_ms();
		assert_int_equal(put(p, "late", "1", 1, 60, 0), TUNNEL_TIMEOUT); /* before the busy timeout */
		took = clock_mono_ms() - start;
	}
	assert_true(took < 290);
	assert_non_null(strstr(words, "nothing was written"));
	assert_int_equal(put(p, "refused", "1", 1, 10000, 0), TUNNEL_UNAVAILABLE);
	assert_non_null(strstr(words, "another program holds the database"));
	assert_int_equal(health(p), TUNNEL_UNAVAILABLE);
	assert_int_equal(get(p, "before"), TUNNEL_OK); /* reading goes on */

	shell(db, "COMMIT", NULL, 0);
	sqlite3_close(db);
	assert_int_equal(put(p, "after", "1", 1, 10000, 0), TUNNEL_OK);
	assert_int_equal(health(p), TUNNEL_OK);
	assert_int_equal(get(p, "late"), TUNNEL_NOT_FOUND);
	assert_int_equal(get(p, "refused"), TUNNEL_NOT_FOUND);
	plugin_close(&p);
}

/* A file that may not grow stands for a full disk. In a process of its own, since the limit holds for all of it. */
static int fill_up(void)
{
	struct rlimit limit = { 2u << 20, 2u << 20 };
	char *big = malloc(400000);
	struct plugin *p = open_store("300ms");
	int full = 0;
	if (!big || put(p, "before", "1", 1, 0, 0) != TUNNEL_OK)
		return 1;
	memset(big, 'b', 400000);
	big[0] = big[399999] = '"';
	signal(SIGXFSZ, SIG_IGN);
	if (setrlimit(RLIMIT_FSIZE, &limit) != 0)
		return 2;
	for (int i = 0; i < 12 && !full; i++) {
		char key[16];
		snprintf(key, sizeof key, "k%d", i);
		int rc = put(p, key, big, 400000, 0, 0);
		if (rc != TUNNEL_OK && rc != TUNNEL_UNAVAILABLE)
			return 3;
		if (rc == TUNNEL_UNAVAILABLE)
			full = words[0] ? 1 : 4;
		if ((rc == TUNNEL_OK) != (get(p, key) == TUNNEL_OK))
			return 5;
	}
	free(big);
	if (full != 1 || get(p, "before") != TUNNEL_OK)
		return 6;
	plugin_close(&p);
	return 0;
}

static void test_a_full_disk(void **state)
{
	(void)state;
	int status = 0;
	fflush(NULL);
	pid_t child = fork();
	if (child == 0)
		_exit(fill_up());
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	struct plugin *p = open_store("1s");
	assert_int_equal(get(p, "before"), TUNNEL_OK);
	assert_int_equal(get(p, "k0"), TUNNEL_OK);
	assert_int_equal(put(p, "after", "1", 1, 0, 0), TUNNEL_OK);
	plugin_close(&p);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_files_are_private, make_folder, remove_folder),
		cmocka_unit_test_setup_teardown(test_newer_schema_is_refused, make_folder, remove_folder),
		cmocka_unit_test_setup_teardown(test_foreign_files_are_refused, make_folder, remove_folder),
		cmocka_unit_test_setup_teardown(test_damage_is_found_at_open, make_folder, remove_folder),
		cmocka_unit_test_setup_teardown(test_one_process_at_a_time, make_folder, remove_folder),
		cmocka_unit_test_setup_teardown(test_waits_for_a_predecessor, make_folder, remove_folder),
		cmocka_unit_test_setup_teardown(test_a_view_for_each_collection, make_folder, remove_folder),
		cmocka_unit_test_setup_teardown(test_expired_rows_leave_the_file, make_folder, remove_folder),
		cmocka_unit_test_setup_teardown(test_a_held_database, make_folder, remove_folder),
		cmocka_unit_test_setup_teardown(test_a_full_disk, make_folder, remove_folder),
	};
	return RUN_CASES(tests);
}
