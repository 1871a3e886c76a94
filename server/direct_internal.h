/* What direct.c (sockets, turns), direct_tls.c (ciphertext) and direct_ws.c (upgrade, frames) share. */
#ifndef SERVER_DIRECT_INTERNAL_H
#define SERVER_DIRECT_INTERNAL_H

#include "base/buf.h"
#include "net/ws_codec.h"
#include "server/conn.h"
#include "server/direct.h"

#include <openssl/ssl.h>
#include <uv.h>

#define DIRECT_READ (64u * 1024)  /* bytes a read */
#define DIRECT_BATCH (64u * 1024) /* bytes of small messages that leave as one frame */
#define DIRECT_TURN (128u * 1024) /* bytes of ciphertext for one send; what is left waits for the next */
#define DIRECT_RECORD (17u * 1024)

/* One a reactor. The buffers are used within one call from the loop only, so that an idle connection has none. */
struct direct_loop {
	struct reactor *r;
	struct direct_tls *tls;
	uv_prepare_t prepare; /* these two end a turn: what it queued is sent, who has ended goes */
	uv_check_t check;
	struct list due;
	uint8_t net[DIRECT_READ];   /* as read */
	uint8_t plain[DIRECT_READ]; /* decrypted */
	uint8_t frame[CONN_HEADROOM + DIRECT_BATCH];
	size_t frame_len; /* payload */
	uint8_t wire[DIRECT_TURN + DIRECT_BATCH + 2 * DIRECT_RECORD];
	size_t wire_len;
};

enum direct_phase {
	DIRECT_PEEK,   /* nothing is read yet */
	DIRECT_SECURE, /* TLS handshake */
	DIRECT_REQUEST,
	DIRECT_OPEN,
	DIRECT_LINGER, /* all was said; what still comes is dropped, so that no reset overtakes our last words */
	DIRECT_OVER,   /* goes at the turn's end */
};

struct direct {
	struct conn *c; /* NULL once it is freed */
	struct direct_loop *loop;
	struct list node; /* in loop->due, or in none */
	uv_poll_t poll;
	int fd;
	int events;
	enum direct_phase phase;
	bool settling, wants; /* wants: on_writable is due */
	bool hand_over;       /* to lws */
	bool deaf;            /* what comes is not understood any more */
	bool peer_closed;     /* its close frame came */
	bool ping_due, pong_due, sent_end;
	bool left;       /* OpenSSL has more, which had to wait */
	bool write_dead; /* the peer takes nothing any more; what it said before is still read */
	uint8_t pong_len;
	uint8_t pong[125];
	size_t peeked;
	SSL *ssl;
	const uint8_t *window; /* ciphertext for OpenSSL to read */
	size_t window_len;
	struct buf held; /* of it, what was read and had to wait */
	struct buf in;   /* the request's head; then frames that had to wait */
	struct buf wire; /* ciphertext that the kernel has not taken */
	struct ws_decoder decoder;
	int64_t pinged_ms;
};

/* direct.c */
void direct_due(struct direct *d);  /* something is to be done at the turn's end */
void direct_over(struct direct *d); /* it ends then */
/* It cannot be written to. What its peer said before that counts: a bye, for one. */
void direct_last_words(struct direct *d);

/* direct_tls.c */
int direct_secure(struct direct *d);
/* 1: done; 0: more must come; -1: broken. */
int direct_handshake(struct direct *d);
/* Decrypts up to the size of loop->plain. out_more: there may be more now. 0, or -1 when nothing more can come. */
int direct_read(struct direct *d, size_t *out_len, bool *out_more);
int direct_encrypt(struct direct *d, const void *data, size_t len);
/* Sends what is encrypted. 1: all of it; 0: the rest waits for the kernel; -1: broken. */
int direct_push(struct direct *d);
void direct_tls_end(struct direct *d); /* close_notify */

/* direct_ws.c */
void direct_bytes(struct direct *d, uint8_t *data, size_t len); /* decrypted */
void direct_take_held(struct direct *d);                        /* after a pause */
/* All that is to be said now, encrypted and sent. */
void direct_say(struct direct *d);
bool direct_is_held(const struct direct *d); /* nothing is to be read */
extern const struct conn_transport direct_transport;

#endif
