/* The general transport: every call into libwebsockets stands here and in conn_head.c. A socket comes from our own
 * accept loop, gets a struct conn at its creation callback and loses it at its destruction callback. HTTP goes to
 * http.c; a granted upgrade gets the ops of its subprotocol. Three things of lws shape this file:
 *  - In the state "transaction going on" 4.1 does not read and does not stop being told that it could; later ones read
 *    and end the connection. So reading is switched off while a request is worked on. A paused HTTP connection is
 *    not told that it can be written to either; so the answer is written unasked, and reading is switched on when that
 *    was all or when the socket is full.
 *  - On WebSockets it turns in a circle for ever when reading is switched off while decrypted bytes of the same TLS
 *    record are still to come. So reading stops only at a record's end; what comes until then is held here.
 *  - Before 4.3.9 a request with an unknown Upgrade value runs on with its head freed (CVE-2025-11677); so the upgrade
 *    callback trusts nothing that it is given and reads the header again. */
#include "server/conn.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"
#include "server/conn_head.h"
#include "server/http.h"
#include "server/reactor_internal.h"
#include "server/server.h"
#include "server/strangers.h"
#include "server/upgrade.h"

#include <libwebsockets.h>
#include <openssl/ssl.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#define PING_S (CONN_PING_MS / 1000)
#define DEAD_S (CONN_DEAD_MS / 1000)

_Static_assert(CONN_HEADROOM >= LWS_PRE, "room for the frame header");

/* ---- what the layers above ask for ---- */

/* Also notes that lws was called, perhaps from outside its callbacks. */
static struct lws *wsi_of(struct conn *c)
{
	c->on->lws_touched = true;
	return c->transport;
}

static void want_write(struct conn *c)
{
	lws_callback_on_writable(wsi_of(c));
}

static void stop_reading(struct conn *c)
{
	SSL *ssl = c->ops ? lws_get_ssl(wsi_of(c)) : NULL;
	if (c->paused && !c->stopped && (!ssl || SSL_pending(ssl) == 0)) {
		c->stopped = true;
		lws_rx_flow_control(wsi_of(c), 0);
	}
}

static void start_reading(struct conn *c)
{
	if (c->stopped)
		lws_rx_flow_control(wsi_of(c), 1);
	c->stopped = false;
}

static void resume(struct conn *c)
{
	if (!c->held.first)
		start_reading(c);
	/* Gives what is held; and what lies decrypted in the TLS layer makes no socket event, being writable does. Not
	 * so for HTTP: when the request's rest comes first and it is paused again, lws is told for ever that it could
	 * write. */
	if (c->ops)
		lws_callback_on_writable(wsi_of(c));
}

static int write_message(struct conn *c, bool binary, uint8_t *data, size_t len)
{
	return lws_write(wsi_of(c), data, len, binary ? LWS_WRITE_BINARY : LWS_WRITE_TEXT) < 0 ? -1 : 0;
}

static int write_http(struct conn *c, const uint8_t *data, size_t len, bool final)
{
	/* lws takes a pointer to what it may change; for HTTP/1 it only reads. */
	uint8_t block[LWS_PRE + 2048], *p = block + LWS_PRE;
	if (len > 2048) {
		p = malloc(LWS_PRE + len);
		if (!p)
			return -1;
		p += LWS_PRE;
	}
	memcpy(p, data, len);
	int n = lws_write(wsi_of(c), p, len, final ? LWS_WRITE_HTTP_FINAL : LWS_WRITE_HTTP);
	if (p != block + LWS_PRE)
		free(p - LWS_PRE);
	return n < 0 ? -1 : 0;
}

static bool can_write(struct conn *c)
{
	return !lws_send_pipe_choked(wsi_of(c));
}

static enum conn_result next_request(struct conn *c)
{
	conn_resume(c);
	return lws_http_transaction_completed(wsi_of(c)) ? CONN_CLOSE : CONN_OK;
}

static int socket_of(struct conn *c)
{
	return lws_get_socket_fd(wsi_of(c));
}

