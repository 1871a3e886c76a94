/* pass-fd SOCKET: for ssh's ProxyUseFdpass. Connects to the socket, hands the connection over through standard output,
 * ends. */
#include "cli/command.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static int send_fd(int over, int fd)
{
	char byte = 0;
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(sizeof(int))];
	} control = { .space = { 0 } };
	struct iovec iov = { &byte, 1 };
	struct msghdr m = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.space, .msg_controllen = sizeof control.space
	};
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &fd, sizeof fd);
	return sendmsg(over, &m, 0) == 1 ? 0 : -1;
}

static int pass_fd(const void *options, int argc, char **argv)
{
	(void)options;
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	if (argc != 1 || strlen(argv[0]) >= sizeof a.sun_path) {
		complain("pass-fd is for ssh's ProxyCommand: it needs the path of one socket");
		return EXIT_CODE_USAGE;
	}
	memcpy(a.sun_path, argv[0], strlen(argv[0]) + 1);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof a) != 0 || send_fd(STDOUT_FILENO, fd) != 0) {
		complain("pass-fd %s: %s", argv[0], strerror(errno));
		return EXIT_CODE_FAILED;
	}
	close(fd);
	return EXIT_CODE_OK;
}

const struct command command_pass_fd = {
	.name = "pass-fd",
	.usage = "SOCKET",
	.summary = "Hand a connection to ssh",
	.options_size = sizeof(struct common_options),
	.run = pass_fd,
	.hidden = true,
};
