/* One epoch's TLS 1.3 (PROTOCOL.md 4.1) between memory and memory. The only door of this folder to OpenSSL.
 *
 * Input is lent: link_tls_feed points at ciphertext that handshake and read use up before the caller returns. Output
 * goes to the buffer between output_begin and output_end; what does not fit there, or comes outside, waits inside for
 * the next one. */
#ifndef LINK_TLS_H
#define LINK_TLS_H

#include "base/err.h"

#include <openssl/types.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#define LINK_TLS_RECORD 16384u /* plaintext bytes that fit one record */
#define LINK_TLS_OVERHEAD 22u  /* bytes that a record adds: header, type, tag */

struct link_tls_identity; /* key, certificate and pin: what the epochs of a session share */
struct link_tls;

int link_tls_identity_new(bool is_server, EVP_PKEY *key, const unsigned char peer_pin[32],
			  struct link_tls_identity **out_identity, struct err *e);
void link_tls_identity_free(struct link_tls_identity **identity);

/* The identity must outlive it. A client's first flight is ready for output at once. */
int link_tls_new(struct link_tls_identity *identity, struct link_tls **out_tls, struct err *e);
void link_tls_free(struct link_tls **tls);

void link_tls_feed(struct link_tls *tls, const void *data, size_t len);
/* 1: done, peer's key and protocol checked; 0: needs more input; negative: broken (ERR_DENIED: not the pinned key). */
int link_tls_handshake(struct link_tls *tls, struct err *e);
/* Plaintext bytes; 0: the fed input is used up; negative: broken. */
ssize_t link_tls_read(struct link_tls *tls, void *to, size_t len, struct err *e);
/* One record of at most LINK_TLS_RECORD bytes. */
int link_tls_write(struct link_tls *tls, const void *data, size_t len, struct err *e);

void link_tls_output_begin(struct link_tls *tls, void *out, size_t size);
size_t link_tls_output_room(const struct link_tls *tls); /* bytes left in the buffer; 0 when some wait inside */
size_t link_tls_output_end(struct link_tls *tls);        /* bytes written since begin */
size_t link_tls_waiting(const struct link_tls *tls);     /* ciphertext that waits inside */

#endif
