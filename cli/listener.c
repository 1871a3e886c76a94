#include "cli/listener.h"

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
	struct listener *l = timer->data;
	uv_poll_start(&l->poll, UV_READABLE, on_connection);
}

/* A connection that cannot be taken stays in the queue and would wake the loop for ever. */
static void wait_for_room(struct listener *l)
{
	uv_poll_stop(&l->poll);
	uv_timer_start(&l->again, on_again, FULL_WAIT_MS, 0);
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
	struct listener *l = poll->data;
	(void)status, (void)events;
	for (;;) {
		if (!files_left() || (l->full && l->full(l))) {
			wait_for_room(l);
			return;
		}
		int fd = accept4(l->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK), one = 1;
		if (fd < 0) {
			if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
				wait_for_room(l);
			return;
		}
		struct err e = { 0 };
		uint32_t stream;
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one); /* fails on a unix socket: fine */
		if (l->take)
			l->take(l, fd);
		else if (endpoint_open_stream(l->session->endpoint, &l->dest, fd, fd, &stream, &e) != 0)
			session_tell(l->session, "%s: %s", l->label, e.text);
	}
}

int listener_start(struct listener *l, struct session *s, int fd, struct err *e)
{
	l->session = s;
	l->fd = fd;
	int rc = uv_poll_init(&s->loop, &l->poll, fd);
	if (rc != 0) {
		close(fd);
		return err_set(e, ERR_IO, "%s: %s", l->label, uv_strerror(rc));
	}
	uv_timer_init(&s->loop, &l->again);
	l->poll.data = l->again.data = l;
	l->active = true;
	uv_poll_start(&l->poll, UV_READABLE, on_connection);
	return 0;
}

static void on_closed(uv_handle_t *h)
{
	const struct listener *l = h->data;
	close(l->fd);
}

void listener_stop(struct listener *l)
{
	if (!l->active)
		return;
	l->active = false;
	uv_close((uv_handle_t *)&l->poll, on_closed);
	uv_close((uv_handle_t *)&l->again, NULL);
}
