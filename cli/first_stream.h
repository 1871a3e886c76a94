/* The stream of a program's first connection, asked for before the program comes: what serves it at the target, such
 * as an sshd, starts meanwhile. */
#ifndef CLI_FIRST_STREAM_H
#define CLI_FIRST_STREAM_H

#include "cli/session.h"

struct first_stream {
	struct session *session; /* NULL: never asked for, or over */
	uint32_t id;
	int fd; /* of a connection that came before the target's answer; -1: none */
	int64_t opened_ms;
	bool opened, closed, taken;
};

/* The session ends it. */
int first_stream_ask(struct first_stream *f, struct session *s, const struct link_dest *dest, struct err *e);
/* A connection came: it is the stream's from here on, and closed when that is over. False: another one was before, or
 * the stream has waited for too long, and this one is the caller's. */
bool first_stream_take(struct first_stream *f, int fd);
/* Is it this one, and not answered yet? */
bool first_stream_is_awaited(const struct first_stream *f, uint32_t stream);
/* For session_mode.opened and .stream_closed, of any stream. One that was refused would be again: who comes for it is
 * let go. */
void first_stream_opened(struct first_stream *f, uint32_t stream);
void first_stream_closed(struct first_stream *f, uint32_t stream, bool refused);

#endif
