/* Happy eyeballs: addresses of the two families alternate; the next attempt starts when the last one failed or 250 ms
 * after it began, and all that have started stay in the race. The first that connects wins and closes the others.
 *
 * A dial frees itself when its last handle has closed, so it may be cancelled at any moment. */
#include "net/dial.h"

#include "base/text.h"
#include "net/resolve.h"

#include <errno.h>
#include <inttypes.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct attempt {
	struct dial *dial;
	uv_poll_t poll;
	int fd; /* -1: not running */
};

struct dial {
	uv_loop_t *loop;
	dial_done done;
	void *user;
	char name[254 + 10], host[254]; /* host "": addresses were given */
	struct resolve *resolve;
	uv_timer_t timer, deadline;
	int64_t timeout_ms;
	struct dial_address addresses[DIAL_ADDRESSES];
	struct attempt attempts[DIAL_ADDRESSES];
	size_t count, next, running;
	unsigned holds; /* handles and requests that libuv still knows */
	bool over;
	int first_error;
};

static void drop_hold(struct dial *d)
{
	if (--d->holds == 0)
		free(d);
}

static void on_timer_closed(uv_handle_t *h)
{
	drop_hold(h->data);
}

static void on_poll_closed(uv_handle_t *h)
{
	drop_hold(((struct attempt *)h->data)->dial);
}

/* Gives the descriptor back; the poll handle closes. */
static int take_fd(struct attempt *a)
{
	int fd = a->fd;
	a->fd = -1;
	a->dial->running--;
	uv_poll_stop(&a->poll);
	uv_close((uv_handle_t *)&a->poll, on_poll_closed);
	return fd;
}

static void wind_up(struct dial *d)
{
	d->over = true;
	resolve_cancel(&d->resolve);
	for (size_t i = 0; i < d->count; i++)
		if (d->attempts[i].fd >= 0)
			close(take_fd(&d->attempts[i]));
	uv_close((uv_handle_t *)&d->timer, on_timer_closed);
	uv_close((uv_handle_t *)&d->deadline, on_timer_closed);
}

static void finish(struct dial *d, int fd, const char *why_not)
{
	wind_up(d);
	d->done(d->user, fd, why_not);
}

static void start_next(struct dial *d);

static void attempt_failed(struct dial *d, int error)
{
	if (!d->first_error)
		d->first_error = error;
	if (d->next < d->count) {
		start_next(d);
	} else if (d->running == 0) {
		char why[400];
		snprintf(why, sizeof why, "connect %s: %s", d->name, strerror(d->first_error));
		finish(d, -1, why);
	}
}

static void on_connect_event(uv_poll_t *poll, int status, int events)
{
	struct attempt *a = poll->data;
	(void)events;
	/* libuv says EBADF for a refused connection; the socket knows better. */
	int error = 0;
	socklen_t len = sizeof error;
	if (getsockopt(a->fd, SOL_SOCKET, SO_ERROR, &error, &len) != 0)
		error = errno;
	if (error == 0 && status < 0)
		error = -status;
	int fd = take_fd(a);
	if (error == 0) {
		resolve_prefer(a->dial->host, &a->dial->addresses[a - a->dial->attempts]);
		finish(a->dial, fd, NULL);
	} else {
		close(fd);
		attempt_failed(a->dial, error);
	}
}

/* 0, or errno. */
static int start_attempt(struct attempt *a, const struct dial_address *to)
{
	int fd = socket(to->address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return errno;
	int error = 0;
	if (connect(fd, (const struct sockaddr *)&to->address, to->len) != 0 && errno != EINPROGRESS)
		error = errno;
	if (error == 0)
		error = -uv_poll_init(a->dial->loop, &a->poll, fd);
	if (error != 0) {
		close(fd);
		return error;
	}
	a->fd = fd;
	a->poll.data = a;
	a->dial->holds++;
	a->dial->running++;
	uv_poll_start(&a->poll, UV_WRITABLE, on_connect_event);
	return 0;
}

static void on_next_due(uv_timer_t *timer)
{
	start_next(timer->data);
}

static void start_next(struct dial *d)
{
	int error = 0;
	while (d->next < d->count) {
		struct attempt *a = &d->attempts[d->next];
		error = start_attempt(a, &d->addresses[d->next++]);
		if (error == 0)
			break;
		if (!d->first_error)
			d->first_error = error;
	}
	if (error != 0 && d->running == 0)
		attempt_failed(d, error);
	else if (d->next < d->count)
		uv_timer_start(&d->timer, on_next_due, DIAL_NEXT_MS, 0);
	else
		uv_timer_stop(&d->timer);
}

static void on_deadline(uv_timer_t *timer)
{
	struct dial *d = timer->data;
	char why[400];
	snprintf(why, sizeof why, "%s %s: no answer within %" PRId64 " ms", d->resolve ? "look up" : "connect", d->name,
		 d->timeout_ms);
	finish(d, -1, why);
}

static void on_resolved(void *user, const struct dial_address *addresses, size_t count, const char *why_not)
{
	struct dial *d = user;
	d->resolve = NULL;
	d->count = count;
	if (count) {
		memcpy(d->addresses, addresses, count * sizeof *addresses);
		start_next(d);
	} else {
		char why[400];
		snprintf(why, sizeof why, "look up %s: %s", d->name, why_not);
		finish(d, -1, why);
	}
}

static struct dial *new_dial(uv_loop_t *loop, const char *name, dial_done done, void *user)
{
	struct dial *d = calloc(1, sizeof *d);
	if (!d)
		return NULL;
	d->loop = loop;
	d->done = done;
	d->user = user;
	snprintf(d->name, sizeof d->name, "%s", name);
	for (size_t i = 0; i < DIAL_ADDRESSES; i++)
		d->attempts[i] = (struct attempt){ .dial = d, .fd = -1 };
	uv_timer_init(loop, &d->timer);
	uv_timer_init(loop, &d->deadline);
	d->timer.data = d->deadline.data = d;
	d->holds = 2;
	return d;
}

int dial_start(uv_loop_t *loop, const char *host, uint16_t port, int64_t timeout_ms, dial_done done, void *user,
	       struct dial **out_dial, struct err *e)
{
	char name[254 + 10];
	text_host_port(host, port, name, sizeof name);
	struct dial *d = new_dial(loop, name, done, user);
	if (!d)
		return err_set(e, ERR_NOMEM, "out of memory");
	snprintf(d->host, sizeof d->host, "%s", host);
	d->timeout_ms = timeout_ms;
	if (timeout_ms)
		uv_timer_start(&d->deadline, on_deadline, (uint64_t)timeout_ms, 0);
	int rc = resolve_start(loop, host, port, on_resolved, d, &d->resolve, e);
	if (rc != 0)
		wind_up(d);
	else
		*out_dial = d;
	return rc;
}

int dial_race(uv_loop_t *loop, const char *name, const struct dial_address *addresses, size_t count, dial_done done,
	      void *user, struct dial **out_dial, struct err *e)
{
	struct dial *d = new_dial(loop, name, done, user);
	if (!d)
		return err_set(e, ERR_NOMEM, "out of memory");
	d->count = count < DIAL_ADDRESSES ? count : DIAL_ADDRESSES;
	memcpy(d->addresses, addresses, d->count * sizeof *addresses);
	uv_timer_start(&d->timer, on_next_due, 0, 0);
	*out_dial = d;
	return 0;
}

void dial_cancel(struct dial **dial)
{
	if (!dial || !*dial)
		return;
	if (!(*dial)->over) {
		wind_up(*dial);
	}
	*dial = NULL;
}
