/* TLS without a copy more than OpenSSL makes: it reads from the bytes as they lie in the reactor's buffer, and writes
 * behind each other the records that one send will take. Only what the kernel does not take is kept for itself, and
 * then OpenSSL's buffers go, too. */
#include "server/direct_internal.h"

#include "net/tls_ciphers.h"

#include <errno.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

struct direct_tls {
	SSL_CTX *ctx;
	atomic_int users;
};

static pthread_once_t once = PTHREAD_ONCE_INIT;
static BIO_METHOD *method; /* NULL: out of memory */

/* ---- bytes for OpenSSL ---- */

static int bio_read(BIO *bio, char *to, int len)
{
	struct direct *d = BIO_get_data(bio);
	size_t n = len < 0 ? 0 : (size_t)len < d->window_len ? (size_t)len : d->window_len;
	BIO_clear_retry_flags(bio);
	if (n == 0) {
		BIO_set_retry_read(bio);
		return -1;
	}
	memcpy(to, d->window, n);
	d->window += n;
	d->window_len -= n;
	return (int)n;
}

static int bio_write(BIO *bio, const char *from, int len)
{
	struct direct *d = BIO_get_data(bio);
	struct direct_loop *l = d->loop;
	size_t n = len < 0 ? 0 : (size_t)len;
	BIO_clear_retry_flags(bio);
	if (d->wire.len || n > sizeof l->wire - l->wire_len) {
		/* In order: behind what is there. */
		if (buf_add(&d->wire, l->wire, l->wire_len) != 0 || buf_add(&d->wire, from, n) != 0)
			return -1;
		l->wire_len = 0;
		return len;
	}
	memcpy(l->wire + l->wire_len, from, n);
	l->wire_len += n;
	return len;
}

static long bio_ctrl(BIO *bio, int command, long number, void *pointer)
{
	(void)bio, (void)number, (void)pointer;
	return command == BIO_CTRL_FLUSH;
}

static void make_method(void)
{
	BIO_METHOD *m = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "reactor");
	if (m && BIO_meth_set_read(m, bio_read) && BIO_meth_set_write(m, bio_write) && BIO_meth_set_ctrl(m, bio_ctrl))
		method = m;
}

/* ---- settings ---- */

/* Our own protocol or none: who got here has offered it. */
static int choose_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_len, const unsigned char *in,
		       unsigned in_len, void *arg)
{
	static const unsigned char ours[] = "\x0c" DIRECT_ALPN;
	unsigned char *chosen = NULL;
	(void)ssl, (void)arg;
	if (SSL_select_next_proto(&chosen, out_len, ours, sizeof ours - 1, in, in_len) != OPENSSL_NPN_NEGOTIATED)
		return SSL_TLSEXT_ERR_ALERT_FATAL;
	*out = chosen;
	return SSL_TLSEXT_ERR_OK;
}

_Static_assert(sizeof DIRECT_ALPN - 1 == 0x0c, "the length before it");

