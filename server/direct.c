/* Sockets of the server's own transport. One recv of up to 64 KiB a wake-up; everything that follows from it, writing
 * above all, waits for the turn's end, in prepare and check handles of the loop (before it sleeps, and behind what it
 * woke for). So what many connections did to one in a turn leaves it in one send, nobody's end comes while he is being
 * called, and an idle connection holds its TLS state and a few words.
 *
 * A socket comes unread. A look at its ClientHello, which stays in the kernel, says whose it is. As long as that is not
 * all there, SO_RCVLOWAT keeps the loop from turning: the socket wakes it when there is more than was seen. */
#include "server/direct_internal.h"

#include "base/clock.h"
#include "base/log.h"
#include "server/hello.h"
#include "server/reactor_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define WIRE_MAX (1024u * 1024) /* bytes; a turn makes a fraction of that, and the next waits until they are gone */

static void on_event(uv_poll_t *poll, int status, int events);

void direct_due(struct direct *d)
{
	if (list_empty(&d->node) && !d->settling && d->c)
		list_append(&d->loop->due, &d->node);
}

void direct_over(struct direct *d)
{
	d->phase = DIRECT_OVER;
	direct_due(d);
}

static void wake_above(struct direct *d, size_t bytes)
{
	int lowat = (int)bytes + 1;
	setsockopt(d->fd, SOL_SOCKET, SO_RCVLOWAT, &lowat, sizeof lowat);
	d->peeked = bytes;
}

static void watch(struct direct *d)
{
	int want = direct_is_held(d) ? 0 : UV_READABLE;
	if (d->wire.len || (d->phase == DIRECT_OPEN && d->wants && !d->c->close_sent))
		want |= UV_WRITABLE;
	if (want == d->events)
		return;
	d->events = want;
	if (want)
		uv_poll_start(&d->poll, want, on_event);
	else
		uv_poll_stop(&d->poll);
}

/* ---- reading ---- */

static void decrypt(struct direct *d)
{
	bool more = true;
	while (more && !direct_is_held(d) && (d->phase == DIRECT_REQUEST || d->phase == DIRECT_OPEN)) {
		size_t len = 0;
		int rc = direct_read(d, &len, &more);
		if (len)
			direct_bytes(d, d->loop->plain, len);
		if (rc != 0)
			direct_over(d);
	}
	d->left = more;
}

/* d->window has ciphertext, or OpenSSL has some left. */
static void feed(struct direct *d)
{
	if (d->phase == DIRECT_SECURE) {
		int rc = direct_handshake(d);
		if (rc == 1)
			d->phase = DIRECT_REQUEST;
		else if (rc < 0)
			direct_over(d);
	}
	decrypt(d);
	if (d->window_len && d->phase != DIRECT_LINGER && d->phase != DIRECT_OVER &&
	    buf_add(&d->held, d->window, d->window_len) != 0)
		direct_over(d);
	d->window = NULL;
	d->window_len = 0;
	if (d->loop->wire_len) /* of TLS itself, or an answer: the buffer is everybody's */
		(void)direct_push(d);
	direct_due(d);
}

/* Nothing is read before it is taken. */
static bool has_held(const struct direct *d)
{
	return d->phase == DIRECT_OPEN && (d->left || d->in.len || d->held.len);
}

static void take_held(struct direct *d)
{
	direct_take_held(d);
	if (!has_held(d) || direct_is_held(d))
		return;
	struct buf held = d->held;
	buf_init(&d->held, held.max);
	d->window = held.len ? held.bytes + held.head : NULL;
	d->window_len = held.len;
	feed(d);
	buf_free(&held);
}

static void look(struct direct *d)
{
	ssize_t n = recv(d->fd, d->loop->net, HELLO_MAX, MSG_PEEK | MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		direct_over(d);
		return;
	}
	enum hello hello = hello_offers(d->loop->net, (size_t)n, DIRECT_ALPN);
	if (hello == HELLO_MORE && (size_t)n > d->peeked) {
		wake_above(d, (size_t)n);
		return;
	}
	if (d->peeked)
		wake_above(d, 0);
	if (hello != HELLO_OURS) { /* MORE: its client has said that no more comes */
		d->hand_over = true;
		direct_due(d);
	} else if (direct_secure(d) != 0) {
		direct_over(d);
	} else {
		d->phase = DIRECT_SECURE; /* the socket is readable still */
	}
}

/* false: there was nothing. */
static bool read_some(struct direct *d)
{
	ssize_t n = recv(d->fd, d->loop->net, sizeof d->loop->net, 0);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return false;
	if (n <= 0)
		direct_over(d);
	if (n <= 0 || d->phase == DIRECT_LINGER)
		return n > 0;
	d->c->valid_ms = clock_mono_ms();
	d->window = d->loop->net;
	d->window_len = (size_t)n;
	feed(d);
	return true;
}

void direct_last_words(struct direct *d)
{
	while (d->phase != DIRECT_PEEK && d->phase != DIRECT_OVER && !direct_is_held(d) && !has_held(d) && read_some(d))
		;
	direct_over(d);
}

