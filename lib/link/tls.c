/* TLS over a BIO of our own: reading takes from the bytes lent by link_tls_feed, writing goes to the buffer lent by
 * link_tls_output_begin, so ciphertext is never parked in between unless the buffer is full.
 *
 * Both ends show self-signed certificates that exist only to carry a key. What is checked is the key alone: SHA-256 of
 * its SubjectPublicKeyInfo against the pin that came with the session; TLS itself proves that the peer holds it. Dates,
 * names and issuers mean nothing, so the certificate is made here and its dates span everything. */
#include "link/tls.h"

#include "base/buf.h"
#include "base/limits.h"

#include <limits.h>
#include <openssl/bio.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <stdlib.h>
#include <string.h>

#define CIPHER_SUITES "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"
#define MAX_CERTIFICATE 4096 /* bytes; ours have about 300 */

static const unsigned char alpn[] = "\x0dtunnel-link/1";
#define ALPN_LEN (sizeof(alpn) - 1)

struct link_tls_identity {
	bool is_server;
	unsigned char peer_pin[32];
	SSL_CTX *ctx;
	BIO_METHOD *bio_method;
};

struct link_tls {
	SSL *ssl;
	const uint8_t *in;
	size_t in_len;
	uint8_t *out;
	size_t out_size, out_len;
	struct buf waiting;
	bool pin_mismatch;
};

static int bio_read(BIO *bio, char *to, int len)
{
	struct link_tls *tls = BIO_get_data(bio);
	BIO_clear_retry_flags(bio);
	if (tls->in_len == 0) {
		BIO_set_retry_read(bio);
		return -1;
	}
	size_t n = len < 0 ? 0 : (size_t)len;
	if (n > tls->in_len)
		n = tls->in_len;
	memcpy(to, tls->in, n);
	tls->in += n;
	tls->in_len -= n;
	return (int)n;
}

static int bio_write(BIO *bio, const char *from, int len)
{
	struct link_tls *tls = BIO_get_data(bio);
	BIO_clear_retry_flags(bio);
	size_t n = len < 0 ? 0 : (size_t)len, direct = link_tls_output_room(tls);
	if (direct > n)
		direct = n;
	if (buf_add(&tls->waiting, from + direct, n - direct) != 0)
		return -1;
	if (direct)
		memcpy(tls->out + tls->out_len, from, direct);
	tls->out_len += direct;
	return (int)n;
}

static long bio_ctrl(BIO *bio, int command, long number, void *data)
{
	(void)bio, (void)number, (void)data;
	return command == BIO_CTRL_FLUSH;
}

static BIO_METHOD *bio_method_new(void)
{
	BIO_METHOD *method = BIO_meth_new(BIO_TYPE_SOURCE_SINK, "link");
	if (!method || !BIO_meth_set_read(method, bio_read) || !BIO_meth_set_write(method, bio_write) ||
	    !BIO_meth_set_ctrl(method, bio_ctrl)) {
		BIO_meth_free(method);
		return NULL;
	}
	return method;
}

static int check_peer(X509_STORE_CTX *store, void *user)
{
	struct link_tls_identity *identity = user;
	SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
	struct link_tls *tls = SSL_get_app_data(ssl);
	X509 *cert = X509_STORE_CTX_get0_cert(store);
	unsigned char *der = NULL, hash[32];
	int len = cert ? i2d_X509_PUBKEY(X509_get_X509_PUBKEY(cert), &der) : -1;
	bool same = len > 0 && EVP_Digest(der, (size_t)len, hash, NULL, EVP_sha256(), NULL) == 1 &&
		    CRYPTO_memcmp(hash, identity->peer_pin, sizeof(hash)) == 0;
	OPENSSL_free(der);
	tls->pin_mismatch = !same;
	X509_STORE_CTX_set_error(store, same ? X509_V_OK : X509_V_ERR_CERT_REJECTED);
	return same;
}

