/* Keys and certificates are judged by OpenSSH's own ssh-keygen. */
#include "support/case.h"

#include "base/file.h"
#include "base/secret.h"
#include "ident/sshcert.h"

#include <sys/stat.h>
#include <unistd.h>

static char folder[64];

static int make_folder(void **state)
{
	(void)state;
	case_folder(folder);
	return 0;
}

static int remove_folder(void **state)
{
	(void)state;
	case_folder_remove(folder);
	return 0;
}

/* Output and error of a shell command run in the folder; its exit status. */
static int run(const char *command, char *out, size_t size)
{
	char line[1024];
	snprintf(line, sizeof line, "cd %s && { %s; } 2>&1 </dev/null", folder, command);
	FILE *p = popen(line, "r");
	assert_non_null(p);
	size_t n = fread(out, 1, size - 1, p);
	out[n] = '\0';
	return pclose(p);
}

static void write_text(const char *name, const char *text)
{
	char path[128];
	struct err e = { 0 };
	snprintf(path, sizeof path, "%s/%s", folder, name);
	if (file_write(path, text, strlen(text), 0600, &e))
		fail_msg("%s", e.text);
}

static char *read_line(const char *name, char *out, size_t size)
{
	char path[128];
	snprintf(path, sizeof path, "%s/%s", folder, name);
	FILE *f = fopen(path, "r");
	assert_non_null(f);
	assert_non_null(fgets(out, (int)size, f));
	fclose(f);
	out[strcspn(out, "\n")] = '\0';
	return out;
}

static void test_openssh_reads_our_key_file(void **state)
{
	(void)state;
	struct err e = { 0 };
	char path[128], text[SSHCERT_KEY_TEXT], out[4096], print[64];
	snprintf(path, sizeof path, "%s/id", folder);
	/* Comments of every length modulo the padding. */
	for (size_t n = 0; n < 9; n++) {
		EVP_PKEY *key = sshkey_generate(&e), *back = NULL;
		char comment[16] = "abcdefghi";
		comment[n] = '\0';
		assert_int_equal(sshkey_save(path, key, comment, &e), 0);
		assert_int_equal(run("ssh-keygen -y -f id", out, sizeof out), 0);
		assert_int_equal(sshkey_public_text(key, text, &e), 0);
		assert_memory_equal(out, text, strlen(text));
		assert_int_equal(sshkey_load(path, &back, &e), 0);
		assert_int_equal(EVP_PKEY_eq(key, back), 1);
		EVP_PKEY_free(key);
		EVP_PKEY_free(back);
	}
	assert_int_equal(run("ssh-keygen -l -f id", out, sizeof out), 0);
	assert_int_equal(sshkey_fingerprint(text, print, &e), 0);
	assert_non_null(strstr(out, print));
	assert_non_null(strstr(out, "abcdefgh"));
	struct stat st;
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
}

static void test_we_read_opensshs_key_file(void **state)
{
	(void)state;
	struct err e = { 0 };
	char path[128], out[4096], line[SSHCERT_KEY_TEXT], text[SSHCERT_KEY_TEXT];
	EVP_PKEY *key = NULL;
	assert_int_equal(run("ssh-keygen -q -t ed25519 -N '' -f id -C 'a comment of ours'", out, sizeof out), 0);
	snprintf(path, sizeof path, "%s/id", folder);
	assert_int_equal(sshkey_load(path, &key, &e), 0);
	assert_int_equal(sshkey_public_text(key, text, &e), 0);
	assert_memory_equal(read_line("id.pub", line, sizeof line), text, strlen(text));
	EVP_PKEY_free(key);
	key = NULL;
	chmod(path, 0640);
	assert_int_equal(sshkey_load(path, &key, &e), ERR_DENIED);
	assert_int_equal(run("ssh-keygen -q -t ed25519 -N secret -f locked && ssh-keygen -q -t ecdsa -N '' -f other",
			     out, sizeof out),
			 0);
	snprintf(path, sizeof path, "%s/locked", folder);
	assert_int_equal(sshkey_load(path, &key, &e), ERR_INVALID);
	assert_non_null(strstr(e.text, "passphrase"));
	snprintf(path, sizeof path, "%s/other", folder);
	assert_int_equal(sshkey_load(path, &key, &e), ERR_INVALID);
	snprintf(path, sizeof path, "%s/missing", folder);
	assert_int_equal(sshkey_load(path, &key, &e), ERR_NOT_FOUND);
	assert_null(key);
}

