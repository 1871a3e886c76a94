/* Client-side TLS settings that dialer and REST calls share. */
#ifndef NET_TLS_H
#define NET_TLS_H

#include "base/err.h"

#include <openssl/ssl.h>

struct net_tls; /* SSL_CTX with a session cache for resumption; read-only after creation, any thread */

/* ca_file: PEM bundle to trust instead of the system's; NULL: the system's. TLS 1.2 at least, host names are checked.
 */
int net_tls_new(const char *ca_file, struct net_tls **out_tls, struct err *e);
void net_tls_free(struct net_tls **tls);
/* A client SSL for host, ALPN tunnel-leg/1 and http/1.1 (PROTOCOL.md, section 3); resumes an earlier session to the
 * same host:port if there is one. The BIOs are the caller's to set. */
SSL *net_tls_client(struct net_tls *tls, const char *host, uint16_t port, struct err *e);
const char *net_tls_ca_file(const struct net_tls *tls);

#endif