static int choose_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_len, const unsigned char *in,
		       unsigned in_len, void *user)
{
	(void)ssl, (void)user;
	for (unsigned at = 0; at < in_len; at += 1u + in[at]) {
		if (in_len - at >= ALPN_LEN && memcmp(in + at, alpn, ALPN_LEN) == 0) {
			*out = in + at + 1;
			*out_len = in[at];
			return SSL_TLSEXT_ERR_OK;
		}
	}
	return SSL_TLSEXT_ERR_ALERT_FATAL;
}

static X509 *make_certificate(EVP_PKEY *key)
{
	X509 *cert = X509_new();
	if (!cert)
		return NULL;
	X509_NAME *name = X509_get_subject_name(cert);
	if (X509_set_version(cert, X509_VERSION_3) && ASN1_INTEGER_set(X509_get_serialNumber(cert), 1) &&
	    ASN1_TIME_set_string_X509(X509_getm_notBefore(cert), "20000101000000Z") &&
	    ASN1_TIME_set_string_X509(X509_getm_notAfter(cert), "99991231235959Z") &&
	    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)"tunnel-link", -1, -1, 0) &&
	    X509_set_issuer_name(cert, name) && X509_set_pubkey(cert, key) && X509_sign(cert, key, EVP_sha256()) > 0)
		return cert;
	X509_free(cert);
	return NULL;
}

static bool is_p256(EVP_PKEY *key)
{
	char group[32];
	size_t len;
	return key && EVP_PKEY_is_a(key, "EC") && EVP_PKEY_get_group_name(key, group, sizeof(group), &len) == 1 &&
	       strcmp(group, SN_X9_62_prime256v1) == 0;
}

static int set_up_context(struct link_tls_identity *identity, EVP_PKEY *key)
{
	SSL_CTX *ctx = identity->ctx;
	X509 *cert = make_certificate(key);
	int ok = cert && SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION) &&
		 SSL_CTX_set_max_proto_version(ctx, TLS1_3_VERSION) && SSL_CTX_set_ciphersuites(ctx, CIPHER_SUITES) &&
		 SSL_CTX_use_certificate(ctx, cert) && SSL_CTX_use_PrivateKey(ctx, key) &&
		 SSL_CTX_set_num_tickets(ctx, 0) && SSL_CTX_set_max_early_data(ctx, 0) &&
		 SSL_CTX_set_alpn_protos(ctx, alpn, ALPN_LEN) == 0;
	X509_free(cert);
	if (!ok)
		return -1;
	SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET);
	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS);
	SSL_CTX_set_max_cert_list(ctx, MAX_CERTIFICATE);
	SSL_CTX_set_alpn_select_cb(ctx, choose_alpn, NULL);
	SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
	SSL_CTX_set_cert_verify_callback(ctx, check_peer, identity);
	return 0;
}

int link_tls_identity_new(bool is_server, EVP_PKEY *key, const unsigned char peer_pin[32],
			  struct link_tls_identity **out_identity, struct err *e)
{
	if (!is_p256(key))
		return err_set(e, ERR_INVALID, "link key: must be an EC key on P-256");
	struct link_tls_identity *identity = calloc(1, sizeof(*identity));
	if (!identity)
		return err_set(e, ERR_NOMEM, "out of memory");
	identity->is_server = is_server;
	memcpy(identity->peer_pin, peer_pin, sizeof(identity->peer_pin));
	identity->ctx = SSL_CTX_new(is_server ? TLS_server_method() : TLS_client_method());
	identity->bio_method = bio_method_new();
	if (!identity->ctx || !identity->bio_method || set_up_context(identity, key) != 0) {
		link_tls_identity_free(&identity);
		return err_set_openssl(e, ERR_INTERNAL, "link TLS: cannot be set up");
	}
	*out_identity = identity;
	return 0;
}

void link_tls_identity_free(struct link_tls_identity **identity)
{
	if (!*identity)
		return;
	SSL_CTX_free((*identity)->ctx);
	BIO_meth_free((*identity)->bio_method);
	free(*identity);
	*identity = NULL;
}

