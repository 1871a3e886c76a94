#include "support/case.h"

#include "agent/spool.h"
#include "base/file.h"

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

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_reports_wait_for_sync_and_ack, make_folder, remove_folder),
		cmocka_unit_test_setup_teardown(test_everything_survives_a_restart, make_folder, remove_folder),
		cmocka_unit_test_setup_teardown(test_a_torn_line_is_dropped, make_folder, remove_folder),
		cmocka_unit_test_setup_teardown(test_the_file_does_not_grow_for_ever, make_folder, remove_folder),
	};
	return RUN_CASES(tests);
}
