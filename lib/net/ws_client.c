/* The open half of the client: frames, liveness, back-pressure, close.
 *
 * Nothing is sent and nobody is told of the end inside a call of the user's: both happen at the end of the turn, in an
 * idle handle that is active only then. So callers never find their client gone under them, and all that one turn
 * queued leaves in one send. Memory goes when libuv has closed the last handle; until then `freed` and the phase make
 * late callbacks harmless. */
#include "net/ws_state.h"

#include "base/clock.h"
#include "base/limits.h"
#include "base/text.h"
#include "net/timer.h"
#include "net/watch.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CONNECT_TIMEOUT_MS 10000
#define CLOSE_TIMEOUT_MS 2000
#define PROBE_TIMEOUT_MS 2000
#define CLOSE_REASON_MAX 123u

static bool is_live(const struct ws_client *ws)
{
	return !ws->freed && (ws->phase == WS_OPEN || ws->phase == WS_CLOSING);
}

static void on_handle_closed(uv_handle_t *h)
{
	struct ws_client *ws = h->data;
	if (--ws->handles > 0 || !ws->freed)
		return;
	proxy_free(&ws->proxy);
	buf_wipe_free(&ws->request);
	buf_free(&ws->in);
	buf_free(&ws->end_body);
	ws_decoder_free(&ws->decoder);
	free(ws);
}

static void drop_connection(struct ws_client *ws)
{
	dial_cancel(&ws->dial);
	conn_drop(&ws->conn, on_handle_closed);
	buf_wipe_free(&ws->request);
}

static void on_turn_end(uv_idle_t *idle);

void ws_end_turn_soon(struct ws_client *ws)
{
	if (!ws->freed)
		uv_idle_start(&ws->turn, on_turn_end);
}

void ws_end(struct ws_client *ws, unsigned code, const char *fmt, ...)
{
	if (ws->phase == WS_OVER || ws->freed)
		return;
	ws->phase = WS_OVER;
	ws->end_code = code;
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(ws->end_reason, sizeof ws->end_reason, fmt, ap);
	va_end(ap);
	uv_timer_stop(&ws->timer);
	drop_connection(ws);
	ws_end_turn_soon(ws);
}

static void tell_end(struct ws_client *ws)
{
	if (ws->end_told)
		return;
	ws->end_told = true;
	char *body = buf_take_text(&ws->end_body);
	ws->callbacks.closed(ws->user, ws->end_status, body ? body : "", ws->end_code, ws->end_reason);
	free(body);
}

/* A code of 1005 is an empty close frame. */
static void queue_close(struct ws_client *ws, unsigned code, const char *reason)
{
	uint8_t payload[2 + CLOSE_REASON_MAX];
	size_t len = 0;
	if (code != 1005) {
		size_t n = reason ? strlen(reason) : 0;
		if (n > CLOSE_REASON_MAX)
			n = CLOSE_REASON_MAX;
		while (n && !text_is_utf8(reason, n))
			n--;
		payload[0] = (uint8_t)(code >> 8);
		payload[1] = (uint8_t)code;
		if (n)
			memcpy(payload + 2, reason, n);
		len = 2 + n;
	}
	(void)ws_encode(&ws->conn.out, WS_CLOSE, true, true, payload, len);
	ws->phase = WS_CLOSING;
	ws->close_by = clock_mono_ms() + CLOSE_TIMEOUT_MS;
	ws_arm_timer(ws);
	ws_end_turn_soon(ws);
}

static void end_as_peer_said(struct ws_client *ws)
{
	char reason[sizeof ws->end_reason];
	memcpy(reason, ws->end_reason, sizeof reason);
	ws_end(ws, ws->end_code, "%s", reason);
}

/* Our answer to the peer's close has left, or cannot: that is the end. */
static void finish_close(struct ws_client *ws)
{
	if (ws->phase == WS_CLOSING && ws->peer_closed && conn_unsent(&ws->conn) == 0)
		end_as_peer_said(ws);
}

static void on_peer_close(struct ws_client *ws, const struct ws_piece *p)
{
	if (ws->peer_closed)
		return;
	ws->peer_closed = true;
	ws->end_code = p->close_code;
	snprintf(ws->end_reason, sizeof ws->end_reason, "%.*s", (int)p->len, (const char *)p->data);
	if (ws->phase == WS_OPEN)
		queue_close(ws, p->close_code, NULL);
	ws_end_turn_soon(ws);
}

