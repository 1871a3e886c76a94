#include "support/case.h"
#include "support/failing_alloc.h"

#include "agent/spool.h"
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[64], path[128];

static int make_folder(void **state)
{
	(void)state;
	snprintf(path, sizeof path, "%s/reports", case_folder(folder));
	return 0;
}

static int remove_folder(void **state)
{
	(void)state;
	case_folder_remove(folder);
	return 0;
}

static struct spool *reopen(struct spool **old)
{
	struct spool *s = NULL;
	struct err e = { 0 };
	spool_close(old);
	if (spool_open(path, &s, &e))
		fail_msg("%s", e.text);
	return s;
}

static void add(struct spool *s, const char *session, uint64_t number, const char *type)
{
	struct err e = { 0 };
	json_t *body = json_pack("{s:s, s:s, s:i}", "type", type, "session", session, "stream", (int)number);
	if (spool_add(s, session, number, body, &e))
		fail_msg("%s", e.text);
	json_decref(body);
}

static size_t waiting(const struct spool *s, uint64_t *first, uint64_t *last)
{
	uint64_t at = 0, seq;
	size_t n = 0;
	*first = *last = 0;
	while (spool_next(s, at, &seq)) {
		assert_true(seq > at);
		if (!n++)
			*first = seq;
		*last = at = seq;
	}
	return n;
}

static void test_reports_wait_for_sync_and_ack(void **state)
{
	(void)state;
	struct spool *s = NULL;
	uint64_t first, last;
	s = reopen(&s);
	add(s, "s-1", 1, "stream-opened");
	add(s, "s-1", 2, "stream-closed");
	assert_int_equal(waiting(s, &first, &last), 0); /* not durable yet: not sent */
	assert_int_equal(spool_sync(s, NULL), 0);
	assert_int_equal(waiting(s, &first, &last), 2);
	assert_int_equal(last, first + 1);
	json_t *sent = json_loads(spool_next(s, 0, &first), 0, NULL);
	assert_string_equal(json_string_value(json_object_get(sent, "type")), "stream-opened");
	assert_int_equal(json_integer_value(json_object_get(sent, "seq")), first);
	assert_null(json_object_get(sent, "n"));
	json_decref(sent);
	spool_ack(s, first);
	assert_int_equal(waiting(s, &first, &last), 1);
	spool_ack(s, last + 100);
	assert_int_equal(waiting(s, &first, &last), 0);
	spool_close(&s);
}

static void test_only_an_end_is_in_a_hurry(void **state)
{
	(void)state;
	struct spool *s = NULL;
	bool hurry = true;
	s = reopen(&s);
	assert_false(spool_waits(s, &hurry));
	assert_false(hurry);
	add(s, "s-1", 1, "stream-opened");
	assert_true(spool_waits(s, &hurry));
	assert_false(hurry);
	add(s, "s-1", 2, "session-closed");
	add(s, "s-2", 1, "stream-opened");
	assert_true(spool_waits(s, &hurry));
	assert_true(hurry);
	assert_int_equal(spool_sync(s, NULL), 0);
	assert_false(spool_waits(s, &hurry));
	assert_false(hurry);
	spool_close(&s);
}

static void test_everything_survives_a_restart(void **state)
{
	(void)state;
	struct spool *s = NULL;
	uint64_t first, last, seq, again;
	s = reopen(&s);
	add(s, "s-1", 1, "stream-opened");
	add(s, "s-2", 1, "stream-opened");
	add(s, "s-1", 2, "stream-closed");
	spool_sync(s, NULL);
	waiting(s, &first, &last);
	spool_ack(s, first);
	s = reopen(&s);
	assert_int_equal(waiting(s, &seq, &again), 2);
	assert_int_equal(seq, first + 1);
	assert_int_equal(again, last);
	assert_int_equal(spool_last_number(s, "s-1"), 2);
	/* The worker repeats what was not acknowledged to it: known already. */
	add(s, "s-1", 2, "stream-closed");
	add(s, "s-1", 3, "session-closed");
	spool_sync(s, NULL);
	assert_int_equal(waiting(s, &seq, &again), 3);
	assert_int_equal(again, last + 1);
	spool_ack(s, again);
	spool_forget(s, "s-1");
	s = reopen(&s);
	s = reopen(&s);
	assert_int_equal(waiting(s, &seq, &again), 0);
	assert_int_equal(spool_last_number(s, "s-1"), 0);
	assert_int_equal(spool_last_number(s, "s-2"), 1);
	add(s, "s-3", 1, "stream-opened");
	spool_sync(s, NULL);
	waiting(s, &seq, &again);
	assert_true(seq > last + 1); /* numbers are not used twice */
	spool_close(&s);
}

