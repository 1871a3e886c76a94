#include "cli/mode.h"

#include "base/clock.h"
#include "base/limits.h"
#include "base/log.h"
#include "cli/kept.h"
#include "cli/local_socket.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PORT_POLL_US 50000
#define UNKNOWN_END_MS (30 * 24 * 3600 * 1000LL) /* the longest session a server can be set to */

struct forward {
	struct forward_spec spec; /* with the port that was bound */
	struct socks_server socks;
	struct listener *listener; /* its own, but that of socks with FORWARD_SOCKS */
	struct listener own;
	struct reverse reverse;
	struct local_socket socket; /* its fd is the listener's from begin on */
	char shown[FORWARD_ENTRY], text[FORWARD_TEXT];
};

static int listen_here(struct forward *f, int64_t until_ms, struct err *e)
{
	while (local_socket_listen(&f->spec.from, &f->socket, e) != 0) {
		/* Whom we take the session from may hold the port a moment longer. */
		if (e->code != ERR_CONFLICT || clock_mono_ms() > until_ms || session_interrupted())
			return e->code;
		usleep(PORT_POLL_US);
	}
	return 0;
}

static void label(struct forward *f)
{
	bool socks = f->spec.way == FORWARD_SOCKS;
	char to[FORWARD_ENTRY];
	f->listener = socks ? &f->socks.listener : &f->own;
	forward_place_text(&f->spec.from, f->shown);
	forward_text(&f->spec, f->text);
	forward_place_text(&f->spec.to, to);
	snprintf(f->listener->label, sizeof f->listener->label, "%s", socks ? "SOCKS" : to);
}

static void aim(struct forward *f)
{
	const struct forward_place *to = &f->spec.to;
	struct link_dest *dest = &f->own.dest;
	dest->kind = to->path[0] ? LINK_KIND_UNIX : LINK_KIND_TCP;
	dest->port = to->port;
	snprintf(dest->host, sizeof dest->host, "%s", to->path[0] ? to->path : to->host);
}

static void warn_of_reverse(const struct forward *f)
{
	if (!forward_is_loopback(&f->spec.from))
		complain("warning: whoever reaches %s of the target from another machine gets to %s here", f->shown,
			 f->own.label);
}

static int listen_one(struct forward *f, enum forward_way way, const char *text, int64_t until_ms)
{
	struct err e = { 0 };
	int rc = forward_parse(way, text, &f->spec, &e);
	f->socket.fd = -1;
	if (rc == 0 && way != FORWARD_REVERSE)
		rc = listen_here(f, until_ms, &e);
	if (rc != 0) {
		complain("%s%s%s", e.text, rc == ERR_CONFLICT ? "; give another one with " : "",
			 rc == ERR_CONFLICT ? forward_option(way) : "");
		return EXIT_CODE_CONFIG;
	}
	label(f);
	aim(f);
	if (way == FORWARD_REVERSE)
		warn_of_reverse(f);
	else if (!local_socket_is_private(&f->socket))
		complain("warning: whoever reaches %s from another machine uses this session", f->shown);
	return EXIT_CODE_OK;
}

int mode_forward_listen(struct mode_forward *m, int64_t wait_ms)
{
	m->forwards = calloc(forward_count(m->texts), sizeof *m->forwards);
	if (!m->forwards) {
		complain("out of memory");
		return EXIT_CODE_FAILED;
	}
	int64_t until_ms = clock_mono_ms() + wait_ms;
	m->wait_ms = wait_ms;
	for (int way = 0; way < FORWARD_WAYS; way++)
		for (size_t i = 0; i < m->texts->at[way].n; i++) {
			int code = listen_one(&m->forwards[m->count], (enum forward_way)way, m->texts->at[way].at[i],
					      until_ms);
			if (code != EXIT_CODE_OK)
				return code;
			m->count++;
		}
	return EXIT_CODE_OK;
}

/* For resume-session. That it cannot be kept must not stop what works. */
static void keep(const struct mode_forward *m, const struct session *s)
{
	struct err e = { 0 };
	char config[PATH_MAX];
	const char *profile = m->common->profile ? m->common->profile : getenv("TUNNEL_PROFILE");
	const char *given = m->common->config ? m->common->config : getenv("TUNNEL_CONFIG");
	struct kept_session k = {
		.session = s->id,
		.target = s->target,
		.server = s->client->profile.servers.at[0],
		.profile = profile && *profile ? profile : NULL,
		.config = given && realpath(given, config) ? config : NULL,
		.expires_ms = s->expires_ms ? s->expires_ms : clock_wall_ms() + UNKNOWN_END_MS,
	};
	for (size_t i = 0; i < m->count; i++) {
		struct arg_list *list = &k.forwards.at[m->forwards[i].spec.way];
		list->at[list->n++] = m->forwards[i].text;
	}
	if (kept_write(&k, clock_wall_ms(), &e) != 0)
		session_tell(s, "resume-session will have to be told the forwards: %s", e.text);
}

