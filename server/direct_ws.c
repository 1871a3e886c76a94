/* From decrypted bytes to messages and back. An upgrade request is read whole and judged as any other; then frames are
 * decoded where they lie, and the layer above gets their payload as it came. What it has to say in one turn leaves in
 * one send: small messages of bytes share a frame, for their boundaries mean nothing; a large one is encrypted where it
 * stands, with the frame's head written into the room before it. */
#include "server/direct_internal.h"

#include "base/clock.h"
#include "base/limits.h"
#include "net/ws_upgrade.h"
#include "server/http.h"
#include "server/reactor_internal.h"
#include "server/request_head.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LARGE (16u * 1024) /* bytes of a message that is not copied */
#define SENDS 4
#define LINGER_MS 2000

_Static_assert(CONN_HEADROOM >= WS_HEAD_MAX, "room for the frame's head");
_Static_assert(DIRECT_BATCH >= LARGE, "what is not large fits");

/* ---- what is said ---- */

static int say_frame(struct direct *d, enum ws_opcode op, uint8_t *data, size_t len)
{
	uint8_t head[WS_HEAD_MAX];
	size_t n = ws_frame_head(op, true, false, len, head);
	memcpy(data - n, head, n);
	return direct_encrypt(d, data - n, n + len);
}

/* The messages that were gathered. */
static int say_gathered(struct direct *d)
{
	struct direct_loop *l = d->loop;
	size_t len = l->frame_len;
	l->frame_len = 0;
	return len ? say_frame(d, WS_BINARY, l->frame + CONN_HEADROOM, len) : 0;
}

static int write_message(struct conn *c, bool binary, uint8_t *data, size_t len)
{
	struct direct *d = c->transport;
	struct direct_loop *l = d->loop;
	if ((!binary || len >= LARGE || len > DIRECT_BATCH - l->frame_len) && say_gathered(d) != 0)
		return -1;
	if (!binary || len >= LARGE)
		return say_frame(d, binary ? WS_BINARY : WS_TEXT, data, len);
	memcpy(l->frame + CONN_HEADROOM + l->frame_len, data, len);
	l->frame_len += len;
	return 0;
}

static int say_control(struct direct *d, enum ws_opcode op, const void *payload, size_t len)
{
	uint8_t bytes[CONN_HEADROOM + 125];
	if (len)
		memcpy(bytes + CONN_HEADROOM, payload, len);
	return say_frame(d, op, bytes + CONN_HEADROOM, len);
}

static int say_close(struct direct *d, unsigned code, const char *reason)
{
	uint8_t payload[125] = { (uint8_t)(code >> 8), (uint8_t)code };
	size_t len = strlen(reason);
	if (len > sizeof payload - 2)
		len = sizeof payload - 2;
	memcpy(payload + 2, reason, len);
	d->c->close_sent = true;
	return say_control(d, WS_CLOSE, payload, code == 1005 ? 0 : len + 2);
}

/* Both have said that it is over, or we have said no. */
static void linger(struct direct *d)
{
	conn_leave(d->c);
	http_free(&d->c->http);
	direct_tls_end(d);
	d->phase = DIRECT_LINGER;
	d->c->deadline_ms = clock_mono_ms() + LINGER_MS;
	buf_wipe_free(&d->in);
	buf_free(&d->held);
}

static int say_signs_of_life(struct direct *d)
{
	int rc = 0;
	if (d->pong_due)
		rc = say_control(d, WS_PONG, d->pong, d->pong_len);
	if (rc == 0 && d->ping_due)
		rc = say_control(d, WS_PING, "", 0);
	d->pong_due = d->ping_due = false;
	return rc;
}

/* What the layer above has, up to what one send takes. */
static int say_messages(struct direct *d)
{
	struct conn *c = d->c;
	struct direct_loop *l = d->loop;
	int rc = 0;
	while (rc == 0 && d->wants && !c->close_sent && l->wire_len + l->frame_len < DIRECT_TURN && !d->wire.len) {
		d->wants = false;
		if (c->ops->on_writable(c) == CONN_OK)
			continue;
		rc = say_gathered(d);
		if (rc == 0)
			rc = c->closing ? say_close(d, c->close_code, c->close_reason) : -1;
	}
	return rc == 0 ? say_gathered(d) : rc;
}

