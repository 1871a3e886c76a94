/* Each SSH stream is one `sshd -i` on a connected socket. The generated configuration trusts certificates of the
 * control plane's CA and nothing else: no keys of files, no passwords. A certificate's principals are the login itself,
 * and AllowUsers repeats the grant, so a certificate that says more than the grant opens nothing.
 *
 * As root sshd switches to the login, with PAM where the machine has it; else it can only log in the user it runs as.
 */
#include "agent/sshd.h"

#include "agent/exits.h"
#include "agent/hostkeys.h"
#include "agent/name.h"
#include "agent/sockpair.h"
#include "agent/state.h"
#include "base/buf.h"
#include "base/file.h"
#include "base/log.h"
#include "base/process.h"

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define CONFIG_MAX 16384u
#define USER_MAX 65536u /* bytes of an entry of passwd; a longer one is sshd's to read */

struct sshd {
	uv_pipe_t words; /* its stderr */
	pid_t pid;       /* 0: reaped */
	int status;
	char session[LIMIT_ID + 1], stream[12]; /* for its lines in the log */
	sshd_gone *gone;
	void *user;
	char line[1024];
	size_t len;
	char chunk[2048];
};

/* Paths stand in double quotes there, which leaves sshd nothing to misread but these. */
static bool quotable(const char *path)
{
	return !strpbrk(path, "\"\\\n\r");
}

static int add_config(struct buf *b, const struct settings *s, const struct grant *grant, const char *ca,
		      const char *key, const char *cert)
{
	bool root = geteuid() == 0;
	bool pam = root && (access("/etc/pam.d/sshd", R_OK) == 0 || access("/etc/pam.d/other", R_OK) == 0);
	const char *forwarding = s->ssh_forwarding && grant->ssh_forwarding ? "yes" : "no";
	int bad = buf_printf(b,
			     "# written by tunnel-agent for one session\n"
			     "HostKey \"%s\"\n"
			     "TrustedUserCAKeys \"%s\"\n"
			     "AuthenticationMethods publickey\n"
			     "PubkeyAuthentication yes\n"
			     "AuthorizedKeysFile none\n"
			     "PasswordAuthentication no\n"
			     "KbdInteractiveAuthentication no\n"
			     "HostbasedAuthentication no\n"
			     "PermitEmptyPasswords no\n"
			     "PermitRootLogin prohibit-password\n"
			     "PrintMotd %s\n" /* PAM's modules print it themselves */
			     "UsePAM %s\n"
			     "AllowTcpForwarding %s\n"
			     "AllowStreamLocalForwarding %s\n"
			     "AllowAgentForwarding %s\n"
			     "GatewayPorts no\n"
			     "PermitTunnel no\n"
			     "X11Forwarding no\n"
			     "PermitUserEnvironment no\n"
			     "AcceptEnv LANG LC_*\n"
			     "Subsystem sftp internal-sftp\n"
			     "PidFile none\n"
			     "UseDNS no\n"
			     "LoginGraceTime 30\n"
			     "MaxAuthTries 6\n"
			     "TCPKeepAlive no\n"
			     "LogLevel INFO\n",
			     key, ca, pam ? "no" : "yes", pam ? "yes" : "no", forwarding, forwarding, forwarding);
	if (access(cert, R_OK) == 0)
		bad |= buf_printf(b, "HostCertificate \"%s\"\n", cert);
	bad |= buf_add_text(b, "AllowUsers");
	for (size_t i = 0; i < grant->login_count; i++)
		bad |= buf_printf(b, " %s", grant->logins[i]);
	return bad | buf_add_text(b, "\n");
}

static int refuse_others(const struct grant *grant, uid_t self, struct err *e)
{
	for (size_t i = 0; i < grant->login_count; i++) {
		const struct passwd *wanted = getpwnam(grant->logins[i]);
		if (wanted && wanted->pw_uid == self)
			continue;
		const struct passwd *own = getpwuid(self);
		return err_set(e, ERR_DENIED,
			       "the agent runs as user %s and not as root, so it logs in nobody else, not %s",
			       own ? own->pw_name : "without a name", grant->logins[i]);
	}
	return 0;
}

