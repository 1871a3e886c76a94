/* Two connected stream sockets. */
#ifndef AGENT_SOCKPAIR_H
#define AGENT_SOCKPAIR_H

#include "base/err.h"

/* A loopback TCP connection, so that a server at the far end sees an address, which certificates are bound to: made
 * through a listener on 127.0.0.1 that lives for the length of this call and takes only our own socket.
 * fds[0] is ours, fds[1] the server's. Close-on-exec. */
int sockpair_loopback(int fds[2], struct err *e);

#endif
