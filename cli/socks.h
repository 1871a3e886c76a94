/* What a SOCKS client says to a server, as bytes: SOCKS 5 (RFC 1928) without authentication, and SOCKS 4 and 4a;
 * CONNECT alone. No I/O: who reads feeds what came, sends what there is to say, and opens the destination. */
#ifndef CLI_SOCKS_H
#define CLI_SOCKS_H

#include "link/link.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum socks_state {
	SOCKS_ASKING,  /* more bytes are needed */
	SOCKS_ASKED,   /* dest is what the client wants; answer with socks_answer */
	SOCKS_REFUSED, /* nothing more comes of it: say what there is to say, and hang up */
};

#define SOCKS_SAY 32u

/* Starts as zeros. */
struct socks {
	enum socks_state state;
	struct link_dest dest;
	uint8_t say[SOCKS_SAY]; /* to be sent by who feeds, who sets say_len to 0 then */
	size_t say_len;
	const char *why; /* SOCKS_REFUSED: in words */
	/* private */
	uint8_t got[512]; /* of the present part */
	size_t len;
	unsigned part, version;
};

/* Takes no byte that is behind the request: that is the stream's. Returns how many it took; all of them while the state
 * is SOCKS_ASKING. */
size_t socks_feed(struct socks *s, const void *data, size_t len);
/* What became of the destination (LINK_OK: it is open): fills say. */
void socks_answer(struct socks *s, unsigned link_code);

#endif
