/* Takes the connections of a listening socket, for as long as there is room for them: the others wait in the kernel's
 * queue, which turns away what it cannot hold. On a loop, one thread. */
#ifndef NET_ACCEPTOR_H
#define NET_ACCEPTOR_H

#include "base/err.h"

#include <stdbool.h>
#include <uv.h>

struct acceptor {
	/* Set by the caller, as is user. take owns the connection, which is non-blocking and close-on-exec. */
	void (*take)(struct acceptor *a, int fd);
	/* No more can be taken now: asked before each, and again a little later. NULL: that is never so. */
	bool (*full)(struct acceptor *a);
	/* Behind acceptor_stop, when the loop has forgotten it: the memory may go. NULL: nobody waits for that. */
	void (*closed)(struct acceptor *a);
	void *user;
	/* private */
	uv_poll_t poll;
	uv_timer_t again; /* runs while no more connections can be taken */
	int fd;
	unsigned handles;
	bool active;
};

/* fd: listening, non-blocking; owned from here on, also on failure. closed comes behind acceptor_stop only. */
int acceptor_start(struct acceptor *a, uv_loop_t *loop, int fd, struct err *e);
/* Nobody listens there any more when it returns. Harmless when it is not active. May be called inside take and full. */
void acceptor_stop(struct acceptor *a);

#endif
