/* Sockets that this end listens on. */
#ifndef CLI_LOCAL_SOCKET_H
#define CLI_LOCAL_SOCKET_H

#include "base/err.h"
#include "cli/forward.h"

#include <stdbool.h>
#include <sys/types.h>
#include <time.h>

struct local_socket {
	int fd; /* -1: handed on, or closed */
	/* of a unix socket's file; inode 0: there is none. The time is there because inodes are used again */
	dev_t device;
	ino_t inode;
	struct timespec since;
};

/* A listening, non-blocking socket; *place then has the port that was bound. A unix socket is the user's alone (0600);
 * the file of one that nobody listens on any more is replaced. ERR_CONFLICT: somebody listens there. */
int local_socket_listen(struct forward_place *place, struct local_socket *out, struct err *e);
/* Only this machine can reach it. */
bool local_socket_is_private(const struct local_socket *s);
/* Closes it and removes its file, if it is still there. Harmless when its fd is -1. */
void local_socket_remove(struct local_socket *s, const struct forward_place *place);

#endif
