/* A client that asks the target to listen for more than it may: it stands in tunnel-cli for reverse.c. What became of
 * each is told on standard error, and when all but so many were turned away. With HOSTILE_FLOOD=n in its environment it
 * opens n streams instead, as many at once as it can, to a place where nobody listens and to some that it may not have.
 */
#include "cli/reverse.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FLOOD 200

static unsigned asked, closed, flood, flooded;

/* One more, as long as there are to be more; its own end lets as many live at once as the protocol has. */
static void flood_on(struct reverse *r)
{
	static const char *const hosts[] = { "127.0.0.1", "192.0.2.1", "localhost", "169.254.169.254" };
	struct link_dest dest = { .kind = LINK_KIND_TCP, .port = 9 };
	struct err e = { 0 };
	uint32_t id;
	snprintf(dest.host, sizeof dest.host, "%s", hosts[asked % 4]);
	while (asked < flood && endpoint_open_stream(r->session->endpoint, &dest, -1, -1, &id, &e) == 0)
		snprintf(dest.host, sizeof dest.host, "%s", hosts[++asked % 4]);
}

static void ask(struct reverse *r, const char *host, uint16_t port)
{
	struct link_dest dest = { .kind = LINK_KIND_LISTEN, .port = port };
	struct err e = { 0 };
	uint32_t id;
	snprintf(dest.host, sizeof dest.host, "%s", host);
	if (endpoint_open_stream(r->session->endpoint, &dest, -1, -1, &id, &e) == 0)
		asked++;
	else
		complain("not asked: %s", e.text);
}

int reverse_start(struct reverse *r, struct session *s, const struct forward_spec *spec, int64_t wait_ms, struct err *e)
{
	struct link_dest accepted = { .kind = LINK_KIND_ACCEPTED, .host = "1" };
	uint32_t id;
	(void)wait_ms;
	r->session = s;
	r->active = true;
	if (getenv("HOSTILE_FLOOD")) {
		flood = (unsigned)atoi(getenv("HOSTILE_FLOOD"));
		flood_on(r);
		complain("flooding");
		return 0;
	}
	ask(r, "0.0.0.0", spec->from.port);
	ask(r, "::1", spec->from.port);
	ask(r, "127.0.0.1", 22);
	ask(r, "127.0.0.1", 1);
	for (unsigned i = 0; i < FLOOD; i++)
		ask(r, spec->from.host, spec->from.port);
	asked++;
	return endpoint_open_stream(s->endpoint, &accepted, -1, -1, &id, e);
}

bool reverse_asked(struct reverse *r, uint32_t stream, const struct link_dest *dest)
{
	(void)r, (void)stream, (void)dest;
	return false;
}

bool reverse_closed(struct reverse *r, uint32_t stream, unsigned code, const char *text)
{
	if (!r->active || r->session->over)
		return false;
	if (flood) {
		flood_on(r);
		if (++flooded == flood)
			complain("flooded");
		return true;
	}
	complain("closed %u: %s: %s", stream, link_code_name(code), text);
	if (++closed + LIMIT_ALLOW == asked)
		complain("of %u as many are left as may be", asked);
	return true;
}

void reverse_stop(struct reverse *r)
{
	r->active = false;
}
