/* The files of the SSH certificate authority: which are taken, which are refused and how that is said, and that a
 * reload takes all of them or none. */
#include "support/case.h"

#include "base/file.h"
#include "base/limits.h"
#include "server/sshca.h"

#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[64], key_path[96], trusted_path[96];
static struct sshca_files files;

static int prepare(void **state)
{
	(void)state;
	case_folder(folder);
	snprintf(key_path, sizeof key_path, "%s/ca", folder);
	snprintf(trusted_path, sizeof trusted_path, "%s/trusted", folder);
	files = (struct sshca_files){ key_path, "" };
	return 0;
}

static int clean(void **state)
{
	(void)state;
	case_folder_remove(folder);
	return 0;
}

static void new_public(char out[SSHCERT_KEY_TEXT])
{
	EVP_PKEY *key = sshkey_generate(NULL);
	assert_int_equal(sshkey_public_text(key, out, NULL), 0);
	EVP_PKEY_free(key);
}

static void write_key(void)
{
	EVP_PKEY *key = sshkey_generate(NULL);
	assert_int_equal(sshkey_save(key_path, key, "", NULL), 0);
	EVP_PKEY_free(key);
}

static void write_trusted(const char *text)
{
	assert_int_equal(file_write(trusted_path, text, strlen(text), 0644, NULL), 0);
	files.trusted = trusted_path;
}

static struct sshca *open_ca(void)
{
	struct sshca *ca = NULL;
	struct err e = { 0 };
	if (sshca_open(&files, &ca, &e))
		fail_msg("%s", e.text);
	return ca;
}

static void refused(const char *words)
{
	struct sshca *ca = NULL;
	struct err e = { 0 };
	assert_true(sshca_open(&files, &ca, &e) < 0);
	assert_null(ca);
	if (!strstr(e.text, words))
		fail_msg("%s", e.text);
	assert_true(sshca_check(&files, &e) < 0);
	if (!strstr(e.text, words))
		fail_msg("%s", e.text);
}

