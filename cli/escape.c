#include "cli/escape.h"

#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#define BACKGROUND_WAIT_MS 500

enum escape escape_of_line(const char *line)
{
	if (line[0] != '~' || line[1] == '\0' || line[2] != '\0')
		return ESCAPE_NONE;
	switch (line[1]) {
	case '.':
		return ESCAPE_END;
	case 'd':
		return ESCAPE_DETACH;
	case 'r':
		return ESCAPE_RECONNECT;
	case 's':
		return ESCAPE_STATUS;
	case '~':
		return ESCAPE_NONE;
	default:
		return ESCAPE_HELP;
	}
}

static void take(struct escape_reader *r, const char *data, size_t n)
{
	for (size_t i = 0; i < n && r->active; i++) {
		if (data[i] != '\n') {
			if (r->len + 1 < sizeof r->line)
				r->line[r->len] = data[i];
			r->len++;
			continue;
		}
		bool whole = r->len + 1 < sizeof r->line;
		r->line[whole ? r->len : 0] = '\0';
		r->len = 0;
		enum escape escape = escape_of_line(r->line);
		if (escape != ESCAPE_NONE)
			r->on_escape(r->user, escape);
	}
}

static void on_readable(uv_poll_t *poll, int status, int events);

static void on_again(uv_timer_t *timer)
{
	struct escape_reader *r = timer->data;
	uv_poll_start(&r->poll, UV_READABLE, on_readable);
}

static bool hung_up(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	return poll(&p, 1, 0) > 0 && (p.revents & (POLLHUP | POLLERR | POLLNVAL));
}

static void on_readable(uv_poll_t *poll, int status, int events)
{
	struct escape_reader *r = poll->data;
	char data[256];
	(void)events;
	/* A read by a process in the background would stop it. */
	if (status == 0 && tcgetpgrp(r->fd) != getpgrp()) {
		uv_poll_stop(poll);
		if (!hung_up(r->fd))
			uv_timer_start(&r->again, on_again, BACKGROUND_WAIT_MS, 0);
		return;
	}
	ssize_t n = status == 0 ? read(r->fd, data, sizeof data) : -1;
	if (n > 0)
		take(r, data, (size_t)n);
	else if (hung_up(r->fd) || status != 0) /* else a Ctrl-D, which means nothing here */
		uv_poll_stop(poll);
}

void escape_start(struct escape_reader *r, uv_loop_t *loop, void (*on_escape)(void *user, enum escape escape),
		  void *user)
{
	if (!isatty(STDIN_FILENO))
		return;
	/* Opened anew: what polls it makes it non-blocking, and the shell shares standard input itself. */
	r->fd = open("/proc/self/fd/0", O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (r->fd < 0)
		r->fd = open("/dev/tty", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (r->fd < 0)
		return;
	if (uv_poll_init(loop, &r->poll, r->fd) != 0) {
		close(r->fd);
		return;
	}
	uv_timer_init(loop, &r->again);
	r->poll.data = r->again.data = r;
	r->on_escape = on_escape;
	r->user = user;
	r->active = true;
	uv_poll_start(&r->poll, UV_READABLE, on_readable);
}

static void on_closed(uv_handle_t *h)
{
	const struct escape_reader *r = h->data;
	close(r->fd);
}

void escape_stop(struct escape_reader *r)
{
	if (!r->active)
		return;
	r->active = false;
	uv_close((uv_handle_t *)&r->poll, on_closed);
	uv_close((uv_handle_t *)&r->again, NULL);
}
