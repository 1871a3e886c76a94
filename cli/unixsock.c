#include "cli/unixsock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define BACKLOG 16

static int address(const char *path, struct sockaddr_un *out, struct err *e)
{
	*out = (struct sockaddr_un){ .sun_family = AF_UNIX };
	if (strlen(path) >= sizeof out->sun_path)
		return err_set(e, ERR_INVALID, "%s: too long for a socket; at most %zu bytes", path,
			       sizeof out->sun_path - 1);
	memcpy(out->sun_path, path, strlen(path) + 1);
	return 0;
}

int unixsock_listen(const char *path, struct err *e)
{
	struct sockaddr_un a;
	int rc = address(path, &a, e);
	if (rc != 0)
		return rc;
	unlink(path);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd >= 0 && fchmod(fd, 0600) == 0 && bind(fd, (struct sockaddr *)&a, sizeof a) == 0 &&
	    listen(fd, BACKLOG) == 0)
		return fd;
	rc = err_set_errno(e, ERR_IO, errno, "%s", path);
	if (fd >= 0) {
		close(fd);
		unlink(path);
	}
	return rc;
}

int unixsock_connect(const char *path, struct err *e)
{
	struct sockaddr_un a;
	int rc = address(path, &a, e);
	if (rc != 0)
		return rc;
	/* Blocking it would wait for whoever does not accept. */
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd >= 0 && connect(fd, (struct sockaddr *)&a, sizeof a) == 0 && fcntl(fd, F_SETFL, 0) == 0)
		return fd;
	bool gone = errno == ECONNREFUSED || errno == ENOENT;
	rc = err_set_errno(e, gone ? ERR_NOT_FOUND : ERR_IO, errno, "%s", path);
	if (fd >= 0)
		close(fd);
	return rc;
}
