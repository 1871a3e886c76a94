#include "endpoint/unix_socket.h"

#include "base/text.h"
#include "link/link.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static unsigned code_of(int error)
{
	switch (error) {
	case ECONNREFUSED: /* nobody listens there */
		return LINK_REFUSED;
	case ENOENT:
	case ENOTDIR:
	case ELOOP:
	case EACCES:
	case EPERM:
		return LINK_UNREACHABLE;
	case EAGAIN: /* whoever listens there does not accept */
		return LINK_TIMEOUT;
	case EMFILE:
	case ENFILE:
		return LINK_LIMIT;
	default:
		return LINK_IO;
	}
}

int unix_socket_connect(const char *path, unsigned *out_code, char *out_text, size_t size)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	strncpy(at.sun_path, path, sizeof at.sun_path - 1);
	if (fd >= 0 && connect(fd, (const struct sockaddr *)&at, sizeof at) == 0)
		return fd;
	int error = errno;
	*out_code = code_of(error);
	text_print(out_text, size, "connect to unix:%s: %s", path,
		   error == EAGAIN ? "its queue is full" : strerror(error));
	if (fd >= 0)
		close(fd);
	return -1;
}
