#include "cli/mode.h"

#include "base/text.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

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
		err_set_errno(e, ERR_IO, errno, "listen on %s port %u", host, port);
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

static int listen_one(struct mode_forward *m, struct session *s, const char *spec)
{
	struct err e = { 0 };
	struct listener *l = &m->listeners[m->count];
	char bind_host[64], shown[80];
	uint16_t port;
	const char *dest;
	int fd = -1;
	l->dest.kind = LINK_KIND_TCP;
	if (split(spec, bind_host, sizeof bind_host, &port, &dest, &e) != 0 ||
	    text_parse_host_port(dest, l->dest.host, sizeof l->dest.host, &l->dest.port) != 0 ||
	    (fd = open_listener(bind_host, port, &e)) < 0) {
		complain("%s", e.text);
		return EXIT_CODE_FAILED;
	}
	snprintf(l->label, sizeof l->label, "%s", dest);
	uint16_t bound = bound_port(fd);
	if (listener_start(l, s, fd, &e) != 0) {
		complain("%s", e.text);
		return EXIT_CODE_FAILED;
	}
	m->count++;
	text_host_port(bind_host, bound, shown, sizeof shown);
	session_tell(s, "listening on %s for %s on %s", shown, dest, s->target);
	return EXIT_CODE_OK;
}

static int begin(struct session_mode *mode, struct session *s)
{
	struct mode_forward *m = (struct mode_forward *)(void *)mode;
	m->listeners = calloc(m->specs->n, sizeof *m->listeners);
	if (!m->listeners)
		return EXIT_CODE_FAILED;
	for (size_t i = 0; i < m->specs->n; i++) {
		int code = listen_one(m, s, m->specs->at[i]);
		if (code != EXIT_CODE_OK)
			return code;
	}
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

static void over(struct session_mode *mode, struct session *s)
{
	struct mode_forward *m = (struct mode_forward *)(void *)mode;
	(void)s;
	for (size_t i = 0; i < m->count; i++)
		listener_stop(&m->listeners[i]);
}

void mode_forward_init(struct mode_forward *m)
{
	m->mode = (struct session_mode){
		.begin = begin, .stream_closed = stream_closed, .interrupted = interrupted, .over = over
	};
}

void mode_forward_free(struct mode_forward *m)
{
	free(m->listeners);
	m->listeners = NULL;
}
