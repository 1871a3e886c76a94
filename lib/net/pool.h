/* libuv's pool of threads, on which names are looked up and calls wait. */
#ifndef NET_POOL_H
#define NET_POOL_H

#include "base/err.h"

/* To be asked before each uv_getaddrinfo and uv_queue_work: 0, or why the pool cannot be. Any thread. */
int net_pool_ready(struct err *e);

#endif