static bool secured(struct conn *c)
{
	SSL *ssl = lws_get_ssl(wsi_of(c));
	return ssl && SSL_is_init_finished(ssl);
}

static void kill_soon(struct conn *c)
{
	lws_set_timeout(wsi_of(c), PENDING_TIMEOUT_USER_OK, LWS_TO_KILL_ASYNC);
	conn_poke(c->on);
}

void conn_poke(struct reactor *r)
{
	lws_cancel_service(r->context);
}

/* lws takes only a pong for a sign of life. */
static void alive(struct conn *c, int64_t now)
{
	c->valid_ms = now;
	lws_validity_confirmed(wsi_of(c));
}

static const struct conn_transport transport = {
	.want_write = want_write,
	.pause = stop_reading,
	.resume = resume,
	.write = write_message,
	.write_http = write_http,
	.can_write = can_write,
	.next_request = next_request,
	.socket = socket_of,
	.secured = secured,
	.alive = alive,
	.kill = kill_soon,
};

/* ---- callbacks ---- */

static bool head_read(struct lws *wsi, struct conn *c, const char *uri, struct http_head *out)
{
	int rc = conn_head_read(wsi, uri, out);
	if (rc == ERR_NOMEM)
		(void)http_no_memory(c);
	return rc == 0;
}

static int confirm_upgrade(struct lws *wsi, struct conn *c)
{
	char value[16];
	if (lws_hdr_copy(wsi, value, sizeof value, WSI_TOKEN_UPGRADE) <= 0 || strcasecmp(value, "websocket") != 0)
		return -1;
	struct http_head head;
	char *answer = NULL;
	size_t len = 0;
	if (!c->http || !head_read(wsi, c, NULL, &head))
		return -1;
	enum conn_result judged = http_judge_upgrade(c, &head, &answer, &len);
	http_head_free(&head);
	if (judged == CONN_OK)
		return 0;
	if (answer)
		(void)conn_write_http(c, (const uint8_t *)answer, len, true);
	free(answer);
	return -1;
}

static int http_head_arrived(struct lws *wsi, struct conn *c, const char *uri)
{
	struct http_head head;
	if (!c->http || !head_read(wsi, c, uri, &head))
		return -1;
	/* lws would end the connection by its own clock; the deadline is ours. */
	lws_set_timeout(wsi, NO_PENDING_TIMEOUT, 0);
	return http_on_head(c, &head) == CONN_OK ? 0 : -1;
}

static int http_writable(struct conn *c)
{
	switch (http_on_writable(c)) {
	case HTTP_WRITE_MORE:
		return 0;
	case HTTP_WRITE_NEXT_REQUEST:
		return conn_next_request(c) == CONN_OK ? 0 : -1;
	case HTTP_WRITE_CLOSE:
		break;
	}
	return -1;
}

static int on_http(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in, size_t len)
{
	struct conn *c = wsi ? lws_get_opaque_user_data(wsi) : NULL;
	struct reactor *r = reactor_current();
	(void)user;
	switch (reason) {
	case LWS_CALLBACK_SERVER_NEW_CLIENT_INSTANTIATED:
		c = r && r->adopting ? conn_new(r, &transport, wsi, r->adopting) : NULL;
		lws_set_opaque_user_data(wsi, c);
		return c ? 0 : -1;
	case LWS_CALLBACK_WSI_DESTROY:
		lws_set_opaque_user_data(wsi, NULL);
		if (c)
			conn_free(c);
		return 0;
	case LWS_CALLBACK_HTTP_CONFIRM_UPGRADE:
		return c ? confirm_upgrade(wsi, c) : -1;
	case LWS_CALLBACK_HTTP:
		return c ? http_head_arrived(wsi, c, in) : -1;
	case LWS_CALLBACK_HTTP_BODY:
		return c && c->http && http_on_body(c, in, len) == CONN_OK ? 0 : -1;
	case LWS_CALLBACK_HTTP_BODY_COMPLETION:
		return c && c->http && http_on_body_end(c) == CONN_OK ? 0 : -1;
	case LWS_CALLBACK_HTTP_WRITEABLE:
		return c && c->http ? http_writable(c) : 0;
	case LWS_CALLBACK_RAW_ADOPT: /* a CONNECT request */
	case LWS_CALLBACK_RAW_CONNECTED:
	case LWS_CALLBACK_RAW_RX:
	case LWS_CALLBACK_RAW_WRITEABLE:
		return -1;
	default:
		return 0;
	}
}