/* One send's worth. -1: broken. */
static int say_some(struct direct *d)
{
	struct conn *c = d->c;
	int rc = say_messages(d);
	if (rc == 0 && !c->close_sent)
		rc = say_signs_of_life(d);
	if (rc == 0 && d->peer_closed && !c->close_sent)
		rc = say_close(d, c->peer_code, "");
	if (rc == 0 && d->peer_closed)
		linger(d);
	return rc;
}

void direct_say(struct direct *d)
{
	int rc = direct_push(d);
	/* What is left after these sends waits for the next turn, and others have theirs. */
	for (int i = 0; i < SENDS && rc == 1 && d->phase == DIRECT_OPEN; i++) {
		bool more = d->wants && !d->c->close_sent;
		if (say_some(d) != 0)
			direct_over(d);
		rc = direct_push(d);
		if (!more)
			break;
	}
	if (rc < 0)
		direct_last_words(d);
}

/* ---- what is heard ---- */

bool direct_is_held(const struct direct *d)
{
	return d->phase == DIRECT_OPEN && d->c->paused && !d->c->closing && !d->peer_closed;
}

static void hear_close(struct direct *d, unsigned code)
{
	d->peer_closed = d->deaf = true;
	if (!d->c->close_sent)
		d->c->peer_code = code;
	direct_due(d);
}

static void hear(struct direct *d, const struct ws_piece *p)
{
	struct conn *c = d->c;
	switch (p->op) {
	case WS_TEXT:
	case WS_BINARY:
		if (!c->closing && c->ops->on_data(c, p->op == WS_BINARY, p->data, p->len, p->end) == CONN_CLOSE &&
		    !c->closing)
			direct_over(d);
		break;
	case WS_PING: /* of several the last one is answered (RFC 6455, 5.5.3) */
		d->pong_len = (uint8_t)p->len;
		memcpy(d->pong, p->data, p->len);
		d->pong_due = true;
		direct_due(d);
		break;
	case WS_CLOSE:
		hear_close(d, p->close_code);
		break;
	default:
		break;
	}
}

static void take_frames(struct direct *d, uint8_t *data, size_t len)
{
	while (d->phase == DIRECT_OPEN && !d->deaf) {
		if (direct_is_held(d)) {
			if (len && buf_add(&d->in, data, len) != 0)
				direct_over(d);
			return;
		}
		struct ws_piece piece;
		struct err e;
		int rc = ws_decode(&d->decoder, &data, &len, &piece, &e);
		if (rc < 0) {
			d->deaf = true;
			conn_close(d->c, e.code == ERR_INVALID ? 1007 : 1002, e.text);
		}
		if (rc <= 0)
			return;
		hear(d, &piece);
	}
}

void direct_take_held(struct direct *d)
{
	if (!d->in.len || d->phase != DIRECT_OPEN || direct_is_held(d))
		return;
	struct buf held = d->in;
	buf_init(&d->in, held.max);
	take_frames(d, held.bytes + held.head, held.len);
	buf_free(&held);
}

/* ---- the upgrade ---- */

static void refuse(struct direct *d, char *answer, size_t len)
{
	if (!answer || direct_encrypt(d, answer, len) != 0)
		direct_over(d);
	else
		linger(d);
	free(answer);
	direct_due(d);
}

static int say_granted(struct direct *d, const struct http_head *head)
{
	char accept[WS_UPGRADE_ACCEPT], text[256];
	struct err e;
	if (ws_upgrade_accept(http_head_get(head, "sec-websocket-key"), accept, &e) != 0)
		return -1;
	int len = snprintf(text, sizeof text,
			   "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
			   "Sec-WebSocket-Accept: %s\r\nSec-WebSocket-Protocol: %s\r\n\r\n",
			   accept, d->c->ops->subprotocol);
	return direct_encrypt(d, text, (size_t)len);
}

