/* A SOCKS proxy on a local port: each CONNECT becomes a stream to the name or address that it asks for, which the
 * target looks up. On the session's loop. */
#ifndef CLI_SOCKS_SERVER_H
#define CLI_SOCKS_SERVER_H

#include "base/list.h"
#include "cli/listener.h"

struct socks_server {
	struct listener listener; /* label is set by the caller before the start */
	struct list clients;      /* that have no open stream yet */
	size_t n;
};

/* As listener_start and listener_stop. */
int socks_server_start(struct socks_server *s, struct session *session, int fd, struct err *e);
void socks_server_stop(struct socks_server *s);
/* What the endpoint says of a stream; false: it is none of this server's. From here on one that is opened is the
 * endpoint's alone. */
bool socks_server_opened(struct socks_server *s, uint32_t stream);
bool socks_server_closed(struct socks_server *s, uint32_t stream, unsigned code);

#endif
