#include "jwt_make.h"

#include "base/file.h"
#include "base/text.h"
#include "support/case.h"

#include <openssl/bio.h>
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ecdsa.h>
#include <openssl/hmac.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>

EVP_PKEY *make_rsa(unsigned bits)
{
	EVP_PKEY *pkey = EVP_PKEY_Q_keygen(NULL, NULL, "RSA", (size_t)bits);
	assert_non_null(pkey);
	return pkey;
}

EVP_PKEY *make_ec(const char *curve)
{
	EVP_PKEY *pkey = EVP_PKEY_Q_keygen(NULL, NULL, "EC", curve);
	assert_non_null(pkey);
	return pkey;
}

EVP_PKEY *make_ed25519(void)
{
	EVP_PKEY *pkey = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
	assert_non_null(pkey);
	return pkey;
}

static char *pem_of(EVP_PKEY *pkey, int private)
{
	char *at = NULL;
	BIO *bio = BIO_new(BIO_s_mem());
	assert_int_equal(private ? PEM_write_bio_PrivateKey(bio, pkey, NULL, NULL, 0, NULL, NULL)
				 : PEM_write_bio_PUBKEY(bio, pkey),
			 1);
	long n = BIO_get_mem_data(bio, &at);
	char *text = strndup(at, (size_t)n);
	BIO_free(bio);
	return text;
}

char *public_pem(EVP_PKEY *pkey)
{
	return pem_of(pkey, 0);
}

void write_text(const char *folder, const char *name, const char *text, unsigned mode)
{
	char path[256];
	struct err e = { 0 };
	snprintf(path, sizeof path, "%s/%s", folder, name);
	assert_int_equal(file_write(path, text, strlen(text), (mode_t)mode, &e), 0);
}

void write_pem(const char *folder, const char *name, EVP_PKEY *pkey, int private)
{
	char *text = pem_of(pkey, private);
	write_text(folder, name, text, 0600);
	free(text);
}

char *base64url(const void *bytes, size_t n)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
	const unsigned char *p = bytes;
	char *out = malloc(n * 4 / 3 + 3);
	size_t len = 0;
	for (size_t bit = 0; bit < n * 8; bit += 6) {
		unsigned two = (unsigned)p[bit / 8] << 8 | (bit / 8 + 1 < n ? p[bit / 8 + 1] : 0u);
		out[len++] = digits[two >> (10 - bit % 8) & 63u];
	}
	out[len] = '\0';
	return out;
}

static void set_bn(json_t *jwk, const char *name, EVP_PKEY *pkey, const char *param, int size)
{
	BIGNUM *bn = NULL;
	unsigned char bytes[1024];
	assert_int_equal(EVP_PKEY_get_bn_param(pkey, param, &bn), 1);
	int n = size ? BN_bn2binpad(bn, bytes, size) : BN_bn2bin(bn, bytes);
	char *text = base64url(bytes, (size_t)n);
	json_object_set_new(jwk, name, json_string(text));
	free(text);
	BN_free(bn);
}

json_t *make_jwk(EVP_PKEY *pkey, const char *alg, const char *kid)
{
	json_t *jwk = json_object();
	if (EVP_PKEY_get_base_id(pkey) == EVP_PKEY_RSA) {
		json_object_set_new(jwk, "kty", json_string("RSA"));
		set_bn(jwk, "n", pkey, OSSL_PKEY_PARAM_RSA_N, 0);
		set_bn(jwk, "e", pkey, OSSL_PKEY_PARAM_RSA_E, 0);
	} else {
		int bits = EVP_PKEY_get_bits(pkey);
		json_object_set_new(jwk, "kty", json_string("EC"));
		json_object_set_new(jwk, "crv", json_string(bits == 256 ? "P-256" : bits == 384 ? "P-384" : "P-521"));
		set_bn(jwk, "x", pkey, OSSL_PKEY_PARAM_EC_PUB_X, (bits + 7) / 8);
		set_bn(jwk, "y", pkey, OSSL_PKEY_PARAM_EC_PUB_Y, (bits + 7) / 8);
	}
	if (alg)
		json_object_set_new(jwk, "alg", json_string(alg));
	if (kid)
		json_object_set_new(jwk, "kid", json_string(kid));
	return jwk;
}

