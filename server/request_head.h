/* The head of an upgrade request, as the server's own transport reads it. Sans-I/O, and strict: only our own agent and
 * CLI, and what pretends to be them, are heard here. */
#ifndef SERVER_REQUEST_HEAD_H
#define SERVER_REQUEST_HEAD_H

#include "base/limits.h"
#include "server/http.h"

/* Bytes of a head with its request line; what is larger gets no further. */
#define REQUEST_HEAD_MAX (LIMIT_HTTP_HEADERS + 2048u)

enum request_head {
	REQUEST_HEAD_MORE,
	REQUEST_HEAD_OK,
	REQUEST_HEAD_WRONG,     /* 400 */
	REQUEST_HEAD_TOO_LARGE, /* 431 */
	REQUEST_HEAD_NOMEM,
};

/* OK: *out is filled (http_head_free) and *out_size has the bytes of the head with its empty line. Else both are left
 * alone, and *out_why says what is WRONG. Names of headers come in lower case. Path and query stand as they came: no
 * path of ours needs to be decoded. */
enum request_head request_head_parse(const char *data, size_t len, struct http_head *out, size_t *out_size,
				     const char **out_why);

#endif
