#include "plugin_case.h"

#include <unistd.h>

static const char *echo_of(const char *const *lines, const char *folder, char out[4096])
{
	struct section_case s;
	struct plugin *p = NULL;
	struct err e = { 0 };
	struct conf_section section = *section_of(&s, "auth-moody", lines);
	section.folder = (char *)(uintptr_t)folder;
	if (plugin_open(DOUBLES_DIR, &section, TUNNEL_KIND_AUTH, NULL, &p, &e) != 0)
		fail_msg("%s", e.text);
	struct tunnel_auth_request q = { .size = sizeof q };
	struct tunnel_identity id;
	assert_int_equal(plugin_auth_verify_blocking(p, NULL, &q, &id), TUNNEL_OK);
	assert_true(strlen(id.claims) < 4096);
	memcpy(out, id.claims, strlen(id.claims) + 1);
	plugin_close(&p);
	return out;
}

static void test_hands_over_checked_values(void **state)
{
	(void)state;
	char echo[4096];
	assert_string_equal(echo_of(LINES("many=x", "needed=yes", "bytes=64k", "file=keys/a.pem", "text=caf\xc3\xa9",
					  "many=y", "delay=7ms", "colour=dark-blue", "fail_every=007"),
				    "/etc/tunnel", echo),
			    "answer=0@default fail_every=7@server.conf:19 delay=7@server.conf:17 "
			    "late=false@default opinion=4@default bad_text=false@default "
			    "text=caf\xc3\xa9@server.conf:15 bytes=65536@server.conf:13 "
			    "file=/etc/tunnel/keys/a.pem@server.conf:14 colour=dark-blue@server.conf:18 "
			    "many=x@server.conf:11 many=y@server.conf:16 needed=yes@server.conf:12 ");
	assert_non_null(strstr(echo_of(LINES("needed=", "file=/abs"), "/etc/tunnel", echo), "file=/abs@"));
	char cwd[256], want[300];
	assert_non_null(getcwd(cwd, sizeof cwd));
	snprintf(want, sizeof want, "file=%s/rel@", cwd);
	assert_non_null(strstr(echo_of(LINES("needed=", "file=rel"), NULL, echo), want));
}

static void test_refuses_with_file_and_line(void **state)
{
	(void)state;
	const struct {
		const char *const *lines;
		const char *says;
	} cases[] = {
		{ LINES("text=ab"), "server.conf:9: needed is missing, which plugin auth-moody needs (must be there)" },
		{ LINES("needed=1", "colr=red"),
		  "server.conf:12: colr: unknown option of auth-moody; did you mean colour? allowed: plugin, provider, "
		  "answer, fail_every, delay" },
		{ LINES("needed=1", "text=ab", "text=cd"),
		  "server.conf:13: text: given twice (first at server.conf:12); allowed: once" },
		{ LINES("needed=1", "plugin=auth-minimal"),
		  "server.conf:12: plugin: given twice (first at server.conf:10)" },
		{ LINES("needed=1", "fail_every=101"),
		  "server.conf:12: fail_every: 101 is out of range; allowed: 0 to 100" },
		{ LINES("needed=1", "answer=-1001"), "allowed: -1000 to 1000" },
		{ LINES("needed=1", "answer=12x"),
		  "server.conf:12: answer: \"12x\" is not a value for it; allowed: a whole number" },
		{ LINES("needed=1", "answer=99999999999999999999"), "is not a value for it" },
		{ LINES("needed=1", "delay=soon"), "delay: \"soon\" is not a value for it; allowed: a duration" },
		{ LINES("needed=1", "delay=61s"), "delay: 61s is out of range; allowed: 0 to 60000 ms" },
		{ LINES("needed=1", "bytes=0"), "bytes: 0 is out of range; allowed: 1 to 1048576 bytes" },
		{ LINES("needed=1", "bytes=2M"), "out of range" },
		{ LINES("needed=1", "bad_text=yes"), "bad_text: \"yes\" is unknown; allowed: true|false" },
		{ LINES("needed=1", "colour=blue"), "colour: \"blue\" is unknown; allowed: red|green|dark-blue" },
		{ LINES("needed=1", "colour=red|green"), "is unknown" },
		{ LINES("needed=1", "colour="), "is unknown" },
		{ LINES("needed=1", "text=a"), "text: 1 bytes long; allowed: 2 to 8 bytes" },
		{ LINES("needed=1", "text=123456789"), "text: 9 bytes long" },
		{ LINES("needed=1", "text=\xff\xfe"), "text: not valid UTF-8" },
		{ LINES("needed=1", "file="), "file: an empty path; expected a file" },
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct section_case s;
		struct plugin *p = NULL;
		struct err e = { 0 };
		int rc = plugin_open(DOUBLES_DIR, section_of(&s, "auth-moody", cases[i].lines), TUNNEL_KIND_AUTH, NULL,
				     &p, &e);
		assert_int_equal(rc, ERR_INVALID);
		assert_says(&e, cases[i].says);
	}
}

static void test_plugin_key_is_missing(void **state)
{
	(void)state;
	struct section_case s;
	struct plugin *p = NULL;
	struct err e = { 0 };
	struct conf_section section = *section_of(&s, "auth-moody", LINES("needed=1"));
	section.pairs++;
	section.n--;
	assert_int_equal(plugin_open(DOUBLES_DIR, &section, TUNNEL_KIND_AUTH, NULL, &p, &e), ERR_INVALID);
	assert_string_equal(e.text, "server.conf:9: plugin is missing (the name of a plugin of kind auth)");
}

static void test_secrets_stay_out_of_texts(void **state)
{
	(void)state;
	struct section_case s;
	struct plugin *p = NULL;
	struct err e = { 0 };
	const struct conf_section *section = section_of(&s, "auth-moody", LINES("needed=1", "password=hunter2"));
	assert_int_equal(plugin_open(DOUBLES_DIR, section, TUNNEL_KIND_AUTH, NULL, &p, &e), ERR_INVALID);
	assert_says(&e, "password: 7 bytes long");
	assert_null(strstr(e.text, "hunter2"));
	assert_true(plugin_option_is_secret(DOUBLES_DIR, section, "password"));
	assert_true(plugin_option_is_secret(DOUBLES_DIR, section, "pasword")); /* perhaps a slip of the pen */
	assert_false(plugin_option_is_secret(DOUBLES_DIR, section, "needed"));
	assert_false(plugin_option_is_secret(DOUBLES_DIR, section, "plugin"));
	assert_false(plugin_option_is_secret(DOUBLES_DIR, section, "provider"));
	assert_true(plugin_option_is_secret("/nowhere", section, "needed")); /* cannot be asked */
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_hands_over_checked_values),
		cmocka_unit_test(test_refuses_with_file_and_line),
		cmocka_unit_test(test_plugin_key_is_missing),
		cmocka_unit_test(test_secrets_stay_out_of_texts),
	};
	return RUN_CASES(tests);
}
