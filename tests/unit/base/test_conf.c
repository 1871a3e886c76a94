#include "support/case.h"

#include "base/conf.h"
#include "base/file.h"

#include <unistd.h>

struct settings {
	char *listen, *cert, *secret;
	int64_t reactors, grace_ms;
	bool bind;
	int format;
	struct conf_strings urls;
	struct conf_section store;
	struct conf_sections auth;
};

#define AT(member) offsetof(struct settings, member)
static const struct conf_row rows[] = {
	{ "listen", CONF_STRING, AT(listen), CONF_REQUIRED, NULL, 0, 0, NULL, "where to listen" },
	{ "reactors", CONF_INT, AT(reactors), 0, "2", 1, 64, NULL, "threads" },
	{ "urls", CONF_STRINGS, AT(urls), 0, NULL, 0, 0, NULL, "servers" },
	{ "tls.certificate", CONF_PATH, AT(cert), 0, NULL, 0, 0, NULL, "PEM file" },
	{ "tls.secret", CONF_STRING, AT(secret), CONF_SECRET, NULL, 1, 0, NULL, "a secret" },
	{ "session.detach_grace", CONF_DURATION_MS, AT(grace_ms), 0, "15m", 1000, 86400000, NULL, "how long" },
	{ "session.bind", CONF_BOOL, AT(bind), 0, "false", 0, 0, NULL, "end with the identity" },
	{ "log.format", CONF_ENUM, AT(format), 0, "logfmt", 0, 0, "logfmt|json", "how lines look" },
	{ "store", CONF_SECTION, AT(store), 0, NULL, 0, 0, NULL, "store plugin" },
	{ "auth", CONF_SECTIONS, AT(auth), 0, NULL, 0, 0, NULL, "auth plugins" },
	{ .key = NULL },
};

static int load(const char *folder, const char *text, struct settings *s, struct err *e)
{
	char path[128];
	snprintf(path, sizeof path, "%s/server.conf", folder);
	assert_int_equal(file_write(path, text, strlen(text), 0600, e), 0);
	memset(s, 0, sizeof *s);
	return conf_load(path, rows, s, e);
}

static void test_reads_every_type(void **state)
{
	(void)state;
	char folder[64], cert[128];
	case_folder(folder);
	struct settings s;
	struct err e = { 0 };
	assert_int_equal(load(folder,
			      "listen = \"0.0.0.0:1\"; urls = [\"a\", \"b\"]; reactors = 3;\n"
			      "tls: { certificate = \"c.pem\"; secret = \"pst\"; };\n"
			      "session: { detach_grace = \"20s\"; bind = true; };\nlog: { format = \"json\"; };\n"
			      "store: { plugin = \"store-x\"; n = 5; };\n"
			      "auth = ( { plugin = \"a\"; keys = [\"k1\", \"k2\"]; }, { plugin = \"b\"; } );\n",
			      &s, &e),
			 0);
	snprintf(cert, sizeof cert, "%s/c.pem", folder);
	assert_string_equal(s.cert, cert);
	assert_int_equal(s.reactors, 3);
	assert_int_equal(s.grace_ms, 20000);
	assert_true(s.bind);
	assert_int_equal(s.format, 1);
	assert_int_equal(s.urls.n, 2);
	assert_string_equal(s.store.pairs[1].value, "5");
	assert_int_equal(s.auth.n, 2);
	assert_int_equal(s.auth.at[0].n, 3);
	assert_string_equal(s.auth.at[0].pairs[2].value, "k2");
	assert_string_equal(s.auth.at[0].pairs[2].where, "server.conf:6");

	char *text = NULL;
	size_t n = 0;
	FILE *f = open_memstream(&text, &n);
	conf_print(f, rows, &s, NULL);
	fclose(f);
	assert_null(strstr(text, "pst"));
	assert_non_null(strstr(text, "secret = \"***\""));
	struct settings again;
	assert_int_equal(load(folder, text, &again, &e), 0); /* what is printed can be read */
	assert_int_equal(again.grace_ms, 20000);
	free(text);
	conf_free(rows, &again);
	conf_free(rows, &s);
	case_folder_remove(folder);
}

static void note_group(void *user, const char *name)
{
	strcat(strcat(user, name), " ");
}

