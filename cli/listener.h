/* A listening socket whose every connection becomes a stream to one destination, or is taken by somebody who learns
 * from it where it is to go. */
#ifndef CLI_LISTENER_H
#define CLI_LISTENER_H

#include "cli/session.h"
#include "net/acceptor.h"

struct listener {
	struct acceptor acceptor;
	struct session *session;
	struct link_dest dest;
	char label[300]; /* for complaints */
	/* Owns the connection; NULL: it goes to dest. */
	void (*take)(struct listener *l, int fd);
	/* As that of the acceptor. */
	bool (*full)(const struct listener *l);
};

/* fd: listening, non-blocking; owned from here on. dest, label, take and full are set by the caller before. */
int listener_start(struct listener *l, struct session *s, int fd, struct err *e);
/* What is done with a connection without take: it is a stream to dest, which owns fd, or the user is told why not. */
void listener_open_stream(struct listener *l, int fd);
void listener_stop(struct listener *l); /* also when it never started */

#endif
