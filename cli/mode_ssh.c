/* The user's own ssh over the session, and the order in which the two end. When ssh ends, so does the session, and
 * ssh's exit code is ours. When the session ends first, ssh sees its connection go and ends with 255, which says
 * nothing: then the session's reason is waited for, and its exit code is ours.
 *
 * ssh runs with ProxyCommand "tunnel-pass-fd SOCKET" and ProxyUseFdpass: the helper connects to our socket, hands the
 * connection to ssh and is gone. So ssh talks to this process directly, and each connection is one stream of the
 * session. ssh is started before the session is, and the first stream asked for before ssh comes for it: ssh here, the
 * call and the sshd there take their time side by side. What ssh reads behind its connection (the certificate, whom to
 * trust) is there when the helper hands it over. */
#include "base/process.h"
#include "cli/helper.h"
#include "cli/mode.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define SSH_ARGS_MAX 256
#define SSH_OPTION_MAX 1400
#define SSH_END_MS 1500 /* for ssh, when it is told to end */

/* The arguments of ssh; texts that were made for it are freed at the end. */
struct ssh_argv {
	char *at[SSH_ARGS_MAX];
	size_t n;
	const char *file; /* what is executed */
	bool too_many;
};

static void add(struct ssh_argv *a, const char *text)
{
	if (a->n + 1 == SSH_ARGS_MAX || !(a->at[a->n] = strdup(text)))
		a->too_many = true;
	else
		a->n++;
}

static void add_option(struct ssh_argv *a, const char *fmt, ...) PRINTF_LIKE(2, 3);
static void add_option(struct ssh_argv *a, const char *fmt, ...)
{
	char text[SSH_OPTION_MAX];
	va_list ap;
	va_start(ap, fmt);
	int n = vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	if (n < 0 || (size_t)n >= sizeof text)
		a->too_many = true;
	add(a, "-o");
	add(a, text);
}

/* A path inside a ProxyCommand: quoted for the shell, and percent signs doubled for ssh. */
static void quote_for_command(const char *path, char *out, size_t size)
{
	size_t n = 0;
	if (size < 3)
		return;
	out[n++] = '\'';
	for (; *path && n + 6 < size; path++) {
		if (*path == '\'')
			n += (size_t)snprintf(out + n, size - n, "'\\''");
		else if (*path == '%')
			n += (size_t)snprintf(out + n, size - n, "%%%%");
		else
			out[n++] = *path;
	}
	out[n++] = '\'';
	out[n] = '\0';
}

/* Signals that our caller ignores and we left so; SIGPIPE is our own affair. */
static unsigned long ignored_signals(void)
{
	unsigned long mask = 0;
	struct sigaction now;
	for (int signum = 1; signum < 32; signum++)
		if (signum != SIGPIPE && sigaction(signum, NULL, &now) == 0 && now.sa_handler == SIG_IGN)
			mask |= 1ul << (signum - 1);
	return mask;
}

static void add_proxy_command(const struct mode_ssh *m, struct ssh_argv *a)
{
	char program[PATH_MAX], program_quoted[600], socket_quoted[300];
	bool alone = !helper_find("tunnel-pass-fd", program);
	if (alone)
		helper_self(program);
	quote_for_command(program, program_quoted, sizeof program_quoted);
	quote_for_command(m->socket, socket_quoted, sizeof socket_quoted);
	add_option(a, "ProxyCommand=%s%s %s", program_quoted, alone ? " pass-fd" : "", socket_quoted);
	add_option(a, "ProxyUseFdpass=yes");
}

static void build_argv(const struct mode_ssh *m, const struct session *s, struct ssh_argv *a)
{
	char mask[20];

	if (ignored_signals()) { /* libuv gives a child the defaults */
		snprintf(mask, sizeof mask, "%lx", ignored_signals());
		add(a, "tunnel-cli");
		add(a, "exec-ignoring");
		add(a, mask);
		a->file = "/proc/self/exe";
	}
	add(a, "ssh");
	/* What stands first wins over the user's own ssh config. */
	add_proxy_command(m, a);
	add_option(a, "HostKeyAlias=%s", m->target);
	add_option(a, "UserKnownHostsFile=\"%s/known_hosts\"", m->dir->path);
	add_option(a, "GlobalKnownHostsFile=/dev/null");
	add_option(a, "StrictHostKeyChecking=yes");
	add_option(a, "CheckHostIP=no");
	add_option(a, "UpdateHostKeys=no");
	add_option(a, "IdentityFile=%s", m->dir->key_file.path); /* an agent of ours would be what -A forwards */
	add_option(a, "CertificateFile=%s", m->dir->certificate_file.path);
	add_option(a, "IdentitiesOnly=yes");
	add_option(a, "AddKeysToAgent=no"); /* the key would outlive the session there */
	add_option(a, "PreferredAuthentications=publickey");
	add_option(a, "ControlMaster=no");
	add_option(a, "ControlPath=none");
	add_option(a, "ServerAliveInterval=0"); /* an outage is the session's affair */
	add_option(a, "TCPKeepAlive=no");
	add_option(a, "ConnectTimeout=0");
	if (m->dir->config_file[0]) { /* an -F of the user's, below, takes its place */
		add(a, "-F");
		add(a, m->dir->config_file);
	}
	if (s->client->common->quiet)
		add(a, "-q");
	for (size_t i = 0; i < m->ssh_args->n; i++)
		add(a, m->ssh_args->at[i]);
	add(a, "-l");
	add(a, m->login);
	add(a, "--");
	add(a, m->target);
	for (int i = 0; i < m->argc; i++)
		add(a, m->argv[i]);
	a->at[a->n] = NULL;
}

