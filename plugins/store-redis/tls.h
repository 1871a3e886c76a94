/* A TLS client on memory buffers, made from files. */
#ifndef STORE_TLS_H
#define STORE_TLS_H

#include "wire.h"

#include <openssl/ssl.h>

/* The connection owns its two buffers. 0 or TUNNEL_CONFIG (a file), TUNNEL_UNAVAILABLE (memory). */
int tls_new(const struct tls_options *o, const struct endpoint *to, SSL **out_tls, BIO **out_in, BIO **out_out,
	    struct words w);
/* Why the last operation failed: TUNNEL_CONFIG for a certificate that is not taken, else TUNNEL_UNAVAILABLE. */
int tls_words(SSL *tls, struct words w);

#endif
