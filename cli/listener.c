#include "cli/listener.h"

void listener_open_stream(struct listener *l, int fd)
{
	struct err e = { 0 };
	uint32_t stream;
	if (endpoint_open_stream(l->session->endpoint, &l->dest, fd, fd, &stream, &e) != 0)
		session_tell(l->session, "%s: %s", l->label, e.text);
}

static void on_connection(struct acceptor *a, int fd)
{
	struct listener *l = a->user;
	if (l->take)
		l->take(l, fd);
	else
		listener_open_stream(l, fd);
}

static bool is_full(struct acceptor *a)
{
	const struct listener *l = a->user;
	return l->full && l->full(l);
}

int listener_start(struct listener *l, struct session *s, int fd, struct err *e)
{
	l->session = s;
	l->acceptor = (struct acceptor){ .take = on_connection, .full = is_full, .user = l };
	int rc = acceptor_start(&l->acceptor, &s->loop, fd, e);
	return rc != 0 ? err_wrap(e, "%s", l->label) : 0;
}

void listener_stop(struct listener *l)
{
	acceptor_stop(&l->acceptor);
}
