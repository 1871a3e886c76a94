/* The head of an HTTP request, copied out of libwebsockets. */
#ifndef SERVER_CONN_HEAD_H
#define SERVER_CONN_HEAD_H

#include "server/http.h"

struct lws;

#define CONN_HEAD_SPACE 24576 /* lws drops what is larger without an answer; ours to refuse with one from 16384 on */

/* 0; -1: no usable request line; ERR_NOMEM. uri: where lws keeps it; NULL when it does not say, then only the
 * headers of WebSocket requests are read. */
int conn_head_read(struct lws *wsi, const char *uri, struct http_head *out);

#endif