int direct_tls_new(const char *certificate, const char *key, struct direct_tls **out_tls, struct err *e)
{
	pthread_once(&once, make_method);
	struct direct_tls *tls = calloc(1, sizeof *tls);
	if (!tls || !method) {
		free(tls);
		return err_set(e, ERR_NOMEM, "out of memory");
	}
	atomic_init(&tls->users, 1);
	tls->ctx = SSL_CTX_new(TLS_server_method());
	if (!tls->ctx || SSL_CTX_set_min_proto_version(tls->ctx, TLS1_2_VERSION) != 1 ||
	    SSL_CTX_use_certificate_chain_file(tls->ctx, certificate) != 1 ||
	    SSL_CTX_use_PrivateKey_file(tls->ctx, key, SSL_FILETYPE_PEM) != 1) {
		int rc = err_set_openssl(e, ERR_INVALID, "certificate %s and key %s", certificate, key);
		direct_tls_unref_anythread(&tls);
		return rc;
	}
	SSL_CTX_set_mode(tls->ctx, SSL_MODE_RELEASE_BUFFERS);
	SSL_CTX_set_options(tls->ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
	/* Tickets resume sessions; a cache would hold memory of each. */
	SSL_CTX_set_session_cache_mode(tls->ctx, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_alpn_select_cb(tls->ctx, choose_alpn, NULL);
	net_tls_prefer_fast_ciphers(tls->ctx);
	*out_tls = tls;
	return 0;
}

struct direct_tls *direct_tls_ref_anythread(struct direct_tls *tls)
{
	atomic_fetch_add(&tls->users, 1);
	return tls;
}

void direct_tls_unref_anythread(struct direct_tls **tls)
{
	if (*tls && atomic_fetch_sub(&(*tls)->users, 1) == 1) {
		SSL_CTX_free((*tls)->ctx);
		free(*tls);
	}
	*tls = NULL;
}

/* ---- a connection ---- */

int direct_secure(struct direct *d)
{
	BIO *bio = BIO_new(method);
	d->ssl = SSL_new(d->loop->tls->ctx);
	if (!bio || !d->ssl) {
		BIO_free(bio);
		return -1;
	}
	BIO_set_data(bio, d);
	BIO_set_init(bio, 1);
	SSL_set_bio(d->ssl, bio, bio);
	SSL_set_accept_state(d->ssl);
	return 0;
}

int direct_handshake(struct direct *d)
{
	ERR_clear_error();
	int rc = SSL_do_handshake(d->ssl);
	bool waits = rc != 1 && SSL_get_error(d->ssl, rc) == SSL_ERROR_WANT_READ;
	ERR_clear_error();
	return rc == 1 ? 1 : waits ? 0 : -1;
}

int direct_read(struct direct *d, size_t *out_len, bool *out_more)
{
	struct direct_loop *l = d->loop;
	size_t have = 0, n = 0;
	int error = SSL_ERROR_NONE;
	ERR_clear_error();
	while (have < sizeof l->plain && error == SSL_ERROR_NONE) {
		if (SSL_read_ex(d->ssl, l->plain + have, sizeof l->plain - have, &n) == 1)
			have += n;
		else
			error = SSL_get_error(d->ssl, 0);
	}
	ERR_clear_error();
	*out_len = have;
	*out_more = error == SSL_ERROR_NONE;
	return error == SSL_ERROR_NONE || error == SSL_ERROR_WANT_READ ? 0 : -1;
}

int direct_encrypt(struct direct *d, const void *data, size_t len)
{
	size_t n = 0;
	ERR_clear_error();
	return SSL_write_ex(d->ssl, data, len, &n) == 1 && n == len ? 0 : -1;
}

void direct_tls_end(struct direct *d)
{
	ERR_clear_error();
	(void)SSL_shutdown(d->ssl);
	ERR_clear_error();
}

/* ---- bytes for the kernel ---- */

/* How many it took, or -1. */
static ssize_t send_some(int fd, const uint8_t *data, size_t len)
{
	size_t done = 0;
	while (done < len) {
		ssize_t n = send(fd, data + done, len - done, MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			break;
		if (n < 0)
			return -1;
		done += (size_t)n;
	}
	return (ssize_t)done;
}

int direct_push(struct direct *d)
{
	struct direct_loop *l = d->loop;
	if (d->write_dead)
		goto broken;
	if (d->wire.len) {
		ssize_t n = send_some(d->fd, buf_data(&d->wire), d->wire.len);
		if (n < 0)
			goto broken;
		buf_consume(&d->wire, (size_t)n);
	}
	if (l->wire_len && !d->wire.len) {
		ssize_t n = send_some(d->fd, l->wire, l->wire_len);
		if (n < 0 || buf_add(&d->wire, l->wire + n, l->wire_len - (size_t)n) != 0)
			goto broken;
		l->wire_len = 0;
	}
	if (d->wire.len)
		return 0;
	buf_free(&d->wire);
	return 1;
broken:
	d->write_dead = true;
	l->wire_len = 0;
	buf_free(&d->wire);
	return -1;
}
