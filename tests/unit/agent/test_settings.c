#include "support/case.h"

#include "agent/enroll.h"
#include "agent/settings.h"
#include "agent/state.h"
#include "base/file.h"
#include "base/limits.h"
#include "base/secret.h"

#include <unistd.h>

static char folder[64], path[128];

static int make_folder(void **state)
{
	(void)state;
	snprintf(path, sizeof path, "%s/agent.conf", case_folder(folder));
	return 0;
}

static int remove_folder(void **state)
{
	(void)state;
	case_folder_remove(folder);
	return 0;
}

static int load(const char *text, struct settings *out, struct err *e)
{
	assert_int_equal(file_write(path, text, strlen(text), 0644, NULL), 0);
	memset(e, 0, sizeof *e);
	return settings_load(path, NULL, out, e);
}

static void test_defaults(void **state)
{
	(void)state;
	struct settings s;
	struct err e;
	assert_int_equal(load("sshd_path = \"/bin/true\";", &s, &e), 0);
	assert_int_equal(s.allow.n, 1);
	assert_string_equal(s.allow.at[0], "ssh");
	assert_string_equal(s.ssh, "sshd");
	assert_string_equal(s.state_dir, "/var/lib/tunnel-agent");
	assert_null(s.proxy);
	settings_free(&s);
	assert_int_equal(settings_load(path, "/elsewhere", &s, &e), 0);
	assert_string_equal(s.state_dir, "/elsewhere");
	settings_free(&s);
}

/* No worker would take a longer one. */
static void test_a_list_that_is_too_long_is_a_mistake(void **state)
{
	(void)state;
	struct settings s;
	struct err e;
	struct buf text = BUF_INIT(8192);
	buf_add_text(&text, "allow = [ \"tcp:db:1\"");
	for (unsigned i = 1; i < LIMIT_AGENT_ALLOW; i++)
		buf_add_text(&text, ", \"tcp:db:1\"");
	char *most = strndup((const char *)buf_data(&text), text.len), more[8192];
	snprintf(more, sizeof more, "%s, \"tcp:db:2\" ];", most);
	buf_add_text(&text, " ];");
	char *fits = buf_take_text(&text);
	assert_int_equal(load(fits, &s, &e), 0);
	assert_int_equal(s.allow.n, LIMIT_AGENT_ALLOW);
	settings_free(&s);
	assert_int_equal(load(more, &s, &e), ERR_INVALID);
	assert_non_null(strstr(e.text, "at most 256"));
	free(most);
	free(fits);
}

static void test_an_empty_list_allows_nothing(void **state)
{
	(void)state;
	struct settings s;
	struct err e;
	assert_int_equal(load("allow = [ ];", &s, &e), 0);
	assert_int_equal(s.allow.n, 0);
	settings_free(&s);
	assert_int_equal(load("allow = ( );", &s, &e), 0);
	assert_int_equal(s.allow.n, 0);
	settings_free(&s);
}

static void test_whether_sshd_is_on_loopback(void **state)
{
	(void)state;
	static char sshd[] = "sshd", name[] = "localhost:22", v4[] = "127.0.0.1:22", v4_other[] = "127.9.9.9:22",
		    v6[] = "[::1]:22", lan[] = "192.0.2.7:22", lan6[] = "[2001:db8::1]:22", host[] = "box.internal:22",
		    near[] = "localhost.example.com:22";
	char *const yes[] = { sshd, name, v4, v4_other, v6 }, *const no[] = { lan, lan6, host, near };
	for (size_t i = 0; i < sizeof yes / sizeof *yes; i++)
		assert_true(settings_ssh_is_loopback(&(struct settings){ .ssh = yes[i] }));
	for (size_t i = 0; i < sizeof no / sizeof *no; i++)
		assert_false(settings_ssh_is_loopback(&(struct settings){ .ssh = no[i] }));
}

