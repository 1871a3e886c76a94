/* libjwt 1.10.2 looks at the key's text only when it verifies, and then not closely: it takes an RSA public key as an
 * HMAC secret and a P-384 key for ES256. So type, curve and size are judged here, once, when a key is loaded, and
 * every public key is written out again as one clean SubjectPublicKeyInfo PEM: what verifies later holds that key and
 * nothing else. */
#include "key.h"

#include "text.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/bio.h>
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#define RSA_BITS_MIN 2048
#define RSA_BITS_MAX 8192 /* verification time grows with the square */

static const struct key_alg algs[] = {
	{ .name = "RS256", .family = KEY_RSA },
	{ .name = "RS384", .family = KEY_RSA },
	{ .name = "RS512", .family = KEY_RSA },
	{ .name = "PS256", .family = KEY_RSA, .pss = 1 },
	{ .name = "PS384", .family = KEY_RSA, .pss = 1 },
	{ .name = "PS512", .family = KEY_RSA, .pss = 1 },
	{ .name = "ES256", .family = KEY_EC, .curve = "prime256v1", .crv = "P-256", .coordinate = 32 },
	{ .name = "ES384", .family = KEY_EC, .curve = "secp384r1", .crv = "P-384", .coordinate = 48 },
	{ .name = "ES512", .family = KEY_EC, .curve = "secp521r1", .crv = "P-521", .coordinate = 66 },
	{ .name = "HS256", .family = KEY_HMAC, .secret_min = 32 },
	{ .name = "HS384", .family = KEY_HMAC, .secret_min = 48 },
	{ .name = "HS512", .family = KEY_HMAC, .secret_min = 64 },
};
#define ALGS (sizeof algs / sizeof *algs)

const struct key_alg *key_alg_find(const char *name, size_t n, char *err, size_t err_len)
{
	char allowed[128] = "", given[SHOWN_MAX], copy[SHOWN_MAX];
	for (size_t i = 0; i < ALGS; i++) {
		if (strlen(algs[i].name) == n && memcmp(algs[i].name, name, n) == 0)
			return &algs[i];
		size_t used = strlen(allowed);
		snprintf(allowed + used, sizeof allowed - used, "%s%s", used ? ", " : "", algs[i].name);
	}
	snprintf(copy, sizeof copy, "%.*s", (int)(n < sizeof copy ? n : sizeof copy - 1), name);
	say(0, err, err_len, "unsupported algorithm \"%s\"; allowed: %s", shown(copy, given), allowed);
	return NULL;
}

void secret_free(unsigned char *data, size_t len)
{
	if (data)
		OPENSSL_cleanse(data, len);
	free(data);
}

void key_clear(struct key *key)
{
	secret_free(key->material, key->len);
	free(key->kid);
	free(key->where);
	memset(key, 0, sizeof *key);
}

static int check_private(int fd, const char *path, char *err, size_t err_len)
{
	struct stat st;
	if (fstat(fd, &st) != 0)
		return say(-1, err, err_len, "%s: %s", path, strerror(errno));
	if (!S_ISREG(st.st_mode))
		return say(-1, err, err_len, "%s: not a regular file", path);
	if (st.st_mode & 077)
		return say(-1, err, err_len, "%s: has mode %04o, others could read it; allowed: 0600 (chmod 600)", path,
			   (unsigned)(st.st_mode & 07777));
	if (st.st_uid != geteuid() && st.st_uid != 0)
		return say(-1, err, err_len, "%s: belongs to another user (uid %u); allowed: the server's user or root",
			   path, (unsigned)st.st_uid);
	return 0;
}

int key_read_file(const char *path, int private, unsigned char **out, size_t *out_len, char *err, size_t err_len)
{
	int rc = -1;
	size_t len = 0;
	unsigned char *data = NULL;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (fd < 0)
		return say(-1, err, err_len, "%s: %s", path, strerror(errno));
	if (private && check_private(fd, path, err, err_len) != 0)
		goto out;
	data = malloc(KEY_FILE_MAX + 2);
	if (!data) {
		say(-1, err, err_len, "out of memory");
		goto out;
	}
	while (len <= KEY_FILE_MAX) {
		ssize_t n = read(fd, data + len, KEY_FILE_MAX + 1 - len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			say(-1, err, err_len, "%s: %s", path, strerror(errno));
			goto out;
		}
		if (n == 0)
			break;
		len += (size_t)n;
	}
	if (len > KEY_FILE_MAX) {
		say(-1, err, err_len, "%s: larger than %u bytes", path, KEY_FILE_MAX);
		goto out;
	}
	data[len] = '\0';
	*out = data;
	*out_len = len;
	data = NULL;
	rc = 0;
out:
	secret_free(data, len);
	close(fd);
	return rc;
}

