/* Connects a stream's socket: a lookup unless the host is an address, then the addresses one after the other, each
 * asked of the allow list first. On a loop, one thread. */
#ifndef AGENT_REACH_H
#define AGENT_REACH_H

#include "agent/allow.h"
#include "base/err.h"

#include <uv.h>

struct reach;

struct dial_options {
	const char *host;
	uint16_t port;
	const struct allow *allow; /* judges the addresses; NULL: the host is allowed whatever it resolves to */
	int64_t timeout_ms;
};

/* Once. fd: connected and non-blocking, the callee's; else -1 with an enum link_code and a text for the peer. */
typedef void reach_done(void *user, int fd, unsigned code, const char *text);

int reach_start(uv_loop_t *loop, const struct dial_options *options, reach_done *done, void *user,
		struct reach **out_dial, struct err *e);
void reach_cancel(struct reach **dial); /* no callback any more; allow may go away afterwards */

#endif
