/* What the process of a session gives up when it starts no logins. One that does needs all that its agent has: sshd
 * changes to the login's user and sets up its groups, limits and audit session, and what is missing here would be
 * missing there, for sudo as well. */
#ifndef AGENT_PRIVILEGES_H
#define AGENT_PRIVILEGES_H

#include "base/err.h"

/* For good: programs that it starts get no more rights than it has, and of its capabilities it keeps those to listen on
 * ports below 1024 and to reach sockets in folders of others. Before there are threads. */
int privileges_drop(struct err *e);

#endif
