/* What all connections have, whoever carries them: ids, the calls of the layers above, closing, time, queues. */
#include "server/conn.h"

#include "base/clock.h"
#include "base/text.h"
#include "server/http.h"
#include "server/metrics.h"
#include "server/reactor_internal.h"
#include "server/server.h"
#include "server/strangers.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define CLOSE_WAIT_MS 5000 /* for a close frame to go out and be answered */

/* ---- ids ---- */

static struct list *bucket_of(struct reactor *r, wsconn_id id)
{
	return &r->conns[(id >> 8) % REACTOR_BUCKETS];
}

struct conn *conn_find(struct server *server, wsconn_id id)
{
	struct reactor *r = reactor_current();
	(void)server;
	if (!r || r->index != conn_reactor_of(id))
		return NULL;
	LIST_EACH(node, bucket_of(r, id))
	{
		struct conn *c = LIST_ENTRY(node, struct conn, node);
		if (c->id == id)
			return c;
	}
	return NULL;
}

struct conn *conn_new(struct reactor *r, const struct conn_transport *via, void *transport, struct accepted *a)
{
	struct conn *c = calloc(1, sizeof *c);
	if (!c)
		return NULL;
	c->id = ++r->next_serial << 8 | (unsigned)r->index;
	c->server = r->server;
	c->on = r;
	c->reactor = r->index;
	c->via = via;
	c->transport = transport;
	c->from = a->from;
	memcpy(c->remote, a->remote, sizeof c->remote);
	c->http = http_new(c);
	if (!c->http) {
		free(c);
		return NULL;
	}
	if (a->by_ms)
		c->deadline_ms = a->by_ms;
	c->place = a->place;
	a->place = 0;
	list_append(bucket_of(r, c->id), &c->node);
	atomic_fetch_add(&r->all->connections, 1);
	return c;
}

void conn_is_known(struct conn *c)
{
	strangers_leave(c->server->strangers, &c->place);
}

void accepted_drop(struct server *server, struct accepted *a)
{
	strangers_leave(server->strangers, &a->place);
	close(a->fd);
}

static const char *how_it_ended(const struct conn *c)
{
	if (c->close_sent && c->close_reason[0])
		return c->close_reason;
	return c->peer_code ? "closed by its end" : "connection lost";
}

void conn_leave(struct conn *c)
{
	const struct conn_ops *ops = c->ops;
	c->open = false;
	c->ops = NULL;
	if (ops)
		ops->on_closed(c, c->peer_code, how_it_ended(c));
}

void conn_free(struct conn *c)
{
	list_remove(&c->node);
	atomic_fetch_sub(&c->on->all->connections, 1);
	conn_is_known(c);
	conn_leave(c);
	http_free(&c->http);
	conn_queue_clear(&c->held, false);
	free(c);
}

/* ---- what the layers above ask for ---- */

void conn_want_write(struct conn *c)
{
	c->via->want_write(c);
}

void conn_pause(struct conn *c)
{
	c->paused = true;
	c->valid_ms = clock_mono_ms();
	c->via->pause(c);
}

void conn_resume(struct conn *c)
{
	if (!c->paused)
		return;
	c->paused = false;
	c->via->resume(c);
}

int conn_write(struct conn *c, bool binary, uint8_t *data, size_t len)
{
	return c->via->write(c, binary, data, len);
}

int conn_write_http(struct conn *c, const uint8_t *data, size_t len, bool final)
{
	return c->via->write_http(c, data, len, final);
}

bool conn_can_write(struct conn *c)
{
	return c->via->can_write(c);
}

enum conn_result conn_next_request(struct conn *c)
{
	return c->via->next_request(c);
}

bool conn_has_unread(struct conn *c)
{
	char byte;
	return recv(c->via->socket(c), &byte, 1, MSG_PEEK | MSG_DONTWAIT) >= 0;
}

void conn_close(struct conn *c, unsigned code, const char *reason)
{
	if (c->closing)
		return;
	c->closing = true;
	c->close_code = code;
	text_print(c->close_reason, sizeof c->close_reason, "%s", reason);
	conn_close_deadline(c);
	conn_want_write(c);
}

void conn_close_deadline(struct conn *c)
{
	if (!c->deadline_ms)
		c->deadline_ms = clock_mono_ms() + CLOSE_WAIT_MS;
	conn_resume(c); /* the answer to the close frame is among what comes */
}

void conn_kill(struct conn *c)
{
	c->via->kill(c);
}

/* ---- time ---- */

static void tick_one(struct conn *c, int64_t now)
{
	if (c->http) {
		/* Before the handshake's end, and after an upgrade that never finished, there is nobody to answer. */
		if (http_on_tick(c, now, c->via->secured(c)) == CONN_CLOSE)
			conn_kill(c);
		return;
	}
	if (c->deadline_ms && now >= c->deadline_ms) {
		conn_kill(c);
		return;
	}
	if (!c->open)
		return;
	/* While it is not read, its pongs are not seen. */
	if (c->paused && now - c->valid_ms >= CONN_VALID_MS)
		c->via->alive(c, now);
	if (c->via->tick)
		c->via->tick(c, now);
	c->ops->on_tick(c, now);
}

void conn_tick(struct reactor *r, int64_t now)
{
	for (size_t i = 0; i < REACTOR_BUCKETS; i++)
		LIST_EACH_SAFE(node, after, &r->conns[i])
	tick_one(LIST_ENTRY(node, struct conn, node), now);
	conn_poke(r);
}

/* ---- queues ---- */

struct conn_msg *conn_queue_add(struct conn_queue *q, bool binary, const void *data, size_t len)
{
	struct conn_msg *m = malloc(sizeof *m + len);
	if (!m)
		return NULL;
	m->next = NULL;
	m->binary = binary;
	m->last = false;
	m->len = len;
	memcpy(m->data, data, len);
	if (q->last)
		q->last->next = m;
	else
		q->first = m;
	q->last = m;
	q->bytes += sizeof *m + len;
	return m;
}

struct conn_msg *conn_queue_take(struct conn_queue *q)
{
	struct conn_msg *m = q->first;
	if (m) {
		q->first = m->next;
		if (!q->first)
			q->last = NULL;
		q->bytes -= sizeof *m + m->len;
	}
	return m;
}

void conn_queue_clear(struct conn_queue *q, bool binary_only)
{
	struct conn_queue keep = { NULL, NULL, 0 };
	for (struct conn_msg *m; (m = conn_queue_take(q));) {
		if (!binary_only || !m->binary) {
			m->next = NULL;
			if (keep.last)
				keep.last->next = m;
			else
				keep.first = m;
			keep.last = m;
			keep.bytes += sizeof *m + m->len;
		} else {
			free(m);
		}
	}
	if (binary_only) {
		*q = keep;
		return;
	}
	for (struct conn_msg *m; (m = conn_queue_take(&keep));)
		free(m);
}
