/* A real sshd and a real ssh, joined by the socket that a stream would be pumped into. */
#include "support/case.h"

#include "agent/exits.h"
#include "agent/hostkeys.h"
#include "agent/sshd.h"
#include "base/clock.h"
#include "base/file.h"
#include "ident/sshcert.h"

#include <fcntl.h>
#include <pwd.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

static char folder[64];
static struct settings settings;
static EVP_PKEY *ca;
static const char *me;

static void write_text(const char *name, const char *text)
{
	char path[128];
	snprintf(path, sizeof path, "%s/%s", folder, name);
	assert_int_equal(file_write(path, text, strlen(text), 0600, NULL), 0);
}

/* ssh closes all descriptors it inherits, so descriptor 9 reaches it through a port of loopback. */
static const char join_py[] =
	"import os, socket, subprocess, sys, threading\n"
	"there, listener = socket.socket(fileno=9), socket.create_server(('127.0.0.1', 0))\n"
	"options = ['CertificateFile=id-cert.pub', 'IdentitiesOnly=yes', 'BatchMode=yes', "
	"'UserKnownHostsFile=known_hosts',\n"
	"           'StrictHostKeyChecking=yes', 'HostKeyAlias=web-1', 'IdentityAgent=none']\n"
	"ssh = subprocess.Popen(['ssh', '-F', 'none', '-i', 'id', '-p', str(listener.getsockname()[1]), '-l', "
	"sys.argv[1]]\n"
	"    + [x for o in options for x in ('-o', o)] + ['127.0.0.1', sys.argv[2]])\n"
	"here = listener.accept()[0]\n"
	"def pump(a, b):\n"
	"    try:\n"
	"        while d := a.recv(65536): b.sendall(d)\n"
	"        b.shutdown(socket.SHUT_WR)\n"
	"    except OSError: pass\n"
	"threads = [threading.Thread(target=pump, args=x) for x in ((here, there), (there, here))]\n"
	"[t.start() for t in threads]; [t.join() for t in threads]\n"
	"sys.exit(ssh.wait())\n";

/* A CA, a certified host key in state_dir, a user's key. */
static int prepare(void **state)
{
	(void)state;
	struct err e = { 0 };
	char ca_text[SSHCERT_KEY_TEXT], cert[SSHCERT_TEXT], path[128];
	const char *alias[] = { "web-1" };
	json_t *keys = NULL;
	case_folder(folder);
	me = getpwuid(geteuid())->pw_name;
	static char sshd[] = "/usr/sbin/sshd", mode[] = "sshd";
	settings = (struct settings){ .state_dir = folder, .runtime_dir = folder, .ssh = mode, .sshd_path = sshd };
	ca = sshkey_generate(&e);
	sshkey_public_text(ca, ca_text, &e);
	assert_int_equal(hostkeys_list(&settings, &keys, &e), 0);
	const struct sshcert host = { .type = SSHCERT_HOST,
				      .key_id = "web-1",
				      .principals = alias,
				      .principal_count = 1,
				      .valid_after_s = 1,
				      .valid_before_s = clock_wall_ms() / 1000 + 600 };
	assert_int_equal(sshcert_sign(ca, &host, json_string_value(json_array_get(keys, 0)), cert, &e), 0);
	json_t *certs = json_pack("[s]", cert), *cas = json_pack("[s]", ca_text);
	assert_int_equal(hostkeys_take(&settings, cas, certs, &e), 0);
	json_decref(certs);
	json_decref(cas);
	json_decref(keys);
	char known[SSHCERT_KEY_TEXT + 64];
	snprintf(known, sizeof known, "@cert-authority web-1 %s\n", ca_text);
	write_text("known_hosts", known);
	write_text("join.py", join_py);
	EVP_PKEY *user = sshkey_generate(&e);
	snprintf(path, sizeof path, "%s/id", folder);
	assert_int_equal(sshkey_save(path, user, "", &e), 0);
	EVP_PKEY_free(user);
	return 0;
}

static int clean(void **state)
{
	(void)state;
	EVP_PKEY_free(ca);
	case_folder_remove(folder);
	return 0;
}

