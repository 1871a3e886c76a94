/* RFC 6455 frames. The decoder is a machine over (head, payload): it takes any cut of the input. Binary payload leaves
 * as it comes, unmasked where it lies; text (unless it is wanted in pieces, too) and control frames are gathered,
 * because only whole ones mean something. It is strict: what section 5 calls a MUST ends the connection. */
#include "net/ws_codec.h"

#include "base/secret.h"
#include "base/text.h"

#include <string.h>

#define CONTROL_MAX 125u

static bool is_control(unsigned op)
{
	return (op & 8) != 0;
}

/* dst may be src. at: offset of src[0] in the frame's payload. A block a step, of a form that compilers make vector
 * instructions of; the tail byte by byte. */
static void mask_copy(uint8_t *dst, const uint8_t *src, size_t len, const uint8_t mask[4], uint64_t at)
{
	uint8_t turned[8];
	for (unsigned i = 0; i < 8; i++)
		turned[i] = mask[(at + i) & 3];
	uint64_t key, words[8];
	memcpy(&key, turned, 8);
	size_t i = 0;
	for (; i + sizeof words <= len; i += sizeof words) {
		memcpy(words, src + i, sizeof words);
		for (unsigned k = 0; k < 8; k++)
			words[k] ^= key;
		memcpy(dst + i, words, sizeof words);
	}
	for (; i < len; i++)
		dst[i] = src[i] ^ turned[i & 7];
}

size_t ws_frame_head(enum ws_opcode op, bool fin, bool mask, size_t len, uint8_t out[WS_HEAD_MAX])
{
	size_t n = 0;
	out[n++] = (uint8_t)((fin ? 0x80 : 0) | op);
	unsigned length_bytes = len < 126 ? 0 : len < 65536 ? 2 : 8;
	uint8_t mask_bit = mask ? 0x80 : 0;
	out[n++] = (uint8_t)(mask_bit | (length_bytes == 0 ? len : length_bytes == 2 ? 126 : 127));
	for (unsigned i = length_bytes; i-- > 0;)
		out[n++] = (uint8_t)((uint64_t)len >> (8 * i));
	return n;
}

/* Nobody may foresee a mask (RFC 6455, 10.3). Made in stock, for a call of the generator costs as much as masking a
 * KiB. */
static void new_mask(uint8_t out[4])
{
	static _Thread_local struct {
		uint8_t bytes[1024];
		size_t left;
	} stock;
	if (stock.left == 0) {
		secret_random(stock.bytes, sizeof stock.bytes);
		stock.left = sizeof stock.bytes;
	}
	stock.left -= 4;
	memcpy(out, stock.bytes + stock.left, 4);
}

int ws_encode(struct buf *out, enum ws_opcode op, bool fin, bool mask, const void *payload, size_t len)
{
	if (is_control(op) && (len > CONTROL_MAX || !fin))
		return ERR_LIMIT;
	uint8_t head[WS_HEAD_MAX + 4];
	size_t n = ws_frame_head(op, fin, mask, len, head);
	if (mask) {
		new_mask(head + n);
		n += 4;
	}
	if (len > SIZE_MAX / 2 || n + len > buf_room(out))
		return ERR_LIMIT;
	uint8_t *to = buf_reserve(out, n + len);
	if (!to)
		return ERR_NOMEM;
	memcpy(to, head, n);
	if (mask)
		mask_copy(to + n, payload, len, head + n - 4, 0);
	else if (len)
		memcpy(to + n, payload, len);
	buf_commit(out, n + len);
	return 0;
}

void ws_decoder_init(struct ws_decoder *d, bool expect_mask, uint64_t max_text)
{
	memset(d, 0, sizeof *d);
	d->expect_mask = expect_mask;
	d->max_text = max_text;
	buf_init(&d->text, (size_t)max_text + 1); /* with the NUL behind it */
	buf_init(&d->control, CONTROL_MAX + 1);
}