/* Returning -1 would do, but lws as Debian builds it closes twice then on libuv (a test left in), and the second time
 * cuts the connection before the close frame is out. The synchronous kill starts the polite close once. A ping that is
 * read before the frame is out spoils it: lws keeps what it carries in the close frame's place. */
static int send_close(struct lws *wsi, struct conn *c)
{
	if (!c->close_sent) {
		size_t len = strlen(c->close_reason);
		c->close_sent = true;
		lws_close_reason(wsi, (enum lws_close_status)c->close_code, (unsigned char *)c->close_reason, len);
		lws_set_timeout(wsi, PENDING_TIMEOUT_USER_OK, LWS_TO_KILL_SYNC);
	}
	return 0;
}

static int give(struct conn *c, bool binary, const uint8_t *data, size_t len, bool last)
{
	return c->ops->on_data(c, binary, data, len, last) == CONN_CLOSE && !c->closing ? -1 : 0;
}

static int ws_receive(struct lws *wsi, struct conn *c, const uint8_t *data, size_t len)
{
	if (c->closing)
		return 0;
	int64_t now = clock_mono_ms();
	if (now - c->valid_ms >= CONN_VALID_MS) /* its pong may wait behind much else on a slow line */
		alive(c, now);
	bool last = lws_is_final_fragment(wsi) && lws_remaining_packet_payload(wsi) == 0;
	bool binary = lws_frame_is_binary(wsi);
	int rc = 0;
	if (!c->paused && !c->held.first) {
		rc = give(c, binary, data, len, last);
	} else {
		struct conn_msg *m = conn_queue_add(&c->held, binary, data, len);
		if (!m)
			return -1;
		m->last = last;
	}
	stop_reading(c);
	return rc;
}

/* Reading goes on only when nothing older is left. */
static int give_held(struct conn *c)
{
	int rc = 0;
	while (rc == 0 && c->held.first && (c->closing || !c->paused)) {
		struct conn_msg *m = conn_queue_take(&c->held);
		if (!c->closing)
			rc = give(c, m->binary, m->data, m->len, m->last);
		free(m);
	}
	if (rc == 0 && !c->paused && !c->held.first)
		start_reading(c);
	return rc;
}

static int ws_writable(struct lws *wsi, struct conn *c)
{
	if (give_held(c) != 0)
		return -1;
	if (c->ops->on_writable(c) == CONN_CLOSE)
		return c->closing ? send_close(wsi, c) : -1;
	return 0;
}

static int on_ws(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in, size_t len)
{
	struct conn *c = wsi ? lws_get_opaque_user_data(wsi) : NULL;
	const unsigned char *code = in;
	(void)user;
	if (reason == LWS_CALLBACK_FILTER_PROTOCOL_CONNECTION)
		return c && c->ops ? 0 : -1;
	if (!c || !c->ops)
		return 0;
	switch (reason) {
	case LWS_CALLBACK_ESTABLISHED:
		c->open = true;
		c->ops->on_open(c);
		return 0;
	case LWS_CALLBACK_RECEIVE:
		return ws_receive(wsi, c, in, len);
	case LWS_CALLBACK_SERVER_WRITEABLE:
		return ws_writable(wsi, c);
	case LWS_CALLBACK_WS_PEER_INITIATED_CLOSE:
		c->peer_code = len >= 2 ? (unsigned)(code[0] << 8 | code[1]) : 1005;
		return 0;
	default:
		return 0;
	}
}

/* ---- contexts ---- */

