/* The accept loop: one thread that waits for connections on every listening socket and gives them to the reactors in
 * turn, with a word on which listener they came through. It owns a socket before the TLS layer does, so this is also
 * where socket options are set. The last file descriptors are kept for the server's own work: a connection that would
 * take one of them is closed at once, so that its peer knows and may try another node. */
#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"
#include "server/reactor_internal.h"
#include "server/server.h"
#include "server/strangers.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define LISTENERS 8u /* some for each listener: a name has an address of each family */
#define BACKLOG 1024
#define NOTSENT_LOWAT                                                                                   \
	(128 * 1024) /* bytes of a leg's data that may wait in the kernel: keystrokes stay close behind \
		      */
#define NO_FILES_WAIT_MS 100
#define RESERVED_FILES 32u /* for the store, plugins, keys that are read again, the audit export */
#define SHORTAGE_MS 10000  /* without a closed connection for so long a shortage is over: two lines in the log each */

struct acceptor {
	struct reactors *all;
	pthread_t thread;
	bool running;
	int stop_fd;
	struct pollfd fds[LISTENERS + 1]; /* the last one in use is stop_fd */
	enum listener of[LISTENERS];
	size_t listeners;
	size_t next;
	bool is_short; /* of descriptors, and the log has it */
	size_t turned_away;
	int64_t short_ms;
};

static void set_options(int fd)
{
	int on = 1, lowat = NOTSENT_LOWAT;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
	setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &lowat, sizeof lowat);
	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
}

static void address_text(const struct sockaddr_storage *from, char out[64])
{
	const struct sockaddr_in6 *v6 = (const void *)from;
	const struct sockaddr_in *v4 = (const void *)from;
	out[0] = '\0';
	if (from->ss_family == AF_INET)
		inet_ntop(AF_INET, &v4->sin_addr, out, 64);
	else if (IN6_IS_ADDR_V4MAPPED(&v6->sin6_addr))
		inet_ntop(AF_INET, &v6->sin6_addr.s6_addr[12], out, 64);
	else
		inet_ntop(AF_INET6, &v6->sin6_addr, out, 64);
}

static void note_shortage(struct acceptor *a, const char *what)
{
	if (!a->is_short)
		log_warn("%s: new connections are closed, or wait", what);
	a->is_short = true;
	a->short_ms = clock_mono_ms();
}

static void note_room(struct acceptor *a)
{
	if (!a->is_short || clock_mono_ms() - a->short_ms < SHORTAGE_MS)
		return;
	log_warn("connections are taken again; closed for want of file descriptors: %zu", a->turned_away);
	a->is_short = false;
	a->turned_away = 0;
}

static bool is_reserved(int fd)
{
	struct rlimit limit;
	return getrlimit(RLIMIT_NOFILE, &limit) == 0 && (rlim_t)fd + RESERVED_FILES >= limit.rlim_cur;
}

/* false: nothing more to accept now. */
static bool accept_one(struct acceptor *a, size_t i)
{
	struct sockaddr_storage from;
	socklen_t len = sizeof from;
	int fd = accept4(a->fds[i].fd, (struct sockaddr *)&from, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (fd < 0) {
		if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
			note_shortage(a, strerror(errno));
			poll(&a->fds[a->listeners], 1, NO_FILES_WAIT_MS);
			return false;
		}
		return errno == ECONNABORTED || errno == EINTR;
	}
	if (is_reserved(fd)) {
		close(fd);
		a->turned_away++;
		note_shortage(a, "too few file descriptors are left (LimitNOFILE)");
		return true;
	}
	note_room(a);
	struct accepted socket = { .fd = fd, .from = a->of[i] };
	address_text(&from, socket.remote);
	if (!strangers_enter(a->all->server->strangers, socket.remote, &socket.place)) {
		close(fd);
		return true;
	}
	set_options(fd);
	reactor_adopt_anythread(a->all, a->next, &socket);
	a->next = (a->next + 1) % a->all->count;
	return true;
}

static void *accept_main(void *arg)
{
	struct acceptor *a = arg;
	for (;;) {
		if (poll(a->fds, a->listeners + 1, -1) < 0 && errno != EINTR)
			break;
		if (a->fds[a->listeners].revents)
			break;
		for (size_t i = 0; i < a->listeners; i++)
			while (a->fds[i].revents && accept_one(a, i))
				;
	}
	return NULL;
}

