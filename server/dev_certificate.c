/* The CA signs one certificate and its key is never written: nobody who reads the folder can sign another. */
#include "server/dev_certificate.h"

#include "base/file.h"
#include "base/secret.h"

#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define LIFETIME_S (10L * 365 * 24 * 3600)

static int add_extension(X509 *cert, X509 *issuer, int nid, const char *value)
{
	X509V3_CTX ctx;
	X509V3_set_ctx(&ctx, issuer, cert, NULL, NULL, 0);
	X509_EXTENSION *ext = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
	int ok = ext && X509_add_ext(cert, ext, -1);
	X509_EXTENSION_free(ext);
	return ok;
}

/* issuer NULL: self-signed CA. names: subjectAltName, for a server's certificate. */
static X509 *make(const char *common_name, EVP_PKEY *key, X509 *issuer, EVP_PKEY *issuer_key, const char *names)
{
	X509 *cert = X509_new();
	uint64_t serial;
	secret_random(&serial, sizeof serial);
	X509_NAME *name = cert ? X509_get_subject_name(cert) : NULL;
	int ok = name && X509_set_version(cert, 2) &&
		 ASN1_INTEGER_set_uint64(X509_get_serialNumber(cert), serial >> 1) &&
		 X509_gmtime_adj(X509_getm_notBefore(cert), -3600) &&
		 X509_gmtime_adj(X509_getm_notAfter(cert), LIFETIME_S) &&
		 X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8, (const unsigned char *)common_name, -1, -1, 0) &&
		 X509_set_issuer_name(cert, issuer ? X509_get_subject_name(issuer) : name) &&
		 X509_set_pubkey(cert, key);
	if (ok && !issuer)
		ok = add_extension(cert, cert, NID_basic_constraints, "critical,CA:TRUE,pathlen:0") &&
		     add_extension(cert, cert, NID_key_usage, "critical,keyCertSign,cRLSign") &&
		     add_extension(cert, cert, NID_subject_key_identifier, "hash");
	else if (ok)
		ok = add_extension(cert, issuer, NID_basic_constraints, "critical,CA:FALSE") &&
		     add_extension(cert, issuer, NID_key_usage, "critical,digitalSignature") &&
		     add_extension(cert, issuer, NID_ext_key_usage, "serverAuth") &&
		     add_extension(cert, issuer, NID_subject_key_identifier, "hash") &&
		     add_extension(cert, issuer, NID_authority_key_identifier, "keyid") &&
		     add_extension(cert, issuer, NID_subject_alt_name, names);
	if (ok && X509_sign(cert, issuer_key, EVP_sha256()) > 0)
		return cert;
	X509_free(cert);
	return NULL;
}

static int write_pem(const char *path, X509 *cert, EVP_PKEY *key, struct err *e)
{
	BIO *out = BIO_new(BIO_s_mem());
	char *text = NULL;
	int ok = out && (cert ? PEM_write_bio_X509(out, cert)
			      : PEM_write_bio_PKCS8PrivateKey(out, key, NULL, NULL, 0, NULL, NULL));
	long len = ok ? BIO_get_mem_data(out, &text) : 0;
	int rc = !ok    ? err_set_openssl(e, ERR_INTERNAL, "%s", path)
		 : cert ? file_write(path, text, (size_t)len, 0644, e)
			: secret_write_file(path, text, (size_t)len, e);
	if (text)
		secret_wipe(text, (size_t)len);
	BIO_free(out);
	return rc;
}

int dev_certificate_make(const char *ca_path, const char *certificate_path, const char *key_path, struct err *e)
{
	char host[256] = "localhost", names[400];
	gethostname(host, sizeof host - 1);
	/* A host name that is none would make the whole extension invalid. */
	bool usable = host[0] &&
		      strspn(host, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-") == strlen(host);
	snprintf(names, sizeof names, "DNS:localhost,IP:127.0.0.1,IP:::1%s%s", usable ? ",DNS:" : "",
		 usable ? host : "");
	EVP_PKEY *ca_key = EVP_EC_gen("P-256"), *key = EVP_EC_gen("P-256");
	X509 *ca = NULL, *cert = NULL;
	int rc = ERR_INTERNAL;
	if (ca_key && key && (ca = make("tunnel development CA", ca_key, NULL, ca_key, NULL)) != NULL)
		cert = make("localhost", key, ca, ca_key, names);
	if (!cert)
		err_set_openssl(e, rc, "development certificate");
	else if ((rc = write_pem(ca_path, ca, NULL, e)) == 0 && (rc = write_pem(certificate_path, cert, NULL, e)) == 0)
		rc = write_pem(key_path, NULL, key, e);
	X509_free(ca);
	X509_free(cert);
	EVP_PKEY_free(ca_key);
	EVP_PKEY_free(key);
	return rc;
}
