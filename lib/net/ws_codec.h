/* RFC 6455 framing, sans-I/O. Used by our client and by the server's own transport; strict about what a peer may send.
 */
#ifndef NET_WS_CODEC_H
#define NET_WS_CODEC_H

#include "base/buf.h"
#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum ws_opcode { WS_CONT = 0, WS_TEXT = 1, WS_BINARY = 2, WS_CLOSE = 8, WS_PING = 9, WS_PONG = 10 };

/* Appends one frame. mask: client side (fresh random key a frame). 0, ERR_LIMIT, ERR_NOMEM. */
int ws_encode(struct buf *out, enum ws_opcode op, bool fin, bool mask, const void *payload, size_t len);

#define WS_HEAD_MAX 10 /* bytes before a frame's payload, without a mask */

/* The head of a frame whose payload is written by somebody else; its size. mask: only the bit for it. */
size_t ws_frame_head(enum ws_opcode op, bool fin, bool mask, size_t len, uint8_t out[WS_HEAD_MAX]);

struct ws_decoder {
	bool expect_mask;  /* server side: frames must be masked; client side: must not be */
	bool pieces;       /* set after init: text comes in pieces like binary, of any length, not checked for UTF-8 */
	uint64_t max_text; /* bytes of a text message */
	/* private */
	uint8_t head[14];
	uint8_t head_len;
	uint8_t mask[4];
	uint64_t left, mask_at;
	uint8_t op;
	bool fin, in_payload, in_message, message_is_text;
	struct buf text; /* the text message or control frame being collected */
	struct buf control;
};

/* What was decoded. Binary payload comes in pieces as it arrives (data points into the input, unmasked in place); text
 * (but for the decoder's `pieces`) and control frames come whole. */
struct ws_piece {
	enum ws_opcode op; /* WS_TEXT, WS_BINARY, WS_CLOSE, WS_PING, WS_PONG */
	const uint8_t *data;
	size_t len;
	bool end;            /* last piece of its message */
	uint16_t close_code; /* WS_CLOSE: 1005 when absent; data is the reason */
};

void ws_decoder_init(struct ws_decoder *d, bool expect_mask, uint64_t max_text);
void ws_decoder_free(struct ws_decoder *d);
/* Decodes from *in (advanced past what was taken). 1: a piece; 0: needs more input; negative: protocol error (RFC 6455:
 * ERR_PROTOCOL means close 1002, ERR_INVALID (not UTF-8) 1007, ERR_LIMIT 1009). A text's or control frame's data lives
 * until the next call and has a NUL behind it. */
int ws_decode(struct ws_decoder *d, uint8_t **in, size_t *in_len, struct ws_piece *out, struct err *e);

#endif
