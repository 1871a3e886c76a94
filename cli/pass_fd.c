#include "cli/pass_fd.h"

#include <errno.h>
#include <stdbool.h>
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
	return sendmsg(over, &m, MSG_NOSIGNAL) == 1 ? 0 : -1;
}

static int wait_for_byte(int fd)
{
	char byte;
	ssize_t n;
	do
		n = read(fd, &byte, 1);
	while (n < 0 && errno == EINTR);
	if (n == 0)
		errno = ECONNRESET;
	return n == 1 ? 0 : -1;
}

static bool is_gone(int error)
{
	return error == ENOENT || error == ECONNREFUSED || error == ECONNRESET;
}

int pass_fd(const char *path, int over)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	size_t len = strlen(path);
	if (len >= sizeof a.sun_path) {
		errno = ENAMETOOLONG;
		return -1;
	}
	memcpy(a.sun_path, path, len + 1);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), rc = -1;
	bool ready = fd >= 0 && connect(fd, (struct sockaddr *)&a, sizeof a) == 0 && wait_for_byte(fd) == 0;
	int why = is_gone(errno) ? ECANCELED : errno;
	if (ready) {
		rc = send_fd(over, fd);
		why = errno;
	}
	if (fd >= 0)
		close(fd);
	errno = why;
	return rc;
}
