#include "support/case.h"

#include "cli/kept.h"

#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[64];

static int set_up(void **state)
{
	(void)state;
	snprintf(folder, sizeof folder, "/tmp/kept-XXXXXX");
	if (!mkdtemp(folder))
		return -1;
	return setenv("XDG_STATE_HOME", folder, 1);
}

static int tear_down(void **state)
{
	char command[100];
	(void)state;
	snprintf(command, sizeof command, "rm -r '%s'", folder);
	return system(command);
}

static const char *file_of(const char *session)
{
	static char path[200];
	snprintf(path, sizeof path, "%s/tunnel/sessions/%s.json", folder, session);
	return path;
}

static struct kept_session sample(const char *session, int64_t expires_ms)
{
	return (struct kept_session){
		.session = session,
		.target = "db-1",
		.server = "https://tunnel.example.com",
		.profile = "work",
		.forwards = { { [FORWARD_LOCAL] = { { "127.0.0.1:5432:db:5432", "[::1]:80:web:80" }, 2 },
				[FORWARD_SOCKS] = { { "127.0.0.1:1080" }, 1 },
				[FORWARD_REVERSE] = { { "127.0.0.1:8080:web:80" }, 1 } } },
		.expires_ms = expires_ms
	};
}

static void test_what_was_kept_is_read(void **state)
{
	(void)state;
	struct err e = { 0 };
	struct kept_session k = sample("s-1", 5000), got;
	struct stat st;
	assert_int_equal(kept_write(&k, 1000, &e), 0);
	assert_int_equal(stat(file_of("s-1"), &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_int_equal(kept_read("s-1", &got, &e), 0);
	assert_string_equal(got.session, "s-1");
	assert_string_equal(got.target, "db-1");
	assert_string_equal(got.profile, "work");
	assert_null(got.config);
	assert_int_equal(got.forwards.at[FORWARD_LOCAL].n, 2);
	assert_string_equal(got.forwards.at[FORWARD_LOCAL].at[1], "[::1]:80:web:80");
	assert_int_equal(got.forwards.at[FORWARD_SOCKS].n, 1);
	assert_string_equal(got.forwards.at[FORWARD_SOCKS].at[0], "127.0.0.1:1080");
	assert_int_equal(got.forwards.at[FORWARD_REVERSE].n, 1);
	assert_string_equal(got.forwards.at[FORWARD_REVERSE].at[0], "127.0.0.1:8080:web:80");
	assert_true(got.expires_ms == 5000);
	kept_free(&got);
	kept_remove("s-1");
	assert_int_equal(kept_read("s-1", &got, &e), ERR_NOT_FOUND);
	kept_free(&got);
}

static void test_what_has_expired_is_swept_out(void **state)
{
	(void)state;
	struct err e = { 0 };
	struct kept_session old = sample("s-old", 5000), young = sample("s-young", 9000), new = sample("s-new", 9000);
	assert_int_equal(kept_write(&old, 1000, &e), 0);
	assert_int_equal(kept_write(&young, 1000, &e), 0);
	assert_int_equal(kept_write(&new, 6000, &e), 0);
	assert_int_not_equal(access(file_of("s-old"), F_OK), 0);
	assert_int_equal(access(file_of("s-young"), F_OK), 0);
	assert_int_equal(access(file_of("s-new"), F_OK), 0);
}

static void test_a_damaged_file_is_an_error(void **state)
{
	(void)state;
	struct err e = { 0 };
	struct kept_session k = sample("s-1", 5000), got;
	assert_int_equal(kept_write(&k, 1000, &e), 0);
	assert_int_equal(truncate(file_of("s-1"), 20), 0);
	assert_int_not_equal(kept_read("s-1", &got, &e), 0);
	assert_int_equal(forward_count(&got.forwards), 0);
	assert_int_equal(kept_write(&k, 1000, &e), 0);
	assert_int_equal(chmod(file_of("s-1"), 0644), 0);
	assert_int_equal(kept_read("s-1", &got, &e), ERR_DENIED);
	kept_free(&got);
}

static void test_a_file_of_another_session_is_an_error(void **state)
{
	(void)state;
	struct err e = { 0 };
	struct kept_session k = sample("s-1", 5000), got;
	assert_int_equal(kept_write(&k, 1000, &e), 0);
	char *path = strdup(file_of("s-1"));
	assert_int_equal(rename(path, file_of("s-2")), 0);
	free(path);
	assert_int_equal(kept_read("s-2", &got, &e), ERR_INVALID);
	assert_non_null(strstr(e.text, "of another session"));
	assert_null(got.json);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_what_was_kept_is_read, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_what_has_expired_is_swept_out, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_a_damaged_file_is_an_error, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_a_file_of_another_session_is_an_error, set_up, tear_down),
	};
	return RUN_CASES(tests);
}