static void on_event(uv_poll_t *poll, int status, int events)
{
	struct direct *d = LIST_ENTRY(poll, struct direct, poll);
	if (status < 0) {
		d->write_dead = true;
		direct_last_words(d);
		return;
	}
	if (events & UV_WRITABLE || has_held(d))
		direct_due(d);
	else if (d->phase == DIRECT_PEEK)
		look(d);
	if (events & UV_READABLE && d->phase != DIRECT_PEEK && d->phase != DIRECT_OVER && !has_held(d) &&
	    !direct_is_held(d))
		(void)read_some(d);
}

/* ---- the turn's end ---- */

static void free_it(uv_handle_t *handle)
{
	struct direct *d = LIST_ENTRY(handle, struct direct, poll);
	free(d);
}

/* The descriptor stays open. */
static void let_go(struct direct *d)
{
	struct conn *c = d->c;
	d->c = NULL;
	list_remove(&d->node);
	uv_close((uv_handle_t *)&d->poll, free_it);
	conn_free(c);
	SSL_free(d->ssl);
	buf_free(&d->held);
	buf_wipe_free(&d->in);
	buf_free(&d->wire);
	ws_decoder_free(&d->decoder);
}

static void end(struct direct *d)
{
	int fd = d->fd;
	if (d->ssl)
		(void)direct_push(d); /* an alert that says why */
	d->loop->wire_len = d->loop->frame_len = 0;
	let_go(d);
	close(fd);
}

static void hand_over(struct direct *d)
{
	struct reactor *r = d->loop->r;
	struct accepted a = { .fd = d->fd, .from = d->c->from, .by_ms = d->c->deadline_ms };
	memcpy(a.remote, d->c->remote, sizeof a.remote);
	a.place = d->c->place;
	d->c->place = 0;
	let_go(d);
	conn_lws_adopt(r, &a);
}

static void settle(struct direct *d)
{
	if (d->hand_over && d->phase != DIRECT_OVER) {
		hand_over(d);
		return;
	}
	d->settling = true;
	take_held(d);
	if (d->ssl && d->phase != DIRECT_OVER)
		direct_say(d);
	if (d->phase == DIRECT_LINGER && !d->wire.len && !d->sent_end) {
		d->sent_end = true;
		shutdown(d->fd, SHUT_WR);
	}
	d->settling = false;
	if (d->phase == DIRECT_OVER)
		end(d);
	else
		watch(d);
}

static void settle_all(struct direct_loop *l)
{
	while (!list_empty(&l->due)) {
		struct direct *d = LIST_ENTRY(l->due.next, struct direct, node);
		list_remove(&d->node);
		settle(d);
	}
}

static void on_prepare(uv_prepare_t *handle)
{
	settle_all(handle->data);
}

static void on_check(uv_check_t *handle)
{
	settle_all(handle->data);
}

/* ---- beginning and end ---- */

int direct_new(struct reactor *r, struct direct_tls *tls, struct err *e)
{
	struct direct_loop *l = calloc(1, sizeof *l);
	if (!l)
		return err_set(e, ERR_NOMEM, "out of memory");
	l->r = r;
	l->tls = direct_tls_ref_anythread(tls);
	list_init(&l->due);
	uv_prepare_init(&r->loop, &l->prepare);
	uv_check_init(&r->loop, &l->check);
	l->prepare.data = l->check.data = l;
	uv_prepare_start(&l->prepare, on_prepare);
	uv_check_start(&l->check, on_check);
	r->direct = l;
	return 0;
}

void direct_reload(struct reactor *r, struct direct_tls *tls)
{
	direct_tls_unref_anythread(&r->direct->tls);
	r->direct->tls = tls;
}

void direct_adopt(struct reactor *r, struct accepted *a)
{
	struct direct *d = calloc(1, sizeof *d);
	if (!d || uv_poll_init(&r->loop, &d->poll, a->fd) != 0) {
		free(d);
		accepted_drop(r->server, a);
		return;
	}
	d->loop = r->direct;
	d->fd = a->fd;
	list_init(&d->node);
	buf_init(&d->held, DIRECT_READ);
	buf_init(&d->in, 2 * DIRECT_READ);
	buf_init(&d->wire, WIRE_MAX);
	d->c = conn_new(r, &direct_transport, d, a);
	if (!d->c) {
		uv_close((uv_handle_t *)&d->poll, free_it);
		accepted_drop(r->server, a);
		return;
	}
	look(d); /* often it is there already */
	direct_due(d);
}

void direct_stop(struct reactor *r)
{
	struct direct_loop *l = r->direct;
	if (!l)
		return;
	for (size_t i = 0; i < REACTOR_BUCKETS; i++) {
		LIST_EACH(node, &r->conns[i])
		{
			struct conn *c = LIST_ENTRY(node, struct conn, node);
			if (c->via == &direct_transport)
				direct_over(c->transport);
		}
	}
	settle_all(l);
	uv_close((uv_handle_t *)&l->prepare, NULL);
	uv_close((uv_handle_t *)&l->check, NULL);
}

void direct_free(struct reactor *r)
{
	if (r->direct)
		direct_tls_unref_anythread(&r->direct->tls);
	free(r->direct);
	r->direct = NULL;
}