static void on_patience(uv_timer_t *t)
{
	struct mode_ssh *m = t->data;
	if (m->running)
		uv_process_kill(&m->process, SIGKILL);
}

static void on_ssh_exit(uv_process_t *process, int64_t status, int term_signal)
{
	struct mode_ssh *m = process->data;
	m->running = false;
	uv_close((uv_handle_t *)process, NULL);
	int code = m->sent ? 128 + m->sent : term_signal ? 128 + term_signal : (int)status;
	if (m->session->over)
		uv_close((uv_handle_t *)&m->patience, NULL);
	else if (m->cut[0] && status == 255)
		session_stop_unless_over(m->session, code, m->cut);
	else
		session_stop(m->session, code);
}

static int spawn_ssh(struct mode_ssh *m, struct session *s)
{
	struct ssh_argv a = { .file = "ssh" };
	build_argv(m, s, &a);
	int rc = UV_E2BIG;
	if (!a.too_many) {
		uv_stdio_container_t stdio[3];
		for (int i = 0; i < 3; i++) {
			stdio[i].flags = UV_INHERIT_FD;
			stdio[i].data.fd = i;
		}
		uv_process_options_t options = {
			.exit_cb = on_ssh_exit, .file = a.file, .args = a.at, .stdio_count = 3, .stdio = stdio
		};
		m->process.data = m;
		rc = uv_spawn(&s->loop, &m->process, &options);
		m->running = rc == 0;
		if (rc != 0)
			uv_close((uv_handle_t *)&m->process, NULL);
	}
	for (size_t i = 0; i < a.n; i++)
		free(a.at[i]);
	if (rc == 0)
		return EXIT_CODE_OK;
	complain("ssh cannot be started: %s", uv_strerror(rc));
	return EXIT_CODE_FAILED;
}

static void on_connection(struct listener *l, int fd)
{
	struct mode_ssh *m = (struct mode_ssh *)((char *)l - offsetof(struct mode_ssh, listener));
	if (send(fd, "", 1, MSG_NOSIGNAL | MSG_DONTWAIT) != 1) /* for pass_fd */
		close(fd);
	else if (!first_stream_take(&m->first, fd))
		listener_open_stream(l, fd);
}

int mode_ssh_start(struct mode_ssh *m, struct session *s, const char *target)
{
	struct err e = { 0 };
	if (!s->loop_ready && session_open_loop(s) != EXIT_CODE_OK)
		return EXIT_CODE_FAILED;
	m->session = s;
	m->target = target;
	m->has_terminal = tcgetattr(STDIN_FILENO, &m->terminal) == 0;
	uv_timer_init(&s->loop, &m->patience);
	m->patience.data = m;
	snprintf(m->socket, sizeof m->socket, "%s/socket", m->dir->path);
	m->listening = sshdir_show_files(m->dir, &e) == 0 ? sshdir_listen(m->dir, "socket", &e) : -1;
	if (m->listening < 0) {
		complain("%s", e.text);
		return EXIT_CODE_FAILED;
	}
	return spawn_ssh(m, s);
}

void mode_ssh_abandon(struct mode_ssh *m)
{
	if (!m->session)
		return;
	m->session->over = true; /* on_ssh_exit has nothing to end */
	if (m->running)
		uv_process_kill(&m->process, SIGKILL);
	else
		uv_close((uv_handle_t *)&m->patience, NULL);
	uv_run(&m->session->loop, UV_RUN_DEFAULT);
}

