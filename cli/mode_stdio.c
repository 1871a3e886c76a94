#include "cli/mode.h"

#include "cli/ends.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

static int offer_key(struct mode_stdio *m, struct session *s, struct err *e)
{
	int fd = rendezvous_join(&m->rendezvous, m->dir->path, "agent", e);
	return fd < 0 ? fd : keyholder_start(&m->keyholder, &s->loop, fd, &m->dir->identity, e);
}

static int begin(struct session_mode *mode, struct session *s)
{
	struct mode_stdio *m = (struct mode_stdio *)(void *)mode;
	struct err e = { 0 };
	if (m->dir && offer_key(m, s, &e) != 0) {
		complain("%s", e.text);
		return EXIT_CODE_FAILED;
	}
	/* The endpoint owns what it gets: give it copies, and let go of ours so that an EOF written there is one. */
	int in = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3), out = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (in < 0 || out < 0 || null < 0) {
		complain("standard input and output: %s", strerror(errno));
		return EXIT_CODE_FAILED;
	}
	dup2(null, STDIN_FILENO);
	dup2(null, STDOUT_FILENO);
	close(null);
	if (m->leave_terminal)
		setsid(); /* fails for the leader of a process group: that one is nobody's helper */
	if (endpoint_open_stream(s->endpoint, &m->dest, in, out, &m->stream, &e) == 0)
		return EXIT_CODE_OK;
	complain("%s", e.text);
	return EXIT_CODE_FAILED;
}

/* Another ssh may be about to log in: it is answered by another session from now on, and by this one while this one
 * says goodbye. */
static void stop(struct mode_stdio *m, struct session *s, int exit_code)
{
	rendezvous_leave(&m->rendezvous);
	session_stop(s, exit_code);
}

static void interrupted(struct session_mode *mode, struct session *s, int signum)
{
	stop((struct mode_stdio *)(void *)mode, s, 128 + signum);
}

static void stream_closed(struct session_mode *mode, struct session *s, uint32_t stream, unsigned code,
			  const char *text)
{
	struct mode_stdio *m = (struct mode_stdio *)(void *)mode;
	(void)stream;
	char complaint[320];
	int exit_code = exit_of_stream(code);
	if (code == LINK_IO && s->local_error == EPIPE)
		exit_code =
			128 + SIGPIPE; /* who reads our output has enough: ended as a pipe's writer is, in silence */
	snprintf(complaint, sizeof complaint, "%s: %s (%s)", s->target, text, link_code_name(code));
	if (session_code_ends_streams(code)) {
		session_stop_unless_over(s, exit_code, complaint);
		return;
	}
	if (exit_code == EXIT_CODE_FAILED || exit_code == EXIT_CODE_REFUSED)
		complain("%s", complaint);
	stop(m, s, exit_code);
}

static void over(struct session_mode *mode, struct session *s)
{
	struct mode_stdio *m = (struct mode_stdio *)(void *)mode;
	(void)s;
	rendezvous_leave(&m->rendezvous);
	keyholder_retire(&m->keyholder);
}

static void hurry(struct session_mode *mode, struct session *s)
{
	struct mode_stdio *m = (struct mode_stdio *)(void *)mode;
	(void)s;
	keyholder_stop(&m->keyholder);
}

void mode_stdio_init(struct mode_stdio *m)
{
	m->mode = (struct session_mode){
		.begin = begin, .stream_closed = stream_closed, .interrupted = interrupted, .over = over, .hurry = hurry
	};
}