static void test_mistakes_are_named(void **state)
{
	(void)state;
	static const char *const bad[][2] = {
		{ "allow = [ \"ssh\", \"tcp:x\" ];", "tcp:x" },
		{ "ssh = \"22\"; allow = \"ssh\";", "host:port" },
		{ "sshd_path = \"/no/such/sshd\";", "/no/such/sshd" },
		{ "server = \"ftp://x\"; sshd_path = \"/bin/true\";", "server[0]" },
		{ "server = [ \"https://x\", \"http://x\" ]; sshd_path = \"/bin/true\";",
		  "server[1]: URL \"http://x\": must start with https://" },
		{ "state_dir = \"\"; sshd_path = \"/bin/true\";", "agent.conf:1: state_dir: is empty" },
		{ "\nruntime_dir = \"\"; sshd_path = \"/bin/true\";", "agent.conf:2: runtime_dir: is empty" },
		{ "ssh = \"\";", "agent.conf:1: ssh: is empty" },
		{ "alow = \"ssh\";", "alow" },
		{ "runtime_dir = "
		  "\"/0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890\"; "
		  "sshd_path = \"/bin/true\";",
		  "runtime_dir" },
	};
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		struct settings s;
		struct err e;
		assert_int_equal(load(bad[i][0], &s, &e), ERR_INVALID);
		if (!strstr(e.text, bad[i][1]))
			fail_msg("%s: %s", bad[i][0], e.text);
	}
	struct settings s;
	struct err e;
	/* No sshd is needed by who does not offer SSH. */
	assert_int_equal(load("sshd_path = \"/no/such/sshd\"; allow = \"tcp:127.0.0.1:80\";", &s, &e), 0);
	settings_free(&s);
}

static void test_token_file(void **state)
{
	(void)state;
	char *token = NULL;
	struct err e = { 0 };
	assert_int_equal(file_write(path, "\n  abc-DEF \r\n", 13, 0600, NULL), 0);
	assert_int_equal(enroll_read_token(path, &token, &e), 0);
	assert_string_equal(token, "abc-DEF");
	secret_free_text(&token);
	assert_int_equal(file_write(path, " \n", 2, 0600, NULL), 0);
	assert_int_equal(enroll_read_token(path, &token, &e), ERR_INVALID);
	assert_int_equal(enroll_read_token("/no/such/file", &token, &e), ERR_NOT_FOUND);
}

static void test_no_enrolment_in_plain_text(void **state)
{
	(void)state;
	struct settings s = { .state_dir = folder };
	struct err e = { 0 };
	assert_int_equal(enroll_run(&s, "http://127.0.0.1:1", "t", &e), ERR_INVALID);
	assert_string_equal(e.text,
			    "server: URL \"http://127.0.0.1:1\": must start with https://, since credentials are sent "
			    "there");
}

static void test_state_is_kept_and_locked(void **state)
{
	(void)state;
	struct state s;
	struct err e = { 0 };
	EVP_PKEY *identity = NULL, *link = NULL, *again = NULL;
	int one, two;
	assert_int_equal(state_load(folder, &s, &e), ERR_NOT_FOUND);
	assert_non_null(strstr(e.text, "tunnel-agent enroll"));
	assert_int_equal(state_lock(folder, &one, &e), 0);
	assert_int_equal(state_lock(folder, &two, &e), ERR_CONFLICT);
	close(one);
	assert_int_equal(state_lock(folder, &two, &e), 0);
	close(two);
	assert_int_equal(state_prepare_keys(folder, &identity, &link, &e), 0);
	assert_int_equal(state_load(folder, &s, &e), ERR_NOT_FOUND); /* not before the server accepted */
	assert_int_equal(state_commit(folder, "web-1", "https://a", &e), 0);
	assert_int_equal(state_load(folder, &s, &e), 0);
	assert_string_equal(s.target, "web-1");
	assert_string_equal(s.server, "https://a");
	assert_int_equal(EVP_PKEY_eq(s.identity, identity), 1);
	assert_int_equal(state_load_link_key(folder, &again, &e), 0);
	assert_int_equal(EVP_PKEY_eq(link, again), 1);
	state_free(&s);
	EVP_PKEY_free(identity);
	EVP_PKEY_free(link);
	EVP_PKEY_free(again);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_defaults, make_folder, remove_folder),
		cmocka_unit_test_setup_teardown(test_an_empty_list_allows_nothing, make_folder, remove_folder),
		cmocka_unit_test_setup_teardown(test_a_list_that_is_too_long_is_a_mistake, make_folder, remove_folder),
		cmocka_unit_test(test_whether_sshd_is_on_loopback),
		cmocka_unit_test_setup_teardown(test_mistakes_are_named, make_folder, remove_folder),
		cmocka_unit_test_setup_teardown(test_token_file, make_folder, remove_folder),
		cmocka_unit_test_setup_teardown(test_no_enrolment_in_plain_text, make_folder, remove_folder),
		cmocka_unit_test_setup_teardown(test_state_is_kept_and_locked, make_folder, remove_folder),
	};
	return RUN_CASES(tests);
}
