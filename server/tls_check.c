#include "server/tls_check.h"

#include "base/log.h"
#include "base/secret.h"

#include <errno.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int tls_check_files(const char *certificate, const char *key, struct err *e)
{
	/* The key file's mode is judged as for every secret. */
	struct buf content;
	int rc = secret_read_file(key, &content, e);
	if (rc != 0)
		return err_wrap(e, "tls.key");
	buf_wipe_free(&content);
	if (access(certificate, R_OK) != 0)
		return err_set_errno(e, ERR_INVALID, errno, "tls.certificate: %s", certificate);
	SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
	if (!ctx)
		return err_set_openssl(e, ERR_INTERNAL, "TLS");
	if (SSL_CTX_use_certificate_chain_file(ctx, certificate) != 1)
		rc = err_set_openssl(e, ERR_INVALID, "tls.certificate: %s cannot be used", certificate);
	else if (SSL_CTX_use_PrivateKey_file(ctx, key, SSL_FILETYPE_PEM) != 1 || SSL_CTX_check_private_key(ctx) != 1)
		rc = err_set_openssl(e, ERR_INVALID, "tls.key: %s is not the key of %s", key, certificate);
	SSL_CTX_free(ctx);
	return rc;
}

/* "https://host:port" and "https://[address]:port"; the settings were checked. */
static void host_of(const char *url, char *out, size_t size)
{
	const char *host = url + strlen("https://");
	bool brackets = *host == '[';
	host += brackets;
	snprintf(out, size, "%.*s", (int)strcspn(host, brackets ? "]" : ":"), host);
}

void tls_warn_of_name(const char *certificate, const char *setting, const char *url)
{
	char host[256];
	FILE *f = fopen(certificate, "re");
	X509 *x = f ? PEM_read_X509(f, NULL, NULL, NULL) : NULL;
	if (f)
		fclose(f);
	host_of(url, host, sizeof host);
	if (x && X509_check_host(x, host, 0, 0, NULL) != 1 && X509_check_ip_asc(x, host, 0) != 1)
		log_warn("%s: %s is not a name of the certificate %s: who dials that URL will refuse this server",
			 setting, host, certificate);
	X509_free(x);
}
