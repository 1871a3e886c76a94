#include "agent/reach.h"

#include "agent/lookup.h"
#include "base/text.h"
#include "link/link.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define ADDRESSES 16u /* that are tried */

struct address {
	struct sockaddr_storage at;
	socklen_t len;
};

struct reach {
	uv_loop_t *loop;
	struct lookup *lookup; /* NULL: done, or not needed */
	uv_timer_t timer;
	uv_poll_t *poll; /* of the present attempt, or NULL */
	int fd;
	struct address addresses[ADDRESSES];
	size_t count, next;
	const struct allow *allow;
	reach_done *done; /* NULL once told or cancelled */
	void *user;
	char where[300]; /* "db.internal:5432" */
	uint16_t port;
	int64_t deadline;
	unsigned code; /* of the latest failure */
	char text[200];
};

static void on_timer_closed(uv_handle_t *handle)
{
	free(handle->data);
}

static void on_poll_closed(uv_handle_t *handle)
{
	free(handle);
}

static void stop_poll(struct reach *d)
{
	if (!d->poll)
		return;
	/* Takes the descriptor out of epoll at once, so it may be handed on. */
	uv_close((uv_handle_t *)d->poll, on_poll_closed);
	d->poll = NULL;
}

static void drop_attempt(struct reach *d)
{
	stop_poll(d);
	if (d->fd >= 0)
		close(d->fd);
	d->fd = -1;
}

static void retire(struct reach *d)
{
	d->done = NULL;
	drop_attempt(d);
	lookup_cancel(&d->lookup);
	uv_close((uv_handle_t *)&d->timer, on_timer_closed);
}

static void finish(struct reach *d, int fd)
{
	reach_done *done = d->done;
	if (fd >= 0)
		d->fd = -1;
	unsigned code = fd >= 0 ? LINK_OK : d->code;
	char text[sizeof d->text];
	memcpy(text, d->text, sizeof text);
	void *user = d->user;
	retire(d);
	done(user, fd, code, fd >= 0 ? "" : text);
}

static void failed(struct reach *d, int error)
{
	switch (error) {
	case ECONNREFUSED:
		d->code = LINK_REFUSED;
		break;
	case ETIMEDOUT:
		d->code = LINK_TIMEOUT;
		break;
	case EHOSTUNREACH:
	case ENETUNREACH:
	case EADDRNOTAVAIL:
	case EACCES: /* a firewall of this machine */
	case EPERM:
		d->code = LINK_UNREACHABLE;
		break;
	case EMFILE:
	case ENFILE:
		d->code = LINK_LIMIT;
		break;
	default:
		d->code = LINK_IO;
	}
	snprintf(d->text, sizeof d->text, "connect to %.150s: %s", d->where, strerror(error));
}

static void try_next(struct reach *d);

static int socket_error(int fd)
{
	int error = 0;
	socklen_t len = sizeof error;
	return getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) != 0 ? EIO : error;
}

static void on_writable(uv_poll_t *poll, int status, int events)
{
	struct reach *d = poll->data;
	/* libuv reports a refused connection as a bad descriptor; the socket knows better. */
	int error = socket_error(d->fd);
	(void)events;
	if (status < 0 && !error)
		error = EIO;
	if (error) {
		failed(d, error);
		drop_attempt(d);
		try_next(d);
		return;
	}
	int fd = d->fd;
	stop_poll(d);
	finish(d, fd);
}

static void on_attempt_timeout(uv_timer_t *timer)
{
	struct reach *d = timer->data;
	failed(d, ETIMEDOUT);
	if (d->lookup) {
		d->code = LINK_TIMEOUT;
		snprintf(d->text, sizeof d->text, "look up %.150s: no answer in time", d->where);
		finish(d, -1);
		return;
	}
	drop_attempt(d);
	try_next(d);
}

static int watch(struct reach *d)
{
	d->poll = malloc(sizeof *d->poll);
	if (!d->poll)
		return ENOMEM;
	int rc = uv_poll_init(d->loop, d->poll, d->fd);
	if (rc) {
		free(d->poll);
		d->poll = NULL;
		return -rc;
	}
	d->poll->data = d;
	return -uv_poll_start(d->poll, UV_WRITABLE, on_writable);
}

