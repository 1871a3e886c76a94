/* Which files are loaded and which are refused, and that a refusal names file, expected and found. */
#include "plugin_case.h"

#include "base/file.h"

#include <sys/stat.h>
#include <unistd.h>

static void open_double(const char *dir, const char *name, enum tunnel_kind kind, struct plugin **out, struct err *e,
			int want)
{
	struct section_case s;
	memset(e, 0, sizeof *e);
	int rc = plugin_open(dir, section_of(&s, name, NULL), kind, NULL, out, e);
	if (rc != want)
		fail_msg("%s: answered %d: %s; expected %d", name, rc, e->text, want);
}

static void copy_plugin(const char *name, const char *folder, char out_path[300])
{
	char from[512];
	struct buf b;
	struct err e;
	snprintf(from, sizeof from, "%s/%s.so", DOUBLES_DIR, name);
	snprintf(out_path, 300, "%s/%s.so", folder, name);
	assert_int_equal(file_read(from, 64 << 20, &b, &e), 0);
	assert_int_equal(file_write(out_path, buf_data(&b), b.len, 0755, &e), 0);
	buf_free(&b);
}

static void test_loads_and_decides(void **state)
{
	(void)state;
	struct plugin *p = NULL;
	struct err e;
	open_double(DOUBLES_DIR, "auth-minimal", TUNNEL_KIND_AUTH, &p, &e, 0);
	assert_string_equal(plugin_name(p), "auth-minimal");
	assert_int_equal(plugin_reload(p, &e), 0); /* it has none */
	struct tunnel_header header = { "x-user", "alice" };
	struct tunnel_auth_request q = { .size = sizeof q, .headers = &header, .header_count = 1 };
	struct tunnel_identity id;
	char words[64];
	struct tunnel_call call = { .size = sizeof call, .err = words, .err_len = sizeof words };
	assert_int_equal(plugin_auth_verify_blocking(p, &call, &q, &id), TUNNEL_OK);
	assert_string_equal(id.subject, "alice");
	header.value = "mallory";
	assert_int_equal(plugin_auth_verify_blocking(p, &call, &q, &id), TUNNEL_DENIED);
	assert_string_equal(words, "mallory is not welcome");
	assert_string_equal(id.subject, "");
	q.header_count = 0;
	assert_int_equal(plugin_auth_verify_blocking(p, &call, &q, &id), TUNNEL_NOT_MINE);
	assert_int_equal(plugin_auth_authorize_blocking(p, &call, &id, "a", "r", "{}"), TUNNEL_NOT_MINE);
	plugin_close(&p);
	assert_null(p);
	plugin_close(&p); /* harmless */
}

static void test_loads_by_absolute_path_and_link(void **state)
{
	(void)state;
	char folder[64], path[300], link[512], name[512];
	struct plugin *p = NULL;
	struct err e;
	snprintf(name, sizeof name, "%s/auth-minimal.so", DOUBLES_DIR);
	open_double("/nowhere", name, TUNNEL_KIND_AUTH, &p, &e, 0);
	plugin_close(&p);
	case_folder(folder);
	copy_plugin("auth-minimal", folder, path);
	snprintf(link, sizeof link, "%s/auth-minimal.so.1", folder);
	assert_int_equal(rename(path, link), 0);
	assert_int_equal(symlink("auth-minimal.so.1", path), 0);
	open_double(folder, "auth-minimal", TUNNEL_KIND_AUTH, &p, &e, 0);
	plugin_close(&p);
	case_folder_remove(folder);
}

static void test_refuses_each_broken_plugin(void **state)
{
	(void)state;
	static const struct {
		const char *name, *says[3];
	} cases[] = {
		{ "auth-foreign-abi", { "auth-foreign-abi.so: ", "ABI 2.3", "expected 1.x" } },
		{ "auth-no-entry",
		  { "auth-no-entry.so: not a plugin", "expected the symbol tunnel_plugin_entry", "" } },
		{ "auth-no-descriptor", { "auth-no-descriptor.so: ", "gave no descriptor", "" } },
		{ "auth-short-table", { "auth-short-table.so: ", "descriptor has 64 bytes", "expected at least 72" } },
		{ "auth-other-name",
		  { "auth-other-name.so: ", "\"auth-somebody-else\"", "expected \"auth-other-name\"" } },
		{ "auth-no-verify", { "auth-no-verify.so: ", "lacks \"verify\"", "" } },
		{ "auth-bad-rows", { "auth-bad-rows.so: ", "option rows have 8 bytes", "expected at least 64" } },
		{ "auth-two-rows", { "auth-two-rows.so: ", "option twice has two rows", "" } },
		{ "auth-private-text", { "auth-private-text.so: ", "option word has TUNNEL_OPTION_PRIVATE", "" } },
		{ "auth-bad-open", { "server.conf:9: plugin auth-bad-open: xxx", "", "" } },
		{ "auth-not-there", { "auth-not-there.so: no such plugin", "", "" } },
		{ "../auth-minimal", { "server.conf:10: ", "\"../auth-minimal\" is not a plugin", "allowed: a name" } },
		{ "Auth-Minimal", { "is not a plugin", "", "" } },
		{ "", { "is not a plugin", "", "" } },
		{ "/etc/passwd", { "/etc/passwd: expected a file name that ends in .so", "", "" } },
		{ "store-liar", { "store-liar.so: this is a plugin of kind store", "expected kind auth", "" } },
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct plugin *p = NULL;
		struct section_case s;
		struct err e = { 0 };
		int rc = plugin_open(DOUBLES_DIR, section_of(&s, cases[i].name, NULL), TUNNEL_KIND_AUTH, NULL, &p, &e);
		assert_true(rc < 0);
		assert_int_equal(rc, e.code);
		assert_null(p);
		for (size_t k = 0; k < 3; k++)
			assert_says(&e, cases[i].says[k]);
	}
}

