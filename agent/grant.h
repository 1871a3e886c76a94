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
	uint32_t max_streams;
	int64_t expires_at_ms;
	bool bound; /* and then because the client's credential expires */
};

int grant_parse(const json_t *json, struct grant *out, struct err *e);
bool grant_allows_tcp(const struct grant *grant, const char *host, uint16_t port);

#endif
