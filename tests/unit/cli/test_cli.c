#include "support/case.h"

#include "base/file.h"
#include "base/json.h"
#include "base/secret.h"
#include "cli/args.h"
#include "cli/output.h"
#include "cli/profile.h"
#include "cli/query.h"

struct options {
	const char *target, *key;
	struct arg_list forwards;
	bool quiet;
	int output;
};
#define AT(member) offsetof(struct options, member)
static const struct arg_row rows[] = {
	{ "target", 't', ARG_TEXT, AT(target), "ID", "" },
	{ "port-forward", 'L', ARG_LIST, AT(forwards), "SPEC", "" },
	{ "quiet", 'q', ARG_FLAG, AT(quiet), NULL, "" },
	{ "key", 0, ARG_TEXT, AT(key), "FILE", "" },
	{ "output", 'o', ARG_ENUM, AT(output), "text|json", "" },
	{ .name = NULL },
};

static char *rest_words[16];

/* Arguments are char * for main's sake; the parser changes none. */
static int parse(bool stop, int argc, const char *const *argv, struct options *out, int *out_rest, struct err *e)
{
	char *copy[16];
	memcpy(copy, argv, (size_t)argc * sizeof *argv);
	int rc = args_parse(rows, NULL, stop, argc, copy, out, out_rest, e);
	for (int i = 0; rc == 0 && i < *out_rest; i++)
		rest_words[i] = copy[i];
	return rc;
}

static void test_options_stop_at_the_command(void **state)
{
	(void)state;
	struct options o = { 0 };
	struct err e = { 0 };
	int rest = 0;
	const char *args[] = { "-t",       "web-1", "--port-forward=1:a:2",
			       "-L",       "3:b:4", "--output",
			       "json",     "-q",    "rsync",
			       "--server", "-q" };
	assert_int_equal(parse(true, 11, args, &o, &rest, &e), 0);
	assert_int_equal(rest, 3);
	assert_string_equal(rest_words[0], "rsync");
	assert_string_equal(rest_words[2], "-q");
	assert_string_equal(o.target, "web-1");
	assert_int_equal(o.forwards.n, 2);
	assert_string_equal(o.forwards.at[1], "3:b:4");
	assert_int_equal(o.output, 1);
	assert_true(o.quiet);

	struct options p = { 0 };
	const char *mixed[] = { "put", "--target", "a", "-", "--", "--quiet" };
	assert_int_equal(parse(false, 6, mixed, &p, &rest, &e), 0);
	assert_int_equal(rest, 3);
	assert_string_equal(rest_words[1], "-");
	assert_string_equal(rest_words[2], "--quiet");
	assert_string_equal(p.target, "a");
	assert_false(p.quiet);

	struct options f = { 0 };
	const char *file[] = { "--key", "K\xf6ln" };
	assert_int_equal(parse(false, 2, file, &f, &rest, &e), 0);
	assert_string_equal(f.key, "K\xf6ln");
}

static void test_options_name_the_mistake(void **state)
{
	(void)state;
	static const struct {
		const char *args[3];
		int n;
		const char *complaint;
	} cases[] = {
		{ { "--frob", NULL, NULL }, 1, "unknown option --frob" },
		{ { "-x", NULL, NULL }, 1, "unknown option -x" },
		{ { "--target", NULL, NULL }, 1, "--target needs a value (ID)" },
		{ { "--quiet=yes", NULL, NULL }, 1, "--quiet takes no value" },
		{ { "--output", "xml", NULL }, 2, "--output xml: allowed: text|json" },
		{ { "-ta", NULL, NULL }, 1, "unknown option -ta" },
		{ { "--target", "tag:town=K\xf6ln", NULL }, 2, "--target: the value is not UTF-8" },
		{ { "-L", "1:k\xf6ln:2", NULL }, 2, "--port-forward: the value is not UTF-8" },
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct options o = { 0 };
		struct err e = { 0 };
		int rest;
		assert_int_not_equal(parse(false, cases[i].n, cases[i].args, &o, &rest, &e), 0);
		assert_string_equal(e.text, cases[i].complaint);
	}
}

/* What print writes to standard output; to be freed. */
static char *printed(void (*print)(const json_t *), const json_t *json)
{
	char *text = NULL;
	size_t len = 0;
	FILE *before = stdout, *memory = open_memstream(&text, &len);
	stdout = memory;
	print(json);
	stdout = before;
	fclose(memory);
	return text;
}

static void test_no_answer_steers_the_terminal(void **state)
{
	(void)state;
	static void (*const prints[])(const json_t *) = { output_object, output_json, output_json_line };
	json_t *answer = json_pack("{s:s}", "k\x1b[2J\x7f\xc2\x9b", "v\x1b[2J\x7f\xc2\x9b\xc3\xb6"), *back = NULL;
	for (size_t i = 0; i < sizeof prints / sizeof *prints; i++) {
		char *text = printed(prints[i], answer);
		for (const char *c = text; *c; c++)
			assert_true((unsigned char)*c >= 0x20 || *c == '\n');
		assert_null(strchr(text, 0x7f));
		assert_null(strstr(text, "\xc2\x9b"));
		assert_non_null(strstr(text, "\xc3\xb6"));
		if (i > 0) {
			assert_int_equal(json_parse(text, strlen(text), &back, NULL), 0);
			assert_true(json_equal(back, answer));
			json_decref(back);
		}
		free(text);
	}
	json_decref(answer);
}

