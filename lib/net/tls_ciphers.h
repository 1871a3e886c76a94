/* Which ciphers an end of ours prefers. */
#ifndef NET_TLS_CIPHERS_H
#define NET_TLS_CIPHERS_H

#include <openssl/ssl.h>
#include <stdbool.h>

/* This CPU has instructions for AES. */
bool net_cpu_has_aes(void);

/* Of TLS 1.3's three, where the CPU has instructions for AES: AES-128-GCM first, which is the fastest of them and as
 * strong as the curve of the handshake. Elsewhere the order stays OpenSSL's. A server takes its own order, unless the
 * client puts ChaCha20 first, which has no such instructions then. */
void net_tls_prefer_fast_ciphers(SSL_CTX *ctx);

#endif
