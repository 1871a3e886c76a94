/* What the control plane allows in a session (PROTOCOL.md, section 2). */
#ifndef AGENT_GRANT_H
#define AGENT_GRANT_H

#include "base/err.h"
#include "base/limits.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct grant_endpoint {
	char host[254];
	uint16_t port;
};

struct grant {
	bool ssh;
	char logins[LIMIT_ALLOW][LIMIT_LOGIN + 1];
	size_t login_count;
	bool ssh_forwarding; /* by sshd, of ports and of the client's agent */
	struct grant_endpoint tcp[LIMIT_ALLOW];
	size_t tcp_count;
	bool tcp_any; /* every host and port */
	char sockets[LIMIT_ALLOW][LIMIT_SOCKET_PATH + 1];
	size_t socket_count;
	struct grant_endpoint listen[LIMIT_ALLOW]; /* port 0: wherever */
	size_t listen_count;
	uint32_t max_streams;
	int64_t expires_at_ms;
	bool bound; /* and then because the client's credential expires */
};

int grant_parse(const json_t *json, struct grant *out, struct err *e);
/* One thing that it allows, as the allow list would have it: "tcp:db:5432"; "" when there is none. */
void grant_first(const struct grant *grant, char *out, size_t size);
bool grant_allows_listen(const struct grant *grant, const char *host, uint16_t port);
bool grant_allows_socket(const struct grant *grant, const char *path);
bool grant_allows_tcp(const struct grant *grant, const char *host, uint16_t port);

#endif
