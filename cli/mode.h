/* The three things that are done with a session. Each fills a struct session_mode and lives until session_run
 * returned. */
#ifndef CLI_MODE_H
#define CLI_MODE_H

#include "cli/escape.h"
#include "cli/first_stream.h"
#include "cli/forward.h"
#include "cli/keyholder.h"
#include "cli/listener.h"
#include "cli/rendezvous.h"
#include "cli/reverse.h"
#include "cli/session.h"
#include "cli/socks_server.h"
#include "cli/sshdir.h"

#include <termios.h>

/* The user's own ssh, over the session. Its exit code becomes ours. */
struct mode_ssh {
	struct session_mode mode;
	struct sshdir *dir;
	const char *login;
	const struct arg_list *ssh_args;
	int argc;
	char **argv; /* the command on the target; argc 0: a shell */
	/* private */
	const char *target; /* what ssh was started for; NULL: it was not */
	struct listener listener;
	struct first_stream first;
	int listening; /* the socket, until the listener has it; -1 */
	uv_process_t process;
	char socket[PATH_MAX];
	struct session *session;
	bool running;
	char cut[320];       /* how ssh lost its connection, perhaps by the session's end */
	int sent;            /* the signal that we passed on to ssh */
	uv_timer_t patience; /* for an ssh that was told to end */
	struct termios terminal;
	bool has_terminal;
};
void mode_ssh_init(struct mode_ssh *m);
/* ssh takes as long to start as a session does: where the target's name is known before session_start, ssh is started
 * by this first, and waits for session_run. Complains, and returns the exit code. target: must stay. */
int mode_ssh_start(struct mode_ssh *m, struct session *s, const char *target);
/* There is no session: ssh, if it was started, goes without a word. */
void mode_ssh_abandon(struct mode_ssh *m);
void mode_ssh_free(struct mode_ssh *m); /* the terminal is as it was before */

/* One stream on standard input and output. */
struct mode_stdio {
	struct session_mode mode;
	struct link_dest dest;
	const struct sshdir *dir; /* of an SSH session: the ssh on the other side of us finds an agent in it */
	bool leave_terminal; /* what its keys send is meant for that ssh, which may live on when they end a command */
	/* private */
	struct rendezvous rendezvous;
	struct keyholder keyholder;
	uint32_t stream;
};
void mode_stdio_init(struct mode_stdio *m);

/* Local listeners; each connection is a stream, to one endpoint or to where its SOCKS client asks for. And listeners on
 * the target, whose connections come to one endpoint here. On a terminal with escapes. What another client needs to
 * take the session over is kept in a file while it runs (kept.h). */
struct mode_forward {
	struct session_mode mode;
	const struct forward_texts *texts; /* at least one */
	const struct common_options *common;
	/* private */
	struct forward *forwards; /* freed by mode_forward_free */
	size_t count;
	int64_t wait_ms;
	struct escape_reader escapes;
	struct session *session;
};
void mode_forward_init(struct mode_forward *m);
/* Binds the local ports; one that is taken, here or then on the target, is waited for as long as wait_ms. Before
 * session_run. Complains, and returns the exit code. */
int mode_forward_listen(struct mode_forward *m, int64_t wait_ms);
void mode_forward_free(struct mode_forward *m);

#endif
