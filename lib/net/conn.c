/* The socket half of our WebSocket client. OpenSSL reads from where one recv of up to 64 KiB a wake-up has put the
 * bytes, and all records of it come out as one piece; what a turn queued is encrypted in one go and leaves in one send.
 * Plaintext is encrypted only when the kernel has taken all earlier ciphertext, so that the queue stays where its owner
 * sees it. */
#include "net/conn.h"

#include "base/process.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/x509_vfy.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Bytes that the kernel holds unsent: little, so that what is urgent does not wait behind what is not. Bytes in flight
 * don't count, so a long path is not slowed down. */
#define NOTSENT_LOWAT (64 * 1024)
#define ENCRYPT_BATCH (128u * 1024)
#define RECORD (16u * 1024)
#define RECORD_OVERHEAD 64u

/* Used within one callback only, so one a thread is enough, and an idle connection holds none. */
static _Thread_local uint8_t net_bytes[CONN_READ];
static _Thread_local uint8_t plain_bytes[CONN_READ];

static pthread_once_t once = PTHREAD_ONCE_INIT;
static BIO_METHOD *method; /* NULL: out of memory */

static void on_event(uv_poll_t *poll, int status, int events);

/* ---- bytes for OpenSSL ---- */

static int bio_read(BIO *bio, char *to, int len)
{
	struct conn *c = BIO_get_data(bio);
	bool held = c->held.len > 0; /* they came first */
	size_t n = held ? c->held.len : c->window_len;
	BIO_clear_retry_flags(bio);
	if (n == 0 || len <= 0) {
		BIO_set_retry_read(bio);
		return -1;
	}
	if (n > (size_t)len)
		n = (size_t)len;
	memcpy(to, held ? buf_data(&c->held) : c->window, n);
	if (held) {
		buf_consume(&c->held, n);
	} else {
		c->window += n;
		c->window_len -= n;
	}
	return (int)n;
}

static int bio_write(BIO *bio, const char *from, int len)
{
	struct conn *c = BIO_get_data(bio);
	BIO_clear_retry_flags(bio);
	return len >= 0 && buf_add(&c->wire, from, (size_t)len) == 0 ? len : -1;
}

static long bio_ctrl(BIO *bio, int command, long number, void *pointer)
{
	(void)bio, (void)number, (void)pointer;
	return command == BIO_CTRL_FLUSH;
}

static void make_method(void)
{
	BIO_METHOD *m = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "connection");
	if (m && BIO_meth_set_read(m, bio_read) && BIO_meth_set_write(m, bio_write) && BIO_meth_set_ctrl(m, bio_ctrl))
		method = m;
}

static bool lend_bytes(struct conn *c)
{
	pthread_once(&once, make_method);
	BIO *bio = method ? BIO_new(method) : NULL;
	if (!bio)
		return false;
	BIO_set_data(bio, c);
	BIO_set_init(bio, 1);
	SSL_set_bio(c->ssl, bio, bio);
	return true;
}

/* ---- out ---- */

static void update_events(struct conn *c)
{
	uint8_t want = 0;
	if (c->reading || c->handshaking)
		want |= UV_READABLE;
	if (c->wire.len || (!c->ssl && c->out.len))
		want |= UV_WRITABLE;
	if (want == c->events)
		return;
	c->events = want;
	if (want)
		uv_poll_start(&c->poll, want, on_event);
	else
		uv_poll_stop(&c->poll);
}

int conn_open(struct conn *c, uv_loop_t *loop, int fd, size_t max_out, const struct conn_callbacks *callbacks,
	      void *user, struct err *e)
{
	int one = 1, lowat = NOTSENT_LOWAT;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &lowat, sizeof lowat);
	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one);
	memset(c, 0, sizeof *c);
	c->fd = -1;
	int rc = uv_poll_init(loop, &c->poll, fd);
	if (rc != 0) {
		close(fd);
		return err_set(e, ERR_IO, "watch a socket: %s", uv_strerror(rc));
	}
	c->loop = loop;
	c->poll.data = user;
	c->fd = fd;
	c->callbacks = callbacks;
	c->user = user;
	buf_init(&c->out, max_out);
	buf_init(&c->wire, SIZE_MAX / 2);
	buf_init(&c->held, 2 * CONN_READ);
	return 0;
}

