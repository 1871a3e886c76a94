#include "cli/reverse.h"

#include "base/clock.h"
#include "base/text.h"
#include "endpoint/unix_socket.h"
#include "net/dial.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define RETRY_MS 50
#define CONNECT_MS 10000 /* as an agent has it unless set otherwise: whoever waits there is told */
#define TELL_MS 300      /* from the end of the stream to the word for it: the session's own end says it better */

struct incoming {
	struct list node;
	struct reverse *owner;
	uint32_t stream;
	struct dial *dial;
};

/* --- the stream that listens */

static void on_poll_closed(uv_handle_t *h)
{
	free(h);
}

static void hear_no_more(struct reverse *r)
{
	if (r->told) {
		uv_poll_stop(r->told);
		uv_close((uv_handle_t *)r->told, on_poll_closed);
		r->told = NULL;
	}
	if (r->fd >= 0)
		close(r->fd);
	r->fd = -1;
}

static void place_texts(const struct reverse *r, char from[FORWARD_ENTRY], char to[FORWARD_ENTRY])
{
	struct forward_place place = r->spec->from;
	if (r->port)
		place.port = r->port;
	forward_place_text(&place, from);
	forward_place_text(&r->spec->to, to);
}

/* The port is the first that is heard of it. What comes after that, or an end, is the endpoint's to tell. */
static void on_told(uv_poll_t *poll, int status, int events)
{
	struct reverse *r = poll->data;
	char from[FORWARD_ENTRY], to[FORWARD_ENTRY];
	(void)events;
	ssize_t n = status < 0 ? 0 : recv(r->fd, r->wire + r->heard, sizeof r->wire - r->heard, MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	r->heard += n > 0 ? (size_t)n : 0;
	if (n > 0 && r->heard < sizeof r->wire)
		return;
	uv_poll_stop(poll);
	if (r->heard < sizeof r->wire)
		return;
	r->port = (uint16_t)(r->wire[0] << 8 | r->wire[1]);
	place_texts(r, from, to);
	session_tell(r->session, "listening on %s on %s for %s here", from, r->session->target, to);
}

static int watch(struct reverse *r, struct err *e)
{
	r->told = malloc(sizeof *r->told);
	int rc = r->told ? uv_poll_init(&r->session->loop, r->told, r->fd) : UV_ENOMEM;
	if (rc != 0) {
		free(r->told);
		r->told = NULL;
		return err_set(e, ERR_IO, "%s: %s", forward_option(FORWARD_REVERSE), uv_strerror(rc));
	}
	r->told->data = r;
	uv_poll_start(r->told, UV_READABLE, on_told);
	return 0;
}

static int ask(struct reverse *r, struct err *e)
{
	struct link_dest dest = { .kind = LINK_KIND_LISTEN, .port = r->spec->from.port };
	int pair[2];
	text_print(dest.host, sizeof dest.host, "%s", r->spec->from.host);
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) != 0)
		return err_set_errno(e, ERR_IO, errno, "%s", forward_option(FORWARD_REVERSE));
	r->fd = pair[0];
	r->heard = 0;
	int rc = watch(r, e);
	if (rc != 0)
		close(pair[1]);
	else
		rc = endpoint_open_stream(r->session->endpoint, &dest, pair[1], pair[1], &r->stream, e);
	if (rc != 0)
		hear_no_more(r);
	return rc;
}

static void on_again(uv_timer_t *timer)
{
	struct reverse *r = timer->data;
	struct err e = { 0 };
	if (ask(r, &e) == 0)
		return;
	complain("%s", e.text);
	session_stop(r->session, EXIT_CODE_FAILED);
}

static void on_tell(uv_timer_t *timer)
{
	const struct reverse *r = timer->data;
	session_tell(r->session, "%s", r->text);
}

int reverse_start(struct reverse *r, struct session *s, const struct forward_spec *spec, int64_t wait_ms, struct err *e)
{
	r->session = s;
	r->spec = spec;
	r->fd = -1;
	r->until_ms = clock_mono_ms() + wait_ms;
	list_init(&r->incoming);
	uv_timer_init(&s->loop, &r->again);
	r->again.data = r;
	r->active = true;
	return ask(r, e);
}

/* It was never up: without it there is no need of the session. */
static void refused(struct reverse *r, unsigned code, const char *text)
{
	char from[FORWARD_ENTRY];
	struct session *s = r->session;
	forward_place_text(&r->spec->from, from);
	snprintf(r->text, sizeof r->text, "%s: %s does not listen on %s: %s (%s)", forward_option(FORWARD_REVERSE),
		 s->target, from, text, link_code_name(code));
	if (session_code_ends_streams(code)) {
		session_stop_unless_over(s, EXIT_CODE_REFUSED, r->text);
	} else {
		complain("%s", r->text);
		session_stop(s, EXIT_CODE_REFUSED);
	}
}