static const struct lws_protocols protocols[] = {
	{ "http", on_http, 0, 4096, 0, NULL, 2 * CONN_CHUNK },
	{ "tunnel.control.v1", on_ws, 0, 4096, 0, NULL, 2 * CONN_CHUNK },
	{ "tunnel.leg.v1", on_ws, 0, CONN_CHUNK + 512, 0, NULL, 2 * CONN_CHUNK },
	{ NULL, NULL, 0, 0, 0, NULL, 0 },
};

static const lws_retry_bo_t validity = { .secs_since_valid_ping = PING_S, .secs_since_valid_hangup = DEAD_S };

static void ignore_signal(void *handle, int signum)
{
	(void)handle, (void)signum; /* signals are the main thread's */
}

static void emit_log(int level, const char *line)
{
	char text[200];
	snprintf(text, sizeof text, "%.*s", (int)strcspn(line, "\n"), line);
	log_with(LOG_LEVEL_DEBUG, FIELDS({ "level", level & LLL_ERR ? "error" : "warn" }), "lws: %s", text);
}

int conn_lws_new(struct reactor *r, const char *certificate, const char *key, struct err *e)
{
	void *loops[1] = { &r->loop };
	/* lws makes one for clients in any case, with the system's CAs; nobody uses it, so it gets an empty one. */
	r->client_ctx = SSL_CTX_new(TLS_client_method());
	if (!r->client_ctx)
		return err_set_openssl(e, ERR_INTERNAL, "TLS");
	lws_set_log_level(LLL_ERR | LLL_WARN, emit_log);
	struct lws_context_creation_info info = {
		.port = CONTEXT_PORT_NO_LISTEN_SERVER,
		.protocols = protocols,
		.extensions = NULL,
		.foreign_loops = loops,
		.pcontext = &r->context,
		.signal_cb = ignore_signal,
		.options = LWS_SERVER_OPTION_LIBUV | LWS_SERVER_OPTION_DO_SSL_GLOBAL_INIT,
		.ssl_cert_filepath = certificate,
		.ssl_private_key_filepath = key,
		.ssl_options_set = SSL_OP_NO_TLSv1 | SSL_OP_NO_TLSv1_1 | SSL_OP_NO_RENEGOTIATION,
		.alpn = "http/1.1",
		.provided_client_ssl_ctx = r->client_ctx,
		.vhost_name = "default",
		.max_http_header_data = CONN_HEAD_SPACE,
		.pt_serv_buf_size = 2 * CONN_CHUNK,
		.retry_and_idle_policy = &validity,
		/* Backstops behind our own deadlines, which can answer. */
		.timeout_secs = 20,
		.timeout_secs_ah_idle = 15,
		.keepalive_timeout = 120,
		.server_string = "tunnel",
	};
	r->context = lws_create_context(&info);
	if (!r->context)
		conn_lws_free(r);
	if (!r->context)
		return err_set(e, ERR_INTERNAL,
			       "the WebSocket library could not start (is libwebsockets-evlib-uv installed?)");
	r->vhost = lws_get_vhost_by_name(r->context, "default");
	if (!r->vhost) {
		conn_lws_free(r);
		return err_set(e, ERR_INTERNAL, "the WebSocket library did not take certificate %s", certificate);
	}
	return 0;
}

void conn_lws_free(struct reactor *r)
{
	if (r->context)
		lws_context_destroy(r->context);
	if (!r->context) {
		SSL_CTX_free(r->client_ctx);
		r->client_ctx = NULL;
	}
}

void conn_lws_adopt(struct reactor *r, struct accepted *a)
{
	lws_sockfd_type socket = a->fd;
	r->lws_touched = true;
	r->adopting = a;
	/* On failure lws has closed the socket. */
	if (!lws_adopt_socket_vhost(r->vhost, socket))
		log_debug("a connection from %s was not adopted", a->remote);
	r->adopting = NULL;
	strangers_leave(r->server->strangers, &a->place); /* if no conn has got it */
}

void conn_lws_reload(struct reactor *r, const char *certificate, const char *key)
{
	r->lws_touched = true;
	lws_tls_cert_updated(r->context, certificate, key, NULL, 0, NULL, 0);
}