static int listen_on(struct acceptor *a, const struct addrinfo *at, enum listener of, uint16_t *port)
{
	struct sockaddr_storage address;
	socklen_t len = at->ai_addrlen;
	memcpy(&address, at->ai_addr, len);
	/* Port 0: all families get the port that the first one was given. */
	if (at->ai_family == AF_INET6)
		((struct sockaddr_in6 *)(void *)&address)->sin6_port = htons(*port);
	else
		((struct sockaddr_in *)(void *)&address)->sin_port = htons(*port);
	int on = 1, off = 0, fd = socket(at->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -1;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	if (at->ai_family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
	if (bind(fd, (struct sockaddr *)&address, len) != 0 || listen(fd, BACKLOG) != 0 ||
	    getsockname(fd, (struct sockaddr *)&address, &len) != 0) {
		int saved = errno;
		close(fd);
		errno = saved;
		return -1;
	}
	*port = ntohs(at->ai_family == AF_INET6 ? ((struct sockaddr_in6 *)(void *)&address)->sin6_port
						: ((struct sockaddr_in *)(void *)&address)->sin_port);
	a->of[a->listeners] = of;
	a->fds[a->listeners++] = (struct pollfd){ fd, POLLIN, 0 };
	return 0;
}

int reactors_parse_listen(const char *listen, char *out_host, size_t host_size, uint16_t *out_port)
{
	char copy[300];
	size_t len = strlen(listen);
	if (len < 2 || len >= sizeof copy || strcmp(listen + len - 2, ":0") != 0)
		return text_parse_host_port(listen, out_host, host_size, out_port);
	/* A port to connect to is never 0, so the parser takes none; here it has a meaning. */
	memcpy(copy, listen, len + 1);
	copy[len - 1] = '1';
	int rc = text_parse_host_port(copy, out_host, host_size, out_port);
	if (rc == 0)
		*out_port = 0;
	return rc;
}

int acceptor_new(struct reactors *all, struct acceptor **out_acceptor, struct err *e)
{
	struct acceptor *a = calloc(1, sizeof *a);
	if (!a)
		return err_set(e, ERR_NOMEM, "out of memory");
	a->all = all;
	a->stop_fd = eventfd(0, EFD_CLOEXEC);
	if (a->stop_fd < 0) {
		err_set_errno(e, ERR_UNAVAILABLE, errno, "accept thread");
		acceptor_stop(&a);
		return ERR_UNAVAILABLE;
	}
	*out_acceptor = a;
	return 0;
}

int acceptor_listen(struct acceptor *a, const char *setting, const char *text, enum listener of, uint16_t *out_port,
		    struct err *e)
{
	char host[256], service[8];
	uint16_t port = 0;
	if (reactors_parse_listen(text, host, sizeof host, &port) != 0)
		return err_set(e, ERR_INVALID, "%s: \"%s\" is not host:port", setting, text);
	snprintf(service, sizeof service, "%u", port);
	struct addrinfo hints = { .ai_flags = AI_PASSIVE | AI_NUMERICSERV, .ai_socktype = SOCK_STREAM }, *found = NULL;
	int rc = getaddrinfo(host, service, &hints, &found);
	if (rc != 0)
		return err_set(e, ERR_INVALID, "%s: %s: %s", setting, host, gai_strerror(rc));
	int failed = 0;
	size_t before = a->listeners;
	for (const struct addrinfo *at = found; at && a->listeners < LISTENERS; at = at->ai_next)
		if ((at->ai_family == AF_INET || at->ai_family == AF_INET6) && listen_on(a, at, of, &port) != 0)
			failed = errno;
	freeaddrinfo(found);
	if (a->listeners == before)
		return err_set_errno(e, ERR_UNAVAILABLE, failed, "%s: %s", setting, text);
	*out_port = port;
	return 0;
}

int acceptor_start(struct acceptor *a, struct err *e)
{
	a->fds[a->listeners] = (struct pollfd){ a->stop_fd, POLLIN, 0 };
	int rc = pthread_create(&a->thread, NULL, accept_main, a);
	if (rc != 0)
		return err_set_errno(e, ERR_UNAVAILABLE, rc, "accept thread");
	a->running = true;
	return 0;
}

void acceptor_stop(struct acceptor **acceptor)
{
	struct acceptor *a = *acceptor;
	if (!a)
		return;
	uint64_t one = 1;
	if (a->running && write(a->stop_fd, &one, sizeof one) == sizeof one)
		pthread_join(a->thread, NULL);
	for (size_t i = 0; i < a->listeners; i++)
		close(a->fds[i].fd);
	if (a->stop_fd >= 0)
		close(a->stop_fd);
	free(a);
	*acceptor = NULL;
}
