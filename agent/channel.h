/* One JSON object a line over a local socket: between supervisor and worker. On a libuv loop, one thread. */
#ifndef AGENT_CHANNEL_H
#define AGENT_CHANNEL_H

#include "base/err.h"

#include <jansson.h>
#include <uv.h>

struct channel;

struct channel_callbacks {
	void (*message)(void *user, json_t *message); /* an object, borrowed */
	/* Once, last; not after channel_free. The channel may be freed inside. */
	void (*closed)(void *user, const char *why);
};

/* fd is a connected stream socket, owned from here on, also on failure. Refuses a peer of another user (SO_PEERCRED),
 * root excepted. */
int channel_new(uv_loop_t *loop, int fd, const struct channel_callbacks *callbacks, void *user,
		struct channel **out_channel, struct err *e);
/* 0, ERR_CLOSED, ERR_LIMIT when 4 MiB are waiting. */
int channel_send(struct channel *channel, const json_t *message);
void channel_free(struct channel **channel); /* what was sent before still goes out; no callback any more */

#endif