static void open_ws(struct direct *d, const struct http_head *head)
{
	struct conn *c = d->c;
	if (say_granted(d, head) != 0) {
		direct_over(d);
		return;
	}
	ws_decoder_init(&d->decoder, true, 0);
	d->decoder.pieces = true;
	d->phase = DIRECT_OPEN;
	c->valid_ms = d->pinged_ms = clock_mono_ms();
	c->open = true;
	direct_due(d);
	c->ops->on_open(c);
}

static void take_request(struct direct *d)
{
	struct http_head head;
	size_t size = 0, len = 0;
	const char *why = "the request's head is over 16384 bytes, or has more than 64 headers";
	char *answer = NULL;
	switch (request_head_parse((const char *)buf_data(&d->in), d->in.len, &head, &size, &why)) {
	case REQUEST_HEAD_MORE:
		return;
	case REQUEST_HEAD_NOMEM:
		direct_over(d);
		return;
	case REQUEST_HEAD_WRONG:
		answer = http_refuse_upgrade(d->c, 400, "invalid-request", why, &len);
		refuse(d, answer, len);
		return;
	case REQUEST_HEAD_TOO_LARGE:
		answer = http_refuse_upgrade(d->c, 431, "too-large", why, &len);
		refuse(d, answer, len);
		return;
	case REQUEST_HEAD_OK:
		break;
	}
	if (http_judge_upgrade(d->c, &head, &answer, &len) == CONN_OK)
		open_ws(d, &head);
	else
		refuse(d, answer, len);
	http_head_free(&head);
	struct buf rest = d->in; /* credentials are in it */
	buf_init(&d->in, rest.max);
	buf_consume(&rest, d->phase == DIRECT_OPEN ? size : rest.len);
	if (rest.len)
		take_frames(d, rest.bytes + rest.head, rest.len);
	buf_wipe_free(&rest);
}

void direct_bytes(struct direct *d, uint8_t *data, size_t len)
{
	if (d->phase == DIRECT_OPEN && !d->in.len) {
		take_frames(d, data, len);
		return;
	}
	if (d->phase == DIRECT_LINGER || d->phase == DIRECT_OVER || d->deaf)
		return;
	if (buf_add(&d->in, data, len) != 0)
		direct_over(d);
	else if (d->phase == DIRECT_REQUEST)
		take_request(d);
}

/* ---- as conn.c sees it ---- */

static void want_write(struct conn *c)
{
	struct direct *d = c->transport;
	d->wants = true;
	direct_due(d);
}

static void resume(struct conn *c)
{
	direct_due(c->transport);
}

static int write_http(struct conn *c, const uint8_t *data, size_t len, bool final)
{
	struct direct *d = c->transport;
	(void) final;
	return direct_encrypt(d, data, len) == 0 && direct_push(d) >= 0 ? 0 : -1;
}

static bool can_write(struct conn *c)
{
	struct direct *d = c->transport;
	return d->phase == DIRECT_REQUEST && !d->wire.len;
}

/* Nothing but an upgrade is answered. */
static enum conn_result next_request(struct conn *c)
{
	(void)c;
	return CONN_CLOSE;
}

static int socket_of(struct conn *c)
{
	struct direct *d = c->transport;
	return d->fd;
}

static void alive(struct conn *c, int64_t now_mono_ms)
{
	c->valid_ms = now_mono_ms;
}

static void tick(struct conn *c, int64_t now_mono_ms)
{
	struct direct *d = c->transport;
	int64_t silent = now_mono_ms - c->valid_ms;
	if (silent >= CONN_DEAD_MS) {
		direct_over(d);
	} else if (silent >= CONN_PING_MS && now_mono_ms - d->pinged_ms >= CONN_PING_MS) {
		d->pinged_ms = now_mono_ms;
		d->ping_due = true;
		direct_due(d);
	}
}

static void kill_soon(struct conn *c)
{
	direct_over(c->transport);
}

const struct conn_transport direct_transport = {
	.want_write = want_write,
	.pause = resume, /* either way the turn's end looks at it */
	.resume = resume,
	.write = write_message,
	.write_http = write_http,
	.can_write = can_write,
	.next_request = next_request,
	.socket = socket_of,
	.secured = can_write,
	.alive = alive,
	.tick = tick,
	.kill = kill_soon,
};
