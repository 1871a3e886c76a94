/* Unix sockets of one user's programs: mode 0600, so whoever connects is that user or root. */
#ifndef CLI_UNIXSOCK_H
#define CLI_UNIXSOCK_H

#include "base/err.h"

/* A listening, non-blocking socket at path, in place of one that is there. Returns it, or an error. */
int unixsock_listen(const char *path, struct err *e);
/* A connected, blocking socket. ERR_NOT_FOUND when nobody listens there, ERR_IO also when he accepts nobody. */
int unixsock_connect(const char *path, struct err *e);

#endif
