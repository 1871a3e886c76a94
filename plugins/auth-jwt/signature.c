/* The lengths are exact: an ECDSA signature is two numbers of the curve's size and nothing else, an RSA one is as long
 * as its modulus, an HMAC as its hash. OpenSSL refuses ECDSA numbers that are 0 or not below the curve's order. */
#include "signature.h"

#include <string.h>

#include <openssl/bio.h>
#include <openssl/bn.h>
#include <openssl/crypto.h>
#include <openssl/ecdsa.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>

#define DER_MAX (2 * (66 + 3) + 4) /* bytes of the two numbers of P-521 */

static const EVP_MD *hash_of(const struct key_alg *alg)
{
	const char *bits = alg->name + 2;
	return strcmp(bits, "256") == 0 ? EVP_sha256() : strcmp(bits, "384") == 0 ? EVP_sha384() : EVP_sha512();
}

static int hmac_is_right(const struct key *key, const void *data, size_t len, const unsigned char *signature,
			 size_t signature_len)
{
	unsigned char own[EVP_MAX_MD_SIZE];
	unsigned own_len = 0;
	if (!HMAC(hash_of(key->alg), key->material, (int)key->len, data, len, own, &own_len))
		return 0;
	int right = own_len == signature_len && CRYPTO_memcmp(own, signature, own_len) == 0;
	OPENSSL_cleanse(own, sizeof own);
	return right;
}

/* From the two numbers of a JWS to what OpenSSL reads. Its length; 0: not of that form. */
static size_t ecdsa_der(const struct key_alg *alg, const unsigned char *signature, size_t len,
			unsigned char out[DER_MAX])
{
	int n = 0;
	if (len != 2 * alg->coordinate)
		return 0;
	ECDSA_SIG *pair = ECDSA_SIG_new();
	BIGNUM *r = BN_bin2bn(signature, (int)alg->coordinate, NULL);
	BIGNUM *s = BN_bin2bn(signature + alg->coordinate, (int)alg->coordinate, NULL);
	if (pair && r && s && ECDSA_SIG_set0(pair, r, s) == 1) {
		r = s = NULL; /* the pair's */
		unsigned char *to = out;
		n = i2d_ECDSA_SIG(pair, NULL) <= DER_MAX ? i2d_ECDSA_SIG(pair, &to) : 0;
	}
	BN_free(r);
	BN_free(s);
	ECDSA_SIG_free(pair);
	return n > 0 ? (size_t)n : 0;
}

static int digest_is_right(const struct key_alg *alg, EVP_PKEY *pkey, const void *data, size_t len,
			   const unsigned char *signature, size_t signature_len)
{
	EVP_PKEY_CTX *how = NULL;
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	int ready = ctx && EVP_DigestVerifyInit(ctx, &how, hash_of(alg), NULL, pkey) == 1;
	if (ready && alg->pss)
		ready = EVP_PKEY_CTX_set_rsa_padding(how, RSA_PKCS1_PSS_PADDING) > 0 &&
			EVP_PKEY_CTX_set_rsa_pss_saltlen(how, RSA_PSS_SALTLEN_DIGEST) > 0;
	int right = ready && EVP_DigestVerify(ctx, signature, signature_len, data, len) == 1;
	EVP_MD_CTX_free(ctx);
	return right;
}

int signature_is_right(const struct key *key, const void *data, size_t len, const unsigned char *signature,
		       size_t signature_len)
{
	unsigned char der[DER_MAX];
	if (!key->material || key->len == 0)
		return 0;
	if (key->alg->family == KEY_HMAC)
		return hmac_is_right(key, data, len, signature, signature_len);
	BIO *bio = BIO_new_mem_buf(key->material, (int)key->len);
	EVP_PKEY *pkey = bio ? PEM_read_bio_PUBKEY(bio, NULL, NULL, NULL) : NULL;
	int right = 0;
	if (pkey && key->alg->family == KEY_EC) {
		size_t der_len = ecdsa_der(key->alg, signature, signature_len, der);
		right = der_len && digest_is_right(key->alg, pkey, data, len, der, der_len);
	} else if (pkey) {
		right = signature_len == (size_t)EVP_PKEY_get_size(pkey) &&
			digest_is_right(key->alg, pkey, data, len, signature, signature_len);
	}
	EVP_PKEY_free(pkey);
	BIO_free(bio);
	ERR_clear_error();
	return right;
}
