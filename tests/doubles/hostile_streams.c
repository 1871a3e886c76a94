/* A target's end that does to a client what it must not: it stands in the agent for streams.c. Asked to listen, it says
 * that it does, and then opens streams that nobody asked for, as many as there may be and more, and one that is honest.
 * What became of each is in its log. At one port it says the first half of its answer, and no more. */
#include "agent/streams.h"

#include "base/log.h"
#include "base/text.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define TOO_MANY 400
#define HALF_AN_ANSWER 1234 /* the port where it gives that */

struct streams {
	struct endpoint *ep;
	uint32_t first; /* of those that nobody asked for */
	unsigned told;
	int pair;
};

int streams_new(const struct streams_config *config, const struct grant *grant, struct streams **out_streams,
		struct err *e)
{
	(void)config, (void)grant;
	*out_streams = calloc(1, sizeof **out_streams);
	return *out_streams ? 0 : err_set(e, ERR_NOMEM, "out of memory");
}

void streams_free(struct streams **streams)
{
	free(*streams);
	*streams = NULL;
}

void streams_set_endpoint(struct streams *s, struct endpoint *ep)
{
	s->ep = ep;
}

static void open_one(struct streams *s, enum link_kind kind, const char *host, uint16_t port, const char *say)
{
	struct link_dest dest = { .kind = kind, .port = port };
	struct err e = { 0 };
	uint32_t id;
	int pair[2];
	text_print(dest.host, sizeof dest.host, "%s", host);
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) != 0)
		return;
	(void)!write(pair[0], say, strlen(say));
	close(pair[0]);
	if (endpoint_open_stream(s->ep, &dest, pair[1], pair[1], &id, &e) != 0)
		log_info("not opened: %s", e.text);
	else
		log_info("opened %u: kind %d, \"%s\"", id, (int)kind, host);
}

static void misbehave(struct streams *s, uint32_t listener)
{
	char own[16], other[16];
	text_print(own, sizeof own, "%u", listener);
	text_print(other, sizeof other, "%u", listener + 2);
	open_one(s, LINK_KIND_ACCEPTED, own, 0, "good");
	open_one(s, LINK_KIND_TCP, "127.0.0.1", 22, "bad");
	open_one(s, LINK_KIND_UNIX, "/run/docker.sock", 0, "bad");
	open_one(s, LINK_KIND_SSH, "", 0, "bad");
	open_one(s, LINK_KIND_LISTEN, "127.0.0.1", 0, "bad");
	open_one(s, LINK_KIND_ACCEPTED, other, 0, "bad");
	open_one(s, LINK_KIND_ACCEPTED, "2", 0, "bad");
	open_one(s, LINK_KIND_ACCEPTED, "00001", 0, "bad");
	for (unsigned i = 0; i < TOO_MANY; i++)
		open_one(s, LINK_KIND_ACCEPTED, other, 0, "bad");
}

void streams_open(struct streams *s, uint32_t id, const struct link_dest *dest)
{
	struct err e = { 0 };
	int pair[2];
	if (dest->kind != LINK_KIND_LISTEN || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) {
		endpoint_refuse(s->ep, id, LINK_NOT_ALLOWED, "no");
		return;
	}
	bool half = dest->port == HALF_AN_ANSWER;
	(void)!write(pair[0], "\x1f\x90 and more than a port", half ? 1 : 24);
	s->pair = pair[0];
	if (endpoint_attach_fd(s->ep, id, pair[1], pair[1], &e) == 0 && !half)
		misbehave(s, id);
}

void streams_closed(struct streams *s, uint32_t id, unsigned code, const char *text, uint64_t bytes_in,
		    uint64_t bytes_out)
{
	struct err e = { 0 };
	(void)bytes_out;
	log_info("closed %u: %s, %llu bytes came: %s", id, link_code_name(code), (unsigned long long)bytes_in, text);
	(void)s, (void)e;
}

void streams_set_grant(struct streams *s, const struct grant *grant)
{
	(void)s, (void)grant;
}

void streams_set_allow(struct streams *s, const struct allow *allow)
{
	(void)s, (void)allow;
}

void streams_freeze(struct streams *s, bool frozen)
{
	(void)s, (void)frozen;
}

void streams_end(struct streams *s, const char *reason)
{
	(void)s, (void)reason;
}

void streams_reap(struct streams *s)
{
	(void)s;
}