/* When it cannot be found out, sshd is to find out. */
static bool is_unknown(const char *login)
{
	struct passwd entry, *found = NULL;
	char *text = malloc(USER_MAX);
	int rc = text ? getpwnam_r(login, &entry, text, USER_MAX, &found) : ENOMEM;
	free(text);
	return rc == 0 && !found;
}

static int refuse_unknown(const struct grant *grant, struct err *e)
{
	for (size_t i = 0; i < grant->login_count; i++)
		if (!is_unknown(grant->logins[i]))
			return 0;
	return err_set(e, ERR_DENIED, "there is no user %s on this machine", grant->logins[0]);
}

/* sshd would say no more than "Permission denied". Without root it is ourselves or nobody. */
static int check_logins(const struct grant *grant, struct err *e)
{
	uid_t self = geteuid();
	return self == 0 ? refuse_unknown(grant, e) : refuse_others(grant, self, e);
}

int sshd_configure(const struct settings *settings, const char *name, const struct grant *grant, struct err *e)
{
	char ca[STATE_PATH], key[STATE_PATH], cert[STATE_PATH], path[EXITS_PATH];
	struct buf b = BUF_INIT(CONFIG_MAX);
	int rc;
	if (!grant->login_count)
		return err_set(e, ERR_DENIED, "the grant holds no login");
	if ((rc = check_logins(grant, e)) || (rc = state_path(settings->state_dir, HOSTKEYS_CA, ca, e)) ||
	    (rc = state_path(settings->state_dir, HOSTKEYS_KEY, key, e)) ||
	    (rc = state_path(settings->state_dir, HOSTKEYS_CERT, cert, e)) ||
	    (rc = exits_path(settings->runtime_dir, name, "sshd", path, e)))
		return rc;
	if (access(ca, R_OK) != 0)
		return err_set(e, ERR_UNAVAILABLE, "the server has not sent its SSH CA key");
	if (!quotable(settings->state_dir))
		return err_set(e, ERR_INVALID, "state_dir: sshd cannot read a path with quotes or backslashes");
	if (geteuid() == 0 && mkdir("/run/sshd", 0755) != 0 && errno != EEXIST)
		log_warn("/run/sshd, which sshd needs: %s", strerror(errno));
	rc = add_config(&b, settings, grant, ca, key, cert) ? err_set(e, ERR_LIMIT, "sshd's configuration is too long")
							    : file_write(path, buf_data(&b), b.len, 0600, e);
	buf_free(&b);
	return rc;
}

/* --- the process */

/* In the child of vfork. */
static void become_sshd(int socket, int words, const char *program, char *const *argv)
{
	static char path[] = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
	static char *const environment[] = { path, NULL };
	process_default_signals();
	setsid();
	if (dup2(socket, 0) < 0 || dup2(socket, 1) < 0 || dup2(words, 2) < 0)
		_exit(126);
	closefrom(3);
	process_restore_limits();
	execve(program, argv, environment);
	_exit(127);
}

static void log_line(struct sshd *s)
{
	s->line[s->len] = '\0';
	if (s->len)
		log_with(LOG_LEVEL_INFO, FIELDS({ "session", s->session }, { "stream", s->stream }), "sshd: %s",
			 s->line);
	s->len = 0;
}

static void take_words(struct sshd *s, const char *data, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if (data[i] == '\n' || s->len == sizeof s->line - 1)
			log_line(s);
		if (data[i] != '\n' && data[i] != '\r')
			s->line[s->len++] = data[i];
	}
}

static void tell_when_gone(struct sshd *s)
{
	sshd_gone *gone = s->gone;
	if (s->pid || !gone)
		return;
	log_line(s);
	s->gone = NULL;
	gone(s->user, s, s->status);
}

static void on_words(uv_stream_t *stream, ssize_t n, const uv_buf_t *data)
{
	struct sshd *s = stream->data;
	if (n > 0)
		take_words(s, data->base, (size_t)n);
	else if (n < 0)
		uv_read_stop(stream);
}