/* What OpenSSL has to say, for people: why a certificate was refused, else the first error of its queue. */
static void tls_words(const SSL *ssl, char *out, size_t size)
{
	unsigned long code = ERR_get_error();
	long verify = SSL_get_verify_result(ssl);
	const char *reason = code ? ERR_reason_error_string(code) : NULL;
	if (verify != X509_V_OK)
		snprintf(out, size, "TLS: the server's certificate is refused: %s",
			 X509_verify_cert_error_string(verify));
	else
		snprintf(out, size, "TLS: %s", reason ? reason : "broken");
	ERR_clear_error();
}

static int encrypt(struct conn *c, struct err *e)
{
	size_t done = 0, all = c->out.len < ENCRYPT_BATCH ? c->out.len : ENCRYPT_BATCH;
	if (!buf_reserve(&c->wire, all + (all / RECORD + 1) * RECORD_OVERHEAD)) /* so that it grows but once */
		return err_set(e, ERR_NOMEM, "out of memory");
	while (c->out.len && done < ENCRYPT_BATCH) {
		size_t n;
		ERR_clear_error();
		size_t batch = c->out.len < ENCRYPT_BATCH - done ? c->out.len : ENCRYPT_BATCH - done;
		if (SSL_write_ex(c->ssl, buf_data(&c->out), batch, &n) != 1) {
			if (SSL_get_error(c->ssl, 0) == SSL_ERROR_WANT_READ)
				break;
			char words[160];
			tls_words(c->ssl, words, sizeof words);
			return err_set(e, ERR_IO, "%s", words);
		}
		buf_consume(&c->out, n);
		done += n;
	}
	return 0;
}