void write_jwks(const char *folder, const char *name, json_t *const *keys, size_t n)
{
	json_t *list = json_array();
	for (size_t i = 0; i < n; i++)
		json_array_append_new(list, keys[i]);
	json_t *root = json_pack("{so}", "keys", list);
	char *text = json_dumps(root, 0);
	write_text(folder, name, text, 0644);
	free(text);
	json_decref(root);
}

static const EVP_MD *md_of(const char *alg)
{
	return strcmp(alg + 2, "256") == 0 ? EVP_sha256() : strcmp(alg + 2, "384") == 0 ? EVP_sha384() : EVP_sha512();
}

/* DER to r || s, each as long as the curve. */
static size_t raw_ecdsa(EVP_PKEY *pkey, const unsigned char *der, size_t n, unsigned char *out)
{
	int size = (EVP_PKEY_get_bits(pkey) + 7) / 8;
	ECDSA_SIG *sig = d2i_ECDSA_SIG(NULL, &der, (long)n);
	BN_bn2binpad(ECDSA_SIG_get0_r(sig), out, size);
	BN_bn2binpad(ECDSA_SIG_get0_s(sig), out + size, size);
	ECDSA_SIG_free(sig);
	return 2 * (size_t)size;
}

static size_t sign(const char *alg, EVP_PKEY *pkey, const char *secret, const char *text, unsigned char *out)
{
	unsigned char der[1024];
	size_t n = sizeof der;
	unsigned len = 0;
	if (strncmp(alg, "HS", 2) == 0) {
		HMAC(md_of(alg), secret, (int)strlen(secret), (const unsigned char *)text, strlen(text), out, &len);
		return len;
	}
	if (strncmp(alg, "RS", 2) != 0 && strncmp(alg, "ES", 2) != 0 && strncmp(alg, "PS", 2) != 0)
		return 0;
	EVP_PKEY_CTX *ctx = NULL; /* owned by md */
	EVP_MD_CTX *md = EVP_MD_CTX_new();
	assert_int_equal(EVP_DigestSignInit(md, &ctx, md_of(alg), NULL, pkey), 1);
	if (alg[0] == 'P')
		assert_true(EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_PSS_PADDING) == 1 &&
			    EVP_PKEY_CTX_set_rsa_pss_saltlen(ctx, RSA_PSS_SALTLEN_DIGEST) == 1);
	assert_int_equal(EVP_DigestSign(md, der, &n, (const unsigned char *)text, strlen(text)), 1);
	EVP_MD_CTX_free(md);
	if (alg[0] == 'E')
		return raw_ecdsa(pkey, der, n, out);
	memcpy(out, der, n);
	return n;
}

char *make_token_bytes(const char *alg, EVP_PKEY *pkey, const char *secret, const void *header, size_t header_len,
		       const void *claims, size_t claims_len)
{
	unsigned char signature[1024];
	char *head = base64url(header, header_len), *body = base64url(claims, claims_len), *text = NULL, *out = NULL;
	assert_true(asprintf(&text, "%s.%s", head, body) > 0);
	size_t n = sign(alg, pkey, secret, text, signature);
	char *sig = base64url(signature, n);
	assert_true(asprintf(&out, "%s.%s", text, sig) > 0);
	free(sig);
	free(text);
	free(body);
	free(head);
	return out;
}

char *make_token(const char *alg, EVP_PKEY *pkey, const char *secret, const char *header, const char *claims)
{
	return make_token_bytes(alg, pkey, secret, header, strlen(header), claims, strlen(claims));
}
