/* From a name to an open WebSocket: dial, CONNECT, TLS, upgrade. Each step is a phase; its failure says which step it
 * was, because "it does not connect" has a dozen causes that look alike from far. */
#include "net/ws_state.h"

#include "base/clock.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void send_request(struct ws_client *ws)
{
	struct err e;
	ws->phase = WS_UPGRADING;
	int rc = buf_add(&ws->conn.out, buf_data(&ws->request), ws->request.len);
	buf_wipe_free(&ws->request);
	conn_read(&ws->conn, true);
	if (rc != 0 || conn_flush(&ws->conn, &e) != 0)
		ws_end(ws, WS_LOST, "%s: %s", ws->peer, rc != 0 ? "out of memory" : e.text);
}

/* False: the user dropped the client, or it ended. */
static bool tell_progress(struct ws_client *ws, enum ws_step step)
{
	if (ws->callbacks.progress)
		ws->callbacks.progress(ws->user, step);
	return !ws->freed && ws->phase < WS_OPEN;
}

void ws_connect_secured(struct ws_client *ws)
{
	ws->phase = WS_HELD;
	if (!tell_progress(ws, WS_STEP_SECURED) || ws->phase != WS_HELD)
		return;
	if (ws->hold)
		conn_read(&ws->conn, true); /* to see it go */
	else
		send_request(ws);
}

void ws_connect_go(struct ws_client *ws)
{
	ws->hold = false;
	if (ws->phase == WS_HELD)
		send_request(ws);
}

static void secure(struct ws_client *ws)
{
	struct err e;
	if (!ws->url.tls) {
		ws_connect_secured(ws);
		return;
	}
	ws->phase = WS_SECURING;
	SSL *ssl = net_tls_client(ws->tls, ws->url.host, ws->url.port, &e);
	if (!ssl)
		ws_end(ws, WS_LOST, "%s", e.text);
	else
		conn_start_tls(&ws->conn, ssl);
}

static void ask_proxy(struct ws_client *ws)
{
	struct err e;
	ws->phase = WS_PROXYING;
	int rc = proxy_connect_request(&ws->proxy, ws->url.host, ws->url.port, &ws->conn.out);
	conn_read(&ws->conn, true);
	if (rc != 0 || conn_flush(&ws->conn, &e) != 0)
		ws_end(ws, WS_LOST, "proxy %s: %s", ws->proxy.host, rc != 0 ? "out of memory" : e.text);
}

static void on_dialled(void *user, int fd, const char *why_not)
{
	struct ws_client *ws = user;
	struct err e;
	ws->dial = NULL;
	if (fd < 0) {
		ws_end(ws, WS_LOST, "%s%s", ws->proxy.used ? "proxy: " : "", why_not);
		return;
	}
	size_t max_out = WS_TEXT_QUEUE + WS_ROOM_HIGH + 64 * 1024;
	if (conn_open(&ws->conn, ws->loop, fd, max_out, &ws_conn_callbacks, ws, &e) != 0) {
		ws_end(ws, WS_LOST, "%s: %s", ws->peer, e.text);
		return;
	}
	ws->handles++;
	if (!tell_progress(ws, WS_STEP_CONNECTED))
		return;
	if (ws->proxy.used)
		ask_proxy(ws);
	else
		secure(ws);
}

int ws_connect_start(struct ws_client *ws, struct err *e)
{
	const char *host = ws->proxy.used ? ws->proxy.host : ws->url.host;
	uint16_t port = ws->proxy.used ? ws->proxy.port : ws->url.port;
	ws->phase = WS_DIALING;
	ws_arm_timer(ws);
	return dial_start(ws->loop, host, port, 0, on_dialled, ws, &ws->dial, e);
}

static void on_proxy_answer(struct ws_client *ws)
{
	struct http1_head head;
	struct err e;
	char who[300];
	snprintf(who, sizeof who, "proxy %s:%u", ws->proxy.host, ws->proxy.port);
	int rc = http1_parse_head(&ws->in, who, &head, &e);
	if (rc == 0)
		return;
	if (rc < 0) {
		ws_end(ws, WS_LOST, "%s", e.text);
	} else if (head.status < 200 || head.status > 299) {
		ws_end(ws, WS_LOST, "%s refused to connect to %s: %d %s", who, ws->peer, head.status, head.reason);
	} else if (ws->in.len > head.size) {
		ws_end(ws, WS_LOST, "%s sent bytes before it was asked", who);
	} else {
		buf_clear(&ws->in);
		secure(ws);
	}
}

/* The head is taken apart again each time: it points into `in`, which moves as the body comes in. */
static void on_refused(struct ws_client *ws, bool eof)
{
	struct http1_head head;
	struct err e;
	if (http1_parse_head(&ws->in, ws->peer, &head, &e) != 1 ||
	    http1_body(&head, buf_data(&ws->in) + head.size, ws->in.len - head.size, eof, WS_REFUSAL_BODY,
		       &ws->end_body) == 0)
		return;
	ws->end_status = head.status;
	ws_end(ws, WS_LOST, "%s refused the upgrade: HTTP %d %s", ws->peer, head.status, head.reason);
}

static void on_upgrade_answer(struct ws_client *ws)
{
	struct http1_head head;
	struct err e;
	int rc = http1_parse_head(&ws->in, ws->peer, &head, &e);
	while (rc == 1 && head.status >= 100 && head.status < 200 && head.status != 101) {
		buf_consume(&ws->in, head.size);
		rc = http1_parse_head(&ws->in, ws->peer, &head, &e);
	}
	if (rc == 0)
		return;
	if (rc == 1 && head.status != 101) {
		ws->phase = WS_REFUSED;
		on_refused(ws, false);
		return;
	}
	if (rc == 1)
		rc = ws_upgrade_check(&head, ws->key, ws->subprotocol[0] ? ws->subprotocol : NULL, &e);
	if (rc < 0)
		ws_end(ws, WS_LOST, "%s: %s", ws->peer, e.text);
	else
		ws_opened(ws, head.size);
}

void ws_connect_data(struct ws_client *ws, const uint8_t *data, size_t len)
{
	if (ws->phase == WS_HELD) {
		ws_end(ws, WS_LOST, "%s sent bytes before it was asked", ws->peer);
		return;
	}
	if (buf_add(&ws->in, data, len) != 0) {
		if (ws->phase == WS_REFUSED)
			on_refused(ws, true);
		else
			ws_end(ws, WS_LOST, "%s: the answer is too long", ws->peer);
		return;
	}
	if (ws->phase == WS_PROXYING)
		on_proxy_answer(ws);
	else if (ws->phase == WS_UPGRADING)
		on_upgrade_answer(ws);
	else if (ws->phase == WS_REFUSED)
		on_refused(ws, false);
}

void ws_connect_failed(struct ws_client *ws, bool eof, const char *reason)
{
	if (ws->phase == WS_REFUSED)
		on_refused(ws, true);
	else if (ws->phase == WS_PROXYING)
		ws_end(ws, WS_LOST, "proxy %s:%u: %s", ws->proxy.host, ws->proxy.port,
		       eof ? "it closed the connection" : reason);
	else
		ws_end(ws, WS_LOST, "%s: %s%s", ws->peer, reason, eof ? " before it answered" : "");
}
