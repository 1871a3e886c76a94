#include "cli/mode.h"

#include "base/clock.h"
#include "base/limits.h"
#include "base/text.h"
#include "cli/kept.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define PORT_POLL_US 50000
#define UNKNOWN_END_MS (30 * 24 * 3600 * 1000LL) /* the longest session a server can be set to */

struct forward {
	struct listener listener;
	int fd; /* -1: the listener's */
	char shown[80];
	char spec[LIMIT_LINK_HOST + 96];
};

/* Splits "[bind:]port:host:port". The far side is what follows the local port. */
static int split(const char *spec, char *bind_host, size_t bind_size, uint16_t *out_port, const char **out_dest,
		 struct err *e)
{
	const char *at = spec;
	int64_t port;
	char first[64];
	snprintf(bind_host, bind_size, "127.0.0.1");
	size_t n = *at == '[' ? strcspn(at, "]") + 1 : strcspn(at, ":");
	if (n >= sizeof first || !at[0] || n > strlen(at) || at[n] != ':')
		goto bad;
	snprintf(first, sizeof first, "%.*s", (int)n, at);
	if (text_parse_int(first, 0, 65535, &port) != 0) {
		if (first[0] == '[')
			snprintf(bind_host, bind_size, "%.*s", (int)(n - 2), first + 1);
		else
			snprintf(bind_host, bind_size, "%s", first);
		at += n + 1;
		n = strcspn(at, ":");
		if (n >= sizeof first || at[n] != ':')
			goto bad;
		snprintf(first, sizeof first, "%.*s", (int)n, at);
		if (text_parse_int(first, 0, 65535, &port) != 0)
			goto bad;
	}
	*out_port = (uint16_t)port;
	*out_dest = at + n + 1;
	return 0;
bad:
	return err_set(e, ERR_INVALID, "--port-forward %s: expected [BIND:]PORT:HOST:PORT, such as 5432:127.0.0.1:5432",
		       spec);
}

int mode_forward_dest(const char *spec, char *out_host_port, size_t size, struct err *e)
{
	char bind_host[64], host[254];
	uint16_t local, port;
	const char *dest;
	int rc = split(spec, bind_host, sizeof bind_host, &local, &dest, e);
	if (rc == 0 && text_parse_host_port(dest, host, sizeof host, &port) != 0)
		rc = err_set(e, ERR_INVALID, "--port-forward %s: \"%s\" is not HOST:PORT (IPv6 in brackets)", spec,
			     dest);
	if (rc == 0)
		text_host_port(host, port, out_host_port, size);
	return rc;
}

int mode_forward_bound_spec(const char *spec, uint16_t port, char *out, size_t size, struct err *e)
{
	char bind_host[64];
	uint16_t asked;
	const char *dest;
	int rc = split(spec, bind_host, sizeof bind_host, &asked, &dest, e);
	if (rc != 0)
		return rc;
	const char *open = strchr(bind_host, ':') ? "[" : "", *close = *open ? "]" : "";
	int n = snprintf(out, size, "%s%s%s:%u:%s", open, bind_host, close, port, dest);
	return n > 0 && (size_t)n < size ? 0 : err_set(e, ERR_LIMIT, "--port-forward %s: too long", spec);
}

static int open_listener(const char *host, uint16_t port, struct err *e)
{
	struct addrinfo hints = { .ai_flags = AI_PASSIVE | AI_NUMERICSERV, .ai_socktype = SOCK_STREAM }, *found = NULL;
	char service[8];
	snprintf(service, sizeof service, "%u", port);
	int rc = getaddrinfo(strcmp(host, "*") == 0 ? NULL : host, service, &hints, &found);
	if (rc != 0)
		return err_set(e, ERR_INVALID, "listen on %s: %s", host, gai_strerror(rc));
	int fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), one = 1;
	if (fd >= 0)
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	if (fd < 0 || bind(fd, found->ai_addr, found->ai_addrlen) != 0 || listen(fd, 128) != 0) {
		err_set_errno(e, errno == EADDRINUSE ? ERR_CONFLICT : ERR_IO, errno, "listen on %s port %u", host,
			      port);
		if (fd >= 0)
			close(fd);
		fd = -1;
	}
	freeaddrinfo(found);
	return fd >= 0 ? fd : e->code;
}

