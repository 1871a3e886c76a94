/* The target's end of a session, made from its offer: what an agent's worker is, without a process of its own. Its
 * streams are answered by an echo over a socket pair, so descriptors are pumped as in the worker. */
#include "swarm.h"

#include "base/clock.h"
#include "base/json.h"
#include "base/limits.h"
#include "base/log.h"
#include "ident/key.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define GIVE_UP_MS (24 * 3600 * 1000LL) /* as the worker: the server decides sooner */
#define ECHO_BYTES 16384u

/* ---- echo ---- */

struct echo {
	uv_poll_t poll;
	int fd;
	size_t from, len; /* bytes that wait in data */
	uint64_t spoil;   /* the byte at this offset is changed; 0: none */
	uint64_t seen;
	uint8_t data[ECHO_BYTES];
};

static void on_echo_closed(uv_handle_t *h)
{
	free(h->data);
}

static void echo_end(struct echo *c)
{
	uv_poll_stop(&c->poll);
	uv_close((uv_handle_t *)&c->poll, on_echo_closed);
	close(c->fd);
}

static bool would_block(ssize_t n)
{
	return n < 0 && (errno == EAGAIN || errno == EINTR);
}

/* Returns false when the echo is over. */
static bool echo_write(struct echo *c)
{
	while (c->len > 0) {
		ssize_t n = send(c->fd, c->data + c->from, c->len, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0)
			return would_block(n);
		c->from += (size_t)n;
		c->len -= (size_t)n;
	}
	return true;
}

static bool echo_read(struct echo *c)
{
	ssize_t n = recv(c->fd, c->data, sizeof c->data, MSG_DONTWAIT);
	if (n <= 0)
		return would_block(n);
	if (c->spoil && c->spoil >= c->seen && c->spoil < c->seen + (uint64_t)n)
		c->data[c->spoil - c->seen] ^= 1;
	c->seen += (uint64_t)n;
	c->from = 0;
	c->len = (size_t)n;
	return echo_write(c);
}

static void on_echo_ready(uv_poll_t *poll, int status, int events)
{
	struct echo *c = poll->data;
	(void)events;
	bool goes_on = status == 0 && echo_write(c);
	if (goes_on && c->len == 0)
		goes_on = echo_read(c);
	if (goes_on)
		uv_poll_start(poll, c->len ? UV_WRITABLE : UV_READABLE, on_echo_ready);
	else
		echo_end(c);
}

static int echo_new(uv_loop_t *loop, int fd, uint64_t spoil)
{
	struct echo *c = calloc(1, sizeof *c);
	if (!c || uv_poll_init(loop, &c->poll, fd) != 0) {
		free(c);
		close(fd);
		return ERR_NOMEM;
	}
	c->poll.data = c;
	c->fd = fd;
	c->spoil = spoil;
	uv_poll_start(&c->poll, UV_READABLE, on_echo_ready);
	return 0;
}

/* ---- streams ---- */

static void on_open(void *user, uint32_t stream, const struct link_dest *dest)
{
	struct target *t = user;
	struct swarm *s = t->agent->swarm;
	char endpoint[300];
	struct err e;
	int fds[2];
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) != 0) {
		stats_error(s, "session %s: socketpair: %s", t->session, strerror(errno));
		endpoint_refuse(t->ep, stream, LINK_INTERNAL, "no socket");
		return;
	}
	bool first = s->sessions_begun > 0 && strcmp(s->sessions[0].id, t->session) == 0;
	int rc = echo_new(&s->loop, fds[1], first ? s->options.spoil : 0);
	if (endpoint_attach_fd(t->ep, stream, fds[0], fds[0], &e) != 0 || rc != 0) {
		stats_error(s, "session %s: its stream could not be answered", t->session);
		return;
	}
	snprintf(endpoint, sizeof endpoint, "%s:%u", dest->host, dest->port);
	agent_report(t->agent,
		     json_pack("{s:s, s:s, s:I, s:I, s:s, s:s, s:I}", "type", "stream-opened", "session", t->session,
			       "generation", (json_int_t)t->generation, "stream", (json_int_t)stream, "kind", "tcp",
			       "endpoint", endpoint, "at_ms", (json_int_t)clock_wall_ms()));
}

static void on_stream_closed(void *user, uint32_t stream, unsigned code, const char *text, uint64_t in, uint64_t out)
{
	struct target *t = user;
	(void)text;
	agent_report(t->agent, json_pack("{s:s, s:s, s:I, s:I, s:I, s:I, s:i, s:s}", "type", "stream-closed", "session",
					 t->session, "generation", (json_int_t)t->generation, "stream",
					 (json_int_t)stream, "bytes_in", (json_int_t)in, "bytes_out", (json_int_t)out,
					 "duration_ms", 0, "reason", link_code_name(code)));
}

/* ---- life ---- */

static void on_state(void *user, enum endpoint_state state, int64_t outage_ms, const char *text)
{
	struct target *t = user;
	struct totals *totals = &t->agent->swarm->totals;
	(void)outage_ms, (void)text;
	if (state == ENDPOINT_UP)
		totals->target_ups++;
	else if (state == ENDPOINT_LOST)
		totals->target_losses++;
}

static unsigned close_code_of(const struct target *t, const struct endpoint_end *end)
{
	if (t->end_code)
		return t->end_code;
	if (end->close_code)
		return end->close_code == 1000 ? 4000 : end->close_code;
	return end->link_code == LINK_OK ? 4000 : end->link_code == LINK_TERMINATED ? 4003 : 4010;
}

