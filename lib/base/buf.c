#include "base/buf.h"

#include "base/err.h"

#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void buf_init(struct buf *b, size_t max)
{
	*b = (struct buf)BUF_INIT(max);
}

void buf_free(struct buf *b)
{
	if (!b)
		return;
	free(b->bytes);
	buf_init(b, b->max);
}

void buf_wipe_free(struct buf *b)
{
	if (b && b->bytes)
		OPENSSL_cleanse(b->bytes, b->cap);
	buf_free(b);
}

/* Makes room for len more bytes behind the content: by moving it to the front, else by a larger allocation. The old
 * allocation is copied, never realloc'd, so a wipe of the buffer leaves no stray copy behind. */
static int make_room(struct buf *b, size_t len)
{
	if (len > b->max - b->len)
		return ERR_LIMIT;
	if (b->head + b->len + len <= b->cap)
		return 0;
	if (b->len + len <= b->cap && b->head >= b->cap / 2) {
		memmove(b->bytes, b->bytes + b->head, b->len);
		b->head = 0;
		return 0;
	}
	size_t cap = b->cap ? b->cap : 256;
	while (cap < b->len + len)
		cap *= 2;
	uint8_t *bytes = malloc(cap);
	if (!bytes)
		return ERR_NOMEM;
	if (b->len)
		memcpy(bytes, b->bytes + b->head, b->len);
	if (b->bytes)
		OPENSSL_cleanse(b->bytes, b->head + b->len);
	free(b->bytes);
	b->bytes = bytes;
	b->cap = cap;
	b->head = 0;
	return 0;
}

uint8_t *buf_reserve(struct buf *b, size_t len)
{
	if (make_room(b, len ? len : 1) != 0)
		return NULL;
	return b->bytes + b->head + b->len;
}

void buf_commit(struct buf *b, size_t len)
{
	b->len += len;
}

int buf_add(struct buf *b, const void *data, size_t len)
{
	if (len == 0)
		return 0;
	int rc = make_room(b, len);
	if (rc != 0)
		return rc;
	memcpy(b->bytes + b->head + b->len, data, len);
	b->len += len;
	return 0;
}

int buf_add_text(struct buf *b, const char *text)
{
	return buf_add(b, text, strlen(text));
}

int buf_printf(struct buf *b, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	va_list again;
	va_copy(again, ap);
	int n = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	int rc = ERR_INTERNAL;
	if (n >= 0) {
		rc = make_room(b, (size_t)n + 1);
		if (rc == 0) {
			vsnprintf((char *)b->bytes + b->head + b->len, (size_t)n + 1, fmt, again);
			b->len += (size_t)n;
		}
	}
	va_end(again);
	return rc;
}

static int add_be(struct buf *b, uint64_t v, size_t bytes)
{
	uint8_t out[8];
	for (size_t i = 0; i < bytes; i++)
		out[i] = (uint8_t)(v >> (8 * (bytes - 1 - i)));
	return buf_add(b, out, bytes);
}

int buf_add_u8(struct buf *b, uint8_t v)
{
	return add_be(b, v, 1);
}
int buf_add_u16(struct buf *b, uint16_t v)
{
	return add_be(b, v, 2);
}
int buf_add_u32(struct buf *b, uint32_t v)
{
	return add_be(b, v, 4);
}
int buf_add_u64(struct buf *b, uint64_t v)
{
	return add_be(b, v, 8);
}

void buf_consume(struct buf *b, size_t len)
{
	b->head += len;
	b->len -= len;
	if (b->len == 0)
		b->head = 0;
}

void buf_clear(struct buf *b)
{
	b->head = 0;
	b->len = 0;
}

char *buf_take_text(struct buf *b)
{
	char *text = malloc(b->len + 1);
	if (!text)
		return NULL;
	if (b->len)
		memcpy(text, buf_data(b), b->len);
	text[b->len] = '\0';
	buf_free(b);
	return text;
}
