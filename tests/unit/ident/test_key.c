#include "support/case.h"

#include "base/file.h"
#include "base/secret.h"
#include "base/text.h"
#include "ident/key.h"

#include <openssl/pem.h>
#include <openssl/x509.h>
#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>

static void test_public_text_is_openssls_der_and_comes_back(void **state)
{
	(void)state;
	struct err e = { 0 };
	EVP_PKEY *key = key_generate(&e), *back = NULL;
	char text[KEY_TEXT_MAX], again[KEY_TEXT_MAX], expected[KEY_TEXT_MAX];
	unsigned char *der = NULL, pin[32], pin2[32], sum[32];
	int len = i2d_PUBKEY(key, &der);
	assert_true(len > 0);
	text_b64url(der, (size_t)len, expected, sizeof expected);
	assert_int_equal(key_public_text(key, text, &e), 0);
	assert_string_equal(text, expected);
	assert_int_equal(key_from_public_text(text, &back, &e), 0);
	assert_int_equal(EVP_PKEY_eq(key, back), 1);
	assert_int_equal(key_public_text(back, again, &e), 0);
	assert_string_equal(text, again);
	secret_sha256(der, (size_t)len, sum);
	assert_int_equal(key_pin(key, pin, &e), 0);
	assert_memory_equal(pin, sum, 32);
	assert_int_equal(key_pin_of_text(text, pin2, &e), 0);
	assert_memory_equal(pin, pin2, 32);
	OPENSSL_free(der);
	EVP_PKEY_free(key);
	EVP_PKEY_free(back);
}

static void test_public_text_of_strangers_is_refused(void **state)
{
	(void)state;
	struct err e = { 0 };
	EVP_PKEY *key = key_generate(&e), *back = NULL;
	char text[KEY_TEXT_MAX], bad[KEY_TEXT_MAX + 4];
	unsigned char der[91], pin[32];
	size_t len;
	assert_int_equal(key_public_text(key, text, &e), 0);
	assert_int_equal(text_b64url_decode(text, strlen(text), der, sizeof der, &len), 0);
	der[60] ^= 1; /* off the curve, or x changed: the point no longer fits */
	text_b64url(der, sizeof der, bad, sizeof bad);
	assert_int_equal(key_from_public_text(bad, &back, &e), ERR_INVALID);
	text_b64url(der, 90, bad, sizeof bad);
	assert_int_equal(key_from_public_text(bad, &back, &e), ERR_INVALID);
	assert_int_equal(key_pin_of_text(bad, pin, &e), ERR_INVALID);
	snprintf(bad, sizeof bad, "%s=", text);
	assert_int_equal(key_from_public_text(bad, &back, &e), ERR_INVALID);
	assert_int_equal(key_from_public_text("", &back, &e), ERR_INVALID);
	assert_int_equal(key_from_public_text(NULL, &back, &e), ERR_INVALID);
	memset(der + 27, 0, 64);
	text_b64url(der, sizeof der, bad, sizeof bad);
	assert_int_equal(key_from_public_text(bad, &back, &e), ERR_INVALID);
	assert_null(back);
	EVP_PKEY_free(key);
}

static void test_other_curves_and_types_are_refused(void **state)
{
	(void)state;
	char folder[64], path[128], text[KEY_TEXT_MAX];
	snprintf(path, sizeof path, "%s/key.pem", case_folder(folder));
	struct err e = { 0 };
	EVP_PKEY *p384 = EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-384"), *back = NULL;
	EVP_PKEY *ed = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
	assert_int_equal(key_public_text(p384, text, &e), ERR_INVALID);
	assert_int_equal(key_public_text(ed, text, &e), ERR_INVALID);
	assert_null(key_to_jwk(ed, &e));
	assert_int_equal(key_save(path, p384, &e), 0);
	assert_int_equal(key_load(path, &back, &e), ERR_INVALID);
	assert_non_null(strstr(e.text, "P-256"));
	assert_int_equal(key_save(path, ed, &e), 0);
	assert_int_equal(key_load_or_create(path, &back, &e), ERR_INVALID);
	assert_null(back);
	EVP_PKEY_free(p384);
	EVP_PKEY_free(ed);
	case_folder_remove(folder);
}

