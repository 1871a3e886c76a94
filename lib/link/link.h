/* One end of a session's link (PROTOCOL.md, section 4): streams with offsets over TLS 1.3, resumable over any number of
 * legs.
 *
 * Sans-I/O: ciphertext in and out as bytes, time as an argument, what happened as events. No sockets, no clock, no
 * threads; all calls on one link come from one thread. A link outlives legs: it lives as long as the session's end.
 * Nothing here knows HTTP, WebSocket or the relay.
 *
 *   relay says "paired"   link_epoch_start, then feed link_input and send link_output
 *   leg lost / unpaired   link_epoch_lost; streams, buffers and offsets stay
 *   local socket readable link_stream_write as much as it takes; link_stream_room tells when to read again
 * (LINK_EVENT_WRITABLE) LINK_EVENT_READABLE   link_stream_peek, write it to the local socket, link_stream_consume what
 * was written (this is the ACK)
 */
#ifndef LINK_LINK_H
#define LINK_LINK_H

#include "base/err.h"

#include <openssl/types.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct link;

enum link_role { LINK_CLIENT, LINK_TARGET };

/* PROTOCOL.md 4.5 */
enum link_code {
	LINK_OK = 0,
	LINK_NOT_ALLOWED = 1,
	LINK_REFUSED = 2,
	LINK_UNREACHABLE = 3,
	LINK_TIMEOUT = 4,
	LINK_UNKNOWN_STREAM = 5,
	LINK_IO = 6,
	LINK_PROTOCOL = 7,
	LINK_LIMIT = 8,
	LINK_TERMINATED = 9,
	LINK_INTERNAL = 10,
	LINK_EXPIRED = 11,
};
/* "not-allowed"; "unknown" for a number that has no name. */
const char *link_code_name(unsigned code);

enum link_kind {
	LINK_KIND_SSH = 1,
	LINK_KIND_TCP = 2,
	LINK_KIND_UNIX = 3,
	LINK_KIND_LISTEN = 4,   /* by the client: the target listens while the stream lives */
	LINK_KIND_ACCEPTED = 5, /* by the target: a connection that came there */
};

struct link_dest {
	enum link_kind kind;
	char host[254]; /* TCP; UNIX: the socket's path (text_is_socket_path); LISTEN: an address; ACCEPTED: the number
			 * of the stream that listens; "" for SSH */
	uint16_t port;  /* TCP; LISTEN, 0: any that is free; else 0 */
};

struct link_config {
	enum link_role role;
	EVP_PKEY *key;              /* this end's P-256 key; the link takes a reference */
	unsigned char peer_pin[32]; /* SHA-256 of the peer's SubjectPublicKeyInfo */
	/* 0 takes the value of base/limits.h */
	uint32_t initial_window, window, session_window, max_streams;
};

int link_new(const struct link_config *config, struct link **out_link, struct err *e);
void link_free(struct link **link);

/* A new epoch on a fresh byte stream; the earlier one, if any, is lost first. */
int link_epoch_start(struct link *link, int64_t now_ms, struct err *e);
void link_epoch_lost(struct link *link, int64_t now_ms);
/* TLS and RESUME are done in the present epoch; bytes flow. */
bool link_is_up(const struct link *link);

/* Ciphertext from the peer, all of it is taken. 0, or negative when the epoch is broken (bad TLS, wrong pin: retry on
 * another leg) or the session is over (LINK_EVENT_OVER is queued then). */
int link_input(struct link *link, const void *data, size_t len, int64_t now_ms, struct err *e);
/* Ciphertext for the peer, made at the time of asking from what is most urgent. Returns bytes written to out, 0 when
 * there is nothing. Ask with a buffer that the leg takes now (16 KiB and more is good) and stop asking while the leg is
 * full: what is asked late is ordered best. */
size_t link_output(struct link *link, void *out, size_t size, int64_t now_ms);
bool link_has_output(const struct link *link);

/* When link_tick wants to be called next (absolute, the scale of now_ms); INT64_MAX: never. */
int64_t link_deadline(const struct link *link);
void link_tick(struct link *link, int64_t now_ms);

