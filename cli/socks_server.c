/* A client asks (its bytes are looked at before they are taken, so that none of the stream's are), waits until the
 * target has answered, and is then the endpoint's; or it is told no, and is given a moment to read that: closing at
 * once, with bytes unread, would destroy the answer. */
#include "cli/socks_server.h"

#include "cli/socks.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define CLIENTS 128u      /* without an open stream; further ones wait to be accepted */
#define ASK_MS 30000      /* for the whole request */
#define LEAVE_MS 5000     /* to read a refusal */
#define LEAVE_BYTES 65536 /* that are dropped meanwhile */

struct client_of_socks {
	struct list node;
	struct socks_server *server; /* NULL: over, its handles are closing */
	struct socks socks;
	int fd;
	uv_poll_t poll;
	uv_timer_t timer;
	unsigned handles;
	uint32_t stream; /* 0: not asked for yet, or refused */
	size_t dropped;
};

static void on_handle_closed(uv_handle_t *h)
{
	struct client_of_socks *c = h->data;
	if (--c->handles == 0)
		free(c);
}

/* fd stays open if it was handed on. */
static void forget(struct client_of_socks *c)
{
	uv_poll_stop(&c->poll); /* takes the descriptor out of epoll at once */
	uv_close((uv_handle_t *)&c->poll, on_handle_closed);
	uv_close((uv_handle_t *)&c->timer, on_handle_closed);
	list_remove(&c->node);
	c->server->n--;
	c->server = NULL;
}

static void hang_up(struct client_of_socks *c)
{
	int fd = c->fd;
	forget(c);
	close(fd);
}

/* What is said is shorter than an empty socket buffer: less than all means that nobody is there. */
static bool say(struct client_of_socks *c)
{
	size_t len = c->socks.say_len;
	c->socks.say_len = 0;
	return len == 0 || send(c->fd, c->socks.say, len, MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t)len;
}

static void on_too_late(uv_timer_t *t)
{
	hang_up(t->data);
}

static void on_leaving(uv_poll_t *poll, int status, int events)
{
	struct client_of_socks *c = poll->data;
	char bytes[4096];
	(void)events;
	ssize_t n = recv(c->fd, bytes, sizeof bytes, MSG_DONTWAIT);
	c->dropped += n > 0 ? (size_t)n : 0;
	if (status < 0 || n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR) || c->dropped > LEAVE_BYTES)
		hang_up(c);
}

static void leave(struct client_of_socks *c)
{
	c->stream = 0;
	if (!say(c) || shutdown(c->fd, SHUT_WR) != 0) {
		hang_up(c);
		return;
	}
	uv_poll_start(&c->poll, UV_READABLE, on_leaving);
	uv_timer_start(&c->timer, on_too_late, LEAVE_MS, 0);
}

/* It has asked, and goes before it is answered. */
static void on_given_up(uv_poll_t *poll, int status, int events)
{
	struct client_of_socks *c = poll->data;
	struct endpoint *ep = c->server->listener.session->endpoint;
	uint32_t stream = c->stream;
	(void)status, (void)events;
	hang_up(c);
	endpoint_reset_stream(ep, stream, LINK_IO, "its client hung up");
}

static void open_stream(struct client_of_socks *c)
{
	struct session *session = c->server->listener.session;
	struct err e = { 0 };
	uv_timer_stop(&c->timer); /* the target answers in its own time */
	if (endpoint_open_stream(session->endpoint, &c->socks.dest, -1, -1, &c->stream, &e) == 0) {
		uv_poll_start(&c->poll, UV_DISCONNECT, on_given_up);
		return;
	}
	session_tell(session, "%s: %s", c->server->listener.label, e.text);
	socks_answer(&c->socks, LINK_LIMIT);
	leave(c);
}

static void on_asking(uv_poll_t *poll, int status, int events)
{
	struct client_of_socks *c = poll->data;
	uint8_t bytes[512];
	(void)events;
	ssize_t n = recv(c->fd, bytes, sizeof bytes, MSG_DONTWAIT | MSG_PEEK);
	if (n < 0 && (errno == EAGAIN || errno == EINTR) && status == 0)
		return;
	if (n <= 0) {
		hang_up(c);
		return;
	}
	size_t taken = socks_feed(&c->socks, bytes, (size_t)n);
	if (recv(c->fd, bytes, taken, MSG_DONTWAIT) != (ssize_t)taken) {
		hang_up(c);
	} else if (c->socks.state == SOCKS_REFUSED) {
		session_tell(c->server->listener.session, "%s: a client is turned away: %s", c->server->listener.label,
			     c->socks.why);
		leave(c);
	} else if (!say(c)) {
		hang_up(c);
	} else if (c->socks.state == SOCKS_ASKED) {
		open_stream(c);
	}
}

static void take(struct listener *l, int fd)
{
	struct socks_server *s = (struct socks_server *)(void *)l;
	struct client_of_socks *c = calloc(1, sizeof *c);
	if (!c || uv_poll_init(&l->session->loop, &c->poll, fd) != 0) {
		free(c);
		close(fd);
		return;
	}
	uv_timer_init(&l->session->loop, &c->timer);
	c->poll.data = c->timer.data = c;
	c->server = s, c->fd = fd, c->handles = 2;
	list_append(&s->clients, &c->node);
	s->n++;
	uv_poll_start(&c->poll, UV_READABLE, on_asking);
	uv_timer_start(&c->timer, on_too_late, ASK_MS, 0);
}

static bool full(const struct listener *l)
{
	return ((const struct socks_server *)(const void *)l)->n >= CLIENTS;
}

int socks_server_start(struct socks_server *s, struct session *session, int fd, struct err *e)
{
	list_init(&s->clients);
	s->listener.take = take;
	s->listener.full = full;
	return listener_start(&s->listener, session, fd, e);
}

void socks_server_stop(struct socks_server *s)
{
	if (!s->listener.acceptor.active)
		return;
	listener_stop(&s->listener);
	while (!list_empty(&s->clients))
		hang_up(LIST_ENTRY(s->clients.next, struct client_of_socks, node));
}

static struct client_of_socks *find(struct socks_server *s, uint32_t stream)
{
	LIST_EACH(node, &s->clients)
	{
		struct client_of_socks *c = LIST_ENTRY(node, struct client_of_socks, node);
		if (c->stream == stream)
			return c;
	}
	return NULL;
}

bool socks_server_opened(struct socks_server *s, uint32_t stream)
{
	struct client_of_socks *c = find(s, stream);
	struct err e = { 0 };
	if (!c)
		return false;
	struct endpoint *ep = s->listener.session->endpoint;
	socks_answer(&c->socks, LINK_OK);
	if (!say(c)) {
		hang_up(c);
		endpoint_reset_stream(ep, stream, LINK_IO, "its client hung up");
		return true;
	}
	int fd = c->fd;
	forget(c);
	(void)endpoint_attach_fd(ep, stream, fd, fd, &e); /* else its end is told */
	return true;
}

bool socks_server_closed(struct socks_server *s, uint32_t stream, unsigned code)
{
	struct client_of_socks *c = find(s, stream);
	if (!c)
		return false;
	socks_answer(&c->socks, code == LINK_OK ? LINK_INTERNAL : code);
	leave(c);
	return true;
}