static bool is_the_second(const void *user, const char *session)
{
	(void)user;
	return strcmp(session, "s-2") == 0;
}

static void test_numbers_of_workers_that_are_gone_do_not_stay(void **state)
{
	(void)state;
	struct spool *s = NULL;
	uint64_t first, last;
	s = reopen(&s);
	add(s, "s-1", 1, "stream-opened");
	add(s, "s-2", 1, "stream-opened");
	spool_sync(s, NULL);
	for (int i = 0; i < 3; i++) { /* the report of the first, which waits, has its number, too */
		s = reopen(&s);
		spool_forget_others(s, is_the_second, NULL);
		assert_int_equal(spool_last_number(s, "s-1"), 0);
		assert_int_equal(spool_last_number(s, "s-2"), 1);
		assert_int_equal(waiting(s, &first, &last), 2);
	}
	add(s, "s-1", 1, "stream-opened"); /* another worker of that name is not taken for the one of before */
	add(s, "s-2", 1, "stream-opened");
	spool_sync(s, NULL);
	assert_int_equal(waiting(s, &first, &last), 3);
	spool_close(&s);
}

/* The file cut at every length: what was whole is there, and new reports can be added and read back. */
static void test_a_torn_line_is_dropped(void **state)
{
	(void)state;
	struct spool *s = NULL;
	struct buf text;
	uint64_t first, last;
	s = reopen(&s);
	for (uint64_t i = 1; i <= 3; i++)
		add(s, "s-1", i, "stream-opened");
	spool_sync(s, NULL);
	spool_close(&s);
	assert_int_equal(file_read(path, 100000, &text, NULL), 0);
	for (size_t len = 0; len <= text.len; len++) {
		size_t lines = 0;
		for (size_t i = 0; i < len; i++)
			lines += buf_data(&text)[i] == '\n';
		assert_int_equal(file_write(path, buf_data(&text), len, 0600, NULL), 0);
		s = reopen(&s);
		assert_int_equal(waiting(s, &first, &last), lines ? lines - 1 : 0); /* the first line is the head */
		add(s, "s-9", 1, "stream-opened");
		spool_sync(s, NULL);
		s = reopen(&s);
		assert_int_equal(waiting(s, &first, &last), lines ? lines : 1);
		spool_close(&s);
	}
	buf_free(&text);
}

static void test_the_file_does_not_grow_for_ever(void **state)
{
	(void)state;
	struct spool *s = NULL;
	struct stat st;
	uint64_t first, last;
	s = reopen(&s);
	for (uint64_t i = 1; i <= 20000; i++) {
		add(s, "s-1", i, "stream-opened");
		if (i % 50 == 0) {
			spool_sync(s, NULL);
			waiting(s, &first, &last);
			spool_ack(s, last);
		}
	}
	assert_int_equal(stat(path, &st), 0);
	assert_true(st.st_size < 400 * 1024);
	assert_int_equal(st.st_mode & 0777, 0600);
	spool_close(&s);
}

/* ---- a disk that fails ---- */

int __real_open(const char *name, int flags, ...);
int __wrap_open(const char *name, int flags, ...);
int __wrap_fsync(int fd);
int __wrap_fdatasync(int fd);
int __wrap_ftruncate(int fd, off_t len);

static bool sync_fails, folder_sync_fails, open_fails, truncate_fails;
static off_t durable; /* bytes */

