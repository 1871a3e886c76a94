/* What a TLS client says first, looked at before anybody has read it. */
#ifndef SERVER_HELLO_H
#define SERVER_HELLO_H

#include <stddef.h>
#include <stdint.h>

#define HELLO_MAX (5u + 16384) /* bytes: one TLS record; whoever needs more is not one of ours */

enum hello {
	HELLO_MORE,  /* not all of it is there */
	HELLO_OURS,  /* a ClientHello that offers the protocol */
	HELLO_OTHER, /* any other, or none at all */
};

/* Does it offer that application protocol (ALPN, RFC 7301)? More bytes never change HELLO_OURS or HELLO_OTHER. */
enum hello hello_offers(const uint8_t *data, size_t len, const char *protocol);

#endif