/* 0: under way, or without a poll, which one of this machine mostly is at once, there. An errno: not even that. */
static int attempt(struct reach *d, const struct address *a)
{
	int on = 1;
	d->fd = socket(a->at.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (d->fd < 0)
		return errno;
	setsockopt(d->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
	setsockopt(d->fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
	if (connect(d->fd, (const struct sockaddr *)&a->at, a->len) == 0)
		return 0;
	if (errno != EINPROGRESS)
		return errno;
	struct pollfd now = { .fd = d->fd, .events = POLLOUT };
	return poll(&now, 1, 0) == 1 ? socket_error(d->fd) : watch(d);
}

static bool may_try(struct reach *d, const struct address *a)
{
	const struct sockaddr *at = (const struct sockaddr *)&a->at;
	char address[64];
	if (!d->allow || allow_address(d->allow, at, d->port))
		return true;
	if (d->code == LINK_UNREACHABLE || d->code == LINK_NOT_ALLOWED) {
		d->code = LINK_NOT_ALLOWED;
		if (getnameinfo(at, a->len, address, sizeof address, NULL, 0, NI_NUMERICHOST) != 0)
			strcpy(address, "?");
		snprintf(d->text, sizeof d->text, "%.64s resolves to %s, which the agent's allow list does not hold",
			 d->where, address);
	}
	return false;
}

static void try_next(struct reach *d)
{
	while (d->next < d->count) {
		const struct address *a = &d->addresses[d->next++];
		if (!may_try(d, a))
			continue;
		int error = attempt(d, a);
		if (!error && !d->poll) {
			finish(d, d->fd);
			return;
		}
		if (!error) {
			/* What is left is shared with those that come after, so one black hole does not take it all. */
			int64_t left = d->deadline - (int64_t)uv_now(d->loop),
				shares = (int64_t)(d->count - d->next) + 1;
			uv_timer_start(&d->timer, on_attempt_timeout, left > 0 ? (uint64_t)(left / shares) : 0, 0);
			return;
		}
		failed(d, error);
		drop_attempt(d);
	}
	finish(d, -1);
}

static void add_address(struct reach *d, const struct sockaddr *at, socklen_t len)
{
	struct address *a = &d->addresses[d->count];
	if (d->count == ADDRESSES || len > sizeof a->at)
		return;
	memcpy(&a->at, at, len);
	a->len = len;
	if (at->sa_family == AF_INET)
		((struct sockaddr_in *)(void *)&a->at)->sin_port = htons(d->port);
	else
		((struct sockaddr_in6 *)(void *)&a->at)->sin6_port = htons(d->port);
	d->count++;
}

static void on_lookup(void *user, int status, const struct addrinfo *list)
{
	struct reach *d = user;
	d->lookup = NULL;
	for (const struct addrinfo *a = list; a; a = a->ai_next)
		add_address(d, a->ai_addr, a->ai_addrlen);
	if (status)
		snprintf(d->text, sizeof d->text, "look up %.150s: %s", d->where, gai_strerror(status));
	try_next(d);
}

static bool add_literal(struct reach *d, const char *host)
{
	struct sockaddr_in a4 = { .sin_family = AF_INET };
	struct sockaddr_in6 a6 = { .sin6_family = AF_INET6 };
	if (inet_pton(AF_INET, host, &a4.sin_addr) == 1)
		add_address(d, (const struct sockaddr *)&a4, sizeof a4);
	else if (inet_pton(AF_INET6, host, &a6.sin6_addr) == 1)
		add_address(d, (const struct sockaddr *)&a6, sizeof a6);
	return d->count > 0;
}

static void on_literal(uv_timer_t *timer)
{
	try_next(timer->data);
}

int reach_start(uv_loop_t *loop, const struct dial_options *options, reach_done *done, void *user,
		struct reach **out_dial, struct err *e)
{
	struct reach *d = calloc(1, sizeof *d);
	if (!d)
		return err_set(e, ERR_NOMEM, "out of memory");
	d->loop = loop, d->fd = -1, d->allow = options->allow, d->port = options->port;
	d->deadline = (int64_t)uv_now(loop) + options->timeout_ms;
	d->code = LINK_UNREACHABLE;
	text_host_port(options->host, options->port, d->where, sizeof d->where);
	bool literal = add_literal(d, options->host);
	int rc = literal ? 0 : lookup_start(loop, options->host, on_lookup, d, &d->lookup, e);
	if (rc) {
		free(d);
		return rc;
	}
	d->done = done, d->user = user;
	uv_timer_init(loop, &d->timer);
	d->timer.data = d;
	uv_timer_start(&d->timer, literal ? on_literal : on_attempt_timeout,
		       literal ? 0 : (uint64_t)options->timeout_ms, 0);
	*out_dial = d;
	return 0;
}

void reach_cancel(struct reach **dial)
{
	struct reach *d = *dial;
	*dial = NULL;
	if (d && d->done)
		retire(d);
}