static uint16_t bound_port(int fd)
{
	struct sockaddr_storage a;
	socklen_t n = sizeof a;
	if (getsockname(fd, (struct sockaddr *)&a, &n) != 0)
		return 0;
	return ntohs(a.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)(void *)&a)->sin6_port
					     : ((struct sockaddr_in *)(void *)&a)->sin_port);
}

static int listen_one(struct forward *f, const char *spec, int64_t until_ms)
{
	struct err e = { 0 };
	char bind_host[64];
	uint16_t port;
	const char *dest;
	struct listener *l = &f->listener;
	int rc = split(spec, bind_host, sizeof bind_host, &port, &dest, &e);
	l->dest.kind = LINK_KIND_TCP;
	if (rc == 0)
		rc = text_parse_host_port(dest, l->dest.host, sizeof l->dest.host, &l->dest.port);
	while (rc == 0 && (f->fd = open_listener(bind_host, port, &e)) < 0) {
		/* Whom we take the session from may hold the port a moment longer. */
		if (e.code != ERR_CONFLICT || clock_mono_ms() > until_ms || session_interrupted())
			rc = e.code;
		else
			usleep(PORT_POLL_US);
	}
	if (rc == 0) {
		uint16_t bound = bound_port(f->fd);
		snprintf(l->label, sizeof l->label, "%s", dest);
		text_host_port(bind_host, bound, f->shown, sizeof f->shown);
		rc = mode_forward_bound_spec(spec, bound, f->spec, sizeof f->spec, &e);
	}
	if (rc == 0)
		return EXIT_CODE_OK;
	complain("%s%s", e.text, e.code == ERR_CONFLICT ? "; give another port with --port-forward" : "");
	return EXIT_CODE_CONFIG;
}

int mode_forward_listen(struct mode_forward *m, int64_t wait_ms)
{
	m->forwards = calloc(m->specs->n, sizeof *m->forwards);
	if (!m->forwards) {
		complain("out of memory");
		return EXIT_CODE_FAILED;
	}
	int64_t until_ms = clock_mono_ms() + wait_ms;
	for (; m->count < m->specs->n; m->count++) {
		int code = listen_one(&m->forwards[m->count], m->specs->at[m->count], until_ms);
		if (code != EXIT_CODE_OK) {
			if (m->forwards[m->count].fd > 0)
				close(m->forwards[m->count].fd);
			return code;
		}
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
	for (size_t i = 0; i < m->count; i++)
		k.forwards.at[k.forwards.n++] = m->forwards[i].spec;
	if (kept_write(&k, clock_wall_ms(), &e) != 0)
		session_tell(s, "resume-session will need --port-forward: %s", e.text);
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

static int begin(struct session_mode *mode, struct session *s)
{
	struct mode_forward *m = (struct mode_forward *)(void *)mode;
	struct err e = { 0 };
	m->session = s;
	for (size_t i = 0; i < m->count; i++) {
		struct forward *f = &m->forwards[i];
		int fd = f->fd;
		f->fd = -1;
		if (listener_start(&f->listener, s, fd, &e) != 0) {
			complain("%s", e.text);
			return EXIT_CODE_FAILED;
		}
	}
	keep(m, s);
	for (size_t i = 0; i < m->count; i++)
		session_tell(s, "listening on %s for %s on %s", m->forwards[i].shown, m->forwards[i].listener.label,
			     s->target);
	escape_start(&m->escapes, &s->loop, on_escape, m);
	if (m->escapes.active)
		session_tell(s, "session %s; ~? and Enter for help", s->id);
	return EXIT_CODE_OK;
}

static void stream_closed(struct session_mode *mode, struct session *s, uint32_t stream, unsigned code,
			  const char *text)
{
	(void)mode, (void)stream;
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
	for (size_t i = 0; i < m->count; i++)
		listener_stop(&m->forwards[i].listener);
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
					 .stream_closed = stream_closed,
					 .interrupted = interrupted,
					 .renewed = renewed,
					 .over = over,
					 .resumable = true };
}

void mode_forward_free(struct mode_forward *m)
{
	for (size_t i = 0; i < m->count; i++)
		if (m->forwards[i].fd >= 0)
			close(m->forwards[i].fd);
	free(m->forwards);
	m->forwards = NULL;
	m->count = 0;
}