static void certify(EVP_PKEY *by, const char *login, int64_t until_s)
{
	struct err e = { 0 };
	EVP_PKEY *user = NULL;
	char path[128], text[SSHCERT_KEY_TEXT], cert[SSHCERT_TEXT];
	const char *who[] = { login };
	snprintf(path, sizeof path, "%s/id", folder);
	assert_int_equal(sshkey_load(path, &user, &e), 0);
	assert_int_equal(sshkey_public_text(user, text, &e), 0);
	const struct sshcert c = { .type = SSHCERT_USER,
				   .key_id = "s-1",
				   .principals = who,
				   .principal_count = 1,
				   .valid_after_s = 1,
				   .valid_before_s = until_s };
	assert_int_equal(sshcert_sign(by, &c, text, cert, &e), 0);
	write_text("id-cert.pub", cert);
	EVP_PKEY_free(user);
}

struct run {
	uv_loop_t loop;
	uv_signal_t child;
	struct sshd *sshd;
	bool gone;
	pid_t ssh;
	int status;
	bool ssh_gone;
};

static void on_gone(void *user, struct sshd *sshd, int status)
{
	struct run *r = user;
	(void)sshd, (void)status;
	r->gone = true;
	sshd_free(&r->sshd);
}

static void on_child(uv_signal_t *handle, int number)
{
	struct run *r = handle->data;
	(void)number;
	if (r->sshd)
		sshd_reap(r->sshd);
	if (!r->ssh_gone && waitpid(r->ssh, &r->status, WNOHANG) == r->ssh)
		r->ssh_gone = true;
	if (r->gone && r->ssh_gone)
		uv_close((uv_handle_t *)&r->child, NULL);
}

/* ssh's exit status; its output is in the file "out". */
static int ssh(const char *login, const char *command)
{
	struct run r = { .gone = false };
	struct err e = { 0 };
	int fd = -1;
	char line[2048];
	uv_loop_init(&r.loop);
	uv_signal_init(&r.loop, &r.child);
	r.child.data = &r;
	uv_signal_start(&r.child, on_child, SIGCHLD);
	if (sshd_start(&r.loop, &settings, "s-1", 1, on_gone, &r, &r.sshd, &fd, &e))
		fail_msg("%s", e.text);
	snprintf(line, sizeof line, "cd %s && exec /usr/bin/python3 join.py '%s' '%s' >out 2>&1 </dev/null", folder,
		 login, command);
	r.ssh = fork();
	if (r.ssh == 0) {
		fcntl(fd, F_SETFL, 0);
		dup2(fd, 9);
		execl("/bin/sh", "sh", "-c", line, (char *)NULL);
		_exit(127);
	}
	close(fd);
	uv_run(&r.loop, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(&r.loop), 0);
	return WEXITSTATUS(r.status);
}

static char *output(void)
{
	static char text[8192];
	char path[128];
	struct buf b;
	snprintf(path, sizeof path, "%s/out", folder);
	assert_int_equal(file_read(path, sizeof text - 1, &b, NULL), 0);
	memcpy(text, buf_data(&b), b.len);
	text[b.len] = '\0';
	buf_free(&b);
	return text;
}

static void configure(const char *login)
{
	struct grant grant = { .ssh = true, .login_count = 1 };
	struct err e = { 0 };
	strcpy(grant.logins[0], login);
	if (sshd_configure(&settings, "s-1", &grant, &e))
		fail_msg("%s", e.text);
}

static void test_a_certificate_of_the_ca_lets_in(void **state)
{
	(void)state;
	configure(me);
	certify(ca, me, clock_wall_ms() / 1000 + 600);
	int status = ssh(me, "id -un; echo $SSH_CONNECTION; ls /proc/self/fd | wc -l; exit 7");
	if (status != 7)
		fail_msg("%d: %s", status, output());
	assert_memory_equal(output(), me, strlen(me));
	assert_non_null(strstr(output(), "127.0.0.1"));
	/* sftp is built in. */
	assert_int_equal(ssh(me, "test -e /proc/self"), 0);
}

static void refused(void)
{
	assert_int_equal(ssh(me, "true"), 255);
	if (!strstr(output(), "denied") && !strstr(output(), "closed"))
		fail_msg("%s", output());
}

