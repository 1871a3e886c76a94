#include "link/chunks.h"

#include "link/frame.h"

#include <stdlib.h>
#include <string.h>

/* Bulk takes whole frames' worth, so that no frame is cut short by a chunk's end; a lone keystroke takes little. */
#define CHUNK_BULK (4 * (size_t)FRAME_DATA_BODY)
#define CHUNK_SMALL 1024u

struct chunk {
	struct chunk *next;
	uint64_t start;
	size_t len, cap;
	uint8_t raw[]; /* FRAME_DATA_HEAD, then cap bytes */
};

static size_t footprint(const struct chunk *c)
{
	return sizeof(*c) + FRAME_DATA_HEAD + c->cap;
}

void chunks_init(struct chunks *q, size_t *held)
{
	*q = (struct chunks){ .held = held };
}

static void free_head(struct chunks *q)
{
	struct chunk *c = q->head;
	q->head = c->next;
	if (q->tail == c)
		q->tail = NULL;
	if (q->cursor == c)
		q->cursor = NULL;
	*q->held -= footprint(c);
	free(c);
}

void chunks_free(struct chunks *q)
{
	while (q->head)
		free_head(q);
}

uint8_t *chunks_space(struct chunks *q, size_t want, size_t *out_room)
{
	struct chunk *c = q->tail;
	if (!c || c->len == c->cap) {
		size_t cap = CHUNK_BULK;
		if (!c && want <= FRAME_DATA_BODY)
			cap = want < CHUNK_SMALL ? CHUNK_SMALL : want;
		c = malloc(sizeof(*c) + FRAME_DATA_HEAD + cap);
		if (!c)
			return NULL;
		*c = (struct chunk){ .start = q->end, .cap = cap };
		if (q->tail)
			q->tail->next = c;
		else
			q->head = c;
		q->tail = c;
		*q->held += footprint(c);
	}
	*out_room = c->cap - c->len;
	return c->raw + FRAME_DATA_HEAD + c->len;
}

void chunks_commit(struct chunks *q, size_t len)
{
	q->tail->len += len;
	q->end += len;
	if (q->tail->len == 0 && q->head == q->tail)
		free_head(q); /* nothing would drop it: no byte of it is ever delivered */
}

size_t chunks_append(struct chunks *q, const void *data, size_t len)
{
	size_t done = 0;
	while (done < len) {
		size_t room;
		uint8_t *to = chunks_space(q, len - done, &room);
		if (!to)
			break;
		if (room > len - done)
			room = len - done;
		memcpy(to, (const uint8_t *)data + done, room);
		chunks_commit(q, room);
		done += room;
	}
	return done;
}

uint8_t *chunks_at(struct chunks *q, uint64_t offset, size_t *out_len)
{
	struct chunk *c = q->cursor && q->cursor->start <= offset ? q->cursor : q->head;
	while (offset >= c->start + c->len)
		c = c->next;
	q->cursor = c;
	size_t skip = (size_t)(offset - c->start);
	*out_len = c->len - skip;
	return c->raw + FRAME_DATA_HEAD + skip;
}

const uint8_t *chunks_first(const struct chunks *q, size_t *out_len)
{
	if (!q->head) {
		*out_len = 0;
		return NULL;
	}
	size_t skip = (size_t)(q->start - q->head->start);
	*out_len = q->head->len - skip;
	return q->head->raw + FRAME_DATA_HEAD + skip;
}

size_t chunks_pieces(const struct chunks *q, struct iovec *out, size_t n)
{
	size_t used = 0, skip = q->head ? (size_t)(q->start - q->head->start) : 0;
	for (struct chunk *c = q->head; c && used < n && c->len > skip; c = c->next, skip = 0)
		out[used++] = (struct iovec){ .iov_base = c->raw + FRAME_DATA_HEAD + skip, .iov_len = c->len - skip };
	return used;
}

void chunks_drop(struct chunks *q, uint64_t offset)
{
	q->start = offset;
	while (q->head && offset >= q->head->start + q->head->len)
		free_head(q);
}
