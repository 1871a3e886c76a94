/* TLS settings of a program and its session cache. OpenSSL's own client cache is not used: it cannot be searched by
 * host. Ours keeps the latest tickets of each host:port; a TLS 1.3 ticket is taken out when it is used (RFC 8446, C.4:
 * no ticket twice), so that a passive observer cannot join connections. */
#include "net/tls.h"

#include "base/text.h"
#include "net/tls_ciphers.h"

#include <arpa/inet.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CACHED_SESSIONS 16 /* of all hosts: a client talks to a handful of relays */
#define PEER_TEXT (254 + 8)

struct cached {
	char peer[PEER_TEXT];
	SSL_SESSION *session;
	unsigned long age; /* larger is newer */
};

struct net_tls {
	SSL_CTX *ctx;
	char *ca_file;
	pthread_mutex_t lock; /* guards what follows */
	unsigned long clock;
	struct cached cache[CACHED_SESSIONS];
};

static pthread_once_t once = PTHREAD_ONCE_INIT;
static int peer_index = -1, tls_index = -1;

static void free_peer(void *parent, void *ptr, CRYPTO_EX_DATA *ad, int idx, long argl, void *argp)
{
	(void)parent, (void)ad, (void)idx, (void)argl, (void)argp;
	free(ptr);
}

static void init_once(void)
{
	peer_index = SSL_get_ex_new_index(0, NULL, NULL, NULL, free_peer);
	tls_index = SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, NULL);
}

/* The oldest or an empty place. */
static struct cached *cache_place(struct net_tls *tls)
{
	struct cached *place = &tls->cache[0];
	for (size_t i = 0; i < CACHED_SESSIONS; i++) {
		if (!tls->cache[i].session)
			return &tls->cache[i];
		if (tls->cache[i].age < place->age)
			place = &tls->cache[i];
	}
	SSL_SESSION_free(place->session);
	return place;
}

static int on_new_session(SSL *ssl, SSL_SESSION *session)
{
	struct net_tls *tls = SSL_CTX_get_ex_data(SSL_get_SSL_CTX(ssl), tls_index);
	const char *peer = SSL_get_ex_data(ssl, peer_index);
	if (!tls || !peer)
		return 0;
	pthread_mutex_lock(&tls->lock);
	struct cached *place = cache_place(tls);
	strcpy(place->peer, peer);
	place->session = session;
	place->age = ++tls->clock;
	pthread_mutex_unlock(&tls->lock);
	return 1; /* the reference is ours */
}

/* A reference for the caller, or NULL. */
static SSL_SESSION *take_session(struct net_tls *tls, const char *peer)
{
	struct cached *best = NULL;
	SSL_SESSION *session = NULL;
	pthread_mutex_lock(&tls->lock);
	for (size_t i = 0; i < CACHED_SESSIONS; i++) {
		struct cached *c = &tls->cache[i];
		if (c->session && strcmp(c->peer, peer) == 0 && (!best || c->age > best->age))
			best = c;
	}
	if (best) {
		session = best->session;
		if (SSL_SESSION_get_protocol_version(session) >= TLS1_3_VERSION)
			best->session = NULL;
		else
			SSL_SESSION_up_ref(session);
	}
	pthread_mutex_unlock(&tls->lock);
	return session;
}

static int load_trust(struct net_tls *tls, const char *ca_file, struct err *e)
{
	if (!ca_file) {
		if (SSL_CTX_set_default_verify_paths(tls->ctx) != 1)
			return err_set_openssl(e, ERR_IO, "the system's CA certificates");
		return 0;
	}
	if (SSL_CTX_load_verify_locations(tls->ctx, ca_file, NULL) != 1)
		return err_set_openssl(e, ERR_INVALID, "CA file %s: no PEM certificates read from it", ca_file);
	tls->ca_file = strdup(ca_file);
	return tls->ca_file ? 0 : err_set(e, ERR_NOMEM, "out of memory");
}

