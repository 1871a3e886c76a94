#include "agent/channel.h"

#include "base/buf.h"
#include "base/json.h"
#include "base/limits.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define LINE_MAX_BYTES (256u * 1024)
#define WAITING_MAX (4u * 1024 * 1024)

struct channel {
	uv_pipe_t pipe;
	struct channel_callbacks callbacks; /* zero once nobody listens */
	void *user;
	struct buf in;
	char chunk[16384];
	bool closing, told;
};

struct send {
	uv_write_t request;
	char text[]; /* with its newline */
};

static void on_closed(uv_handle_t *handle)
{
	struct channel *c = handle->data;
	buf_free(&c->in);
	free(c);
}

static void fail(struct channel *c, const char *why)
{
	uv_read_stop((uv_stream_t *)&c->pipe);
	if (c->told || !c->callbacks.closed)
		return;
	c->told = true;
	c->callbacks.closed(c->user, why);
}

/* false when the line ended the channel or its owner freed it. */
static bool take_line(struct channel *c, const char *line, size_t len)
{
	json_t *message = NULL;
	struct err e = { 0 };
	if (json_parse(line, len, &message, &e) || !json_is_object(message)) {
		json_decref(message);
		fail(c, "a line is not a JSON object");
		return false;
	}
	if (c->callbacks.message)
		c->callbacks.message(c->user, message);
	json_decref(message);
	return !c->closing && !c->told;
}

static void take_lines(struct channel *c)
{
	for (;;) {
		const char *text = (const char *)buf_data(&c->in);
		const char *end = memchr(text, '\n', c->in.len);
		if (!end)
			return;
		size_t len = (size_t)(end - text);
		if (!take_line(c, text, len))
			return;
		buf_consume(&c->in, len + 1);
	}
}

static void on_alloc(uv_handle_t *handle, size_t size, uv_buf_t *out)
{
	struct channel *c = handle->data;
	(void)size;
	*out = uv_buf_init(c->chunk, sizeof c->chunk);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *data)
{
	struct channel *c = stream->data;
	if (n < 0)
		fail(c, n == UV_EOF ? "the other end closed it" : uv_strerror((int)n));
	else if (n > 0 && buf_add(&c->in, data->base, (size_t)n))
		fail(c, "a line is too long");
	else if (n > 0)
		take_lines(c);
}

static int check_peer(int fd, struct err *e)
{
	struct ucred peer;
	socklen_t len = sizeof peer;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) != 0)
		return err_set(e, ERR_IO, "cannot tell who is at the other end");
	if (peer.uid != 0 && peer.uid != geteuid())
		return err_set(e, ERR_DENIED, "the other end is user %u, not user %u", (unsigned)peer.uid,
			       (unsigned)geteuid());
	return 0;
}

int channel_new(uv_loop_t *loop, int fd, const struct channel_callbacks *callbacks, void *user,
		struct channel **out_channel, struct err *e)
{
	int rc = check_peer(fd, e);
	struct channel *c = rc ? NULL : calloc(1, sizeof *c);
	if (!c) {
		close(fd);
		return rc ? rc : err_set(e, ERR_NOMEM, "out of memory");
	}
	buf_init(&c->in, LINE_MAX_BYTES);
	uv_pipe_init(loop, &c->pipe, 0);
	c->pipe.data = c;
	if ((rc = uv_pipe_open(&c->pipe, fd)) != 0) {
		close(fd);
	} else if ((rc = uv_read_start((uv_stream_t *)&c->pipe, on_alloc, on_read)) == 0) {
		c->callbacks = *callbacks;
		c->user = user;
		*out_channel = c;
		return 0;
	}
	channel_free(&c);
	return err_set(e, ERR_IO, "local socket: %s", uv_strerror(rc));
}

static void on_written(uv_write_t *request, int status)
{
	(void)status; /* a broken channel shows when it is read */
	free(request->data);
}

int channel_send(struct channel *channel, const json_t *message)
{
	struct channel *c = channel;
	if (!c || c->closing || c->told)
		return ERR_CLOSED;
	if (uv_stream_get_write_queue_size((uv_stream_t *)&c->pipe) > WAITING_MAX)
		return ERR_LIMIT;
	char *text = json_text(message);
	size_t len = text ? strlen(text) : 0;
	struct send *s = text ? malloc(sizeof *s + len + 1) : NULL;
	if (s) {
		memcpy(s->text, text, len);
		s->text[len] = '\n';
		s->request.data = s;
	}
	free(text);
	if (!s)
		return ERR_NOMEM;
	uv_buf_t data = uv_buf_init(s->text, (unsigned)len + 1);
	if (uv_write(&s->request, (uv_stream_t *)&c->pipe, &data, 1, on_written) != 0) {
		free(s);
		return ERR_CLOSED;
	}
	return 0;
}

static void on_shut(uv_shutdown_t *request, int status)
{
	struct channel *c = request->data;
	(void)status;
	free(request);
	if (!uv_is_closing((uv_handle_t *)&c->pipe))
		uv_close((uv_handle_t *)&c->pipe, on_closed);
}

void channel_free(struct channel **channel)
{
	struct channel *c = *channel;
	*channel = NULL;
	if (!c || c->closing)
		return;
	c->closing = true;
	memset(&c->callbacks, 0, sizeof c->callbacks);
	uv_read_stop((uv_stream_t *)&c->pipe);
	uv_shutdown_t *request = malloc(sizeof *request);
	if (request) {
		request->data = c;
		if (uv_shutdown(request, (uv_stream_t *)&c->pipe, on_shut) == 0)
			return;
		free(request);
	}
	uv_close((uv_handle_t *)&c->pipe, on_closed);
}