void ws_decoder_free(struct ws_decoder *d)
{
	if (!d)
		return;
	buf_free(&d->text);
	buf_free(&d->control);
}

static size_t head_size(const uint8_t *head)
{
	unsigned len7 = head[1] & 0x7f;
	return 2u + (len7 == 126 ? 2u : len7 == 127 ? 8u : 0u) + ((head[1] & 0x80) ? 4u : 0u);
}

/* The first two bytes are enough to refuse most of what is wrong. */
static int check_first_bytes(const struct ws_decoder *d, struct err *e)
{
	unsigned op = d->head[0] & 0x0f, len7 = d->head[1] & 0x7f;
	bool fin = (d->head[0] & 0x80) != 0, masked = (d->head[1] & 0x80) != 0;
	if (d->head[0] & 0x70)
		return err_set(e, ERR_PROTOCOL, "WebSocket: reserved bits are set in a frame");
	if (op > WS_PONG || (op > WS_BINARY && op < WS_CLOSE))
		return err_set(e, ERR_PROTOCOL, "WebSocket: unknown opcode %u", op);
	if (masked != d->expect_mask)
		return err_set(e, ERR_PROTOCOL, "WebSocket: a frame is %s", masked ? "masked" : "not masked");
	if (is_control(op) && (!fin || len7 > CONTROL_MAX))
		return err_set(e, ERR_PROTOCOL, "WebSocket: a control frame is %s", fin ? "too long" : "fragmented");
	if (op == WS_CONT && !d->in_message)
		return err_set(e, ERR_PROTOCOL, "WebSocket: a continuation without a message");
	if (!is_control(op) && op != WS_CONT && d->in_message)
		return err_set(e, ERR_PROTOCOL, "WebSocket: a new message inside another");
	return 0;
}

static int begin_frame(struct ws_decoder *d, struct err *e)
{
	unsigned len7 = d->head[1] & 0x7f;
	unsigned length_bytes = len7 == 126 ? 2 : len7 == 127 ? 8 : 0;
	uint64_t len = len7;
	if (length_bytes) {
		len = 0;
		for (unsigned i = 0; i < length_bytes; i++)
			len = len << 8 | d->head[2 + i];
		if (len < (length_bytes == 2 ? 126u : 65536u) || len >> 63)
			return err_set(e, ERR_PROTOCOL, "WebSocket: a frame's length is not in its shortest form");
	}
	d->op = d->head[0] & 0x0f;
	d->fin = (d->head[0] & 0x80) != 0;
	d->left = len;
	d->mask_at = 0;
	memset(d->mask, 0, sizeof d->mask);
	if (d->expect_mask)
		memcpy(d->mask, d->head + 2 + length_bytes, 4);
	if (!is_control(d->op)) {
		if (d->op != WS_CONT) {
			d->in_message = true;
			d->message_is_text = d->op == WS_TEXT;
		}
		if (d->message_is_text && !d->pieces && len > d->max_text - d->text.len)
			return err_set(e, ERR_LIMIT, "WebSocket: a text message is longer than %llu bytes",
				       (unsigned long long)d->max_text);
	}
	d->in_payload = true;
	d->head_len = 0;
	return 0;
}

/* 1: the head is complete; 0: more input. */
static int take_head(struct ws_decoder *d, uint8_t **in, size_t *in_len, struct err *e)
{
	while (*in_len) {
		d->head[d->head_len++] = **in;
		(*in)++, (*in_len)--;
		if (d->head_len == 2) {
			int rc = check_first_bytes(d, e);
			if (rc != 0)
				return rc;
		}
		if (d->head_len >= 2 && d->head_len == head_size(d->head)) {
			int rc = begin_frame(d, e);
			return rc != 0 ? rc : 1;
		}
	}
	return 0;
}