int __wrap_open(const char *name, int flags, ...)
{
	va_list more;
	va_start(more, flags);
	mode_t mode = flags & O_CREAT ? va_arg(more, mode_t) : 0;
	va_end(more);
	if (open_fails && flags & O_APPEND) {
		errno = EMFILE;
		return -1;
	}
	return __real_open(name, flags, mode);
}

/* One that fails loses what it was to keep, once: from then on all seems well. */
int __wrap_fdatasync(int fd)
{
	struct stat st;
	if (sync_fails) {
		sync_fails = false;
		assert_int_equal(truncate(path, durable), 0);
		errno = EIO;
		return -1;
	}
	if (fstat(fd, &st) == 0)
		durable = st.st_size;
	return 0;
}

int __real_fsync(int fd);
int __wrap_fsync(int fd)
{
	struct stat st;
	if (!folder_sync_fails || fstat(fd, &st) != 0 || !S_ISDIR(st.st_mode))
		return __real_fsync(fd);
	errno = EIO;
	return -1;
}

int __real_ftruncate(int fd, off_t len);
int __wrap_ftruncate(int fd, off_t len)
{
	errno = EIO;
	return truncate_fails ? -1 : __real_ftruncate(fd, len);
}

static void test_a_sync_that_failed_is_not_trusted(void **state)
{
	(void)state;
	struct spool *s = NULL;
	struct err e = { 0 };
	uint64_t first, last;
	s = reopen(&s);
	add(s, "s-1", 1, "stream-opened");
	assert_int_equal(spool_sync(s, &e), 0);
	add(s, "s-1", 2, "stream-closed");
	sync_fails = true;
	assert_int_equal(spool_sync(s, &e), ERR_IO);
	assert_non_null(strstr(e.text, path));
	assert_int_equal(waiting(s, &first, &last), 1);
	assert_int_equal(spool_sync(s, &e), 0);
	assert_int_equal(waiting(s, &first, &last), 2);
	s = reopen(&s);
	assert_int_equal(waiting(s, &first, &last), 2);
	spool_close(&s);
}

static int try_to_add(struct spool *s, uint64_t number, struct err *e)
{
	json_t *body = json_pack("{s:s, s:s}", "type", "stream-opened", "session", "s-1");
	int rc = spool_add(s, "s-1", number, body, e);
	json_decref(body);
	return rc;
}

/* Half a line is written and cannot be taken back: what is added behind it is read again all the same. */
static void test_half_a_line_that_stays_hides_nothing(void **state)
{
	(void)state;
	struct spool *s = NULL;
	struct stat st;
	struct err e = { 0 };
	uint64_t first, last;
	struct rlimit all, little;
	s = reopen(&s);
	add(s, "s-1", 1, "stream-opened");
	assert_int_equal(stat(path, &st), 0);
	signal(SIGXFSZ, SIG_IGN);
	getrlimit(RLIMIT_FSIZE, &all);
	little = all;
	little.rlim_cur = (rlim_t)st.st_size + 10;
	setrlimit(RLIMIT_FSIZE, &little);
	truncate_fails = true;
	assert_int_equal(try_to_add(s, 2, &e), ERR_IO);
	truncate_fails = false;
	setrlimit(RLIMIT_FSIZE, &all);
	assert_int_equal(try_to_add(s, 2, &e), 0);
	assert_int_equal(spool_sync(s, &e), 0);
	s = reopen(&s);
	assert_int_equal(waiting(s, &first, &last), 2);
	spool_close(&s);
}

/* The file was replaced and cannot be opened again: it is as soon as there is a descriptor. */
static void test_a_file_that_cannot_be_opened_for_a_while(void **state)
{
	(void)state;
	struct spool *s = NULL;
	struct err e = { 0 };
	uint64_t first, last, number = 0;
	s = reopen(&s);
	open_fails = true;
	while (try_to_add(s, ++number, &e) == 0) {
		spool_sync(s, &e);
		waiting(s, &first, &last);
		spool_ack(s, last);
		assert_true(number < 20000);
	}
	assert_int_equal(e.code, ERR_IO);
	open_fails = false;
	assert_int_equal(try_to_add(s, number, &e), 0);
	assert_int_equal(spool_sync(s, &e), 0);
	assert_int_equal(waiting(s, &first, &last), 1);
	s = reopen(&s);
	assert_int_equal(waiting(s, &first, &last), 1);
	assert_int_equal(spool_last_number(s, "s-1"), number);
	spool_close(&s);
}

