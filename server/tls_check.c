#include "server/tls_check.h"

#include "base/secret.h"

#include <errno.h>
#include <openssl/ssl.h>
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
