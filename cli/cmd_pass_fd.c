/* pass-fd SOCKET: what libexec's tunnel-pass-fd does, where tunnel-cli was installed alone. */
#include "cli/command.h"
#include "cli/pass_fd.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

static int run(const void *options, int argc, char **argv)
{
	(void)options;
	if (argc != 1) {
		complain("pass-fd is for ssh's ProxyCommand: it needs the path of one socket");
		return EXIT_CODE_USAGE;
	}
	if (pass_fd(argv[0], STDOUT_FILENO) == 0)
		return EXIT_CODE_OK;
	if (errno != ECANCELED)
		complain("pass-fd %s: %s", argv[0], strerror(errno));
	return EXIT_CODE_FAILED;
}

const struct command command_pass_fd = {
	.name = "pass-fd",
	.usage = "SOCKET",
	.summary = "Hand a connection to ssh",
	.options_size = sizeof(struct common_options),
	.run = run,
	.hidden = true,
};
