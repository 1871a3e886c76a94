#include "cli/first_stream.h"

#include "base/clock.h"

#include <unistd.h>

#define FRESH_MS 20000 /* sshd waits 30 s for a login */

int first_stream_ask(struct first_stream *f, struct session *s, const struct link_dest *dest, struct err *e)
{
	*f = (struct first_stream){ .fd = -1 };
	int rc = endpoint_open_stream(s->endpoint, dest, -1, -1, &f->id, e);
	if (rc == 0)
		f->session = s;
	return rc;
}

static void join(struct first_stream *f)
{
	struct err e = { 0 };
	int fd = f->fd;
	f->fd = -1;
	(void)endpoint_attach_fd(f->session->endpoint, f->id, fd, fd, &e); /* else its end is told */
}

bool first_stream_take(struct first_stream *f, int fd)
{
	if (!f->session || f->taken)
		return false;
	if (f->opened && clock_mono_ms() - f->opened_ms > FRESH_MS) {
		endpoint_reset_stream(f->session->endpoint, f->id, LINK_OK, "nobody came for it in time");
		f->session = NULL;
		return false;
	}
	f->taken = true;
	if (f->closed) {
		close(fd);
		return true;
	}
	f->fd = fd;
	if (f->opened)
		join(f);
	return true;
}

bool first_stream_is_awaited(const struct first_stream *f, uint32_t stream)
{
	return f->session && stream == f->id && !f->opened;
}

void first_stream_opened(struct first_stream *f, uint32_t stream)
{
	if (!f->session || stream != f->id)
		return;
	f->opened = true;
	f->opened_ms = clock_mono_ms();
	if (f->fd >= 0)
		join(f);
}

void first_stream_closed(struct first_stream *f, uint32_t stream, bool refused)
{
	if (!f->session || stream != f->id)
		return;
	f->closed = true;
	if (!refused)
		f->session = NULL;
	if (f->fd >= 0)
		close(f->fd);
	f->fd = -1;
}
