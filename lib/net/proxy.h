/* HTTP CONNECT proxies: which one to use, and what to say to it. Internal to lib/net, but for
 * the agent's doctor, which tells. */
#ifndef NET_PROXY_H
#define NET_PROXY_H

#include "base/buf.h"
#include "base/err.h"
#include "net/url.h"

#include <stdbool.h>
#include <stdint.h>

struct proxy {
	bool used;
	char host[254];
	uint16_t port;
	char *basic; /* base64 of user:password; NULL: none. Wiped by proxy_free */
};

/* option as struct ws_options.proxy; with NULL the environment decides for target. */
int proxy_choose(const char *option, const struct url *target, struct proxy *out, struct err *e);
/* "http://[user:password@]host:port" */
int proxy_parse(const char *text, struct proxy *out, struct err *e);
void proxy_free(struct proxy *p);
/* no_proxy's list: "*", names (themselves and what ends in ".name"), addresses, address blocks. */
bool proxy_is_excepted(const char *list, const char *host);
int proxy_connect_request(const struct proxy *p, const char *host, uint16_t port, struct buf *out);

#endif