static void listener_closed(struct reverse *r, unsigned code, const char *text)
{
	char from[FORWARD_ENTRY], to[FORWARD_ENTRY];
	bool was_up = r->port != 0;
	place_texts(r, from, to);
	hear_no_more(r);
	r->stream = 0;
	r->port = 0;
	if (r->session->stopping || r->session->over)
		return;
	if (!was_up && code == LINK_REFUSED && clock_mono_ms() < r->until_ms) {
		uv_timer_start(&r->again, on_again, RETRY_MS, 0);
	} else if (!was_up) {
		refused(r, code, text);
	} else {
		snprintf(r->text, sizeof r->text, "no longer listening on %s on %s for %s here: %s", from,
			 r->session->target, to, *text ? text : link_code_name(code));
		uv_timer_start(&r->again, on_tell, TELL_MS, 0);
	}
}

/* --- its connections */

static void forget(struct incoming *in)
{
	dial_cancel(&in->dial);
	list_remove(&in->node);
	free(in);
}

static void connected(struct session *s, uint32_t stream, int fd)
{
	struct err e = { 0 };
	int one = 1;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one); /* fails on a unix socket: fine */
	(void)endpoint_attach_fd(s->endpoint, stream, fd, fd, &e);  /* else its end was told, or is */
}

static void turn_away(struct session *s, uint32_t stream, unsigned code, const char *text)
{
	session_tell(s, "connection %u: %s (%s)", stream, text, link_code_name(code));
	endpoint_refuse(s->endpoint, stream, code, text);
}

static void on_dialled(void *user, int fd, const char *why_not)
{
	struct incoming *in = user;
	struct session *s = in->owner->session;
	uint32_t stream = in->stream;
	in->dial = NULL;
	forget(in);
	if (fd >= 0)
		connected(s, stream, fd);
	else
		turn_away(s, stream, LINK_REFUSED, why_not);
}

static void connect_to_socket(struct session *s, uint32_t stream, const char *path)
{
	char text[LIMIT_LINK_TEXT + 1];
	unsigned code;
	int fd = unix_socket_connect(path, &code, text, sizeof text);
	if (fd >= 0)
		connected(s, stream, fd);
	else
		turn_away(s, stream, code, text);
}

static void connect_to_port(struct reverse *r, uint32_t stream)
{
	const struct forward_place *to = &r->spec->to;
	struct err e = { 0 };
	struct incoming *in = calloc(1, sizeof *in);
	int rc = in ? 0 : err_set(&e, ERR_NOMEM, "out of memory");
	if (rc == 0)
		rc = dial_start(&r->session->loop, to->host, to->port, CONNECT_MS, on_dialled, in, &in->dial, &e);
	if (rc != 0) {
		free(in);
		turn_away(r->session, stream, LINK_INTERNAL, e.text);
		return;
	}
	in->owner = r;
	in->stream = stream;
	list_append(&r->incoming, &in->node);
}

bool reverse_asked(struct reverse *r, uint32_t stream, const struct link_dest *dest)
{
	char own[16];
	snprintf(own, sizeof own, "%u", r->stream);
	if (!r->stream || dest->kind != LINK_KIND_ACCEPTED || strcmp(dest->host, own) != 0)
		return false;
	if (r->spec->to.path[0])
		connect_to_socket(r->session, stream, r->spec->to.path);
	else
		connect_to_port(r, stream);
	return true;
}

bool reverse_closed(struct reverse *r, uint32_t stream, unsigned code, const char *text)
{
	if (!r->active)
		return false;
	if (r->stream && stream == r->stream) {
		listener_closed(r, code, text);
		return true;
	}
	LIST_EACH(node, &r->incoming)
	{
		struct incoming *in = LIST_ENTRY(node, struct incoming, node);
		if (in->stream != stream)
			continue;
		forget(in); /* its client hung up before we had a connection for it */
		return true;
	}
	return false;
}

void reverse_stop(struct reverse *r)
{
	if (!r->active)
		return;
	r->active = false;
	r->stream = 0;
	while (!list_empty(&r->incoming))
		forget(LIST_ENTRY(r->incoming.next, struct incoming, node));
	hear_no_more(r);
	uv_close((uv_handle_t *)&r->again, NULL);
}
