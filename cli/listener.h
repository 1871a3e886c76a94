/* A listening socket whose every connection becomes a stream to one destination. */
#ifndef CLI_LISTENER_H
#define CLI_LISTENER_H

#include "cli/session.h"

struct listener {
	uv_poll_t poll;
	uv_timer_t again; /* runs while there are no descriptors for more connections */
	struct session *session;
	struct link_dest dest;
	char label[300]; /* for complaints */
	int fd;
	bool active;
};

/* fd: listening, non-blocking; owned from here on. dest and label are set by the caller before. */
int listener_start(struct listener *l, struct session *s, int fd, struct err *e);
void listener_stop(struct listener *l); /* also when it never started */

#endif
