/* A growing byte buffer with a ceiling, consumed at its front. Not for several threads at once. */
#ifndef BASE_BUF_H
#define BASE_BUF_H

#include <stddef.h>
#include <stdint.h>

struct buf {
	uint8_t *bytes; /* allocation; live bytes are bytes[head .. head+len) */
	size_t head, len, cap;
	size_t max; /* ceiling of len; set at birth */
};

/* The zero value with a max is an empty buffer: struct buf b = BUF_INIT(LIMIT_X). */
#define BUF_INIT(ceiling)                                                      \
	{                                                                      \
		.bytes = NULL, .head = 0, .len = 0, .cap = 0, .max = (ceiling) \
	}

void buf_init(struct buf *b, size_t max);
void buf_free(struct buf *b);      /* wipes nothing; NULL is fine; the buffer is empty and usable afterwards */
void buf_wipe_free(struct buf *b); /* for secrets */

/* 0, ERR_LIMIT when it would pass max, ERR_NOMEM; nothing is added on failure. */
int buf_add(struct buf *b, const void *data, size_t len);
int buf_add_text(struct buf *b, const char *text);
int buf_printf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
int buf_add_u8(struct buf *b, uint8_t v);
int buf_add_u16(struct buf *b, uint16_t v); /* big-endian */
int buf_add_u32(struct buf *b, uint32_t v);
int buf_add_u64(struct buf *b, uint64_t v);

/* Room for len more bytes at the end, to be claimed with buf_commit; NULL when over max or out of memory. */
uint8_t *buf_reserve(struct buf *b, size_t len);
void buf_commit(struct buf *b, size_t len);

static inline const uint8_t *buf_data(const struct buf *b)
{
	return b->len ? b->bytes + b->head : (const uint8_t *)""; /* never NULL: nothing may be added to that */
}
static inline size_t buf_room(const struct buf *b)
{
	return b->max - b->len;
}
void buf_consume(struct buf *b, size_t len); /* drops len bytes at the front; len <= b->len */
void buf_clear(struct buf *b);               /* keeps the allocation */
/* The content as a NUL-terminated malloc'd string; b is empty afterwards. NULL when out of memory. */
char *buf_take_text(struct buf *b);

#endif
