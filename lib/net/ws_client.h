/* Our WebSocket client (RFC 6455) on a libuv loop: dials (both address families raced, RFC 8305; HTTP CONNECT proxy),
 * TLS with session resumption, upgrade, frames. One thread: the loop's. Reads are large, writes are batched: one send
 * for what one turn produced. */
#ifndef NET_WS_CLIENT_H
#define NET_WS_CLIENT_H

#include "base/err.h"
#include "net/tls.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

struct ws_client;

struct ws_header {
	const char *name, *value;
};

struct ws_options {
	const char *url; /* https:// or wss:// (http, ws: plain) */
	const char *subprotocol;
	const struct ws_header *headers; /* ends with name NULL; copied */
	struct net_tls *tls;             /* must outlive the client */
	const char *proxy; /* "http://[user:password@]host:port"; NULL: https_proxy/HTTPS_PROXY/all_proxy unless
			      no_proxy matches; "" none */
	int64_t connect_timeout_ms; /* for all until the upgrade answer; 0: 10 s */
	int64_t ping_ms, dead_ms;   /* ping after so much silence; dead after so much. 0: none */
	uint64_t max_text;          /* 0: LIMIT_LEG_TEXT */
	bool hold;                  /* the upgrade is not asked for before ws_client_go */
};

enum ws_step {
	WS_STEP_CONNECTED, /* TCP, to the server or its proxy */
	WS_STEP_SECURED,   /* TLS: the upgrade is next */
};

struct ws_callbacks {
	void (*open)(void *user);
	void (*text)(void *user, const char *text, size_t len);      /* NUL-terminated too */
	void (*binary)(void *user, const uint8_t *data, size_t len); /* a piece; boundaries mean nothing */
	void (*writable)(void *user);                                /* ws_client_room grew from 0 */
	/* Exactly once, last; not after ws_client_free. status: the HTTP status of a refused upgrade (body: its text,
	 * "" if none), else 0. code: WebSocket close code (1006: connection lost). reason: words for people, e.g.
	 * "connect web.example:443: Connection refused". */
	void (*closed)(void *user, int status, const char *body, unsigned code, const char *reason);
	void (*progress)(void *user, enum ws_step step); /* before open */
};

/* 0, or ERR_INVALID for a malformed URL or proxy; all else comes as closed. */
int ws_client_open(uv_loop_t *loop, const struct ws_options *options, const struct ws_callbacks *callbacks, void *user,
		   struct ws_client **out_ws, struct err *e);
void ws_client_go(struct ws_client *ws);                         /* ends ws_options.hold */
int ws_client_send_text(struct ws_client *ws, const char *text); /* ERR_LIMIT when 1 MiB is waiting; ERR_CLOSED */
/* Bytes that send_binary takes now: up to 96 KiB while less than 32 KiB wait, else 0 until writable. So little, because
 * what is queued here cannot be overtaken by what is more urgent. */
size_t ws_client_room(const struct ws_client *ws);
int ws_client_send_binary(struct ws_client *ws, const void *data, size_t len);
size_t ws_client_unsent(const struct ws_client *ws); /* bytes queued here, not in the kernel */
/* Stops reading (bounded memory for the caller); pongs are still sent when reading goes on. */
void ws_client_pause(struct ws_client *ws, bool paused);
/* Sends a close frame; closed follows when the peer answered, or after 2 s. */
void ws_client_close(struct ws_client *ws, unsigned code, const char *reason);
/* Drops the connection at once without a callback, and nulls. Allowed inside callbacks. */
void ws_client_free(struct ws_client **ws);
/* The local address changed or the machine slept: probe now (ping, dead after 2 s). */
void ws_client_probe(struct ws_client *ws);
/* Other ping_ms and dead_ms from now on, as the peer asks for. */
void ws_client_set_heartbeat(struct ws_client *ws, int64_t ping_ms, int64_t dead_ms);
/* The kernel would send to this peer from another address now, or not at all. False while it is not connected. */
bool ws_client_is_misrouted(const struct ws_client *ws);

#endif
