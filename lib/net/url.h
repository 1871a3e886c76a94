/* URLs of servers and relays: https://host[:port][/prefix]. */
#ifndef NET_URL_H
#define NET_URL_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct url {
	bool tls;       /* https, wss; not with http and ws, which exist for proxies and tests */
	char host[254]; /* without brackets */
	uint16_t port;  /* 443 or 80 when not given */
	char path[512]; /* "/" at least; with the query */
};

int url_parse(const char *text, struct url *out, struct err *e);
/* For where credentials are sent: ERR_INVALID without TLS. */
int url_parse_secure(const char *text, struct url *out, struct err *e);
/* "host", "host:8443", "[::1]:8443": the Host header and DPoP's authority (default port left out). */
void url_authority(const struct url *u, char *out, size_t size);
/* base joined with an absolute path: "https://a:8443" + "/v1/x". */
int url_join(const char *base, const char *path, char *out, size_t size, struct err *e);

#endif
