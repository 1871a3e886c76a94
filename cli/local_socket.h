/* Sockets that this end listens on. */
#ifndef CLI_LOCAL_SOCKET_H
#define CLI_LOCAL_SOCKET_H

#include "base/err.h"
#include "cli/forward.h"

#include <stdbool.h>

/* A listening, non-blocking socket; *place then has the port that was bound. ERR_CONFLICT: somebody listens there. */
int local_socket_listen(struct forward_place *place, int *out_fd, struct err *e);
/* Only this machine can reach it. */
bool local_socket_is_private(int fd);

#endif
