/* A reverse forward: the target listens, and what connects there comes to one endpoint of ours. A stream of kind
 * `listen` stands for the place where it listens; each connection is a stream that the target opens (PROTOCOL.md 4.3).
 * On the session's loop. */
#ifndef CLI_REVERSE_H
#define CLI_REVERSE_H

#include "base/list.h"
#include "cli/forward.h"
#include "cli/session.h"

struct reverse {
	struct session *session;
	const struct forward_spec *spec;
	struct list incoming; /* that are being connected here */
	uint32_t stream;      /* that listens; 0: none does */
	uint16_t port;        /* that was bound; 0: not known yet */
	uint8_t wire[2];      /* the port as the target says it, of which so many bytes were heard */
	size_t heard;
	int fd;          /* our end of the pair that the stream is pumped with; -1: none */
	uv_poll_t *told; /* on fd, or NULL */
	uv_timer_t again;
	int64_t until_ms;
	char text[400]; /* what `again` tells */
	bool active;
};

/* Asks the target to listen, and tells when it does. That somebody listens there already is waited for as long as
 * wait_ms; else a refusal ends the session. spec must outlive it. */
int reverse_start(struct reverse *r, struct session *s, const struct forward_spec *spec, int64_t wait_ms,
		  struct err *e);
/* Takes the stream, and answers it, if it is a connection of this one's; false: it is not. */
bool reverse_asked(struct reverse *r, uint32_t stream, const struct link_dest *dest);
/* What the endpoint says of a stream; true: nobody else has to hear of it. */
bool reverse_closed(struct reverse *r, uint32_t stream, unsigned code, const char *text);
void reverse_stop(struct reverse *r); /* also when it never started */

#endif
