/* A connected socket on a loop, plain or TLS: bytes in, bytes out. Internal to lib/net. */
#ifndef NET_CONN_H
#define NET_CONN_H

#include "base/buf.h"
#include "base/err.h"

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#define CONN_READ (64u * 1024) /* bytes a read */

struct conn_callbacks {
	void (*secured)(void *user);                              /* the TLS handshake is done */
	void (*data)(void *user, uint8_t *data, size_t len);      /* plaintext; may be changed in place */
	void (*sent)(void *user);                                 /* some of the queue has left */
	void (*failed)(void *user, bool eof, const char *reason); /* nothing more comes; close it */
};

struct conn {
	uv_loop_t *loop;
	uv_poll_t poll;
	int fd; /* -1: none */
	SSL *ssl;
	const struct conn_callbacks *callbacks;
	void *user;
	struct buf out;        /* plaintext that waits; the owner appends here, then calls conn_flush */
	struct buf wire;       /* ciphertext that the kernel has not taken */
	struct buf held;       /* ciphertext that came, and was not wanted yet */
	const uint8_t *window; /* behind it, while a read is served */
	size_t window_len;
	bool reading, handshaking;
	bool write_dead; /* the peer takes nothing any more; what it said before is still read */
	uint8_t events;
};

/* Takes the descriptor. max_out: ceiling of the queue. */
int conn_open(struct conn *c, uv_loop_t *loop, int fd, size_t max_out, const struct conn_callbacks *callbacks,
	      void *user, struct err *e);
/* TLS from here on; Takes ssl. */
void conn_start_tls(struct conn *c, SSL *ssl);
void conn_read(struct conn *c, bool on); /* TLS may hold bytes already: conn_drain gives them */
void conn_drain(struct conn *c);
/* Sends what the kernel takes now; the rest goes when it can. Negative: the connection is broken. A peer that reset
 * the connection is reported by reading instead, behind its last words. */
int conn_flush(struct conn *c, struct err *e);
size_t conn_unsent(const struct conn *c);
/* closed_cb runs in a later turn, when c's memory may go. Returns false (no callback) when it was not open. */
bool conn_drop(struct conn *c, uv_close_cb closed_cb);

#endif