/* No change of a byte of the file crashes the reader, and what it accepts is the same key. */
static void test_damaged_key_files_are_refused(void **state)
{
	(void)state;
	struct err e = { 0 };
	char path[128];
	struct buf pem;
	EVP_PKEY *key = sshkey_generate(&e), *back = NULL;
	snprintf(path, sizeof path, "%s/id", folder);
	assert_int_equal(sshkey_save(path, key, "c", &e), 0);
	assert_int_equal(secret_read_file(path, &pem, &e), 0);
	for (size_t i = 0; i < pem.len; i++) {
		char copy[1024];
		memcpy(copy, buf_data(&pem), pem.len);
		copy[i] = copy[i] == 'A' ? 'B' : 'A';
		FILE *f = fopen(path, "w");
		fwrite(copy, 1, pem.len, f);
		fclose(f);
		if (sshkey_load(path, &back, &e) == 0) {
			assert_int_equal(EVP_PKEY_eq(key, back), 1);
			EVP_PKEY_free(back);
			back = NULL;
		}
	}
	for (size_t len = 0; len + 2 < pem.len; len++) {
		FILE *f = fopen(path, "w");
		fwrite(buf_data(&pem), 1, len, f);
		fclose(f);
		assert_int_equal(sshkey_load(path, &back, &e), ERR_INVALID);
	}
	buf_wipe_free(&pem);
	EVP_PKEY_free(key);
}

static void test_public_keys_are_checked(void **state)
{
	(void)state;
	struct err e = { 0 };
	char out[4096], line[2048], text[SSHCERT_KEY_TEXT], print[64];
	static const char *const good[] = { "-t ed25519", "-t ecdsa -b 256", "-t rsa -b 2048", "-t rsa -b 4096" };
	for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
		snprintf(line, sizeof line, "rm -f k k.pub; ssh-keygen -q -N '' -f k %s && ssh-keygen -l -f k.pub",
			 good[i]);
		assert_int_equal(run(line, out, sizeof out), 0);
		read_line("k.pub", line, sizeof line);
		if (sshkey_check_public(line, text, &e))
			fail_msg("%s: %s", good[i], e.text);
		assert_memory_equal(line, text, strlen(text));
		assert_int_equal(line[strlen(text)], ' '); /* the comment is gone */
		assert_int_equal(sshkey_fingerprint(line, print, &e), 0);
		assert_non_null(strstr(out, print));
	}
	static const char *const bad[] = { "-t ecdsa -b 384", "-t rsa -b 1024" };
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		snprintf(line, sizeof line, "rm -f k k.pub; ssh-keygen -q -N '' -f k %s", bad[i]);
		assert_int_equal(run(line, out, sizeof out), 0);
		assert_int_equal(sshkey_check_public(read_line("k.pub", line, sizeof line), text, &e), ERR_INVALID);
	}
	static const char *const wrong[] = {
		"",
		"ssh-ed25519",
		"ssh-ed25519 ",
		"ssh-ed25519 AAAA",
		"ssh-rsa AAAAC3NzaC1lZDI1NTE5AAAAIGUdUyUB4y1YhIRyV1pUyPbH4eYT6TsNkJJVkGC1IGPf",
		" ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGUdUyUB4y1YhIRyV1pUyPbH4eYT6TsNkJJVkGC1IGPf",
		"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGUdUyUB4y1YhIRyV1pUyPbH4eYT6TsNkJJVkGC1IGPf\nssh-rsa x",
		"command=\"x\" ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGUdUyUB4y1YhIRyV1pUyPbH4eYT6TsNkJJVkGC1IGPf",
	};
	for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
		assert_int_equal(sshkey_check_public(wrong[i], text, &e), ERR_INVALID);
	assert_int_equal(sshkey_check_public(NULL, text, &e), ERR_INVALID);
}