static void test_refuses_what_others_can_write(void **state)
{
	(void)state;
	char folder[64], path[300];
	struct plugin *p = NULL;
	struct err e;
	case_folder(folder);
	copy_plugin("auth-minimal", folder, path);
	open_double(folder, "auth-minimal", TUNNEL_KIND_AUTH, &p, &e, 0);
	plugin_close(&p);

	assert_int_equal(chmod(path, 0757), 0);
	open_double(folder, "auth-minimal", TUNNEL_KIND_AUTH, &p, &e, ERR_DENIED);
	assert_says(&e, "auth-minimal.so: the file has mode 0757 and is writable by everybody; expected: by its owner");
	assert_int_equal(chmod(path, 0775), 0);
	open_double(folder, "auth-minimal", TUNNEL_KIND_AUTH, &p, &e, ERR_DENIED);
	assert_says(&e, "writable by its group");
	assert_int_equal(chmod(path, 0555), 0);

	assert_int_equal(chmod(folder, 0770), 0);
	open_double(folder, "auth-minimal", TUNNEL_KIND_AUTH, &p, &e, ERR_DENIED);
	assert_says(&e, ": the folder has mode 0770 and is writable by its group");
	assert_int_equal(chmod(folder, 01777), 0); /* sticky does not help here: anybody could add files */
	open_double(folder, "auth-minimal", TUNNEL_KIND_AUTH, &p, &e, ERR_DENIED);
	assert_int_equal(chmod(folder, 0755), 0);
	open_double(folder, "auth-minimal", TUNNEL_KIND_AUTH, &p, &e, 0);
	plugin_close(&p);
	case_folder_remove(folder);
}

static void test_refuses_a_folder_that_can_be_swapped(void **state)
{
	(void)state;
	char folder[64], inner[128], path[300];
	struct plugin *p = NULL;
	struct err e;
	case_folder(folder);
	snprintf(inner, sizeof inner, "%s/plugins", folder);
	assert_int_equal(mkdir(inner, 0755), 0);
	copy_plugin("auth-minimal", inner, path);
	assert_int_equal(chmod(folder, 0777), 0); /* anybody can rename "plugins" and put another there */
	open_double(inner, "auth-minimal", TUNNEL_KIND_AUTH, &p, &e, ERR_DENIED);
	assert_says(&e, "a folder above the plugin has mode 0777");
	case_folder_remove(folder);
}

static void test_refuses_files_of_other_users(void **state)
{
	(void)state;
	if (geteuid() != 0)
		skip();
	char folder[64], path[300];
	struct plugin *p = NULL;
	struct err e;
	case_folder(folder);
	copy_plugin("auth-minimal", folder, path);
	assert_int_equal(chown(path, 65534, 65534), 0);
	open_double(folder, "auth-minimal", TUNNEL_KIND_AUTH, &p, &e, ERR_DENIED);
	assert_says(&e, "the file belongs to user 65534; expected root");
	assert_int_equal(chown(path, 0, 0), 0);
	assert_int_equal(chown(folder, 65534, 65534), 0);
	open_double(folder, "auth-minimal", TUNNEL_KIND_AUTH, &p, &e, ERR_DENIED);
	assert_says(&e, "the folder belongs to user 65534");
	case_folder_remove(folder);
}

static void test_refuses_what_is_not_a_library(void **state)
{
	(void)state;
	char folder[64], path[300];
	struct plugin *p = NULL;
	struct err e;
	case_folder(folder);
	snprintf(path, sizeof path, "%s/auth-text.so", folder);
	assert_int_equal(file_write(path, "hello", 5, 0644, &e), 0);
	open_double(folder, "auth-text", TUNNEL_KIND_AUTH, &p, &e, ERR_INVALID);
	assert_says(&e, "auth-text.so: cannot be loaded: ");
	snprintf(path, sizeof path, "%s/auth-folder.so", folder);
	assert_int_equal(mkdir(path, 0755), 0);
	open_double(folder, "auth-folder", TUNNEL_KIND_AUTH, &p, &e, ERR_INVALID);
	assert_says(&e, "auth-folder.so: not a file");
	case_folder_remove(folder);
}

static void test_describes(void **state)
{
	(void)state;
	char *text = NULL;
	size_t n = 0;
	struct err e = { 0 };
	FILE *f = open_memstream(&text, &n);
	assert_int_equal(plugin_describe(DOUBLES_DIR, "auth-moody", f, &e), 0);
	fclose(f);
	static const char *const parts[] = { "auth-moody 9.9\n",
					     "kind     auth\n",
					     "abi      1.2\n",
					     "threads  serial\n",
					     "delay                duration 0..60000 ms, default 0ms",
					     "colour               enum red|green|dark-blue, default red",
					     "many                 string, may be an array",
					     "password             string 0..4 bytes, secret",
					     "needed               string, required" };
	for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
		if (!strstr(text, parts[i]))
			fail_msg("expected \"%s\" in:\n%s", parts[i], text);
	free(text);
	assert_true(plugin_describe(DOUBLES_DIR, "auth-nobody", stdout, &e) < 0);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_loads_and_decides),
		cmocka_unit_test(test_loads_by_absolute_path_and_link),
		cmocka_unit_test(test_refuses_each_broken_plugin),
		cmocka_unit_test(test_refuses_what_others_can_write),
		cmocka_unit_test(test_refuses_a_folder_that_can_be_swapped),
		cmocka_unit_test(test_refuses_files_of_other_users),
		cmocka_unit_test(test_refuses_what_is_not_a_library),
		cmocka_unit_test(test_describes),
	};
	return RUN_CASES(tests);
}