static int copy_names(const char *kid, const char *where, struct key *key)
{
	key->kid = kid ? strdup(kid) : NULL;
	key->where = strdup(where);
	return (kid && !key->kid) || !key->where ? -1 : 0;
}

/* Is this public key one that alg may use? 1 with a sentence when not. */
static int check_public(const struct key_alg *alg, EVP_PKEY *pkey, char *err, size_t err_len)
{
	int type = EVP_PKEY_get_base_id(pkey);
	if (alg->family == KEY_EC) {
		char curve[64] = "?";
		if (type != EVP_PKEY_EC)
			return say(1, err, err_len, "is not an EC key; %s needs one on %s", alg->name, alg->crv);
		if (!EVP_PKEY_get_group_name(pkey, curve, sizeof curve, NULL) || strcmp(curve, alg->curve) != 0)
			return say(1, err, err_len, "is an EC key on curve %s; %s needs %s (%s)", curve, alg->name,
				   alg->crv, alg->curve);
	} else {
		int bits = EVP_PKEY_get_bits(pkey);
		if (type != EVP_PKEY_RSA && !(alg->pss && type == EVP_PKEY_RSA_PSS))
			return say(1, err, err_len, "is not an RSA key; %s needs one", alg->name);
		if (bits < RSA_BITS_MIN || bits > RSA_BITS_MAX)
			return say(1, err, err_len, "is an RSA key of %d bits; allowed: %d to %d", bits, RSA_BITS_MIN,
				   RSA_BITS_MAX);
	}
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_pkey(NULL, pkey, NULL);
	int valid = ctx && EVP_PKEY_public_check(ctx) == 1;
	EVP_PKEY_CTX_free(ctx);
	ERR_clear_error();
	return valid ? 0 : say(1, err, err_len, "is not a valid public key (OpenSSL's check refused it)");
}

static EVP_PKEY *pkey_from_params(const char *type, OSSL_PARAM_BLD *build)
{
	EVP_PKEY *pkey = NULL;
	OSSL_PARAM *params = OSSL_PARAM_BLD_to_param(build);
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, type, NULL);
	if (!params || !ctx || EVP_PKEY_fromdata_init(ctx) != 1 ||
	    EVP_PKEY_fromdata(ctx, &pkey, EVP_PKEY_PUBLIC_KEY, params) != 1)
		pkey = NULL;
	EVP_PKEY_CTX_free(ctx);
	OSSL_PARAM_free(params);
	ERR_clear_error();
	return pkey;
}

static EVP_PKEY *pkey_from_rsa(const BIGNUM *n, const BIGNUM *e)
{
	EVP_PKEY *pkey = NULL;
	OSSL_PARAM_BLD *build = OSSL_PARAM_BLD_new();
	if (n && e && build && OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_RSA_N, n) &&
	    OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_RSA_E, e))
		pkey = pkey_from_params("RSA", build);
	OSSL_PARAM_BLD_free(build);
	return pkey;
}

static int take_public(const struct key_alg *alg, EVP_PKEY *pkey, struct key *key, char *err, size_t err_len)
{
	int rc = check_public(alg, pkey, err, err_len);
	if (rc != 0)
		return rc;
	char *text = NULL;
	BIO *bio = BIO_new(BIO_s_mem());
	long n = bio && PEM_write_bio_PUBKEY(bio, pkey) == 1 ? BIO_get_mem_data(bio, &text) : 0;
	key->material = n > 0 ? malloc((size_t)n + 1) : NULL;
	if (key->material) {
		memcpy(key->material, text, (size_t)n);
		key->material[n] = '\0';
		key->len = (size_t)n;
	}
	BIO_free(bio);
	key->alg = alg;
	return key->material ? 0 : say(KEY_NO_MEMORY, err, err_len, "out of memory");
}

static int no_passphrase(char *buf, int size, int writing, void *arg)
{
	(void)buf, (void)size, (void)writing, (void)arg;
	return -1;
}