static void test_nothing_else_lets_in(void **state)
{
	(void)state;
	EVP_PKEY *other = sshkey_generate(NULL);
	int64_t soon = clock_wall_ms() / 1000 + 600;
	configure(me);
	certify(other, me, soon); /* another CA */
	refused();
	certify(ca, "nobody", soon); /* for another login */
	refused();
	certify(ca, me, clock_wall_ms() / 1000 - 10); /* expired */
	refused();
	configure("nobody"); /* the grant names another login */
	certify(ca, me, soon);
	refused();
	configure(me);
	assert_int_equal(ssh(me, "true"), 0);
	EVP_PKEY_free(other);
}

static void trust(EVP_PKEY *const *keys, size_t n)
{
	json_t *cas = json_array();
	for (size_t i = 0; i < n; i++) {
		char text[SSHCERT_KEY_TEXT];
		assert_int_equal(sshkey_public_text(keys[i], text, NULL), 0);
		json_array_append_new(cas, json_string(text));
	}
	assert_int_equal(hostkeys_take(&settings, cas, NULL, NULL), 0);
	json_decref(cas);
}

/* The session's sshd is configured once; what is trusted is what the next connection finds. */
static void test_all_cas_that_are_trusted_let_in_and_no_other(void **state)
{
	(void)state;
	EVP_PKEY *both[] = { ca, sshkey_generate(NULL) };
	int64_t soon = clock_wall_ms() / 1000 + 600;
	configure(me);
	certify(both[1], me, soon);
	refused();
	trust(both, 2);
	assert_int_equal(ssh(me, "true"), 0);
	certify(ca, me, soon);
	assert_int_equal(ssh(me, "true"), 0);
	trust(both + 1, 1);
	refused();
	certify(both[1], me, soon);
	assert_int_equal(ssh(me, "true"), 0);
	EVP_PKEY_free(both[1]);
}

static void test_what_is_no_ca_key_leaves_those_that_are(void **state)
{
	(void)state;
	struct err e = { 0 };
	json_t *bad[] = { json_array(), json_pack("[s]", "nonsense"), json_pack("[i]", 1) };
	configure(me);
	certify(ca, me, clock_wall_ms() / 1000 + 600);
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		assert_true(hostkeys_take(&settings, bad[i], NULL, &e) < 0);
		json_decref(bad[i]);
	}
	assert_int_equal(ssh(me, "true"), 0);
}

static void test_without_a_ca_key_there_is_no_sshd(void **state)
{
	(void)state;
	struct grant grant = { .ssh = true, .login_count = 1 };
	struct err e = { 0 };
	char path[128];
	strcpy(grant.logins[0], me);
	snprintf(path, sizeof path, "%s/" HOSTKEYS_CA, folder);
	unlink(path);
	assert_int_equal(sshd_configure(&settings, "s-1", &grant, &e), ERR_UNAVAILABLE);
	grant.login_count = 0;
	assert_int_equal(sshd_configure(&settings, "s-1", &grant, &e), ERR_DENIED);
}

static void test_host_key_is_kept(void **state)
{
	(void)state;
	json_t *a = NULL, *b = NULL;
	struct err e = { 0 };
	assert_int_equal(hostkeys_list(&settings, &a, &e), 0);
	assert_int_equal(hostkeys_list(&settings, &b, &e), 0);
	assert_true(json_equal(a, b));
	assert_int_equal(json_array_size(a), 1);
	json_t *bad = json_pack("[s]", "ssh-ed25519-cert-v01@openssh.com AAAA\nHostKey /etc/x");
	assert_true(hostkeys_take(&settings, a, bad, &e) < 0);
	json_decref(a);
	json_decref(b);
	json_decref(bad);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_a_certificate_of_the_ca_lets_in, prepare, clean),
		cmocka_unit_test_setup_teardown(test_nothing_else_lets_in, prepare, clean),
		cmocka_unit_test_setup_teardown(test_all_cas_that_are_trusted_let_in_and_no_other, prepare, clean),
		cmocka_unit_test_setup_teardown(test_what_is_no_ca_key_leaves_those_that_are, prepare, clean),
		cmocka_unit_test_setup_teardown(test_without_a_ca_key_there_is_no_sshd, prepare, clean),
		cmocka_unit_test_setup_teardown(test_host_key_is_kept, prepare, clean),
	};
	return RUN_CASES(tests);
}