static void test_query_strings_are_encoded(void **state)
{
	(void)state;
	char path[256];
	const struct query_param params[] = {
		{ "principal", "a b&c=é" }, { "state", NULL }, { "target", "web-1" }, { NULL, NULL }
	};
	query_path("/v1/sessions", params, path, sizeof path);
	assert_string_equal(path, "/v1/sessions?principal=a%20b%26c%3D%C3%A9&target=web-1");
	query_path("/v1/sessions", NULL, path, sizeof path);
	assert_string_equal(path, "/v1/sessions");
}

static int load_profile(const char *text, struct err *e)
{
	char folder[64], path[100];
	struct profile p;
	case_folder(folder);
	snprintf(path, sizeof path, "%s/config", folder);
	assert_int_equal(file_write(path, text, strlen(text), 0600, NULL), 0);
	const struct common_options options = { .config = path, .profile = "default" };
	memset(e, 0, sizeof *e);
	int rc = profile_load(&options, &p, e);
	profile_free(&p);
	case_folder_remove(folder);
	return rc;
}

static void test_no_server_without_tls(void **state)
{
	(void)state;
	struct err e;
	assert_int_equal(load_profile("default: { server = \"https://a:8443\"; };", &e), 0);
	assert_int_equal(load_profile("default: { server = [ \"https://a\", \"http://b\" ]; };", &e), ERR_INVALID);
	assert_non_null(strstr(e.text, "/config: server: URL \"http://b\": must start with https://"));
}

/* What the file says, or 0 and the credentials are taken. */
static int load_credentials(const char *text, char **out, struct err *e)
{
	char folder[64], path[100];
	struct profile p = { .credentials = path };
	case_folder(folder);
	snprintf(path, sizeof path, "%s/credentials", folder);
	assert_int_equal(file_write(path, text, strlen(text), 0600, NULL), 0);
	memset(e, 0, sizeof *e);
	int rc = profile_hmac(&p, out, e);
	case_folder_remove(folder);
	return rc;
}

static void test_no_key_without_id_and_secret(void **state)
{
	(void)state;
	struct err e;
	char *both = NULL;
	static const char *const bad[][2] = {
		{ "key_id = \"K\";\nsecret = \"\",\n", "credentials:2: secret: is empty; expected: " },
		{ "key_id = \"\"; secret = \"s\";", "credentials:1: key_id: is empty; expected: " },
		{ "key_id = \"K\";", "credentials: secret is missing" },
		{ "key_id = \":K\"; secret = \"s\";",
		  "credentials: key_id: has a character that cannot be signed with; allowed: " },
		{ "key_id = \"K/1\"; secret = \"s\";",
		  "credentials: key_id: has a character that cannot be signed with; allowed: " },
		{ "key_id = \"K 1\"; secret = \"s\";",
		  "credentials: key_id: has a character that cannot be signed with; allowed: " },
	};
	unsetenv("TUNNEL_KEY_ID");
	unsetenv("TUNNEL_SECRET");
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		assert_int_equal(load_credentials(bad[i][0], &both, &e), ERR_INVALID);
		if (!strstr(e.text, bad[i][1]))
			fail_msg("%s: %s", bad[i][0], e.text);
	}
	/* An empty variable is none. */
	setenv("TUNNEL_KEY_ID", "E", 1);
	setenv("TUNNEL_SECRET", "", 1);
	assert_int_equal(load_credentials("key_id = \"K\"; secret = \"s\";", &both, &e), 0);
	assert_string_equal(both, "K:s");
	secret_free_text(&both);
	setenv("TUNNEL_SECRET", "t", 1);
	assert_int_equal(load_credentials("", &both, &e), 0);
	assert_string_equal(both, "E:t");
	secret_free_text(&both);
	setenv("TUNNEL_KEY_ID", "E:t", 1);
	assert_int_equal(load_credentials("", &both, &e), ERR_INVALID);
	assert_non_null(strstr(e.text, "TUNNEL_KEY_ID: has a character"));
	assert_null(both);
	secret_free_text(&both);
	unsetenv("TUNNEL_KEY_ID");
	unsetenv("TUNNEL_SECRET");
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_options_stop_at_the_command),
		cmocka_unit_test(test_options_name_the_mistake),
		cmocka_unit_test(test_no_answer_steers_the_terminal),
		cmocka_unit_test(test_query_strings_are_encoded),
		cmocka_unit_test(test_no_server_without_tls),
		cmocka_unit_test(test_no_key_without_id_and_secret),
	};
	return RUN_CASES(tests);
}
