/* The server's own transport for what our agent and CLI open: legs and control connections. Whoever offers the
 * application protocol DIRECT_ALPN in the TLS handshake speaks to it; all other connections go to libwebsockets. The
 * wire is the same: an upgrade request and RFC 6455 frames. Everything is called on the reactor's thread but where a
 * name says otherwise. */
#ifndef SERVER_DIRECT_H
#define SERVER_DIRECT_H

#include "base/err.h"

#include <stdint.h>

struct accepted;
struct reactor;
struct direct_loop;
struct direct_tls;

#define DIRECT_ALPN "tunnel-leg/1"

/* Certificate and settings that all reactors share. 0, ERR_INVALID, ERR_NOMEM, ERR_INTERNAL. Any thread. */
int direct_tls_new(const char *certificate, const char *key, struct direct_tls **out_tls, struct err *e);
struct direct_tls *direct_tls_ref_anythread(struct direct_tls *tls);
void direct_tls_unref_anythread(struct direct_tls **tls);

/* Takes a reference to tls. The reactor's loop is there, and does not run yet. 0 or ERR_NOMEM. */
int direct_new(struct reactor *r, struct direct_tls *tls, struct err *e);
/* New connections get these; takes the reference. */
void direct_reload(struct reactor *r, struct direct_tls *tls);
/* Takes the socket, which nobody has read from; gives it to libwebsockets if its client is not one of ours. */
void direct_adopt(struct reactor *r, struct accepted *a);
/* Ends all connections and gives the loop its handles back. */
void direct_stop(struct reactor *r);
/* When the loop has run down. */
void direct_free(struct reactor *r);

#endif