static void test_tells_where_a_key_is_and_which_groups_there_are(void **state)
{
	(void)state;
	char folder[64], path[128], where[128], names[64] = "";
	struct err e = { 0 };
	static const char text[] = "default: {\n server = \"a\";\n tls: {\n  key = \"k\"; }; };\nwork: { };\nn = 1;\n";
	snprintf(path, sizeof path, "%s/server.conf", case_folder(folder));
	assert_int_equal(file_write(path, text, sizeof text - 1, 0600, &e), 0);
	conf_where(path, "default.tls.key", where, sizeof where);
	assert_string_equal(where, "server.conf:4");
	conf_where(path, "default.tls.certificate", where, sizeof where);
	assert_string_equal(where, path);
	assert_int_equal(conf_each_group(path, note_group, names, &e), 0);
	assert_string_equal(names, "default work ");
	assert_int_equal(file_write(path, "a = ", 4, 0600, &e), 0);
	conf_where(path, "a", where, sizeof where);
	assert_string_equal(where, path);
	assert_int_equal(conf_each_group(path, note_group, names, &e), ERR_INVALID);
	unlink(path);
	conf_where(path, "a", where, sizeof where);
	assert_string_equal(where, path);
	assert_int_equal(conf_each_group(path, note_group, names, &e), ERR_NOT_FOUND);
	case_folder_remove(folder);
}

static void test_refuses_with_file_line_and_what_is_allowed(void **state)
{
	(void)state;
	static const struct {
		const char *text, *complaint;
	} cases[] = {
		{ "listen = \"x\";\nlisten = \"y\";\n", "server.conf:2: duplicate setting name" },
		{ "listen = \"x\";\nreactor = 3;\n",
		  "server.conf:2: reactor: unknown setting; did you mean reactors? "
		  "allowed: listen, reactors, urls, tls, session, log, store, auth" },
		{ "listen = \"x\";\nsesion = 3;\n",
		  "server.conf:2: sesion: unknown setting; did you mean session? allowed: " },
		{ "listen = \"x\";\ntls: {\n cert = \"c\"; };\n",
		  "server.conf:3: tls.cert: unknown setting; allowed: " },
		{ "listen = \"x\";\ntls: {\n certif = \"c\"; };\n",
		  "server.conf:3: tls.certif: unknown setting; did you mean certificate? allowed: " },
		{ "listen = \"x\";\nsession = 3;\n", "server.conf:2: session: expected a group, session: { " },
		{ "listen = \"x\";\nqqq = 3;\n", "server.conf:2: qqq: unknown setting; allowed: listen, " },
		{ "listen = \"x\";\ntls: {\n key = \"\"; };\n",
		  "server.conf:3: tls.key: unknown setting; allowed: certificate, secret" },
		{ "listen = \"x\"; reactors = 65;\n", "server.conf:1: reactors: 65 is out of range; allowed: 1 to 64" },
		{ "reactors = 3;\nlisten = \"\";\n", "server.conf:2: listen: is empty; expected: where to listen" },
		{ "listen = \"x\"; tls: {\n secret = \"\", };\n",
		  "server.conf:2: tls.secret: is empty; expected: a secret" },
		{ "listen = 5;\n", "server.conf:1: listen: expected string" },
		{ "listen = \"x\"; log: { format = \"xml\"; };\n",
		  "log.format: \"xml\" is unknown; allowed: logfmt|json" },
		{ "reactors = 3;\n", "server.conf: listen is missing (where to listen)" },
		{ "listen = \"x\"; session: { detach_grace = \"soon\"; };\n",
		  "\"soon\" is not a value for it; allowed: duration (\"300ms\", " },
		{ "listen = \n", "server.conf:2: syntax error" },
	};
	char folder[64];
	case_folder(folder);
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct settings s;
		struct err e = { 0 };
		assert_int_equal(load(folder, cases[i].text, &s, &e), ERR_INVALID);
		if (!strstr(e.text, cases[i].complaint))
			fail_msg("case %zu said: %s", i, e.text);
	}
	case_folder_remove(folder);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_reads_every_type),
		cmocka_unit_test(test_tells_where_a_key_is_and_which_groups_there_are),
		cmocka_unit_test(test_refuses_with_file_line_and_what_is_allowed),
	};
	return RUN_CASES(tests);
}
