#include "cli/local_socket.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define QUEUE 128

union address {
	struct sockaddr any;
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
};

static void read_address(int fd, union address *out)
{
	socklen_t n = sizeof *out;
	if (getsockname(fd, &out->any, &n) != 0)
		out->any.sa_family = AF_UNSPEC;
}

static int bind_to(const struct addrinfo *at)
{
	int fd = socket(at->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), one = 1;
	if (fd < 0)
		return -1;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	if (bind(fd, at->ai_addr, at->ai_addrlen) == 0 && listen(fd, QUEUE) == 0)
		return fd;
	int error = errno;
	close(fd);
	errno = error;
	return -1;
}

static int listen_on_port(struct forward_place *place, int *out_fd, struct err *e)
{
	struct addrinfo hints = { .ai_flags = AI_PASSIVE | AI_NUMERICSERV, .ai_socktype = SOCK_STREAM }, *found = NULL;
	char service[8];
	union address bound;
	const char *host = strcmp(place->host, "*") == 0 ? NULL : place->host;
	snprintf(service, sizeof service, "%u", place->port);
	int rc = getaddrinfo(host, service, &hints, &found);
	if (rc != 0)
		return err_set(e, ERR_INVALID, "listen on %s: %s", place->host, gai_strerror(rc));
	int fd = bind_to(found);
	int error = errno;
	freeaddrinfo(found);
	if (fd < 0)
		return err_set_errno(e, error == EADDRINUSE ? ERR_CONFLICT : ERR_IO, error, "listen on %s port %u",
				     place->host, place->port);
	read_address(fd, &bound);
	place->port = ntohs(bound.any.sa_family == AF_INET6 ? bound.v6.sin6_port : bound.v4.sin_port);
	*out_fd = fd;
	return 0;
}

bool local_socket_is_private(const struct local_socket *s)
{
	union address bound;
	read_address(s->fd, &bound);
	switch (bound.any.sa_family) {
	case AF_INET:
		return ntohl(bound.v4.sin_addr.s_addr) >> 24 == IN_LOOPBACKNET;
	case AF_INET6:
		return IN6_IS_ADDR_LOOPBACK(&bound.v6.sin6_addr);
	default:
		return bound.any.sa_family == AF_UNIX;
	}
}

/* Somebody listens there (ERR_CONFLICT), or it is a file of another kind; 0: nothing of worth is there. */
static int check_old(const struct sockaddr_un *at, struct err *e)
{
	struct stat st;
	if (lstat(at->sun_path, &st) != 0)
		return 0;
	if (!S_ISSOCK(st.st_mode))
		return err_set(e, ERR_INVALID, "listen on %s: there is a file that is no socket", at->sun_path);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	bool alive = fd < 0 || connect(fd, (const struct sockaddr *)at, sizeof *at) == 0 || errno != ECONNREFUSED;
	if (fd >= 0)
		close(fd);
	if (alive)
		return err_set(e, ERR_CONFLICT, "listen on %s: somebody does that already", at->sun_path);
	return unlink(at->sun_path) == 0 || errno == ENOENT
		       ? 0
		       : err_set_errno(e, ERR_IO, errno, "%s: remove what is left there", at->sun_path);
}

static int listen_on_path(const char *path, struct local_socket *out, struct err *e)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	struct stat st;
	snprintf(at.sun_path, sizeof at.sun_path, "%s", path);
	int rc = check_old(&at, e);
	if (rc != 0)
		return rc;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	mode_t before = umask(0177);
	bool bound = fd >= 0 && bind(fd, (const struct sockaddr *)&at, sizeof at) == 0;
	int error = errno;
	umask(before);
	if (bound && listen(fd, QUEUE) == 0 && lstat(path, &st) == 0) {
		*out = (struct local_socket){ fd, st.st_dev, st.st_ino, st.st_ctim };
		return 0;
	}
	error = bound ? errno : error;
	if (fd >= 0)
		close(fd);
	return err_set_errno(e, error == EADDRINUSE ? ERR_CONFLICT : ERR_IO, error, "listen on %s", path);
}

int local_socket_listen(struct forward_place *place, struct local_socket *out, struct err *e)
{
	if (place->path[0])
		return listen_on_path(place->path, out, e);
	struct local_socket s = { .fd = -1 };
	int rc = listen_on_port(place, &s.fd, e);
	if (rc == 0)
		*out = s;
	return rc;
}

void local_socket_remove(struct local_socket *s, const struct forward_place *place)
{
	struct stat st;
	/* Whoever took the session from us may have put his own there. */
	if (s->inode && lstat(place->path, &st) == 0 && st.st_dev == s->device && st.st_ino == s->inode &&
	    st.st_ctim.tv_sec == s->since.tv_sec && st.st_ctim.tv_nsec == s->since.tv_nsec)
		unlink(place->path);
	if (s->fd >= 0)
		close(s->fd);
	*s = (struct local_socket){ .fd = -1 };
}
