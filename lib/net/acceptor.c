#include "net/acceptor.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define FULL_WAIT_MS 100
#define RESERVED_FILES 8 /* for the session's own legs: connections must not take what carries them */

static void on_connection(uv_poll_t *poll, int status, int events);

static void on_again(uv_timer_t *timer)
{
	struct acceptor *a = timer->data;
	uv_poll_start(&a->poll, UV_READABLE, on_connection);
}

/* A connection that cannot be taken stays in the queue and would wake the loop for ever. */
static void wait_for_room(struct acceptor *a)
{
	uv_poll_stop(&a->poll);
	uv_timer_start(&a->again, on_again, FULL_WAIT_MS, 0);
}

static bool files_left(void)
{
	struct rlimit limit;
	int lowest = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 0); /* free descriptors begin here */
	if (lowest >= 0)
		close(lowest);
	return lowest >= 0 && getrlimit(RLIMIT_NOFILE, &limit) == 0 && (rlim_t)lowest + RESERVED_FILES < limit.rlim_cur;
}

static void on_connection(uv_poll_t *poll, int status, int events)
{
	struct acceptor *a = poll->data;
	(void)status, (void)events;
	while (a->active) {
		if (!files_left() || (a->full && a->full(a))) {
			if (a->active)
				wait_for_room(a);
			return;
		}
		int fd = accept4(a->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK), one = 1;
		if (fd < 0) {
			if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
				wait_for_room(a);
			return;
		}
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one); /* fails on a unix socket: fine */
		a->take(a, fd);
	}
}

int acceptor_start(struct acceptor *a, uv_loop_t *loop, int fd, struct err *e)
{
	int rc = uv_poll_init(loop, &a->poll, fd);
	if (rc != 0) {
		close(fd);
		return err_set(e, ERR_IO, "watch a listening socket: %s", uv_strerror(rc));
	}
	uv_timer_init(loop, &a->again);
	a->poll.data = a->again.data = a;
	a->fd = fd;
	a->handles = 2;
	a->active = true;
	uv_poll_start(&a->poll, UV_READABLE, on_connection);
	return 0;
}

static void on_closed(uv_handle_t *h)
{
	struct acceptor *a = h->data;
	if (--a->handles == 0 && a->closed)
		a->closed(a);
}

void acceptor_stop(struct acceptor *a)
{
	if (!a->active)
		return;
	a->active = false;
	uv_poll_stop(&a->poll); /* takes the descriptor out of epoll at once */
	uv_close((uv_handle_t *)&a->poll, on_closed);
	uv_close((uv_handle_t *)&a->again, on_closed);
	close(a->fd);
	a->fd = -1;
}