int link_tls_new(struct link_tls_identity *identity, struct link_tls **out_tls, struct err *e)
{
	struct link_tls *tls = calloc(1, sizeof(*tls));
	if (!tls)
		return err_set(e, ERR_NOMEM, "out of memory");
	buf_init(&tls->waiting, LIMIT_LINK_OUTPUT);
	BIO *bio = BIO_new(identity->bio_method);
	tls->ssl = SSL_new(identity->ctx);
	if (!bio || !tls->ssl) {
		BIO_free(bio);
		link_tls_free(&tls);
		return err_set_openssl(e, ERR_NOMEM, "link TLS");
	}
	BIO_set_data(bio, tls);
	BIO_set_init(bio, 1);
	SSL_set_bio(tls->ssl, bio, bio);
	SSL_set_app_data(tls->ssl, tls);
	if (identity->is_server)
		SSL_set_accept_state(tls->ssl);
	else
		SSL_set_connect_state(tls->ssl);
	if (link_tls_handshake(tls, e) < 0) {
		link_tls_free(&tls);
		return ERR_INTERNAL;
	}
	*out_tls = tls;
	return 0;
}

void link_tls_free(struct link_tls **tls)
{
	if (!*tls)
		return;
	SSL_free((*tls)->ssl);
	buf_free(&(*tls)->waiting);
	free(*tls);
	*tls = NULL;
}

void link_tls_feed(struct link_tls *tls, const void *data, size_t len)
{
	tls->in = data;
	tls->in_len = len;
}

/* 0 when OpenSSL only wants more input, else the epoch is broken. */
static int judge(struct link_tls *tls, int rc, const char *what, struct err *e)
{
	int why = SSL_get_error(tls->ssl, rc);
	if (why == SSL_ERROR_WANT_READ)
		return 0;
	if (tls->pin_mismatch) {
		ERR_clear_error();
		return err_set(e, ERR_DENIED, "%s: the peer's key is not the one that belongs to the session", what);
	}
	if (why == SSL_ERROR_ZERO_RETURN)
		return err_set(e, ERR_CLOSED, "%s: closed by the peer", what);
	return err_set_openssl(e, ERR_IO, "%s", what);
}

int link_tls_handshake(struct link_tls *tls, struct err *e)
{
	ERR_clear_error();
	int rc = SSL_do_handshake(tls->ssl);
	if (rc != 1)
		return judge(tls, rc, "link TLS handshake", e);
	const unsigned char *chosen;
	unsigned len;
	SSL_get0_alpn_selected(tls->ssl, &chosen, &len);
	if (len != alpn[0] || memcmp(chosen, alpn + 1, len) != 0)
		return err_set(e, ERR_IO, "link TLS handshake: the peer does not speak tunnel-link/1");
	return 1;
}

ssize_t link_tls_read(struct link_tls *tls, void *to, size_t len, struct err *e)
{
	ERR_clear_error();
	int rc = SSL_read(tls->ssl, to, len > INT_MAX ? INT_MAX : (int)len);
	return rc > 0 ? rc : judge(tls, rc, "link TLS", e);
}

int link_tls_write(struct link_tls *tls, const void *data, size_t len, struct err *e)
{
	ERR_clear_error();
	int rc = SSL_write(tls->ssl, data, (int)len);
	if (rc == (int)len)
		return 0;
	return err_set_openssl(e, ERR_IO, "link TLS: write");
}

void link_tls_output_begin(struct link_tls *tls, void *out, size_t size)
{
	size_t n = tls->waiting.len < size ? tls->waiting.len : size;
	if (n)
		memcpy(out, buf_data(&tls->waiting), n);
	buf_consume(&tls->waiting, n);
	if (tls->waiting.len == 0 && tls->waiting.cap)
		buf_free(&tls->waiting);
	tls->out = out;
	tls->out_size = size;
	tls->out_len = n;
}

size_t link_tls_output_room(const struct link_tls *tls)
{
	return tls->waiting.len ? 0 : tls->out_size - tls->out_len;
}

size_t link_tls_output_end(struct link_tls *tls)
{
	size_t n = tls->out_len;
	tls->out = NULL;
	tls->out_size = tls->out_len = 0;
	return n;
}

size_t link_tls_waiting(const struct link_tls *tls)
{
	return tls->waiting.len;
}
