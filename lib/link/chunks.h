/* A stream direction's bytes between two offsets, in chunks taken from the heap as they are needed and given back when
 * their last byte is dropped. Every chunk has room in front of its bytes for a DATA header, so a frame is encrypted
 * straight from here. */
#ifndef LINK_CHUNKS_H
#define LINK_CHUNKS_H

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct chunk;

struct chunks {
	uint64_t start, end; /* offsets of the first byte held and behind the last */
	struct chunk *head, *tail;
	struct chunk *cursor; /* where chunks_at looked last; sending walks forward */
	size_t *held;         /* sum of allocations over all queues of a link */
};

void chunks_init(struct chunks *q, size_t *held);
void chunks_free(struct chunks *q); /* gives the memory back; start and end stay */
/* Room at the end for some of the want bytes (at least one), to be claimed by chunks_commit; NULL: out of memory. */
uint8_t *chunks_space(struct chunks *q, size_t want, size_t *out_room);
void chunks_commit(struct chunks *q, size_t len); /* 0 gives unused room back */
/* Copies data to the end; fewer than len only when out of memory. */
size_t chunks_append(struct chunks *q, const void *data, size_t len);
/* The bytes at offset (start <= offset < end) as far as they are contiguous. FRAME_DATA_HEAD bytes in front of them are
 * writable, and must be as before when the caller is done. */
uint8_t *chunks_at(struct chunks *q, uint64_t offset, size_t *out_len);
const uint8_t *chunks_first(const struct chunks *q, size_t *out_len);
/* All bytes from the first one on, as far as n pieces go. Returns how many pieces. */
size_t chunks_pieces(const struct chunks *q, struct iovec *out, size_t n);
void chunks_drop(struct chunks *q, uint64_t offset); /* what lies before offset; offset <= end */

#endif