static void test_a_missing_key_is_made_and_kept(void **state)
{
	(void)state;
	struct stat st;
	struct err e;
	assert_int_equal(sshca_check(&files, &e), 0);
	assert_int_equal(access(key_path, F_OK), -1);
	struct sshca *ca = open_ca();
	assert_int_equal(stat(key_path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	json_t *made = sshca_public(ca, NULL);
	sshca_close(&ca);
	ca = open_ca();
	json_t *kept = sshca_public(ca, NULL);
	assert_int_equal(json_array_size(made), 1);
	assert_true(json_equal(made, kept));
	json_decref(made);
	json_decref(kept);
	sshca_close(&ca);
}

static void test_a_key_that_others_can_read_is_refused(void **state)
{
	(void)state;
	static const mode_t loose[] = { 0640, 0604, 0660, 0644 };
	write_key();
	for (size_t i = 0; i < sizeof loose / sizeof *loose; i++) {
		char words[128];
		chmod(key_path, loose[i]);
		snprintf(words, sizeof words, "%s: mode %04o lets others read a secret; run: chmod 600", key_path,
			 (unsigned)loose[i]);
		refused(words);
	}
	/* A link says nothing about what it leads to. */
	char real[112];
	snprintf(real, sizeof real, "%s-real", key_path);
	assert_int_equal(rename(key_path, real), 0);
	assert_int_equal(symlink(real, key_path), 0);
	refused("mode 0644 lets others read");
	chmod(real, 0600);
	struct sshca *ca = open_ca();
	sshca_close(&ca);
	if (geteuid() == 0) {
		assert_int_equal(chown(real, 12345, 0), 0);
		refused("owned by uid 12345; it must be root or uid 0");
	}
}

static void test_the_trusted_ones_follow_the_one_that_signs(void **state)
{
	(void)state;
	char one[SSHCERT_KEY_TEXT], two[SSHCERT_KEY_TEXT], text[4 * SSHCERT_KEY_TEXT];
	struct sshca *ca = open_ca();
	json_t *own = sshca_public(ca, NULL);
	sshca_close(&ca);
	new_public(one);
	new_public(two);
	snprintf(text, sizeof text, "# the next\n\n  %s a comment\r\n%s\n%s\n%s", one,
		 json_string_value(json_array_get(own, 0)), two, one);
	write_trusted(text);
	ca = open_ca();
	json_t *all = sshca_public(ca, NULL), *wanted = json_pack("[O, s, s]", json_array_get(own, 0), one, two);
	assert_true(json_equal(all, wanted));
	json_decref(all);
	json_decref(own);
	json_decref(wanted);
	sshca_close(&ca);
}

static void test_what_is_wrong_with_the_trusted_ones(void **state)
{
	(void)state;
	char key[SSHCERT_KEY_TEXT], many[(LIMIT_SSH_CAS + 1) * SSHCERT_KEY_TEXT] = "";
	write_key();
	files.trusted = trusted_path;
	refused("trusted: No such file");
	write_trusted("# comment\nssh-ed25519 AAAA\n");
	refused("trusted: line 2: ");
	write_trusted("-----BEGIN OPENSSH PRIVATE KEY-----\n");
	refused("trusted: line 1: ");
	for (size_t i = 0, at = 0; i < LIMIT_SSH_CAS; i++) {
		new_public(key);
		at += (size_t)snprintf(many + at, sizeof many - at, "%s\n", key);
	}
	write_trusted(many);
	refused("line 8: more than 8 keys, with the one of ssh.ca_key");
	write_trusted(key);
	chmod(trusted_path, 0664);
	refused("trusted: mode 0664 lets others change it; run: chmod go-w");
	unlink(trusted_path);
	mkdir(trusted_path, 0755);
	refused("trusted: not a regular file");
}

static void test_a_reload_takes_all_or_nothing(void **state)
{
	(void)state;
	char next[SSHCERT_KEY_TEXT];
	uint64_t before, after;
	bool changed = true;
	struct err e;
	struct sshca *ca = open_ca();
	json_t *old = sshca_public(ca, &before);
	assert_int_equal(sshca_reload(ca, &files, &changed, &e), 0);
	assert_false(changed);
	new_public(next);
	write_trusted(next);
	assert_int_equal(sshca_reload(ca, &files, &changed, &e), 0);
	assert_true(changed);
	json_t *both = sshca_public(ca, &after);
	assert_true(after > before);
	assert_int_equal(json_array_size(both), 2);
	assert_true(json_equal(json_array_get(both, 0), json_array_get(old, 0)));
	/* Another key, and a list that cannot be read: not even the key is taken. Nor is one made. */
	write_key();
	write_trusted("nonsense");
	assert_true(sshca_reload(ca, &files, &changed, &e) < 0);
	write_trusted(next);
	unlink(key_path);
	assert_int_equal(sshca_reload(ca, &files, &changed, &e), ERR_NOT_FOUND);
	assert_int_equal(access(key_path, F_OK), -1);
	json_t *now = sshca_public(ca, &before);
	assert_true(json_equal(now, both) && before == after);
	json_decref(now);
	json_decref(old);
	json_decref(both);
	sshca_close(&ca);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_a_missing_key_is_made_and_kept, prepare, clean),
		cmocka_unit_test_setup_teardown(test_a_key_that_others_can_read_is_refused, prepare, clean),
		cmocka_unit_test_setup_teardown(test_the_trusted_ones_follow_the_one_that_signs, prepare, clean),
		cmocka_unit_test_setup_teardown(test_what_is_wrong_with_the_trusted_ones, prepare, clean),
		cmocka_unit_test_setup_teardown(test_a_reload_takes_all_or_nothing, prepare, clean),
	};
	return RUN_CASES(tests);
}