/* 1: all sent; 0: the kernel is full. */
static int send_all(struct conn *c, struct buf *from, struct err *e)
{
	while (from->len) {
		ssize_t n = send(c->fd, buf_data(from), from->len, MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return 0;
		if (n < 0)
			return err_set(e, ERR_IO, "%s", strerror(errno));
		buf_consume(from, (size_t)n);
	}
	return 1;
}

int conn_flush(struct conn *c, struct err *e)
{
	if (c->fd < 0)
		return err_set(e, ERR_CLOSED, "the connection is closed");
	int rc = 1;
	if (c->write_dead) {
		rc = 0;
	} else if (!c->ssl) {
		rc = send_all(c, &c->out, e);
	} else {
		do {
			rc = send_all(c, &c->wire, e);
			if (rc == 1 && !c->handshaking && c->out.len)
				rc = encrypt(c, e) == 0 ? 1 : ERR_IO;
		} while (rc == 1 && c->wire.len);
	}
	if (rc < 0 && c->reading && !c->handshaking) {
		c->write_dead = true;
		rc = 0;
	}
	if (c->write_dead) {
		buf_clear(&c->out);
		buf_clear(&c->wire);
	}
	update_events(c);
	return rc < 0 ? rc : 0;
}

size_t conn_unsent(const struct conn *c)
{
	return c->out.len + c->wire.len;
}

static void fail(struct conn *c, bool eof, const char *reason)
{
	c->reading = c->handshaking = false;
	uv_poll_stop(&c->poll);
	c->events = 0;
	c->callbacks->failed(c->user, eof, reason);
}

static void fail_tls(struct conn *c)
{
	char words[160];
	struct err ignored;
	tls_words(c->ssl, words, sizeof words);
	(void)send_all(c, &c->wire, &ignored); /* the alert tells the server why */
	fail(c, false, words);
}

/* Returns whether the handshake is done. */
static bool go_on_handshake(struct conn *c)
{
	ERR_clear_error();
	int rc = SSL_do_handshake(c->ssl);
	if (rc != 1 && SSL_get_error(c->ssl, rc) != SSL_ERROR_WANT_READ) {
		fail_tls(c);
		return false;
	}
	c->handshaking = rc != 1;
	struct err e;
	if (conn_flush(c, &e) != 0) {
		fail(c, false, "TLS: the connection broke");
		return false;
	}
	if (rc == 1) {
		process_settled();
		c->callbacks->secured(c->user);
	}
	return rc == 1 && c->fd >= 0;
}

/* Plaintext that OpenSSL can give, gathered to large pieces. */
void conn_drain(struct conn *c)
{
	while (c->fd >= 0 && c->ssl && !c->handshaking && c->reading) {
		size_t have = 0, n = 0;
		int error = SSL_ERROR_NONE;
		ERR_clear_error();
		while (have < sizeof plain_bytes) {
			int rc = SSL_read_ex(c->ssl, plain_bytes + have, sizeof plain_bytes - have, &n);
			if (rc != 1) {
				error = SSL_get_error(c->ssl, rc);
				break;
			}
			have += n;
		}
		bool wants = error == SSL_ERROR_NONE || error == SSL_ERROR_WANT_READ;
		if (c->wire.len) /* a key update's answer */
			update_events(c);
		if (have)
			c->callbacks->data(c->user, plain_bytes, have);
		if (c->fd < 0)
			return;
		if (error == SSL_ERROR_ZERO_RETURN) {
			fail(c, true, "the server closed the connection");
			return;
		}
		if (!wants) {
			fail_tls(c);
			return;
		}
		if (error == SSL_ERROR_WANT_READ)
			return;
	}
}

static void on_bytes(struct conn *c, size_t n)
{
	if (!c->ssl) {
		c->callbacks->data(c->user, net_bytes, n);
		return;
	}
	c->window = net_bytes;
	c->window_len = n;
	if (!c->handshaking || go_on_handshake(c))
		conn_drain(c);
	/* Only where it was told to stop. */
	if (c->fd >= 0 && c->window_len && buf_add(&c->held, c->window, c->window_len) != 0)
		fail(c, false, "out of memory");
	c->window_len = 0;
}

static void on_readable(struct conn *c)
{
	ssize_t n = recv(c->fd, net_bytes, sizeof net_bytes, 0);
	if (n > 0)
		on_bytes(c, (size_t)n);
	else if (n == 0)
		fail(c, true, "the server closed the connection");
	else if (errno != EAGAIN && errno != EINTR)
		fail(c, false, strerror(errno));
}

static void on_event(uv_poll_t *poll, int status, int events)
{
	struct conn *c = (struct conn *)(void *)((char *)poll - offsetof(struct conn, poll));
	struct err e;
	if (status < 0) {
		/* libuv says EBADF for EPOLLERR alone; the socket knows better. */
		int error = 0;
		socklen_t len = sizeof error;
		getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &len);
		fail(c, false, error ? strerror(error) : uv_strerror(status));
		return;
	}
	if (events & UV_WRITABLE) {
		if (conn_flush(c, &e) != 0) {
			fail(c, false, e.text);
			return;
		}
		c->callbacks->sent(c->user);
	}
	if (c->fd >= 0 && (events & UV_READABLE) && (c->reading || c->handshaking))
		on_readable(c);
}

void conn_start_tls(struct conn *c, SSL *ssl)
{
	c->ssl = ssl;
	c->handshaking = true;
	c->reading = true;
	if (lend_bytes(c))
		(void)go_on_handshake(c);
	else
		fail(c, false, "out of memory");
}

void conn_read(struct conn *c, bool on)
{
	c->reading = on;
	if (c->fd >= 0)
		update_events(c);
}

bool conn_drop(struct conn *c, uv_close_cb closed_cb)
{
	if (c->fd < 0)
		return false;
	uv_poll_stop(&c->poll);
	uv_close((uv_handle_t *)&c->poll, closed_cb);
	close(c->fd);
	c->fd = -1;
	/* Without a shutdown OpenSSL marks the session unfit for resumption. Cuts are what resumption is for, and the
	 * WebSocket layer knows by itself whether the end was a proper one. */
	if (c->ssl && !c->handshaking)
		SSL_set_shutdown(c->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
	SSL_free(c->ssl);
	c->ssl = NULL;
	buf_wipe_free(&c->out);
	buf_free(&c->wire);
	buf_free(&c->held);
	return true;
}
