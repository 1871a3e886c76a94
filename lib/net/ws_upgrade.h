/* The HTTP side of a WebSocket's beginning (RFC 6455, section 4), sans-I/O. For lib/net, and for a server
 * that answers. */
#ifndef NET_WS_UPGRADE_H
#define NET_WS_UPGRADE_H

#include "base/buf.h"
#include "base/err.h"
#include "net/http1.h"
#include "net/url.h"
#include "net/ws_client.h"

#define WS_UPGRADE_KEY 25    /* text of 16 bytes, and a NUL */
#define WS_UPGRADE_ACCEPT 29 /* text of 20 bytes, and a NUL */

/* The request. It may hold credentials: buf_wipe_free. ERR_INVALID for a header that would break the request. */
int ws_upgrade_request(const struct url *url, const char *subprotocol, const struct ws_header *headers,
		       char out_key[WS_UPGRADE_KEY], struct buf *out, struct err *e);
/* What the answer to that key says in Sec-WebSocket-Accept. 0 or ERR_INTERNAL. */
int ws_upgrade_accept(const char *key, char out_accept[WS_UPGRADE_ACCEPT], struct err *e);
/* 0 when the head of a 101 answer fits key and subprotocol; ERR_PROTOCOL. */
int ws_upgrade_check(const struct http1_head *head, const char *key, const char *subprotocol, struct err *e);

#endif