static void tell_terminated(struct agent *a, const char *session)
{
	agent_tell(a, json_pack("{s:s, s:s}", "type", "terminated", "session", session));
}

static void on_over(void *user, const struct endpoint_end *end)
{
	struct target *t = user;
	log_debug("session %s: the target's end is over (%u, %u): %s", t->session, end->close_code, end->link_code,
		  end->text);
	if (t->end_code)
		tell_terminated(t->agent, t->session);
	agent_report(t->agent,
		     json_pack("{s:s, s:s, s:I, s:I, s:s}", "type", "session-closed", "session", t->session,
			       "generation", (json_int_t)t->generation, "code", (json_int_t)close_code_of(t, end),
			       "text", t->end_text[0] ? t->end_text : end->text));
	target_free(&t);
}

struct target *target_find(struct agent *a, const char *session)
{
	LIST_EACH(node, &a->targets)
	{
		struct target *t = LIST_ENTRY(node, struct target, node);
		if (strcmp(t->session, session) == 0)
			return t;
	}
	return NULL;
}

static int start_end(struct target *t, const char *relay_url, const char *token, const char *pin, struct err *e)
{
	static const struct endpoint_callbacks callbacks = {
		.state = on_state, .open = on_open, .stream_closed = on_stream_closed, .over = on_over
	};
	struct swarm *s = t->agent->swarm;
	const char *const urls[] = { s->options.server, NULL };
	struct endpoint_config config = { .role = LINK_TARGET,
					  .session = t->session,
					  .token = token,
					  .relay_url = relay_url,
					  .server_urls = urls,
					  .proxy = "",
					  .give_up_ms = GIVE_UP_MS,
					  .key = t->agent->link };
	int rc = key_pin_parse(pin, config.peer_pin, e);
	if (rc == 0)
		rc = net_tls_new(s->options.ca_file, &t->tls, e);
	config.tls = t->tls;
	return rc ? rc : endpoint_start(&s->loop, &config, &callbacks, t, &t->ep, e);
}

static void accept_offer(struct agent *a, const char *session, int64_t generation)
{
	agent_tell(a, json_pack("{s:s, s:s, s:I}", "type", "accepted", "session", session, "generation",
				(json_int_t)generation));
}

void target_offer(struct agent *a, json_t *message)
{
	const char *session, *relay_url, *token, *pin;
	int64_t generation = 1;
	const struct json_field fields[] = {
		{ "session", JSON_FIELD_STRING, true, 1, LIMIT_ID, &session },
		{ "generation", JSON_FIELD_INT, false, 1, INT64_MAX, &generation },
		{ "relay_url", JSON_FIELD_STRING, true, 1, 512, &relay_url },
		{ "token", JSON_FIELD_STRING, true, 1, 512, &token },
		{ "client_pin", JSON_FIELD_STRING, true, 43, 43, &pin },
		{ .name = NULL },
	};
	struct err e;
	a->swarm->totals.offers++;
	struct target *t = NULL;
	int rc = json_read(message, "offer", false, fields, &e);
	if (rc == 0 && a->swarm->options.no_legs) {
		accept_offer(a, session, generation);
		return;
	}
	if (rc == 0 && (t = target_find(a, session)) != NULL && t->generation >= generation) {
		if (t->generation == generation)
			accept_offer(a, session, generation);
		return;
	}
	if (rc == 0) {
		target_free(&t);
		t = calloc(1, sizeof *t);
		rc = t ? 0 : err_set(&e, ERR_NOMEM, "out of memory");
	}
	if (rc == 0) {
		t->agent = a;
		t->generation = generation;
		snprintf(t->session, sizeof t->session, "%s", session);
		list_append(&a->targets, &t->node);
		rc = start_end(t, relay_url, token, pin, &e);
	}
	if (rc == 0) {
		accept_offer(a, session, generation);
		return;
	}
	stats_error(a->swarm, "agent %s: an offer: %s", a->id, e.text);
	target_free(&t);
}

void target_terminate(struct agent *a, json_t *message)
{
	const char *session = json_string_value(json_object_get(message, "session"));
	const char *text = json_string_value(json_object_get(message, "text"));
	struct target *t = session ? target_find(a, session) : NULL;
	if (!t && session)
		tell_terminated(a, session);
	if (!t)
		return;
	t->end_code = (unsigned)json_integer_value(json_object_get(message, "code"));
	snprintf(t->end_text, sizeof t->end_text, "%s", text ? text : "");
	endpoint_end(t->ep, t->end_code == 4000 ? LINK_OK : LINK_TERMINATED, t->end_text);
}

/* TLS settings must outlast the endpoint, whose handles close in later turns. */
struct last_breath {
	uv_timer_t timer;
	struct net_tls *tls;
};

static void on_last_closed(uv_handle_t *h)
{
	struct last_breath *last = h->data;
	net_tls_free(&last->tls);
	free(last);
}

void target_free(struct target **out_t)
{
	struct target *t = *out_t;
	*out_t = NULL;
	if (!t)
		return;
	list_remove(&t->node);
	endpoint_free(&t->ep);
	struct last_breath *last = t->tls ? calloc(1, sizeof *last) : NULL;
	if (last) {
		last->tls = t->tls;
		uv_timer_init(&t->agent->swarm->loop, &last->timer);
		last->timer.data = last;
		uv_close((uv_handle_t *)&last->timer, on_last_closed);
	}
	free(t);
}