static void on_escape(void *user, enum escape escape)
{
	struct mode_forward *m = user;
	switch (escape) {
	case ESCAPE_END:
		session_stop(m->session, EXIT_CODE_OK);
		break;
	case ESCAPE_DETACH:
		session_detach(m->session);
		break;
	case ESCAPE_RECONNECT:
		endpoint_network_changed(m->session->endpoint);
		break;
	case ESCAPE_STATUS:
		session_tell_status(m->session);
		break;
	default:
		session_tell(m->session, "%s", ESCAPE_HELP_TEXT);
	}
}

static int begin_one(const struct mode_forward *m, struct forward *f, struct session *s, struct err *e)
{
	int fd = f->socket.fd;
	f->socket.fd = -1;
	if (f->spec.way == FORWARD_REVERSE)
		return reverse_start(&f->reverse, s, &f->spec, m->wait_ms, e);
	return f->spec.way == FORWARD_SOCKS ? socks_server_start(&f->socks, s, fd, e)
					    : listener_start(&f->own, s, fd, e);
}

static int begin(struct session_mode *mode, struct session *s)
{
	struct mode_forward *m = (struct mode_forward *)(void *)mode;
	struct err e = { 0 };
	m->session = s;
	for (size_t i = 0; i < m->count; i++)
		if (begin_one(m, &m->forwards[i], s, &e) != 0) {
			complain("%s", e.text);
			return EXIT_CODE_FAILED;
		}
	keep(m, s);
	for (size_t i = 0; i < m->count; i++)
		if (m->forwards[i].spec.way != FORWARD_REVERSE) /* they tell when they do */
			session_tell(s, "listening on %s for %s on %s", m->forwards[i].shown,
				     m->forwards[i].listener->label, s->target);
	escape_start(&m->escapes, &s->loop, on_escape, m);
	if (m->escapes.active)
		session_tell(s, "session %s; ~? and Enter for help", s->id);
	return EXIT_CODE_OK;
}

static void opened(struct session_mode *mode, struct session *s, uint32_t stream)
{
	struct mode_forward *m = (struct mode_forward *)(void *)mode;
	(void)s;
	for (size_t i = 0; i < m->count; i++)
		if (m->forwards[i].spec.way == FORWARD_SOCKS && socks_server_opened(&m->forwards[i].socks, stream))
			return;
}

/* Only what comes from where we asked it to listen, and only to where that leads: the target has no say in it. */
static void asked(struct session_mode *mode, struct session *s, uint32_t stream, const struct link_dest *dest)
{
	struct mode_forward *m = (struct mode_forward *)(void *)mode;
	for (size_t i = 0; i < m->count; i++)
		if (m->forwards[i].spec.way == FORWARD_REVERSE && reverse_asked(&m->forwards[i].reverse, stream, dest))
			return;
	log_debug("the target opened stream %u, which nobody here asked for", stream);
	endpoint_refuse(s->endpoint, stream, LINK_NOT_ALLOWED, "this client did not ask for it");
}

static void stream_closed(struct session_mode *mode, struct session *s, uint32_t stream, unsigned code,
			  const char *text)
{
	struct mode_forward *m = (struct mode_forward *)(void *)mode;
	for (size_t i = 0; i < m->count; i++) {
		struct forward *f = &m->forwards[i];
		if (f->spec.way == FORWARD_SOCKS)
			socks_server_closed(&f->socks, stream, code);
		else if (f->spec.way == FORWARD_REVERSE && reverse_closed(&f->reverse, stream, code, text))
			return;
	}
	if (code != LINK_OK && code != LINK_IO && code != LINK_TERMINATED)
		session_tell(s, "connection %u: %s (%s)", stream, text, link_code_name(code));
}

static void interrupted(struct session_mode *mode, struct session *s, int signum)
{
	(void)mode, (void)signum;
	session_stop(s, EXIT_CODE_OK); /* the usual way to end a forward */
}

/* What is kept goes with the session's end. */
static void renewed(struct session_mode *mode, struct session *s)
{
	keep((struct mode_forward *)(void *)mode, s);
}

static void over(struct session_mode *mode, struct session *s)
{
	struct mode_forward *m = (struct mode_forward *)(void *)mode;
	for (size_t i = 0; i < m->count; i++) {
		/* First: one who waits for the place takes it when nobody listens there any more. */
		local_socket_remove(&m->forwards[i].socket, &m->forwards[i].spec.from);
		listener_stop(&m->forwards[i].own);
		socks_server_stop(&m->forwards[i].socks);
		reverse_stop(&m->forwards[i].reverse);
	}
	escape_stop(&m->escapes);
	if (s->gone)
		kept_remove(s->id);
	else if (s->detaching)
		session_tell(s, "session %s goes on without a client; come back with: tunnel-cli resume-session %s",
			     s->id, s->id);
}

void mode_forward_init(struct mode_forward *m)
{
	m->mode = (struct session_mode){ .begin = begin,
					 .opened = opened,
					 .asked = asked,
					 .stream_closed = stream_closed,
					 .interrupted = interrupted,
					 .renewed = renewed,
					 .over = over,
					 .resumable = true };
}

void mode_forward_free(struct mode_forward *m)
{
	for (size_t i = 0; i < m->count; i++)
		local_socket_remove(&m->forwards[i].socket, &m->forwards[i].spec.from);
	free(m->forwards);
	m->forwards = NULL;
	m->count = 0;
}
