#include "agent/listening.h"

#include "base/text.h"
#include "net/acceptor.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define QUEUE 64 /* connections that wait to be taken */

struct listening {
	struct acceptor acceptor;
	struct listening_user user;
	uv_poll_t told; /* on the pair's end that is not the stream's */
	int fd;
	unsigned holds; /* the caller's, and the loop's handles */
	bool stopped;
};

union address {
	struct sockaddr any;
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
};

static socklen_t make_address(const char *text, uint16_t port, union address *out)
{
	memset(out, 0, sizeof *out);
	if (inet_pton(AF_INET, text, &out->v4.sin_addr) == 1) {
		out->v4.sin_family = AF_INET;
		out->v4.sin_port = htons(port);
		return sizeof out->v4;
	}
	out->v6.sin6_family = AF_INET6;
	out->v6.sin6_port = htons(port);
	return inet_pton(AF_INET6, text, &out->v6.sin6_addr) == 1 ? sizeof out->v6 : 0;
}

/* IPv6 means that alone: [::] is not 0.0.0.0, which somebody may not have been allowed. */
static int bind_to(const union address *at, socklen_t len)
{
	int one = 1;
	int fd = socket(at->any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -1;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	if ((at->any.sa_family != AF_INET6 || setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one) == 0) &&
	    bind(fd, &at->any, len) == 0)
		return fd;
	int error = errno;
	close(fd);
	errno = error;
	return -1;
}

static unsigned code_of(int error)
{
	switch (error) {
	case EADDRINUSE:
		return LINK_REFUSED;
	case EADDRNOTAVAIL:
	case EAFNOSUPPORT:
	case EACCES:
	case EPERM:
		return LINK_UNREACHABLE;
	case EMFILE:
	case ENFILE:
		return LINK_LIMIT;
	default:
		return LINK_IO;
	}
}

int listening_bind(const char *address, uint16_t port, uint16_t *out_port, unsigned *out_code, char *out_text,
		   size_t size)
{
	union address at;
	char where[80];
	socklen_t len = make_address(address, port, &at);
	errno = EAFNOSUPPORT;
	int fd = len ? bind_to(&at, len) : -1;
	if (fd >= 0 && getsockname(fd, &at.any, &len) == 0) {
		*out_port = ntohs(at.any.sa_family == AF_INET6 ? at.v6.sin6_port : at.v4.sin_port);
		return fd;
	}
	int error = errno;
	text_host_port(address, port, where, sizeof where);
	*out_code = code_of(error);
	text_print(out_text, size, "listen on %s: %s", where,
		   error == EADDRINUSE ? "somebody does that already" : strerror(error));
	if (fd >= 0)
		close(fd);
	return -1;
}

static void let_go(struct listening *l)
{
	if (--l->holds == 0)
		free(l);
}

static void on_acceptor_closed(struct acceptor *a)
{
	let_go(a->user);
}

static void on_told_closed(uv_handle_t *h)
{
	let_go(h->data);
}

static void stop(struct listening *l)
{
	if (l->stopped)
		return;
	l->stopped = true;
	acceptor_stop(&l->acceptor);
	uv_poll_stop(&l->told);
	uv_close((uv_handle_t *)&l->told, on_told_closed);
	close(l->fd);
	l->fd = -1;
}

static void on_told(uv_poll_t *poll, int status, int events)
{
	struct listening *l = poll->data;
	char nothing[256]; /* the client has nothing to say here but that it ends */
	ssize_t n = recv(l->fd, nothing, sizeof nothing, MSG_DONTWAIT);
	(void)events;
	if (status < 0 || n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
		stop(l);
}

static void on_connection(struct acceptor *a, int fd)
{
	struct listening *l = a->user;
	l->user.take(l->user.user, fd);
}

static bool is_full(struct acceptor *a)
{
	const struct listening *l = a->user;
	return l->user.full(l->user.user);
}

static int start_told(struct listening *l, uv_loop_t *loop, uint16_t port, int *out_fd, struct err *e)
{
	int pair[2];
	uint16_t wire = htons(port);
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) != 0)
		return err_set_errno(e, ERR_IO, errno, "a pair of sockets");
	if (send(pair[0], &wire, sizeof wire, MSG_NOSIGNAL) != sizeof wire ||
	    uv_poll_init(loop, &l->told, pair[0]) != 0) {
		close(pair[0]);
		close(pair[1]);
		return err_set(e, ERR_IO, "a pair of sockets cannot be used");
	}
	l->told.data = l;
	l->fd = pair[0];
	l->holds++;
	uv_poll_start(&l->told, UV_READABLE, on_told);
	*out_fd = pair[1];
	return 0;
}

int listening_start(uv_loop_t *loop, int bound, uint16_t port, const struct listening_user *user,
		    struct listening **out_listening, int *out_fd, struct err *e)
{
	struct listening *l = calloc(1, sizeof *l);
	int fd = -1, rc;
	if (!l || listen(bound, QUEUE) != 0) {
		rc = l ? err_set_errno(e, errno == EADDRINUSE ? ERR_CONFLICT : ERR_IO, errno, "listen")
		       : err_set(e, ERR_NOMEM, "out of memory");
		close(bound);
		free(l);
		return rc;
	}
	l->user = *user;
	l->holds = 1;
	l->acceptor =
		(struct acceptor){ .take = on_connection, .full = is_full, .closed = on_acceptor_closed, .user = l };
	rc = start_told(l, loop, port, &fd, e);
	if (rc != 0) {
		close(bound);
		free(l);
		return rc;
	}
	rc = acceptor_start(&l->acceptor, loop, bound, e);
	if (rc != 0) {
		close(fd);
		listening_stop(&l);
		return rc;
	}
	l->holds++;
	*out_listening = l;
	*out_fd = fd;
	return 0;
}

void listening_stop(struct listening **listening)
{
	struct listening *l = *listening;
	*listening = NULL;
	if (!l)
		return;
	stop(l);
	let_go(l);
}