/* Streams. Ids are never reused in a session. */
int link_stream_open(struct link *link, const struct link_dest *dest, uint32_t *out_id, struct err *e); /* ERR_LIMIT */
int link_stream_accept(struct link *link, uint32_t id); /* answers LINK_EVENT_OPEN */
int link_stream_refuse(struct link *link, uint32_t id, unsigned code, const char *text);
/* Takes at most link_stream_room bytes; returns how many (0: wait for LINK_EVENT_WRITABLE). Works while the link is
 * down. */
size_t link_stream_write(struct link *link, uint32_t id, const void *data, size_t len);
/* The same without a copy: room for some bytes (at most *out_room, which is at most link_stream_room) of about want, to
 * be claimed at once by link_stream_commit, which gives it back with 0. NULL: none, or out of memory. */
void *link_stream_space(struct link *link, uint32_t id, size_t want, size_t *out_room);
void link_stream_commit(struct link *link, uint32_t id, size_t len);
size_t link_stream_room(const struct link *link, uint32_t id);
void link_stream_finish(struct link *link, uint32_t id); /* half-close: no more writes from here */
/* Ends the stream at once: what is under way is lost. No event. */
void link_stream_reset(struct link *link, uint32_t id, unsigned code, const char *text);
/* No more can be written from here, nor be put to use here: the peer gets all that was written, then RESET. What comes
 * in meanwhile is the caller's to consume, so that the peer is not held up. LINK_EVENT_CLOSED tells when it is over. */
void link_stream_fail(struct link *link, uint32_t id, unsigned code, const char *text);
/* Received, not yet consumed bytes, in order and contiguous as far as given (call again after consuming). */
size_t link_stream_peek(const struct link *link, uint32_t id, const void **out_data);
/* As many of them as n pieces hold; returns how many pieces. */
size_t link_stream_pieces(const struct link *link, uint32_t id, struct iovec *out, size_t n);
void link_stream_consume(struct link *link, uint32_t id, size_t len);
/* The peer's FIN was received and all before it consumed: the caller has closed the local socket's write side.
 * Acknowledges the FIN. */
void link_stream_eof_done(struct link *link, uint32_t id);

/* Ends the session: BYE is sent if an epoch is up, all streams are forgotten. */
void link_bye(struct link *link, unsigned code, const char *text);

enum link_event_type {
	LINK_EVENT_NONE = 0,
	LINK_EVENT_UP,       /* the epoch is usable; outage_ms: how long it was not (0 for the first) */
	LINK_EVENT_STALLED,  /* this epoch seems dead: attach a new leg, then link_epoch_start. Again only
				after something was heard */
	LINK_EVENT_OPEN,     /* stream, dest: the peer asks; answer accept or refuse, now or later */
	LINK_EVENT_OPENED,   /* stream: the peer accepted */
	LINK_EVENT_READABLE, /* stream: bytes to consume */
	LINK_EVENT_EOF,      /* stream: the peer's FIN, after all bytes were consumed; answer link_stream_eof_done */
	LINK_EVENT_WRITABLE, /* stream: link_stream_room was 0 and is not any more */
	LINK_EVENT_CLOSED,   /* stream: done; code LINK_OK after both FINs, else why (refused, reset by peer, failed
				here); its id is free to forget */
	LINK_EVENT_OVER,     /* code, text: the session is over (peer's BYE, or a protocol error) */
};

struct link_event {
	enum link_event_type type;
	uint32_t stream;
	struct link_dest dest;
	unsigned code;
	char text[201];
	int64_t outage_ms;
};

/* The next event; false when there is none. A local link_stream_reset, _refuse and link_bye queue no event. */
bool link_next_event(struct link *link, struct link_event *out_event);

struct link_stats {
	uint64_t epochs;              /* that came up */
	uint64_t bytes_in, bytes_out; /* stream payload delivered to / taken from local sockets */
	size_t buffered;              /* bytes of memory in stream buffers now */
	uint32_t streams;             /* live now */
	int64_t rtt_ms;               /* of the last PONG; -1 before */
};
void link_get_stats(const struct link *link, struct link_stats *out);
int link_stream_bytes(const struct link *link, uint32_t id, uint64_t *out_in, uint64_t *out_out);

#endif
