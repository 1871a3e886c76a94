/* A place where the target listens for a client (PROTOCOL.md 4.3, `listen`). It belongs to a stream: one end of a pair
 * of sockets is that stream's, and whichever side ends it ends the listening. On a loop, one thread. */
#ifndef AGENT_LISTENING_H
#define AGENT_LISTENING_H

#include "base/err.h"
#include "link/link.h"

#include <stdbool.h>
#include <stddef.h>
#include <uv.h>

struct listening;

struct listening_user {
	void (*take)(void *user, int fd); /* a connection; owns it */
	bool (*full)(void *user);         /* no more for now; they wait in the kernel's queue */
	void *user;
};

/* A socket bound to an address and a port, or to any that is free (0), which nobody can connect to yet. Returns it,
 * with the port that it got; or -1 with an enum link_code and words for the peer. */
int listening_bind(const char *address, uint16_t port, uint16_t *out_port, unsigned *out_code, char *out_text,
		   size_t size);
/* Takes bound, also on failure, and begins to take connections. *out_fd is for the stream: its first two bytes are the
 * port. ERR_CONFLICT: somebody began to listen there in between. */
int listening_start(uv_loop_t *loop, int bound, uint16_t port, const struct listening_user *user,
		    struct listening **out_listening, int *out_fd, struct err *e);
void listening_stop(struct listening **listening); /* nobody listens there any more when it returns */

#endif
