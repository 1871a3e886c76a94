/* Keys of auth-jwt: a JWK, a key file, and the option that names one. What is taken is a public key in one clean PEM,
 * or a secret that is long enough. */
#include "fuzz.h"

#include "plugins/auth-jwt/keyset.h"

#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <stdlib.h>
#include <string.h>

static void check_key(struct key *key)
{
	FUZZ_CHECK(key->alg && key->material && key->len && strcmp(key->where, "here") == 0);
	FUZZ_CHECK(!key->kid || (key->kid[0] && strlen(key->kid) < KEY_KID_MAX));
	if (key->alg->family == KEY_HMAC) {
		FUZZ_CHECK(key->len >= key->alg->secret_min);
	} else {
		BIO *bio = BIO_new_mem_buf(key->material, (int)key->len);
		EVP_PKEY *pkey = PEM_read_bio_PUBKEY(bio, NULL, NULL, NULL);
		FUZZ_CHECK(pkey && BIO_eof(bio));
		FUZZ_CHECK((key->alg->family == KEY_EC) == (EVP_PKEY_get_base_id(pkey) == EVP_PKEY_EC));
		EVP_PKEY_free(pkey);
		BIO_free(bio);
	}
	key_clear(key);
}

static void check_jwk(const uint8_t *data, size_t size)
{
	struct key key;
	char err[256] = "";
	json_t *jwk = json_loadb((const char *)data, size, JSON_REJECT_DUPLICATES, NULL);
	if (!jwk)
		return;
	fuzz_fill(&key, sizeof key);
	int rc = key_from_jwk(jwk, "here", &key, err, sizeof err);
	FUZZ_CHECK(rc == 0 || ((rc == 1 || rc == -1) && err[0] && fuzz_is_untouched(&key, sizeof key)));
	if (rc == 0)
		check_key(&key);
	json_decref(jwk);
}

static void check_file(const uint8_t *data, size_t size)
{
	static const char *const names[] = { "ES256", "RS256", "HS256" };
	static const struct key_alg *algs[3]; /* finding one takes some signatures */
	const char *path = fuzz_file(data, size);
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		struct key key;
		char err[256] = "";
		if (!algs[i])
			algs[i] = key_alg_find(names[i], 5, err, sizeof err);
		FUZZ_CHECK(algs[i]);
		fuzz_fill(&key, sizeof key);
		int rc = key_from_file(algs[i], "a kid", path, "here", &key, err, sizeof err);
		FUZZ_CHECK(rc == 0 || (rc == -1 && err[0] && fuzz_is_untouched(&key, sizeof key)));
		if (rc == 0)
			check_key(&key);
	}
}

static void check_source(const char *text)
{
	struct key_source source;
	char err[256] = "";
	fuzz_fill(&source, sizeof source);
	if (key_source_parse(text, "here", &source, err, sizeof err) != 0) {
		FUZZ_CHECK(err[0] && fuzz_is_untouched(&source, sizeof source));
		return;
	}
	FUZZ_CHECK(source.alg && source.path[0] == '/' && strstr(text, source.path));
	FUZZ_CHECK(!source.kid || strstr(text, source.kid));
	key_source_clear(&source);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = fuzz_text(data, size);
	check_jwk(data, size);
	check_file(data, size);
	if (*text != '{' && *text != '-') /* the two above have a colon, and looking for an algorithm is slow */
		check_source(text);
	free(text);
	return 0;
}