static void on_piece(struct ws_client *ws, const struct ws_piece *p)
{
	if (ws->peer_closed)
		return;
	bool open = ws->phase == WS_OPEN;
	switch (p->op) {
	case WS_TEXT:
		if (open && ws->callbacks.text)
			ws->callbacks.text(ws->user, (const char *)p->data, p->len);
		break;
	case WS_BINARY:
		if (open && p->len && ws->callbacks.binary)
			ws->callbacks.binary(ws->user, p->data, p->len);
		break;
	case WS_PING:
		/* A peer that only pings and never reads must not fill our memory. A full queue is no reason yet. */
		if (open && conn_unsent(&ws->conn) < 2 * WS_ROOM_HIGH)
			(void)ws_encode(&ws->conn.out, WS_PONG, true, true, p->data, p->len);
		ws_end_turn_soon(ws);
		break;
	case WS_CLOSE:
		on_peer_close(ws, p);
		break;
	default:
		break;
	}
}

static void on_broken_frame(struct ws_client *ws, const struct err *why)
{
	struct err ignored;
	unsigned code = why->code == ERR_LIMIT ? 1009 : why->code == ERR_INVALID ? 1007 : 1002;
	if (ws->phase == WS_OPEN)
		queue_close(ws, code, why->text);
	(void)conn_flush(&ws->conn, &ignored);
	ws_end(ws, code, "%s: %s", ws->peer, why->text);
}

static void take_frames(struct ws_client *ws, uint8_t *data, size_t len)
{
	while (is_live(ws)) {
		if (ws->paused) {
			if (len && buf_add(&ws->in, data, len) != 0)
				ws_end(ws, WS_LOST, "%s: out of memory", ws->peer);
			return;
		}
		struct ws_piece piece;
		struct err e;
		int rc = ws_decode(&ws->decoder, &data, &len, &piece, &e);
		if (rc < 0)
			on_broken_frame(ws, &e);
		if (rc <= 0)
			return;
		on_piece(ws, &piece);
	}
}

static void on_conn_data(void *user, uint8_t *data, size_t len)
{
	struct ws_client *ws = user;
	ws->heard_ms = clock_mono_ms();
	ws->probe_by = 0;
	if (!is_live(ws)) {
		if (ws->phase != WS_OVER && !ws->freed)
			ws_connect_data(ws, data, len);
	} else if (ws->in.len == 0) {
		take_frames(ws, data, len);
	} else { /* behind what is held */
		if (buf_add(&ws->in, data, len) != 0)
			ws_end(ws, WS_LOST, "%s: out of memory", ws->peer);
		ws_end_turn_soon(ws);
	}
}

static void on_conn_secured(void *user)
{
	ws_connect_secured(user);
}

static void on_conn_failed(void *user, bool eof, const char *reason)
{
	struct ws_client *ws = user;
	if (ws->peer_closed)
		end_as_peer_said(ws);
	else if (is_live(ws))
		ws_end(ws, WS_LOST, "%s: %s", ws->peer, reason);
	else
		ws_connect_failed(ws, eof, reason);
}

static void offer_room(struct ws_client *ws)
{
	if (!ws->full || conn_unsent(&ws->conn) >= WS_ROOM_LOW)
		return;
	ws->full = false;
	if (ws->phase == WS_OPEN && ws->callbacks.writable)
		ws->callbacks.writable(ws->user);
}

static void on_conn_sent(void *user)
{
	struct ws_client *ws = user;
	if (is_live(ws)) {
		offer_room(ws);
		finish_close(ws);
	}
}

const struct conn_callbacks ws_conn_callbacks = { on_conn_secured, on_conn_data, on_conn_sent, on_conn_failed };

/* What a pause held back: first our own bytes, then what OpenSSL has. */
static void take_held(struct ws_client *ws)
{
	if (ws->paused || !is_live(ws))
		return;
	if (ws->in.len) {
		struct buf held = ws->in;
		buf_init(&ws->in, held.max);
		take_frames(ws, held.bytes + held.head, held.len);
		buf_free(&held);
	}
	if (is_live(ws) && !ws->paused)
		conn_drain(&ws->conn);
}

static void on_turn_end(uv_idle_t *idle)
{
	struct ws_client *ws = idle->data;
	struct err e;
	uv_idle_stop(idle);
	take_held(ws);
	if (is_live(ws)) {
		if (conn_flush(&ws->conn, &e) != 0)
			on_conn_failed(ws, false, e.text);
		else
			on_conn_sent(ws);
	}
	if (ws->phase == WS_OVER && !ws->freed)
		tell_end(ws);
}

/* Timeouts. The timer is not moved with every byte: when it fires, it looks whether something is due. */