static bool is_close_code(unsigned code)
{
	return (code >= 1000 && code <= 1014 && code != 1004 && code != 1005 && code != 1006) ||
	       (code >= 3000 && code <= 4999);
}

static int give_close(const uint8_t *data, size_t len, struct ws_piece *out, struct err *e)
{
	out->close_code = 1005;
	out->len = 0;
	if (len == 0)
		return 1;
	unsigned code = len >= 2 ? (unsigned)(data[0] << 8 | data[1]) : 0;
	if (!is_close_code(code))
		return err_set(e, ERR_PROTOCOL, "WebSocket: a close frame with %s",
			       len < 2 ? "one byte" : "a code that nobody may send");
	if (!text_is_utf8((const char *)data + 2, len - 2))
		return err_set(e, ERR_INVALID, "WebSocket: a close reason that is not UTF-8");
	out->close_code = (uint16_t)code;
	out->data = data + 2;
	out->len = len - 2;
	return 1;
}

/* A frame that is gathered (text, control) has got all its payload. 1: it makes a piece; 0: a message goes on. */
static int end_gathered(struct ws_decoder *d, struct buf *b, struct ws_piece *out, struct err *e)
{
	d->in_payload = false;
	bool control = is_control(d->op);
	if (!control && !d->fin)
		return 0;
	uint8_t *end = buf_reserve(b, 1);
	if (!end)
		return err_set(e, ERR_NOMEM, "WebSocket: out of memory");
	*end = '\0';
	const uint8_t *data = buf_data(b);
	*out = (struct ws_piece){
		.op = control ? (enum ws_opcode)d->op : WS_TEXT, .data = data, .len = b->len, .end = true
	};
	buf_clear(b); /* the bytes stay where they are until the next call */
	if (control)
		return d->op == WS_CLOSE ? give_close(data, out->len, out, e) : 1;
	d->in_message = false;
	if (!text_is_utf8((const char *)data, out->len))
		return err_set(e, ERR_INVALID, "WebSocket: a text message that is not UTF-8");
	return 1;
}

static int take_gathered(struct ws_decoder *d, uint8_t *data, size_t n, struct ws_piece *out, struct err *e)
{
	struct buf *b = is_control(d->op) ? &d->control : &d->text;
	if (n) {
		uint8_t *to = buf_reserve(b, n);
		if (!to)
			return err_set(e, ERR_NOMEM, "WebSocket: out of memory");
		mask_copy(to, data, n, d->mask, d->mask_at);
		buf_commit(b, n);
	}
	return d->left == n ? end_gathered(d, b, out, e) : 0;
}

static int take_pieces(struct ws_decoder *d, uint8_t *data, size_t n, struct ws_piece *out)
{
	bool frame_ends = d->left == n, end = frame_ends && d->fin;
	if (d->expect_mask)
		mask_copy(data, data, n, d->mask, d->mask_at);
	if (frame_ends)
		d->in_payload = false;
	if (end)
		d->in_message = false;
	*out = (struct ws_piece){ .op = d->message_is_text ? WS_TEXT : WS_BINARY, .data = data, .len = n, .end = end };
	return n || end ? 1 : 0;
}

int ws_decode(struct ws_decoder *d, uint8_t **in, size_t *in_len, struct ws_piece *out, struct err *e)
{
	for (;;) {
		if (!d->in_payload) {
			int rc = take_head(d, in, in_len, e);
			if (rc <= 0)
				return rc;
		}
		uint8_t *data = *in;
		size_t n = *in_len < d->left ? *in_len : (size_t)d->left;
		if (n == 0 && d->left)
			return 0;
		bool gathered = is_control(d->op) || (d->message_is_text && !d->pieces);
		int rc = gathered ? take_gathered(d, data, n, out, e) : take_pieces(d, data, n, out);
		if (rc < 0)
			return rc;
		*in += n;
		*in_len -= n;
		d->left -= n;
		d->mask_at += n;
		if (rc == 1)
			return 1;
	}
}
