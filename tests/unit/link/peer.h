/* A peer that is written by hand, frame by frame, for the one link under test. The wire has no cryptography. */
#ifndef TESTS_LINK_PEER_H
#define TESTS_LINK_PEER_H

#include "link/internal.h"

struct peer {
	struct link *link; /* under test */
	int64_t now;
	struct err e;
	int rc; /* of the last input */
	struct buf heard;
};

void peer_feed(struct peer *p, const void *bytes, size_t len);
void peer_feed_ok(struct peer *p, const void *bytes, size_t len);
/* What the link has to say, as frames behind its handshake bytes; kept in heard. */
void peer_hear(struct peer *p);
/* The next frame heard, PINGs left out; false when there is none. */
bool peer_next_frame(struct peer *p, struct frame_head *out_head, const uint8_t **out_body);
const uint8_t *expect_frame(struct peer *p, enum frame_type type, uint32_t stream);
void expect_no_frame(struct peer *p);
void send_hello(struct peer *p);
void send_resume(struct peer *p, const struct frame_entry *entries, size_t n, bool more);
void send_open(struct peer *p, uint32_t id);
void send_data(struct peer *p, uint32_t id, uint64_t offset, size_t len);
void send_ack(struct peer *p, uint32_t id, uint64_t delivered, uint64_t credit, bool fin);
void send_number(struct peer *p, enum frame_type type, uint32_t id, uint64_t number);
void send_opened(struct peer *p, uint32_t id);
void send_reason(struct peer *p, enum frame_type type, uint32_t id, unsigned code);
/* A new epoch: TLS is up, the link's greeting is heard, the peer has said nothing. */
void peer_start(struct peer *p);
struct peer peer_new(enum link_role role);
/* In an epoch that is up. */
struct peer peer_up(enum link_role role);
void peer_free(struct peer *p);
uint32_t open_at_link(struct peer *p);
/* The session is over with code 7 and a text; the peer gets BYE with both; later input and epochs are refused. */
void expect_over(struct peer *p, const char *name, const char *text);

#endif