/* A fresh CA and a subject key made by ssh-keygen with the given options. */
static EVP_PKEY *prepare(const char *options, char *public_line, size_t size)
{
	char command[256], out[1024];
	snprintf(command, sizeof command, "rm -f k k.pub; ssh-keygen -q -N '' -f k %s", options);
	assert_int_equal(run(command, out, sizeof out), 0);
	read_line("k.pub", public_line, size);
	return sshkey_generate(NULL);
}

static void test_user_certificate_as_openssh_sees_it(void **state)
{
	(void)state;
	struct err e = { 0 };
	char pub[2048], cert[SSHCERT_TEXT], out[4096], ca_text[SSHCERT_KEY_TEXT], print[64];
	static const char *const kinds[] = { "-t ed25519", "-t ecdsa -b 256" };
	const char *who[] = { "deploy", "admin" };
	for (size_t i = 0; i < 2; i++) {
		EVP_PKEY *ca = prepare(kinds[i], pub, sizeof pub);
		struct sshcert want = { .type = SSHCERT_USER,
					.serial = 18446744073709551615u,
					.key_id = "s-7 of alice",
					.principals = who,
					.principal_count = 2,
					.valid_after_s = 1700000000,
					.valid_before_s = 1700000600,
					.source_address = "127.0.0.1/32",
					.force_command = "/bin/true",
					.permit_port_forwarding = 1,
					.permit_user_rc = 1,
					.permit_agent_forwarding = 1,
					.permit_x11_forwarding = 1 };
		if (sshcert_sign(ca, &want, pub, cert, &e))
			fail_msg("%s", e.text);
		write_text("k-cert.pub", cert);
		assert_int_equal(run("TZ=UTC ssh-keygen -L -f k-cert.pub", out, sizeof out), 0);
		sshkey_public_text(ca, ca_text, &e);
		sshkey_fingerprint(ca_text, print, &e);
		const char *expected[] = {
			i ? "ecdsa-sha2-nistp256-cert-v01@openssh.com user certificate"
			  : "ssh-ed25519-cert-v01@openssh.com user certificate",
			print,
			"Key ID: \"s-7 of alice\"",
			"Serial: 18446744073709551615",
			"Valid: from 2023-11-14T22:13:20 to 2023-11-14T22:23:20",
			"Principals: \n                deploy\n                admin\n",
			"force-command /bin/true\n                source-address 127.0.0.1/32\n",
			"permit-X11-forwarding\n                permit-agent-forwarding\n                "
			"permit-port-forwarding\n                permit-pty\n                permit-user-rc\n",
		};
		for (size_t k = 0; k < sizeof expected / sizeof expected[0]; k++)
			if (!strstr(out, expected[k]))
				fail_msg("no \"%s\" in:\n%s", expected[k], out);
		EVP_PKEY_free(ca);
	}
}

static void test_user_certificate_permits_little_by_itself(void **state)
{
	(void)state;
	struct err e = { 0 };
	char pub[2048], cert[SSHCERT_TEXT], out[4096];
	const char *who[] = { "deploy" };
	EVP_PKEY *ca = prepare("-t ed25519", pub, sizeof pub);
	struct sshcert want = { .type = SSHCERT_USER,
				.key_id = "s-7",
				.principals = who,
				.principal_count = 1,
				.valid_after_s = 1,
				.valid_before_s = 2 };
	assert_int_equal(sshcert_sign(ca, &want, pub, cert, &e), 0);
	write_text("k-cert.pub", cert);
	assert_int_equal(run("ssh-keygen -L -f k-cert.pub", out, sizeof out), 0);
	assert_non_null(strstr(out, "Critical Options: (none)"));
	assert_non_null(strstr(out, "permit-pty"));
	assert_null(strstr(out, "forwarding"));
	assert_null(strstr(out, "user-rc"));
	EVP_PKEY_free(ca);
}