static int64_t next_due(const struct ws_client *ws)
{
	int64_t due = INT64_MAX;
	if (ws->phase < WS_OPEN)
		return ws->connect_by;
	if (ws->phase == WS_CLOSING)
		return ws->close_by;
	if (ws->phase != WS_OPEN || ws->paused)
		return due;
	if (ws->ping_ms) {
		int64_t since = ws->pinged_ms > ws->heard_ms ? ws->pinged_ms : ws->heard_ms;
		due = since + ws->ping_ms;
	}
	if (ws->dead_ms && ws->heard_ms + ws->dead_ms < due)
		due = ws->heard_ms + ws->dead_ms;
	if (ws->probe_by && ws->probe_by < due)
		due = ws->probe_by;
	return due;
}

static void send_ping(struct ws_client *ws, int64_t now)
{
	ws->pinged_ms = now;
	(void)ws_encode(&ws->conn.out, WS_PING, true, true, "", 0);
	ws_end_turn_soon(ws);
}

static void connect_is_late(struct ws_client *ws)
{
	static const char *const doing[] = { "connect to", "proxy's answer for", "TLS with",
					     "held back:", "answer of" };
	if (ws->phase == WS_REFUSED) /* that counts, with as much of its body as came */
		ws_connect_failed(ws, true, "");
	else
		ws_end(ws, WS_LOST, "%s %s: timed out", doing[ws->phase], ws->peer);
}

static void on_time(uv_timer_t *timer)
{
	struct ws_client *ws = timer->data;
	int64_t now = clock_mono_ms();
	if (ws->phase < WS_OPEN && now >= ws->connect_by) {
		connect_is_late(ws);
	} else if (ws->phase == WS_CLOSING && now >= ws->close_by) {
		if (ws->peer_closed)
			end_as_peer_said(ws);
		else
			ws_end(ws, WS_LOST, "%s did not answer the close", ws->peer);
	} else if (ws->phase == WS_OPEN && !ws->paused) {
		int64_t silent = now - ws->heard_ms;
		if ((ws->probe_by && now >= ws->probe_by) || (ws->dead_ms && silent >= ws->dead_ms))
			ws_end(ws, WS_LOST, "%s: no answer for %lld ms", ws->peer, (long long)silent);
		else if (ws->ping_ms && silent >= ws->ping_ms && now - ws->pinged_ms >= ws->ping_ms)
			send_ping(ws, now);
	}
	ws_arm_timer(ws);
}

void ws_arm_timer(struct ws_client *ws)
{
	if (ws->freed)
		return;
	int64_t due = next_due(ws);
	if (due == INT64_MAX) {
		uv_timer_stop(&ws->timer);
		return;
	}
	timer_at(&ws->timer, on_time, due);
}

/* The public half. */

void ws_opened(struct ws_client *ws, size_t rest_from)
{
	ws->phase = WS_OPEN;
	ws->heard_ms = ws->pinged_ms = clock_mono_ms();
	buf_consume(&ws->in, rest_from);
	if (ws->conn.out.len == 0)
		buf_wipe_free(&ws->conn.out); /* credentials were in it */
	ws_arm_timer(ws);
	ws_end_turn_soon(ws);
	if (ws->callbacks.open)
		ws->callbacks.open(ws->user);
}

static int set_up(struct ws_client *ws, const struct ws_options *o, struct err *e)
{
	int rc = url_parse(o->url, &ws->url, e);
	if (rc != 0)
		return rc;
	text_host_port(ws->url.host, ws->url.port, ws->peer, sizeof ws->peer);
	if (ws->url.tls && !o->tls)
		return err_set(e, ERR_INVALID, "URL \"%s\": no TLS settings were given", o->url);
	if (o->subprotocol && strlen(o->subprotocol) >= sizeof ws->subprotocol)
		return err_set(e, ERR_INVALID, "the subprotocol's name is too long");
	snprintf(ws->subprotocol, sizeof ws->subprotocol, "%s", o->subprotocol ? o->subprotocol : "");
	rc = proxy_choose(o->proxy, &ws->url, &ws->proxy, e);
	if (rc != 0)
		return rc;
	return ws_upgrade_request(&ws->url, o->subprotocol, o->headers, ws->key, &ws->request, e);
}

