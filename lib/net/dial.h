/* Gets one connected TCP socket: resolves (resolve.h), then races the addresses (RFC 8305). */
#ifndef NET_DIAL_H
#define NET_DIAL_H

#include "base/err.h"

#include <netinet/in.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

struct dial;

struct dial_address {
	struct sockaddr_storage address;
	socklen_t len;
};

/* Once, never inside dial_start: fd >= 0 belongs to the callee; else -1 and words: "connect web:443: Connection
 * refused". The dial is gone when it returns: don't free it. timeout_ms: of all of it; 0: the caller cancels, or waits
 * for as long as the kernel does, which is minutes. */
typedef void (*dial_done)(void *user, int fd, const char *why_not);

int dial_start(uv_loop_t *loop, const char *host, uint16_t port, int64_t timeout_ms, dial_done done, void *user,
	       struct dial **out_dial, struct err *e);
/* The second half alone: addresses in the order of trying. */
int dial_race(uv_loop_t *loop, const char *name, const struct dial_address *addresses, size_t count, dial_done done,
	      void *user, struct dial **out_dial, struct err *e);
void dial_cancel(struct dial **dial); /* no callback */

#define DIAL_NEXT_MS 250 /* RFC 8305, 8: connection attempt delay */
#define DIAL_ADDRESSES 8u

#endif
