/* Names to addresses, for streams. On a loop, one thread. */
#ifndef AGENT_LOOKUP_H
#define AGENT_LOOKUP_H

#include "base/err.h"

#include <netdb.h>
#include <uv.h>

struct lookup;

/* Once, never inside lookup_start. status: getaddrinfo's; list is borrowed, its ports are 0. */
typedef void lookup_done(void *user, int status, const struct addrinfo *list);

int lookup_start(uv_loop_t *loop, const char *host, lookup_done *done, void *user, struct lookup **out_lookup,
		 struct err *e);
void lookup_cancel(struct lookup **lookup); /* no callback any more */

#endif
