/* The three things start-session does with a session. Each fills a struct session_mode and lives until session_run
 * returned. */
#ifndef CLI_MODE_H
#define CLI_MODE_H

#include "cli/listener.h"
#include "cli/session.h"
#include "cli/sshdir.h"

/* The user's own ssh, over the session. Its exit code becomes ours. */
struct mode_ssh {
	struct session_mode mode;
	const struct sshdir *dir;
	const char *login;
	const struct arg_list *ssh_args;
	int argc;
	char **argv; /* the command on the target; argc 0: a shell */
	/* private */
	struct listener listener;
	uv_process_t process;
	char socket[PATH_MAX];
	struct session *session;
	bool running;
};
void mode_ssh_init(struct mode_ssh *m);

/* One stream on standard input and output. */
struct mode_stdio {
	struct session_mode mode;
	struct link_dest dest;
	uint32_t stream;
};
void mode_stdio_init(struct mode_stdio *m);

/* Local listeners; each connection is a stream. */
struct mode_forward {
	struct session_mode mode;
	const struct arg_list *specs; /* "[bind:]port:host:port" */
	/* private */
	struct listener *listeners; /* freed by mode_forward_free */
	size_t count;
};
void mode_forward_init(struct mode_forward *m);
void mode_forward_free(struct mode_forward *m);
/* The "host:port" of a forward's far side, for StartSession's allow. ERR_INVALID names the spec. */
int mode_forward_dest(const char *spec, char *out_host_port, size_t size, struct err *e);

#endif