static int begin(struct session_mode *mode, struct session *s)
{
	struct mode_ssh *m = (struct mode_ssh *)(void *)mode;
	struct err e = { 0 };
	int code = m->target ? EXIT_CODE_OK : mode_ssh_start(m, s, s->target);
	if (code != EXIT_CODE_OK)
		return code;
	if (strcmp(m->target, s->target) != 0) {
		complain("the server answered for target %s, and not for %s", s->target, m->target);
		return EXIT_CODE_FAILED;
	}
	process_show(); /* the credentials of the call are gone by now */
	m->listener.dest.kind = LINK_KIND_SSH;
	m->listener.take = on_connection;
	snprintf(m->listener.label, sizeof m->listener.label, "ssh");
	int fd = m->listening;
	m->listening = -1;
	if (listener_start(&m->listener, s, fd, &e) == 0 && first_stream_ask(&m->first, s, &m->listener.dest, &e) == 0)
		return EXIT_CODE_OK;
	complain("%s", e.text);
	return EXIT_CODE_FAILED;
}

static void opened(struct session_mode *mode, struct session *s, uint32_t stream)
{
	struct mode_ssh *m = (struct mode_ssh *)(void *)mode;
	(void)s;
	first_stream_opened(&m->first, stream);
}

static void stream_closed(struct session_mode *mode, struct session *s, uint32_t stream, unsigned code,
			  const char *text)
{
	struct mode_ssh *m = (struct mode_ssh *)(void *)mode;
	bool refused = code != LINK_OK && code != LINK_IO;
	bool ours = refused &&
		    !session_code_ends_streams(code); /* else told by on_ssh_exit, if it was not the session's end */
	bool in_vain = ours && first_stream_is_awaited(&m->first, stream);
	if (in_vain && m->running)
		uv_process_kill(&m->process, SIGKILL); /* all it could add is that nobody greets it */
	first_stream_closed(&m->first, stream, refused);
	if (!refused)
		return;
	snprintf(m->cut, sizeof m->cut, "%s: %s (%s)", s->target, text, link_code_name(code));
	if (!ours)
		return;
	complain("%s", m->cut);
	m->cut[0] = '\0';
	if (in_vain)
		session_stop(s, EXIT_CODE_REFUSED);
}

static void interrupted(struct session_mode *mode, struct session *s, int signum)
{
	struct mode_ssh *m = (struct mode_ssh *)(void *)mode;
	/* An interrupt from the terminal reaches ssh as well: what it does about it is its affair. */
	if (signum == SIGINT && m->running)
		return;
	if (m->running && !m->sent) {
		m->sent = signum;
		uv_process_kill(&m->process, signum);
		uv_timer_start(&m->patience, on_patience, SSH_END_MS, 0);
	} else {
		session_stop(s, 128 + signum);
	}
}

static void over(struct session_mode *mode, struct session *s)
{
	struct mode_ssh *m = (struct mode_ssh *)(void *)mode;
	listener_stop(&m->listener);
	if (!m->session) /* it never began */
		return;
	if (m->running) {
		uv_process_kill(&m->process, SIGTERM); /* it puts the terminal back in order */
		uv_process_kill(&m->process, SIGCONT);
		uv_timer_start(&m->patience, on_patience, SSH_END_MS, 0);
	} else {
		uv_close((uv_handle_t *)&m->patience, NULL);
	}
	(void)s;
}

static void hurry(struct session_mode *mode, struct session *s)
{
	struct mode_ssh *m = (struct mode_ssh *)(void *)mode;
	(void)s;
	if (m->running)
		uv_process_kill(&m->process, SIGKILL);
}

void mode_ssh_init(struct mode_ssh *m)
{
	m->mode = (struct session_mode){ .begin = begin,
					 .opened = opened,
					 .stream_closed = stream_closed,
					 .interrupted = interrupted,
					 .over = over,
					 .hurry = hurry };
	m->listening = -1;
}

/* Field by field: what lies between them is undefined. */
static bool same_terminal(const struct termios *a, const struct termios *b)
{
	return a->c_iflag == b->c_iflag && a->c_oflag == b->c_oflag && a->c_cflag == b->c_cflag &&
	       a->c_lflag == b->c_lflag && memcmp(a->c_cc, b->c_cc, sizeof a->c_cc) == 0;
}

void mode_ssh_free(struct mode_ssh *m)
{
	struct termios now;
	if (m->listening >= 0)
		close(m->listening);
	if (!m->has_terminal || tcgetattr(STDIN_FILENO, &now) != 0 || same_terminal(&now, &m->terminal))
		return;
	/* ssh was killed before it could do this. Whoever is in the background by now must leave the terminal alone. */
	if (tcgetpgrp(STDIN_FILENO) == getpgrp())
		tcsetattr(STDIN_FILENO, TCSADRAIN, &m->terminal);
}
