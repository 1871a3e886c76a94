/* TLS runs on memory buffers: the socket is only touched here, with our own waiting and without SIGPIPE. */
#include "wire.h"
#include "tls.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

#define PIECE 16384u /* bytes between socket and TLS at once */

struct wire {
	const struct tunnel_host *host;
	int fd, stop_fd;
	SSL *tls;
	BIO *in, *out; /* tls owns them */
};

static int wait_for(const struct wire *wire, short events, int64_t until_ms, struct words w)
{
	struct pollfd fds[2] = { { .fd = wire->fd, .events = events }, { .fd = wire->stop_fd, .events = POLLIN } };
	for (;;) {
		int64_t left = time_left(wire->host, until_ms, 60000);
		int n = poll(fds, 2, (int)left);
		if (n < 0 && errno != EINTR)
			return words_set(w, TUNNEL_INTERNAL, "poll: %s", strerror(errno));
		if (n > 0 && fds[1].revents)
			return words_set(w, TUNNEL_UNAVAILABLE, "the store is being closed");
		if (n > 0)
			return 0;
		if (until_ms && time_left(wire->host, until_ms, 1) == 0)
			return words_set(w, TUNNEL_TIMEOUT, "no answer in time");
	}
}

static int socket_send(struct wire *wire, const char *bytes, size_t n, int64_t until_ms, struct words w)
{
	while (n > 0) {
		ssize_t sent = send(wire->fd, bytes, n, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (sent >= 0) {
			bytes += sent;
			n -= (size_t)sent;
			continue;
		}
		if (errno == EINTR)
			continue;
		if (errno != EAGAIN)
			return words_set(w, TUNNEL_UNAVAILABLE, "%s", strerror(errno));
		int rc = wait_for(wire, POLLOUT, until_ms, w);
		if (rc != 0)
			return rc;
	}
	return 0;
}

static int socket_receive(struct wire *wire, char *out, size_t size, int64_t until_ms, size_t *out_n, struct words w)
{
	for (;;) {
		ssize_t n = recv(wire->fd, out, size, MSG_DONTWAIT);
		if (n > 0) {
			*out_n = (size_t)n;
			return 0;
		}
		if (n == 0)
			return words_set(w, TUNNEL_UNAVAILABLE, "the connection was closed by the other side");
		if (errno == EINTR)
			continue;
		if (errno != EAGAIN)
			return words_set(w, TUNNEL_UNAVAILABLE, "%s", strerror(errno));
		int rc = wait_for(wire, POLLIN, until_ms, w);
		if (rc != 0)
			return rc;
	}
}

static int tls_flush(struct wire *wire, int64_t until_ms, struct words w)
{
	char piece[PIECE];
	int n, rc = 0;
	while (rc == 0 && (n = BIO_read(wire->out, piece, sizeof piece)) > 0)
		rc = socket_send(wire, piece, (size_t)n, until_ms, w);
	return rc;
}

/* After an operation of TLS that did not get further: sends what it has to say, brings what it wants to hear. */
static int tls_go_on(struct wire *wire, int result, int64_t until_ms, struct words w)
{
	char piece[PIECE];
	size_t n = 0;
	int why = SSL_get_error(wire->tls, result);
	int rc = tls_flush(wire, until_ms, w);
	if (rc == 0 && why == SSL_ERROR_ZERO_RETURN)
		return words_set(w, TUNNEL_UNAVAILABLE, "the connection was closed by the other side");
	if (rc == 0 && why != SSL_ERROR_WANT_READ && why != SSL_ERROR_WANT_WRITE)
		return tls_words(wire->tls, w);
	if (rc == 0 && why == SSL_ERROR_WANT_READ)
		rc = socket_receive(wire, piece, sizeof piece, until_ms, &n, w);
	if (rc == 0 && n && BIO_write(wire->in, piece, (int)n) != (int)n)
		return words_set(w, TUNNEL_UNAVAILABLE, "out of memory");
	return rc;
}

static int tls_handshake(struct wire *wire, const struct endpoint *to, const struct tls_options *tls, int64_t until_ms,
			 struct words w)
{
	int rc = tls_new(tls, to, &wire->tls, &wire->in, &wire->out, w);
	while (rc == 0) {
		ERR_clear_error();
		int done = SSL_connect(wire->tls);
		if (done == 1)
			return tls_flush(wire, until_ms, w);
		rc = tls_go_on(wire, done, until_ms, w);
	}
	return rc;
}

/* A connection that idles and whose other end is gone is noticed after a minute, and before somebody waits for it. */
static void tcp_options(int fd)
{
	static const struct {
		int level, name, value;
	} options[] = { { IPPROTO_TCP, TCP_NODELAY, 1 },
			{ SOL_SOCKET, SO_KEEPALIVE, 1 },
			{ IPPROTO_TCP, TCP_KEEPIDLE, 30 },
			{ IPPROTO_TCP, TCP_KEEPINTVL, 10 },
			{ IPPROTO_TCP, TCP_KEEPCNT, 3 } };
	for (size_t i = 0; i < sizeof options / sizeof *options; i++)
		setsockopt(fd, options[i].level, options[i].name, &options[i].value, sizeof options[i].value);
}

static int socket_connect(struct wire *wire, const struct endpoint *to, int64_t until_ms, struct words w)
{
	int error = 0;
	socklen_t len = sizeof error;
	wire->fd = socket(to->address.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (wire->fd < 0)
		return words_set(w, TUNNEL_UNAVAILABLE, "%s", strerror(errno));
	if (to->address.ss_family != AF_UNIX)
		tcp_options(wire->fd);
	if (connect(wire->fd, (const struct sockaddr *)&to->address, to->address_len) == 0)
		return 0;
	if (errno != EINPROGRESS)
		return words_set(w, TUNNEL_UNAVAILABLE, "%s", strerror(errno));
	int rc = wait_for(wire, POLLOUT, until_ms, w);
	if (rc == 0 && getsockopt(wire->fd, SOL_SOCKET, SO_ERROR, &error, &len) == 0 && error)
		rc = words_set(w, TUNNEL_UNAVAILABLE, "%s", strerror(error));
	return rc;
}

int wire_open(const struct tunnel_host *host, const struct endpoint *to, const struct tls_options *tls, int stop_fd,
	      int64_t until_ms, struct wire **out_wire, struct words w)
{
	struct wire *wire = calloc(1, sizeof *wire);
	if (!wire)
		return words_set(w, TUNNEL_UNAVAILABLE, "out of memory");
	wire->host = host;
	wire->stop_fd = stop_fd;
	int rc = socket_connect(wire, to, until_ms, w);
	if (rc == 0 && tls->on)
		rc = tls_handshake(wire, to, tls, until_ms, w);
	if (rc != 0)
		wire_close(&wire);
	else
		*out_wire = wire;
	return rc;
}

void wire_close(struct wire **wire)
{
	struct wire *one = *wire;
	if (!one)
		return;
	SSL_free(one->tls);
	if (one->fd >= 0)
		close(one->fd);
	free(one);
	*wire = NULL;
}

int wire_fd(const struct wire *wire)
{
	return wire->fd;
}

int wire_send(struct wire *wire, const char *bytes, size_t n, int64_t until_ms, struct words w)
{
	if (!wire->tls)
		return socket_send(wire, bytes, n, until_ms, w);
	while (n > 0) {
		size_t sent = 0;
		ERR_clear_error();
		int done = SSL_write_ex(wire->tls, bytes, n < PIECE ? n : PIECE, &sent);
		int rc = done == 1 ? tls_flush(wire, until_ms, w) : tls_go_on(wire, done, until_ms, w);
		if (rc != 0)
			return rc;
		bytes += sent;
		n -= sent;
	}
	return 0;
}

int wire_receive(struct wire *wire, char *out, size_t size, int64_t until_ms, size_t *out_n, struct words w)
{
	if (!wire->tls)
		return socket_receive(wire, out, size, until_ms, out_n, w);
	for (;;) {
		ERR_clear_error();
		int done = SSL_read_ex(wire->tls, out, size, out_n);
		if (done == 1)
			return 0;
		int rc = tls_go_on(wire, done, until_ms, w);
		if (rc != 0)
			return rc;
	}
}

/* What TLS sends unasked (tickets for a later session) comes before the first answer, and was read with that. */
bool wire_is_quiet(const struct wire *wire)
{
	char byte;
	return recv(wire->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 && (errno == EAGAIN || errno == EINTR);
}

bool wire_has_more(const struct wire *wire)
{
	return wire->tls && (SSL_pending(wire->tls) > 0 || BIO_ctrl_pending(wire->in) > 0);
}
