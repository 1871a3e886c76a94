/* P-256 keys. What strangers send is never given to an ASN.1 parser: a P-256 SubjectPublicKeyInfo with an uncompressed
 * point has one DER form of 91 bytes, a fixed head and the coordinates, so reading is a comparison and two numbers.
 * Pins are taken over exactly that form, whatever form the key object came in. */
#include "ident/key.h"

#include "base/file.h"
#include "base/secret.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <string.h>

#define COORD 32
#define SPKI_LEN 91

/* SEQUENCE { SEQUENCE { id-ecPublicKey, prime256v1 }, BIT STRING { 04 … */
static const unsigned char spki_head[] = {
	0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06,
	0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00, 0x04,
};

static bool is_p256(EVP_PKEY *key)
{
	char group[64];
	size_t len = 0;
	return EVP_PKEY_is_a(key, "EC") && EVP_PKEY_get_group_name(key, group, sizeof group, &len) == 1 &&
	       strcmp(group, SN_X9_62_prime256v1) == 0;
}

static int get_coordinate(EVP_PKEY *key, const char *name, unsigned char out[COORD])
{
	BIGNUM *n = NULL;
	int ok = EVP_PKEY_get_bn_param(key, name, &n) == 1 && BN_bn2binpad(n, out, COORD) == COORD;
	BN_free(n);
	return ok ? 0 : -1;
}

static int get_coordinates(EVP_PKEY *key, unsigned char x[COORD], unsigned char y[COORD], struct err *e)
{
	if (!key || !is_p256(key))
		return err_set(e, ERR_INVALID, "the key is not an ECDSA P-256 key");
	if (get_coordinate(key, OSSL_PKEY_PARAM_EC_PUB_X, x) || get_coordinate(key, OSSL_PKEY_PARAM_EC_PUB_Y, y))
		return err_set_openssl(e, ERR_INTERNAL, "cannot read the public key");
	return 0;
}

/* The quick check is a whole one here: all points of P-256 have its order (its cofactor is 1), so on the curve and not
 * at infinity is enough (NIST SP 800-56A, 5.6.2.3.4). */
static int from_coordinates(const unsigned char x[COORD], const unsigned char y[COORD], EVP_PKEY **out_key,
			    struct err *e)
{
	unsigned char point[1 + 2 * COORD] = { 0x04 };
	memcpy(point + 1, x, COORD);
	memcpy(point + 1 + COORD, y, COORD);
	char group[] = SN_X9_62_prime256v1;
	OSSL_PARAM params[] = {
		OSSL_PARAM_construct_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, group, 0),
		OSSL_PARAM_construct_octet_string(OSSL_PKEY_PARAM_PUB_KEY, point, sizeof point),
		OSSL_PARAM_construct_end(),
	};
	EVP_PKEY *key = NULL;
	EVP_PKEY_CTX *check = NULL, *ctx = EVP_PKEY_CTX_new_from_name(NULL, "EC", NULL);
	int rc = ERR_INVALID;
	if (!ctx || EVP_PKEY_fromdata_init(ctx) != 1)
		rc = err_set_openssl(e, ERR_NOMEM, "key");
	else if (EVP_PKEY_fromdata(ctx, &key, EVP_PKEY_PUBLIC_KEY, params) != 1 ||
		 !(check = EVP_PKEY_CTX_new_from_pkey(NULL, key, NULL)) || EVP_PKEY_public_check_quick(check) != 1)
		err_set(e, rc, "the key is not a point on P-256");
	else
		rc = 0;
	ERR_clear_error();
	EVP_PKEY_CTX_free(check);
	EVP_PKEY_CTX_free(ctx);
	if (rc)
		EVP_PKEY_free(key);
	else
		*out_key = key;
	return rc;
}

EVP_PKEY *key_generate(struct err *e)
{
	EVP_PKEY *key = EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256");
	if (!key)
		err_set_openssl(e, ERR_NOMEM, "cannot generate a P-256 key");
	return key;
}

static int save(const char *path, EVP_PKEY *key,
		int (*put)(const char *path, const void *data, size_t len, mode_t mode, struct err *e), struct err *e)
{
	BIO *bio = BIO_new(BIO_s_mem()); /* its buffer is wiped when it is freed */
	char *pem = NULL;
	int rc;
	if (!bio || PEM_write_bio_PKCS8PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL) != 1) {
		rc = err_set_openssl(e, ERR_INTERNAL, "%s: cannot write the key", path);
	} else {
		long len = BIO_get_mem_data(bio, &pem);
		rc = put(path, pem, (size_t)len, 0600, e);
	}
	BIO_free(bio);
	return rc;
}

int key_save(const char *path, EVP_PKEY *key, struct err *e)
{
	return save(path, key, file_write, e);
}

/* Without it OpenSSL would ask for the passphrase of an encrypted key on the terminal. */
static int no_passphrase(char *buf, int size, int writing, void *user)
{
	(void)buf, (void)size, (void)writing, (void)user;
	return -1;
}

int key_load(const char *path, EVP_PKEY **out_key, struct err *e)
{
	struct buf pem;
	int rc = secret_read_file(path, &pem, e);
	if (rc)
		return rc;
	BIO *bio = BIO_new_mem_buf(buf_data(&pem), (int)pem.len);
	EVP_PKEY *key = bio ? PEM_read_bio_PrivateKey(bio, NULL, no_passphrase, NULL) : NULL;
	if (!key)
		rc = err_set_openssl(e, ERR_INVALID, "%s: expected an unencrypted PEM private key", path);
	else if (!is_p256(key))
		rc = err_set(e, ERR_INVALID, "%s: expected an ECDSA P-256 key", path);
	else
		*out_key = key;
	if (rc)
		EVP_PKEY_free(key);
	BIO_free(bio);
	buf_wipe_free(&pem);
	return rc;
}