static void test_host_certificate_as_openssh_sees_it(void **state)
{
	(void)state;
	struct err e = { 0 };
	char pub[2048], cert[SSHCERT_TEXT], out[4096];
	static const char *const kinds[] = { "-t ed25519", "-t ecdsa -b 256", "-t rsa -b 4096" };
	const char *who[] = { "web-1" };
	for (size_t i = 0; i < 3; i++) {
		EVP_PKEY *ca = prepare(kinds[i], pub, sizeof pub);
		struct sshcert want = { .type = SSHCERT_HOST,
					.key_id = "web-1",
					.principals = who,
					.principal_count = 1,
					.valid_after_s = 1,
					.valid_before_s = 4000000000 };
		assert_int_equal(sshcert_sign(ca, &want, pub, cert, &e), 0);
		write_text("k-cert.pub", cert);
		assert_int_equal(run("ssh-keygen -L -f k-cert.pub", out, sizeof out), 0);
		assert_non_null(strstr(out, "host certificate"));
		assert_non_null(strstr(out, "Extensions: (none)"));
		EVP_PKEY_free(ca);
	}
}

static void refuse(EVP_PKEY *ca, const struct sshcert *want, const char *pub, const char *why)
{
	struct err e = { 0 };
	char cert[SSHCERT_TEXT] = "untouched";
	assert_int_equal(sshcert_sign(ca, want, pub, cert, &e), ERR_INVALID);
	if (!strstr(e.text, why))
		fail_msg("expected \"%s\", got: %s", why, e.text);
	assert_string_equal(cert, "untouched");
}

static void test_certificates_that_would_mean_too_much_are_refused(void **state)
{
	(void)state;
	struct err e = { 0 };
	char pub[2048], rsa[2048];
	const char *who[] = { "deploy" }, *empty[] = { "" }, *newline[] = { "deploy\nroot" };
	EVP_PKEY *ca = prepare("-t rsa -b 2048", rsa, sizeof rsa);
	EVP_PKEY_free(ca);
	ca = prepare("-t ed25519", pub, sizeof pub);
	const struct sshcert good = { .type = SSHCERT_USER,
				      .key_id = "s-7",
				      .principals = who,
				      .principal_count = 1,
				      .valid_after_s = 1,
				      .valid_before_s = 2 };
	struct sshcert c = good;
	c.principal_count = 0;
	refuse(ca, &c, pub, "principals");
	c = good, c.principals = empty;
	refuse(ca, &c, pub, "principal");
	c = good, c.principals = newline;
	refuse(ca, &c, pub, "control");
	c = good, c.valid_before_s = 1;
	refuse(ca, &c, pub, "never be valid");
	c = good, c.valid_after_s = -1;
	refuse(ca, &c, pub, "never be valid");
	c = good, c.key_id = NULL;
	refuse(ca, &c, pub, "key id");
	c = good, c.type = 0;
	refuse(ca, &c, pub, "type");
	c = good, c.type = SSHCERT_HOST, c.force_command = "x";
	refuse(ca, &c, pub, "users only");
	refuse(ca, &good, rsa, "user keys");
	refuse(ca, &good, "ssh-ed25519 AAAA", "not");
	EVP_PKEY *p256 = EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256");
	refuse(p256, &good, pub, "Ed25519");
	char big[7000], cert[SSHCERT_TEXT];
	memset(big, 'x', sizeof big - 1);
	big[sizeof big - 1] = '\0';
	c = good, c.key_id = big;
	assert_int_equal(sshcert_sign(ca, &c, pub, cert, &e), ERR_LIMIT);
	EVP_PKEY_free(p256);
	EVP_PKEY_free(ca);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_openssh_reads_our_key_file, make_folder, remove_folder),
		cmocka_unit_test_setup_teardown(test_we_read_opensshs_key_file, make_folder, remove_folder),
		cmocka_unit_test_setup_teardown(test_damaged_key_files_are_refused, make_folder, remove_folder),
		cmocka_unit_test_setup_teardown(test_public_keys_are_checked, make_folder, remove_folder),
		cmocka_unit_test_setup_teardown(test_user_certificate_as_openssh_sees_it, make_folder, remove_folder),
		cmocka_unit_test_setup_teardown(test_user_certificate_permits_little_by_itself, make_folder,
						remove_folder),
		cmocka_unit_test_setup_teardown(test_host_certificate_as_openssh_sees_it, make_folder, remove_folder),
		cmocka_unit_test_setup_teardown(test_certificates_that_would_mean_too_much_are_refused, make_folder,
						remove_folder),
	};
	return RUN_CASES(tests);
}
