/* The one thread that changes: finds the server (for everybody, see master.h), keeps one connection for changes, sends
 * what waits in batches. */
#ifndef CHANGER_H
#define CHANGER_H

#include "change.h"

struct changer;

/* Connects once on the caller's thread, and fails with its words when that fails; then starts the thread. Everything
 * given must outlive it. stop_fd: readable from when it is to end. */
int changer_start(const struct tunnel_host *host, struct redis_options *o, const struct owner *owner, struct master *m,
		  struct queue *q, int stop_fd, struct changer **out_changer, struct words w);
/* stop_fd is readable. */
void changer_stop(struct changer **changer);

#endif
