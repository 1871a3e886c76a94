#include "tls.h"

#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>

static int of_file(struct words w, const char *what, const char *path)
{
	const char *why = ERR_reason_error_string(ERR_peek_last_error());
	return words_set(w, TUNNEL_CONFIG, "%s %s cannot be used: %s", what, path, why ? why : "no reason is known");
}

static int load_files(SSL_CTX *context, const struct tls_options *o, struct words w)
{
	if (o->ca ? SSL_CTX_load_verify_locations(context, o->ca, NULL) != 1
		  : SSL_CTX_set_default_verify_paths(context) != 1)
		return of_file(w, "tls_ca", o->ca ? o->ca : "of the system");
	if (o->certificate && SSL_CTX_use_certificate_chain_file(context, o->certificate) != 1)
		return of_file(w, "tls_certificate", o->certificate);
	if (o->key && SSL_CTX_use_PrivateKey_file(context, o->key, SSL_FILETYPE_PEM) != 1)
		return of_file(w, "tls_key", o->key);
	return 0;
}

/* The certificate must name the host, or hold the address when an address was dialled. */
static bool expect_name(SSL *tls, const char *name)
{
	unsigned char address[16];
	X509_VERIFY_PARAM *param = SSL_get0_param(tls);
	if (inet_pton(AF_INET, name, address) == 1 || inet_pton(AF_INET6, name, address) == 1)
		return X509_VERIFY_PARAM_set1_ip_asc(param, name) == 1;
	/* SSL_set_tlsext_host_name, without its cast that takes const away */
	return SSL_set1_host(tls, name) == 1 &&
	       SSL_ctrl(tls, SSL_CTRL_SET_TLSEXT_HOSTNAME, TLSEXT_NAMETYPE_host_name, (void *)(uintptr_t)name) == 1;
}

int tls_new(const struct tls_options *o, const struct endpoint *to, SSL **out_tls, BIO **out_in, BIO **out_out,
	    struct words w)
{
	ERR_clear_error();
	SSL_CTX *context = SSL_CTX_new(TLS_client_method());
	if (!context)
		return words_set(w, TUNNEL_UNAVAILABLE, "out of memory");
	SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
	SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
	int rc = load_files(context, o, w);
	SSL *tls = rc == 0 ? SSL_new(context) : NULL;
	SSL_CTX_free(context);
	if (rc != 0)
		return rc;
	BIO *in = BIO_new(BIO_s_mem()), *out = BIO_new(BIO_s_mem());
	if (!tls || !in || !out || !expect_name(tls, o->name ? o->name : to->host)) {
		SSL_free(tls);
		BIO_free(in);
		BIO_free(out);
		return words_set(w, TUNNEL_UNAVAILABLE, "out of memory");
	}
	SSL_set_bio(tls, in, out);
	*out_tls = tls;
	*out_in = in;
	*out_out = out;
	return 0;
}

int tls_words(SSL *tls, struct words w)
{
	unsigned long code = ERR_peek_last_error();
	const char *why = ERR_reason_error_string(code);
	long verified = SSL_get_verify_result(tls);
	if (ERR_GET_REASON(code) == SSL_R_CERTIFICATE_VERIFY_FAILED)
		return words_set(w, TUNNEL_CONFIG, "TLS: the server's certificate is not taken: %s",
				 X509_verify_cert_error_string(verified));
	return words_set(w, TUNNEL_UNAVAILABLE, "TLS: %s", why ? why : "the connection was cut");
}
