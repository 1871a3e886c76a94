/* Starts a session worker that has nothing to do with its parent's life: double-forked, a session (setsid) of its own,
 * the same program executed anew, one inherited socket. */
#ifndef AGENT_WORKER_SPAWN_H
#define AGENT_WORKER_SPAWN_H

#include "base/err.h"

#define WORKER_FD 3 /* the worker's end of the socket */

/* job: one line, written into the socket before the worker starts. *out_fd: the supervisor's end. session and
 * runtime_dir stand in the worker's arguments, for people who look at ps. */
int worker_spawn(const char *session, const char *runtime_dir, const char *job, int *out_fd, struct err *e);

#endif