int ws_client_open(uv_loop_t *loop, const struct ws_options *options, const struct ws_callbacks *callbacks, void *user,
		   struct ws_client **out_ws, struct err *e)
{
	struct ws_client *ws = calloc(1, sizeof *ws);
	if (!ws)
		return err_set(e, ERR_NOMEM, "out of memory");
	ws->loop = loop;
	ws->callbacks = *callbacks;
	ws->user = user;
	ws->tls = options->tls;
	ws->hold = options->hold;
	ws->ping_ms = options->ping_ms;
	ws->dead_ms = options->dead_ms;
	ws->conn.fd = -1;
	buf_init(&ws->request, LIMIT_HTTP_HEADERS);
	buf_init(&ws->in, 2 * WS_REFUSAL_BODY + CONN_READ);
	buf_init(&ws->end_body, WS_REFUSAL_BODY);
	ws_decoder_init(&ws->decoder, false, options->max_text ? options->max_text : LIMIT_LEG_TEXT);
	ws->connect_by =
		clock_mono_ms() + (options->connect_timeout_ms ? options->connect_timeout_ms : CONNECT_TIMEOUT_MS);
	uv_timer_init(loop, &ws->timer);
	uv_idle_init(loop, &ws->turn);
	ws->timer.data = ws->turn.data = ws;
	ws->handles = 2;

	int rc = set_up(ws, options, e);
	if (rc == 0)
		rc = ws_connect_start(ws, e);
	if (rc == 0)
		*out_ws = ws;
	else
		ws_client_free(&ws);
	return rc;
}

void ws_client_go(struct ws_client *ws)
{
	ws_connect_go(ws);
}

int ws_client_send_text(struct ws_client *ws, const char *text)
{
	if (ws->phase != WS_OPEN)
		return ERR_CLOSED;
	if (conn_unsent(&ws->conn) >= WS_TEXT_QUEUE)
		return ERR_LIMIT;
	int rc = ws_encode(&ws->conn.out, WS_TEXT, true, true, text, strlen(text));
	if (conn_unsent(&ws->conn) >= WS_ROOM_LOW)
		ws->full = true;
	ws_end_turn_soon(ws);
	return rc;
}

size_t ws_client_room(const struct ws_client *ws)
{
	size_t unsent = conn_unsent(&ws->conn);
	if (ws->phase != WS_OPEN || ws->full || unsent > WS_ROOM_HIGH) /* answers to pings wait there, too */
		return 0;
	return WS_ROOM_HIGH - unsent;
}

int ws_client_send_binary(struct ws_client *ws, const void *data, size_t len)
{
	if (ws->phase != WS_OPEN)
		return ERR_CLOSED;
	if (len > ws_client_room(ws))
		return ERR_LIMIT;
	int rc = ws_encode(&ws->conn.out, WS_BINARY, true, true, data, len);
	if (conn_unsent(&ws->conn) >= WS_ROOM_LOW)
		ws->full = true;
	ws_end_turn_soon(ws);
	return rc;
}

size_t ws_client_unsent(const struct ws_client *ws)
{
	return conn_unsent(&ws->conn);
}

void ws_client_pause(struct ws_client *ws, bool paused)
{
	if (ws->paused == paused)
		return;
	ws->paused = paused;
	if (!is_live(ws))
		return;
	conn_read(&ws->conn, !paused);
	if (!paused) {
		ws->heard_ms = clock_mono_ms(); /* the silence was ours */
		ws_end_turn_soon(ws);
	}
	ws_arm_timer(ws);
}

void ws_client_close(struct ws_client *ws, unsigned code, const char *reason)
{
	if (ws->phase < WS_OPEN)
		ws_end(ws, code, "%s", reason ? reason : "");
	if (ws->phase != WS_OPEN)
		return;
	ws_client_pause(ws, false);
	queue_close(ws, code, reason);
}

void ws_client_probe(struct ws_client *ws)
{
	if (ws->phase != WS_OPEN)
		return;
	int64_t now = clock_mono_ms();
	ws->probe_by = now + PROBE_TIMEOUT_MS;
	send_ping(ws, now);
	ws_arm_timer(ws);
}

bool ws_client_is_misrouted(const struct ws_client *ws)
{
	return ws->conn.fd >= 0 && watch_is_misrouted(ws->conn.fd);
}

void ws_client_free(struct ws_client **ws_ptr)
{
	if (!ws_ptr || !*ws_ptr)
		return;
	struct ws_client *ws = *ws_ptr;
	*ws_ptr = NULL;
	if (ws->freed)
		return;
	drop_connection(ws);
	ws->freed = true;
	ws->phase = WS_OVER;
	uv_close((uv_handle_t *)&ws->timer, on_handle_closed);
	uv_close((uv_handle_t *)&ws->turn, on_handle_closed);
}

void ws_client_set_heartbeat(struct ws_client *ws, int64_t ping_ms, int64_t dead_ms)
{
	ws->ping_ms = ping_ms;
	ws->dead_ms = dead_ms;
	ws_arm_timer(ws);
}