static void on_alloc(uv_handle_t *handle, size_t size, uv_buf_t *out)
{
	struct sshd *s = handle->data;
	(void)size;
	*out = uv_buf_init(s->chunk, sizeof s->chunk);
}

void sshd_reap(struct sshd *s)
{
	int status = 0;
	ssize_t n;
	if (!s->pid || waitpid(s->pid, &status, WNOHANG) != s->pid)
		return;
	s->pid = 0;
	s->status = status;
	uv_os_fd_t fd;
	/* What it wrote last is in the pipe by now; its login's processes may hold the pipe open, so no waiting for
	 * EOF. */
	if (!uv_is_closing((uv_handle_t *)&s->words) && uv_fileno((uv_handle_t *)&s->words, &fd) == 0)
		while ((n = read(fd, s->chunk, sizeof s->chunk)) > 0)
			take_words(s, s->chunk, (size_t)n);
	tell_when_gone(s);
}

pid_t sshd_pid(const struct sshd *sshd)
{
	return sshd->pid;
}

static void on_closed(uv_handle_t *handle)
{
	free(handle->data);
}

void sshd_free(struct sshd **sshd)
{
	struct sshd *s = *sshd;
	*sshd = NULL;
	if (!s)
		return;
	s->gone = NULL;
	uv_close((uv_handle_t *)&s->words, on_closed);
}

static pid_t launch(const struct settings *settings, const char *name, int socket, int words, struct err *e)
{
	char config[EXITS_PATH], inetd[] = "-i", to_stderr[] = "-e", file[] = "-f";
	int rc = exits_path(settings->runtime_dir, name, "sshd", config, e);
	if (rc)
		return -1;
	char *argv[] = { settings->sshd_path, inetd, to_stderr, file, config, NULL };
	sigset_t before;
	process_block_signals(&before);
	pid_t pid = process_vfork(); /* NOLINT(clang-analyzer-security.insecureAPI.vfork): see base/process.h */
	if (pid == 0)
		become_sshd(socket, words, settings->sshd_path, argv);
	int why = errno;
	process_unblock_signals(&before);
	if (pid < 0)
		err_set_errno(e, ERR_UNAVAILABLE, why, "cannot fork sshd");
	return pid;
}

static int words_pipe(int out[2], struct err *e)
{
	if (pipe2(out, O_CLOEXEC) != 0)
		return err_set_errno(e, ERR_UNAVAILABLE, errno, "cannot make a pipe for sshd");
	fcntl(out[0], F_SETFL, O_NONBLOCK);
	return 0;
}

int sshd_start(uv_loop_t *loop, const struct settings *settings, const char *name, uint32_t stream, sshd_gone *gone,
	       void *user, struct sshd **out_sshd, int *out_fd, struct err *e)
{
	int fds[2] = { -1, -1 }, words[2] = { -1, -1 };
	int64_t generation;
	struct sshd *s = calloc(1, sizeof *s);
	int rc = s ? sockpair_loopback(fds, e) : err_set(e, ERR_NOMEM, "out of memory");
	if (!rc)
		rc = words_pipe(words, e);
	if (!rc && (s->pid = launch(settings, name, fds[1], words[1], e)) < 0)
		rc = ERR_UNAVAILABLE;
	if (fds[1] >= 0)
		close(fds[1]);
	if (words[1] >= 0)
		close(words[1]);
	if (rc) {
		if (fds[0] >= 0)
			close(fds[0]);
		if (words[0] >= 0)
			close(words[0]);
		free(s);
		return rc;
	}
	s->gone = gone, s->user = user;
	name_parse(name, s->session, &generation);
	snprintf(s->stream, sizeof s->stream, "%u", stream);
	uv_pipe_init(loop, &s->words, 0);
	s->words.data = s;
	if (uv_pipe_open(&s->words, words[0]) != 0)
		close(words[0]); /* its words are lost, it works all the same */
	else
		uv_read_start((uv_stream_t *)&s->words, on_alloc, on_words);
	*out_sshd = s;
	*out_fd = fds[0];
	return 0;
}
