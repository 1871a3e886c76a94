/* What the two halves of the WebSocket client share: ws_connect.c (until the upgrade's answer) and ws_client.c
 * (frames). Internal to lib/net. */
#ifndef NET_WS_STATE_H
#define NET_WS_STATE_H

#include "net/conn.h"
#include "net/dial.h"
#include "net/proxy.h"
#include "net/ws_client.h"
#include "net/ws_codec.h"
#include "net/ws_upgrade.h"

enum ws_phase {
	WS_DIALING,
	WS_PROXYING, /* CONNECT was sent */
	WS_SECURING, /* TLS handshake */
	WS_HELD,     /* until ws_client_go */
	WS_UPGRADING,
	WS_REFUSED, /* the answer is not 101: its body is read for its words */
	WS_OPEN,
	WS_CLOSING, /* a close frame was queued */
	WS_OVER,    /* the closed callback is due or done */
};

struct ws_client {
	uv_loop_t *loop;
	struct ws_callbacks callbacks;
	void *user;
	enum ws_phase phase;
	unsigned handles; /* that libuv still knows; the memory goes with the last */
	bool freed;

	struct net_tls *tls;
	struct url url;
	char peer[254 + 10]; /* host:port, for words */
	char subprotocol[64];
	char key[WS_UPGRADE_KEY];
	struct proxy proxy;
	struct buf request; /* wiped when sent */
	struct buf in;      /* an answer's head being collected; later: bytes held back by a pause */

	struct dial *dial;
	struct conn conn;
	struct ws_decoder decoder;
	uv_timer_t timer;
	uv_idle_t turn; /* ends the turn: sends, and tells of the end */
	bool hold, paused, full, peer_closed;
	int64_t ping_ms, dead_ms;
	int64_t connect_by, close_by, probe_by; /* 0: none */
	int64_t heard_ms, pinged_ms;

	int end_status;
	unsigned end_code;
	char end_reason[400];
	struct buf end_body;
	bool end_told;
};

/* ws_connect.c */
int ws_connect_start(struct ws_client *ws, struct err *e);
void ws_connect_secured(struct ws_client *ws);
void ws_connect_go(struct ws_client *ws);
void ws_connect_data(struct ws_client *ws, const uint8_t *data, size_t len);
void ws_connect_failed(struct ws_client *ws, bool eof, const char *reason);

/* ws_client.c */
extern const struct conn_callbacks ws_conn_callbacks;
/* Ends it; the closed callback comes at the end of the turn. */
void ws_end(struct ws_client *ws, unsigned code, const char *fmt, ...) PRINTF_LIKE(3, 4);
void ws_opened(struct ws_client *ws, size_t rest_from); /* bytes of `in` from there are frames */
void ws_end_turn_soon(struct ws_client *ws);
void ws_arm_timer(struct ws_client *ws);

#define WS_LOST 1006u /* no close frame came */
#define WS_REFUSAL_BODY (64u * 1024)
#define WS_TEXT_QUEUE (1024u * 1024)
#define WS_ROOM_LOW (32u * 1024) /* below: room for more */
#define WS_ROOM_HIGH (96u * 1024)

#endif
