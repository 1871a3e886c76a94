/* An SSH session from the wish to its end: keys, the call, and then the user's own ssh over it, or SSH's bytes on
 * standard input and output for an ssh that started us. */
#ifndef CLI_SSH_SESSION_H
#define CLI_SSH_SESSION_H

#include "cli/client.h"

#include <stdbool.h>
#include <stdint.h>

struct ssh_session_wish {
	const char *target, *login, *reason; /* reason may be NULL */
	const char *dir;                     /* of sshdir_open; NULL: a temporary one */
	int64_t give_up_ms;                  /* 0: the default */
	bool stdio, leave_terminal;          /* of struct mode_stdio */
	/* of struct mode_ssh, unless stdio */
	const struct arg_list *ssh_args;
	int argc;
	char **argv;
};

/* Complains, and returns the exit code; may end the program with it (session_leave). */
int ssh_session_run(struct client *c, const struct ssh_session_wish *w);

#endif
