/* exec-ignoring MASK COMMAND...: libuv starts a program with every signal at its default. What our own caller ignores,
 * as nohup does and a shell for a job in the background, the program that works for us must ignore as well. */
#include "cli/command.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int exec_ignoring(const void *options, int argc, char **argv)
{
	(void)options;
	char *end = NULL;
	unsigned long mask = argc > 0 ? strtoul(argv[0], &end, 16) : 0;
	if (argc < 2 || end == argv[0] || *end) {
		complain("exec-ignoring is for tunnel-cli itself: it needs signals and a command");
		return EXIT_CODE_USAGE;
	}
	signal(SIGPIPE, SIG_DFL); /* ignored by main, for ourselves */
	for (int signum = 1; signum < 32; signum++)
		if (mask >> (signum - 1) & 1)
			signal(signum, SIG_IGN);
	execvp(argv[1], argv + 1);
	complain("%s cannot be started: %s", argv[1], strerror(errno));
	return EXIT_CODE_FAILED;
}

const struct command command_exec_ignoring = {
	.name = "exec-ignoring",
	.usage = "MASK COMMAND...", /* bit n - 1: signal n, in hexadecimal, as in /proc/PID/status */
	.summary = "Run a command that ignores signals",
	.options_size = sizeof(struct common_options),
	.run = exec_ignoring,
	.hidden = true,
	.takes_command = true,
};