/* The file was replaced by one whose name may not last: nothing is added to the one that is gone. */
static void test_a_folder_that_cannot_be_synced(void **state)
{
	(void)state;
	struct spool *s = NULL;
	struct stat before, now;
	struct err e = { 0 };
	uint64_t first, last, number = 0;
	s = reopen(&s);
	assert_int_equal(stat(path, &before), 0);
	folder_sync_fails = true;
	do {
		assert_int_equal(try_to_add(s, ++number, &e), 0);
		assert_int_equal(spool_sync(s, &e), 0);
		waiting(s, &first, &last);
		spool_ack(s, last); /* rewrites it at last, which nobody is told */
		assert_int_equal(stat(path, &now), 0);
	} while (now.st_ino == before.st_ino);
	assert_int_equal(try_to_add(s, ++number, &e), ERR_IO);
	folder_sync_fails = false;
	assert_int_equal(try_to_add(s, number, &e), 0);
	assert_int_equal(spool_sync(s, &e), 0);
	s = reopen(&s);
	assert_int_equal(waiting(s, &first, &last), 1);
	assert_int_equal(spool_last_number(s, "s-1"), number);
	spool_close(&s);
}

/* What was taken is there, once, whatever allocation fails on the way; what was not taken can be added again. */
static bool add_with_little_memory(void *arg)
{
	uint64_t *taken = arg, first, last;
	struct spool *s = NULL;
	struct err e = { 0 };
	int opened = spool_open(path, &s, &e);
	int rc = opened == 0 ? try_to_add(s, *taken + 1, &e) : -1;
	int synced = rc == 0 ? spool_sync(s, &e) : -1;
	bool failed = failing_alloc_over();
	assert_true(failed || synced == 0);
	assert_true(rc >= 0 || (e.code == ERR_NOMEM && e.text[0]));
	if (s)
		spool_close(&s);
	s = reopen(&s);
	*taken += rc == 0;
	assert_int_equal(waiting(s, &first, &last), *taken);
	assert_int_equal(spool_last_number(s, "s-1"), *taken);
	spool_close(&s);
	return failed;
}

static void test_with_little_memory(void **state)
{
	(void)state;
	uint64_t taken = 0;
	failing_alloc_json(false);
	size_t n = failing_alloc_sweep(add_with_little_memory, &taken);
	assert_true(n > 5);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_reports_wait_for_sync_and_ack, make_folder, remove_folder),
		cmocka_unit_test_setup_teardown(test_only_an_end_is_in_a_hurry, make_folder, remove_folder),
		cmocka_unit_test_setup_teardown(test_everything_survives_a_restart, make_folder, remove_folder),
		cmocka_unit_test_setup_teardown(test_numbers_of_workers_that_are_gone_do_not_stay, make_folder,
						remove_folder),
		cmocka_unit_test_setup_teardown(test_a_torn_line_is_dropped, make_folder, remove_folder),
		cmocka_unit_test_setup_teardown(test_the_file_does_not_grow_for_ever, make_folder, remove_folder),
		cmocka_unit_test_setup_teardown(test_a_sync_that_failed_is_not_trusted, make_folder, remove_folder),
		cmocka_unit_test_setup_teardown(test_half_a_line_that_stays_hides_nothing, make_folder, remove_folder),
		cmocka_unit_test_setup_teardown(test_a_folder_that_cannot_be_synced, make_folder, remove_folder),
		cmocka_unit_test_setup_teardown(test_a_file_that_cannot_be_opened_for_a_while, make_folder,
						remove_folder),
		cmocka_unit_test_setup_teardown(test_with_little_memory, make_folder, remove_folder),
	};
	return RUN_CASES(tests);
}