int key_load_or_create(const char *path, EVP_PKEY **out_key, struct err *e)
{
	int rc = key_load(path, out_key, e);
	if (rc != ERR_NOT_FOUND)
		return rc;
	EVP_PKEY *key = key_generate(e);
	if (!key)
		return ERR_NOMEM;
	rc = save(path, key, file_create, e);
	if (!rc) {
		*out_key = key;
		return 0;
	}
	EVP_PKEY_free(key);
	return rc == ERR_CONFLICT ? key_load(path, out_key, e) : rc; /* somebody was faster */
}

static int spki(EVP_PKEY *key, unsigned char out[SPKI_LEN], struct err *e)
{
	memcpy(out, spki_head, sizeof spki_head);
	return get_coordinates(key, out + sizeof spki_head, out + sizeof spki_head + COORD, e);
}

int key_public_text(EVP_PKEY *key, char out[KEY_TEXT_MAX], struct err *e)
{
	unsigned char der[SPKI_LEN];
	int rc = spki(key, der, e);
	if (!rc)
		text_b64url(der, sizeof der, out, KEY_TEXT_MAX);
	return rc;
}

static int decode_spki(const char *text, unsigned char der[SPKI_LEN], struct err *e)
{
	size_t len = 0;
	if (!text || strlen(text) >= KEY_TEXT_MAX || text_b64url_decode(text, strlen(text), der, SPKI_LEN, &len) ||
	    len != SPKI_LEN || memcmp(der, spki_head, sizeof spki_head) != 0)
		return err_set(
			e, ERR_INVALID,
			"expected base64url of the DER SubjectPublicKeyInfo of a P-256 key with an uncompressed point");
	return 0;
}

int key_from_public_text(const char *text, EVP_PKEY **out_key, struct err *e)
{
	unsigned char der[SPKI_LEN];
	int rc = decode_spki(text, der, e);
	return rc ? rc : from_coordinates(der + sizeof spki_head, der + sizeof spki_head + COORD, out_key, e);
}

int key_pin(EVP_PKEY *key, unsigned char out_pin[32], struct err *e)
{
	unsigned char der[SPKI_LEN];
	int rc = spki(key, der, e);
	if (!rc)
		secret_sha256(der, sizeof der, out_pin);
	return rc;
}

int key_pin_of_text(const char *text, unsigned char out_pin[32], struct err *e)
{
	unsigned char der[SPKI_LEN];
	int rc = decode_spki(text, der, e);
	if (!rc)
		secret_sha256(der, sizeof der, out_pin);
	return rc;
}

void key_pin_text(const unsigned char pin[32], char out[KEY_PIN_TEXT])
{
	char text[TEXT_B64_SIZE(32)]; /* a byte more than the text needs, counted with padding */
	text_b64url(pin, 32, text, sizeof text);
	memcpy(out, text, KEY_PIN_TEXT);
}

int key_pin_parse(const char *text, unsigned char out_pin[32], struct err *e)
{
	unsigned char pin[32];
	size_t len = 0;
	if (!text || strlen(text) != KEY_PIN_TEXT - 1 ||
	    text_b64url_decode(text, KEY_PIN_TEXT - 1, pin, sizeof pin, &len) || len != sizeof pin)
		return err_set(e, ERR_INVALID, "expected a key pin: 43 base64url characters");
	memcpy(out_pin, pin, sizeof pin);
	return 0;
}

json_t *key_to_jwk(EVP_PKEY *key, struct err *e)
{
	unsigned char x[COORD], y[COORD];
	char x_text[TEXT_B64_SIZE(COORD)], y_text[TEXT_B64_SIZE(COORD)];
	if (get_coordinates(key, x, y, e))
		return NULL;
	text_b64url(x, COORD, x_text, sizeof x_text);
	text_b64url(y, COORD, y_text, sizeof y_text);
	json_t *jwk = json_pack("{s:s, s:s, s:s, s:s}", "kty", "EC", "crv", "P-256", "x", x_text, "y", y_text);
	if (!jwk)
		err_set(e, ERR_NOMEM, "jwk: out of memory");
	return jwk;
}

static int jwk_coordinate(const json_t *jwk, const char *name, unsigned char out[COORD], struct err *e)
{
	const json_t *text = json_object_get(jwk, name);
	size_t len = 0;
	if (!json_is_string(text) ||
	    text_b64url_decode(json_string_value(text), json_string_length(text), out, COORD, &len) || len != COORD)
		return err_set(e, ERR_INVALID, "jwk.%s: expected base64url of 32 bytes", name);
	return 0;
}

int key_from_jwk(const json_t *jwk, EVP_PKEY **out_key, struct err *e)
{
	if (!json_is_object(jwk))
		return err_set(e, ERR_INVALID, "jwk: expected an object");
	const char *kty = json_string_value(json_object_get(jwk, "kty"));
	const char *crv = json_string_value(json_object_get(jwk, "crv"));
	if (!kty || strcmp(kty, "EC") != 0 || !crv || strcmp(crv, "P-256") != 0)
		return err_set(e, ERR_INVALID, "jwk: expected kty EC and crv P-256");
	if (json_object_get(jwk, "d"))
		return err_set(e, ERR_INVALID, "jwk: holds a private key");
	unsigned char x[COORD], y[COORD];
	int rc = jwk_coordinate(jwk, "x", x, e);
	if (!rc)
		rc = jwk_coordinate(jwk, "y", y, e);
	return rc ? rc : from_coordinates(x, y, out_key, e);
}