static void test_key_file_is_private_and_kept(void **state)
{
	(void)state;
	char folder[64], path[128];
	snprintf(path, sizeof path, "%s/key.pem", case_folder(folder));
	struct err e = { 0 };
	EVP_PKEY *a = NULL, *b = NULL;
	struct stat st;
	assert_int_equal(key_load(path, &a, &e), ERR_NOT_FOUND);
	assert_int_equal(key_load_or_create(path, &a, &e), 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_int_equal(key_load_or_create(path, &b, &e), 0);
	assert_int_equal(EVP_PKEY_eq(a, b), 1);
	EVP_PKEY_free(b);
	b = NULL;
	chmod(path, 0644);
	assert_int_equal(key_load(path, &b, &e), ERR_DENIED);
	assert_int_equal(key_load_or_create(path, &b, &e), ERR_DENIED);
	assert_null(b);
	assert_int_equal(secret_write_file(path, "nonsense", 8, &e), 0);
	assert_int_equal(key_load_or_create(path, &b, &e), ERR_INVALID);
	EVP_PKEY_free(a);
	case_folder_remove(folder);
}

#define AT_ONCE 8

struct maker {
	pthread_t thread;
	pthread_barrier_t *start;
	const char *path;
	EVP_PKEY *key;
	int rc;
};

static void *make_key(void *arg)
{
	struct maker *m = arg;
	struct err e;
	pthread_barrier_wait(m->start);
	m->rc = key_load_or_create(m->path, &m->key, &e);
	return NULL;
}

static void test_who_makes_a_key_at_once_gets_the_same(void **state)
{
	(void)state;
	char folder[64], path[128];
	struct maker makers[AT_ONCE];
	pthread_barrier_t start;
	EVP_PKEY *kept = NULL;
	struct err e = { 0 };
	snprintf(path, sizeof path, "%s/key.pem", case_folder(folder));
	pthread_barrier_init(&start, NULL, AT_ONCE);
	for (size_t i = 0; i < AT_ONCE; i++) {
		makers[i] = (struct maker){ .start = &start, .path = path };
		assert_int_equal(pthread_create(&makers[i].thread, NULL, make_key, &makers[i]), 0);
	}
	for (size_t i = 0; i < AT_ONCE; i++)
		pthread_join(makers[i].thread, NULL);
	assert_int_equal(key_load(path, &kept, &e), 0);
	for (size_t i = 0; i < AT_ONCE; i++) {
		assert_int_equal(makers[i].rc, 0);
		assert_int_equal(EVP_PKEY_eq(makers[i].key, kept), 1);
		EVP_PKEY_free(makers[i].key);
	}
	EVP_PKEY_free(kept);
	pthread_barrier_destroy(&start);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(rmdir(folder), 0); /* nothing else was left */
}

static void test_encrypted_pem_is_refused_without_asking(void **state)
{
	(void)state;
	char folder[64], path[128], *pem;
	snprintf(path, sizeof path, "%s/key.pem", case_folder(folder));
	struct err e = { 0 };
	EVP_PKEY *key = key_generate(&e), *back = NULL;
	unsigned char pass[] = "secret";
	BIO *bio = BIO_new(BIO_s_mem());
	assert_int_equal(PEM_write_bio_PKCS8PrivateKey(bio, key, EVP_aes_128_cbc(), (char *)pass, 6, NULL, NULL), 1);
	long len = BIO_get_mem_data(bio, &pem);
	assert_int_equal(secret_write_file(path, pem, (size_t)len, &e), 0);
	assert_int_equal(key_load(path, &back, &e), ERR_INVALID);
	BIO_free(bio);
	EVP_PKEY_free(key);
	case_folder_remove(folder);
}

static void test_pin_text(void **state)
{
	(void)state;
	struct err e = { 0 };
	unsigned char pin[32], back[32];
	char text[KEY_PIN_TEXT];
	secret_random(pin, sizeof pin);
	key_pin_text(pin, text);
	assert_int_equal(strlen(text), 43);
	assert_int_equal(key_pin_parse(text, back, &e), 0);
	assert_memory_equal(pin, back, 32);
	text[42] = '\0';
	assert_int_equal(key_pin_parse(text, back, &e), ERR_INVALID);
	assert_int_equal(key_pin_parse("", back, &e), ERR_INVALID);
	assert_int_equal(key_pin_parse("!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!", back, &e), ERR_INVALID);
}

/* RFC 7517, appendix A.1 */
static void test_jwk_of_the_rfc(void **state)
{
	(void)state;
	struct err e = { 0 };
	json_t *jwk = json_pack("{s:s, s:s, s:s, s:s}", "kty", "EC", "crv", "P-256", "x",
				"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4", "y",
				"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM");
	EVP_PKEY *key = NULL;
	assert_int_equal(key_from_jwk(jwk, &key, &e), 0);
	json_t *again = key_to_jwk(key, &e);
	assert_true(json_equal(jwk, again));
	EVP_PKEY_free(key);
	key = NULL;
	json_object_set_new(again, "d", json_string("870MB6gfuTJ4HtUnUvYMyJpr5eUZNP4Bk43bVdj3eAE"));
	assert_int_equal(key_from_jwk(again, &key, &e), ERR_INVALID);
	json_object_set_new(jwk, "y", json_string("MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4"));
	assert_int_equal(key_from_jwk(jwk, &key, &e), ERR_INVALID);
	json_object_set_new(jwk, "y", json_string("short"));
	assert_int_equal(key_from_jwk(jwk, &key, &e), ERR_INVALID);
	json_object_set_new(jwk, "crv", json_string("P-384"));
	assert_int_equal(key_from_jwk(jwk, &key, &e), ERR_INVALID);
	assert_int_equal(key_from_jwk(NULL, &key, &e), ERR_INVALID);
	assert_null(key);
	json_decref(jwk);
	json_decref(again);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_public_text_is_openssls_der_and_comes_back),
		cmocka_unit_test(test_public_text_of_strangers_is_refused),
		cmocka_unit_test(test_other_curves_and_types_are_refused),
		cmocka_unit_test(test_key_file_is_private_and_kept),
		cmocka_unit_test(test_who_makes_a_key_at_once_gets_the_same),
		cmocka_unit_test(test_encrypted_pem_is_refused_without_asking),
		cmocka_unit_test(test_pin_text),
		cmocka_unit_test(test_jwk_of_the_rfc),
	};
	return RUN_CASES(tests);
}
