#include "cli/local_socket.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
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

int local_socket_listen(struct forward_place *place, int *out_fd, struct err *e)
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

bool local_socket_is_private(int fd)
{
	union address bound;
	read_address(fd, &bound);
	switch (bound.any.sa_family) {
	case AF_INET:
		return ntohl(bound.v4.sin_addr.s_addr) >> 24 == IN_LOOPBACKNET;
	case AF_INET6:
		return IN6_IS_ADDR_LOOPBACK(&bound.v6.sin6_addr);
	default:
		return false;
	}
}
