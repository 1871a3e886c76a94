#include "cli/keyholder.h"

#include <unistd.h>

static void accept_waiting(struct keyholder *k);
static void go_on(struct keyholder_peer *p);

static void on_peer_closed(uv_handle_t *h)
{
	struct keyholder_peer *p = h->data;
	struct keyholder *k = p->holder;
	buf_free(&p->in);
	buf_free(&p->out);
	p->holder = NULL;
	if (k->active)
		accept_waiting(k);
}

static void drop(struct keyholder_peer *p)
{
	if (!uv_is_closing((uv_handle_t *)&p->pipe))
		uv_close((uv_handle_t *)&p->pipe, on_peer_closed);
}

static void on_written(uv_write_t *w, int status)
{
	struct keyholder_peer *p = w->data;
	buf_clear(&p->out);
	if (status != 0)
		drop(p);
	else
		go_on(p);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *data)
{
	struct keyholder_peer *p = stream->data;
	if (n < 0 || buf_add(&p->in, data->base, (size_t)n) != 0)
		drop(p);
	else
		go_on(p);
}

static void on_alloc(uv_handle_t *h, size_t size, uv_buf_t *out)
{
	struct keyholder_peer *p = h->data;
	(void)size;
	*out = uv_buf_init(p->chunk, sizeof p->chunk);
}

static int answer(struct keyholder_peer *p, size_t size)
{
	uv_read_stop((uv_stream_t *)&p->pipe);
	if (sshagent_answer(p->holder->identity, buf_data(&p->in), size, &p->out) != 0)
		return UV_ENOMEM;
	buf_consume(&p->in, size);
	uv_buf_t data = uv_buf_init((char *)p->out.bytes + p->out.head, (unsigned)p->out.len);
	p->write.data = p;
	return uv_write(&p->write, (uv_stream_t *)&p->pipe, &data, 1, on_written);
}

static void go_on(struct keyholder_peer *p)
{
	size_t size = sshagent_request_size(&p->in);
	int rc = UV_E2BIG;
	if (size != SIZE_MAX)
		rc = size > 0 ? answer(p, size) : uv_read_start((uv_stream_t *)&p->pipe, on_alloc, on_read);
	if (rc != 0 && rc != UV_EALREADY) /* it reads already */
		drop(p);
}

static void serve(struct keyholder *k, struct keyholder_peer *p)
{
	p->holder = k;
	buf_init(&p->in, SSHAGENT_REQUEST_MAX + KEYHOLDER_CHUNK);
	buf_init(&p->out, SSHAGENT_ANSWER_MAX);
	uv_pipe_init(k->pipe.loop, &p->pipe, 0);
	p->pipe.data = p;
	if (uv_accept((uv_stream_t *)&k->pipe, (uv_stream_t *)&p->pipe) != 0)
		drop(p);
	else
		go_on(p);
}

/* libuv listens on when the connection that it has was accepted. */
static void accept_waiting(struct keyholder *k)
{
	for (size_t i = 0; k->waiting && i < KEYHOLDER_PEERS; i++) {
		if (k->peers[i].holder)
			continue;
		k->waiting = false;
		serve(k, &k->peers[i]);
	}
}

static void on_connection(uv_stream_t *server, int status)
{
	struct keyholder *k = server->data;
	if (status != 0)
		return;
	k->waiting = true;
	accept_waiting(k);
}

int keyholder_start(struct keyholder *k, uv_loop_t *loop, int fd, const struct sshagent_identity *identity,
		    struct err *e)
{
	uv_pipe_init(loop, &k->pipe, 0);
	k->pipe.data = k;
	k->identity = identity;
	k->active = true;
	int rc = uv_pipe_open(&k->pipe, fd);
	if (rc != 0)
		close(fd);
	else
		rc = uv_listen((uv_stream_t *)&k->pipe, KEYHOLDER_PEERS, on_connection);
	if (rc == 0)
		return 0;
	keyholder_stop(k);
	return err_set(e, ERR_IO, "the session's ssh agent: %s", uv_strerror(rc));
}

void keyholder_retire(struct keyholder *k)
{
	if (!k->active)
		return;
	k->active = false;
	uv_close((uv_handle_t *)&k->pipe, NULL);
}

void keyholder_stop(struct keyholder *k)
{
	keyholder_retire(k);
	for (size_t i = 0; i < KEYHOLDER_PEERS; i++)
		if (k->peers[i].holder)
			drop(&k->peers[i]);
}
