/* The head of an HTTP/1.1 answer, sans-I/O: what a proxy says to CONNECT and a server to an upgrade. Internal to
 * lib/net. */
#ifndef NET_HTTP1_H
#define NET_HTTP1_H

#include "base/buf.h"
#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>

struct http1_head {
	int status;
	char reason[64];
	const char *headers; /* lines with CRLF, in the buffer given */
	size_t headers_len;
	size_t size; /* bytes of the head with its empty line */
};

/* 1: a head; 0: more bytes are needed; ERR_PROTOCOL, ERR_LIMIT (LIMIT_HTTP_HEADERS). who names the answerer. */
int http1_parse_head(const struct buf *in, const char *who, struct http1_head *out, struct err *e);
/* The value without spaces around it; false when there is no such header or it does not fit. */
bool http1_header(const struct http1_head *head, const char *name, char *out, size_t size);
/* One of the header's comma-separated words, compared without case. */
bool http1_header_has(const struct http1_head *head, const char *name, const char *word);

/* The body of a refusal, as far as it came (in: the bytes behind the head; eof: no more will come). 1: complete, out
 * has its text; 0: more is needed. Bodies are cut at max bytes, or where memory ends. */
int http1_body(const struct http1_head *head, const uint8_t *in, size_t in_len, bool eof, size_t max, struct buf *out);

#endif