static int set_up(struct net_tls *tls, const char *ca_file, struct err *e)
{
	/* The second for servers and proxies that do not know the first: what is spoken is the same. */
	static const unsigned char alpn[] = "\x0ctunnel-leg/1\x08http/1.1";
	tls->ctx = SSL_CTX_new(TLS_client_method());
	if (!tls->ctx || SSL_CTX_set_min_proto_version(tls->ctx, TLS1_2_VERSION) != 1 ||
	    SSL_CTX_set_ex_data(tls->ctx, tls_index, tls) != 1 ||
	    SSL_CTX_set_alpn_protos(tls->ctx, alpn, sizeof alpn - 1) != 0)
		return err_set_openssl(e, ERR_INTERNAL, "TLS settings");
	SSL_CTX_set_verify(tls->ctx, SSL_VERIFY_PEER, NULL);
	SSL_CTX_set_mode(tls->ctx, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
					   SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	SSL_CTX_set_options(tls->ctx, SSL_OP_NO_RENEGOTIATION);
	net_tls_prefer_fast_ciphers(tls->ctx);
	SSL_CTX_set_session_cache_mode(tls->ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
	SSL_CTX_sess_set_new_cb(tls->ctx, on_new_session);
	return load_trust(tls, ca_file, e);
}

int net_tls_new(const char *ca_file, struct net_tls **out_tls, struct err *e)
{
	pthread_once(&once, init_once);
	struct net_tls *tls = calloc(1, sizeof *tls);
	if (!tls)
		return err_set(e, ERR_NOMEM, "out of memory");
	pthread_mutex_init(&tls->lock, NULL);
	int rc = set_up(tls, ca_file, e);
	if (rc == 0)
		*out_tls = tls;
	else
		net_tls_free(&tls);
	return rc;
}

void net_tls_free(struct net_tls **tls)
{
	if (!tls || !*tls)
		return;
	for (size_t i = 0; i < CACHED_SESSIONS; i++)
		SSL_SESSION_free((*tls)->cache[i].session);
	SSL_CTX_free((*tls)->ctx);
	pthread_mutex_destroy(&(*tls)->lock);
	free((*tls)->ca_file);
	free(*tls);
	*tls = NULL;
}

static bool is_address(const char *host)
{
	unsigned char address[16];
	return inet_pton(AF_INET, host, address) == 1 || inet_pton(AF_INET6, host, address) == 1;
}

/* Whom the certificate must name. An address is matched as one and not sent as SNI (RFC 6066, 3). */
static int expect_host(SSL *ssl, const char *host)
{
	X509_VERIFY_PARAM *param = SSL_get0_param(ssl);
	X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
	if (is_address(host))
		return X509_VERIFY_PARAM_set1_ip_asc(param, host);
	char sni[256];
	snprintf(sni, sizeof sni, "%s", host);
	return X509_VERIFY_PARAM_set1_host(param, host, 0) == 1 && SSL_set_tlsext_host_name(ssl, sni) == 1;
}

SSL *net_tls_client(struct net_tls *tls, const char *host, uint16_t port, struct err *e)
{
	char peer[PEER_TEXT];
	text_host_port(host, port, peer, sizeof peer);
	SSL *ssl = SSL_new(tls->ctx);
	char *own_peer = strdup(peer);
	if (!ssl || !own_peer)
		goto fail;
	if (SSL_set_ex_data(ssl, peer_index, own_peer) != 1)
		goto fail;
	own_peer = NULL;
	if (expect_host(ssl, host) != 1)
		goto fail;
	SSL_SESSION *session = take_session(tls, peer);
	if (session)
		SSL_set_session(ssl, session);
	SSL_SESSION_free(session);
	SSL_set_connect_state(ssl);
	return ssl;
fail:
	free(own_peer);
	SSL_free(ssl);
	err_set_openssl(e, ERR_INTERNAL, "TLS with %s", peer);
	return NULL;
}

const char *net_tls_ca_file(const struct net_tls *tls)
{
	return tls->ca_file;
}
