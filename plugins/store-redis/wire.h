/* A byte stream to a server: TCP or a unix socket, in the clear or in TLS. Every wait ends at a time (milliseconds of
 * host->mono_ms; 0: none) and when the stop descriptor of its owner becomes readable. One thread at a time. */
#ifndef WIRE_H
#define WIRE_H

#include "store_rules.h"

#include <sys/socket.h>

/* Paths of PEM files, read anew for each connection, so that renewed ones need no restart. */
struct tls_options {
	bool on;
	char *ca;                /* NULL: the system's */
	char *certificate, *key; /* NULL: none is shown */
	char *name;              /* what the server's certificate must name; NULL: the host that was dialled */
};

struct endpoint {
	struct sockaddr_storage address;
	socklen_t address_len;
	char host[256]; /* as it was dialled, for the certificate; "": a unix socket */
	char name[300]; /* for texts */
};

struct wire;

/* 0; TUNNEL_TIMEOUT, TUNNEL_UNAVAILABLE, or TUNNEL_CONFIG (files of TLS, a certificate that is not the server's), with
 * words. stop_fd < 0: none. */
int wire_open(const struct tunnel_host *host, const struct endpoint *to, const struct tls_options *tls, int stop_fd,
	      int64_t until_ms, struct wire **out_wire, struct words w);
void wire_close(struct wire **wire);
int wire_fd(const struct wire *wire);
/* All of it, or a failure after which the wire is of no use. */
int wire_send(struct wire *wire, const char *bytes, size_t n, int64_t until_ms, struct words w);
/* At least a byte; TUNNEL_UNAVAILABLE when the other side has closed. */
int wire_receive(struct wire *wire, char *out, size_t size, int64_t until_ms, size_t *out_n, struct words w);
/* Is something read already that receive will give without waiting? */
bool wire_has_more(const struct wire *wire);
/* Has the other side said something, or closed, that nobody waits for? Then it is of no use for a new question. */
bool wire_is_quiet(const struct wire *wire);

#endif