/* "PUBLIC KEY" or the public key of a "CERTIFICATE". */
static EVP_PKEY *public_from_pem(const unsigned char *text, size_t len)
{
	BIO *bio = BIO_new_mem_buf(text, (int)len);
	EVP_PKEY *pkey = bio ? PEM_read_bio_PUBKEY(bio, NULL, no_passphrase, NULL) : NULL;
	BIO_free(bio);
	if (!pkey && (bio = BIO_new_mem_buf(text, (int)len))) {
		X509 *cert = PEM_read_bio_X509(bio, NULL, no_passphrase, NULL);
		pkey = cert ? X509_get_pubkey(cert) : NULL;
		X509_free(cert);
		BIO_free(bio);
	}
	ERR_clear_error();
	return pkey;
}

static int take_pem(const struct key_alg *alg, const char *path, const unsigned char *data, size_t len, struct key *key,
		    char *err, size_t err_len)
{
	char why[256];
	if (strstr((const char *)data, "PRIVATE KEY-----"))
		return say(-1, err, err_len,
			   "%s: holds a private key; only its public half belongs here (openssl pkey -in … -pubout)",
			   path);
	EVP_PKEY *pkey = public_from_pem(data, len);
	if (!pkey)
		return say(-1, err, err_len, "%s: no \"PUBLIC KEY\" or \"CERTIFICATE\" in PEM form in it", path);
	int rc = take_public(alg, pkey, key, why, sizeof why);
	EVP_PKEY_free(pkey);
	return rc == 0 ? 0 : say(-1, err, err_len, "%s: %s", path, why);
}

static int take_secret(const struct key_alg *alg, const char *path, const unsigned char *data, size_t len,
		       struct key *key, char *err, size_t err_len)
{
	if (len && data[len - 1] == '\n') /* what an editor or echo leaves */
		len--;
	if (strstr((const char *)data, "-----BEGIN "))
		return say(-1, err, err_len,
			   "%s: holds PEM, which is no shared secret for %s; name the key's own algorithm", path,
			   alg->name);
	if (len < alg->secret_min)
		return say(-1, err, err_len, "%s: a secret of %zu bytes; %s needs at least %zu", path, len, alg->name,
			   alg->secret_min);
	key->material = malloc(len);
	if (!key->material)
		return say(-1, err, err_len, "out of memory");
	memcpy(key->material, data, len);
	key->len = len;
	key->alg = alg;
	return 0;
}

int key_from_file(const struct key_alg *alg, const char *kid, const char *path, const char *where, struct key *out,
		  char *err, size_t err_len)
{
	unsigned char *data = NULL;
	size_t len = 0;
	struct key key = { 0 };
	int secret = alg->family == KEY_HMAC;
	if (key_read_file(path, secret, &data, &len, err, err_len) != 0)
		return -1;
	int rc = secret ? take_secret(alg, path, data, len, &key, err, err_len)
			: take_pem(alg, path, data, len, &key, err, err_len);
	secret_free(data, len);
	if (rc == 0 && copy_names(kid, where, &key) != 0)
		rc = say(-1, err, err_len, "out of memory");
	if (rc != 0)
		key_clear(&key);
	else
		*out = key;
	return rc;
}

static const char *member(const json_t *jwk, const char *name)
{
	return json_string_value(json_object_get(jwk, name));
}

/* The base64url member as bytes; at most size of them. */
static int member_bytes(const json_t *jwk, const char *name, unsigned char *out, size_t size, size_t *out_len)
{
	const char *text = member(jwk, name);
	size_t n = text ? strlen(text) : 0;
	if (n == 0 || n * 3 / 4 > size)
		return -1;
	return base64url_decode(text, n, out, out_len);
}

static EVP_PKEY *pkey_from_rsa_jwk(const json_t *jwk)
{
	unsigned char n[RSA_BITS_MAX / 8], e[8];
	size_t n_len = 0, e_len = 0;
	if (member_bytes(jwk, "n", n, sizeof n, &n_len) != 0 || member_bytes(jwk, "e", e, sizeof e, &e_len) != 0)
		return NULL;
	BIGNUM *bn_n = BN_bin2bn(n, (int)n_len, NULL), *bn_e = BN_bin2bn(e, (int)e_len, NULL);
	EVP_PKEY *pkey = pkey_from_rsa(bn_n, bn_e);
	BN_free(bn_n);
	BN_free(bn_e);
	return pkey;
}

static EVP_PKEY *pkey_from_ec_jwk(const json_t *jwk, const struct key_alg *alg)
{
	unsigned char point[1 + 2 * 66] = { 4 }; /* uncompressed */
	size_t size = alg->coordinate, x_len = 0, y_len = 0;
	if (member_bytes(jwk, "x", point + 1, size, &x_len) != 0 || x_len != size ||
	    member_bytes(jwk, "y", point + 1 + size, size, &y_len) != 0 || y_len != size)
		return NULL;
	EVP_PKEY *pkey = NULL;
	OSSL_PARAM_BLD *build = OSSL_PARAM_BLD_new();
	if (build && OSSL_PARAM_BLD_push_utf8_string(build, OSSL_PKEY_PARAM_GROUP_NAME, alg->curve, 0) &&
	    OSSL_PARAM_BLD_push_octet_string(build, OSSL_PKEY_PARAM_PUB_KEY, point, 1 + 2 * size))
		pkey = pkey_from_params("EC", build);
	OSSL_PARAM_BLD_free(build);
	return pkey;
}

/* The one algorithm of a JWK: an EC key's by its curve, an RSA key's by "alg", RS256 where the issuer leaves it out. */
static const struct key_alg *jwk_alg(const json_t *jwk, char *err, size_t err_len)
{
	char a[SHOWN_MAX];
	const char *kty = member(jwk, "kty"), *alg = member(jwk, "alg"), *crv = member(jwk, "crv");
	if (kty && strcmp(kty, "EC") == 0) {
		for (size_t i = 0; i < ALGS; i++)
			if (crv && algs[i].crv && strcmp(algs[i].crv, crv) == 0) {
				if (!alg || strcmp(alg, algs[i].name) == 0)
					return &algs[i];
				say(0, err, err_len, "has alg \"%s\", but a key on %s is for %s", shown(alg, a), crv,
				    algs[i].name);
				return NULL;
			}
		say(0, err, err_len, "is on the unsupported curve \"%s\"; allowed: P-256, P-384, P-521",
		    shown(crv ? crv : "", a));
		return NULL;
	}
	if (!kty || strcmp(kty, "RSA") != 0) {
		say(0, err, err_len, "has the unsupported type \"%s\"; allowed: EC, RSA", shown(kty ? kty : "", a));
		return NULL;
	}
	return key_alg_find(alg ? alg : "RS256", alg ? strlen(alg) : 5, err, err_len);
}

int key_from_jwk(const json_t *jwk, const char *where, struct key *out, char *err, size_t err_len)
{
	const char *kid = member(jwk, "kid"), *use = member(jwk, "use");
	struct key key = { 0 };
	if (!json_is_object(jwk))
		return say(-1, err, err_len, "is not an object");
	if (json_object_get(jwk, "kid") && (!kid || !text_is_name(kid, KEY_KID_MAX)))
		return say(-1, err, err_len, "has a kid that is not a text of 1 to %u characters", KEY_KID_MAX - 1);
	if (json_object_get(jwk, "d") || json_object_get(jwk, "k"))
		return say(-1, err, err_len, "holds a private key or secret; only public keys belong in a JWKS");
	if (use && strcmp(use, "sig") != 0)
		return say(1, err, err_len, "is not for signatures (use \"enc\")");
	const struct key_alg *alg = jwk_alg(jwk, err, err_len);
	if (!alg)
		return 1;
	if (alg->family == KEY_HMAC)
		return say(-1, err, err_len, "has alg %s, which is for secrets, not for RSA keys", alg->name);
	EVP_PKEY *pkey = alg->family == KEY_EC ? pkey_from_ec_jwk(jwk, alg) : pkey_from_rsa_jwk(jwk);
	if (!pkey)
		return say(-1, err, err_len, "lacks %s, or they are wrong", alg->family == KEY_EC ? "x, y" : "n, e");
	int rc = take_public(alg, pkey, &key, err, err_len);
	EVP_PKEY_free(pkey);
	if (rc == 0 && copy_names(kid, where, &key) != 0)
		rc = say(KEY_NO_MEMORY, err, err_len, "out of memory");
	if (rc != 0)
		key_clear(&key);
	else
		*out = key;
	return rc;
}
