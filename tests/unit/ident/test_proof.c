#include "support/case.h"

#include "base/json.h"
#include "base/secret.h"
#include "base/text.h"
#include "ident/key.h"
#include "ident/proof.h"

#include <openssl/ec.h>
#include <openssl/hmac.h>

#define NOW 1800000000000
#define TOKEN "mF_9.B5f-4.1JqM"
#define URL "https://relay.example/v1/sessions/s-1/leg"

static EVP_PKEY *key;

static int make_key(void **state)
{
	(void)state;
	key = key_generate(NULL);
	return key ? 0 : -1;
}

static int free_key(void **state)
{
	(void)state;
	EVP_PKEY_free(key);
	return 0;
}

/* Signs header and claims as they are: what an attacker with a key of his own can send. */
static void forge(const char *header, const char *claims, EVP_PKEY *by, char out[PROOF_TEXT_MAX])
{
	unsigned char der[160], raw[64];
	size_t der_len = sizeof der;
	size_t n = text_b64url(header, strlen(header), out, PROOF_TEXT_MAX);
	out[n++] = '.';
	n += text_b64url(claims, strlen(claims), out + n, PROOF_TEXT_MAX - n);
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	assert_int_equal(EVP_DigestSignInit(ctx, NULL, EVP_sha256(), NULL, by), 1);
	assert_int_equal(EVP_DigestSign(ctx, der, &der_len, (unsigned char *)out, n), 1);
	EVP_MD_CTX_free(ctx);
	const unsigned char *p = der;
	ECDSA_SIG *sig = d2i_ECDSA_SIG(NULL, &p, (long)der_len);
	BN_bn2binpad(ECDSA_SIG_get0_r(sig), raw, 32);
	BN_bn2binpad(ECDSA_SIG_get0_s(sig), raw + 32, 32);
	ECDSA_SIG_free(sig);
	out[n++] = '.';
	text_b64url(raw, sizeof raw, out + n, PROOF_TEXT_MAX - n);
}

static void hash_text(const char *token, char out[TEXT_B64_SIZE(32)])
{
	unsigned char sum[32];
	secret_sha256(token, strlen(token), sum);
	text_b64url(sum, 32, out, TEXT_B64_SIZE(32));
}

/* A proof with one member of header or claims replaced (NULL: removed). */
static void forge_dpop(const char *in, const char *name, json_t *value, char out[PROOF_TEXT_MAX])
{
	char ath[TEXT_B64_SIZE(32)];
	hash_text(TOKEN, ath);
	json_t *header = json_pack("{s:s, s:s, s:o}", "typ", "dpop+jwt", "alg", "ES256", "jwk", key_to_jwk(key, NULL));
	json_t *claims = json_pack("{s:s, s:s, s:s, s:I, s:s}", "jti", "0123456789abcdef0123", "htm", "GET", "htu", URL,
				   "iat", (json_int_t)(NOW / 1000), "ath", ath);
	json_t *which = strcmp(in, "header") == 0 ? header : claims;
	if (value)
		json_object_set_new(which, name, value);
	else
		json_object_del(which, name);
	char *h = json_text(header), *c = json_text(claims);
	forge(h, c, key, out);
	free(h);
	free(c);
	json_decref(header);
	json_decref(claims);
}

static void refused_with(int code, const char *proof, const char *why)
{
	struct proof_dpop got = { .iat_ms = -7 };
	struct err e = { 0 };
	int rc = proof_check_dpop(proof, TOKEN, NOW, 60000, &got, &e);
	if (rc != code || e.code != code || !strstr(e.text, why))
		fail_msg("expected a refusal with \"%s\", got %d: %s", why, rc, e.text);
	assert_int_equal(got.iat_ms, -7); /* untouched */
}

static void refused(const char *proof, const char *why)
{
	refused_with(ERR_DENIED, proof, why);
}

static void test_dpop_round_trip(void **state)
{
	(void)state;
	char proof[PROOF_TEXT_MAX], second[PROOF_TEXT_MAX];
	unsigned char pin[32];
	struct proof_dpop got, other;
	struct err e = { 0 };
	assert_int_equal(proof_make_dpop(key, "GET", URL, TOKEN, NOW, proof, &e), 0);
	assert_int_equal(proof_check_dpop(proof, TOKEN, NOW + 59000, 60000, &got, &e), 0);
	assert_string_equal(got.htm, "GET");
	assert_string_equal(got.htu, URL);
	assert_true(got.iat_ms == NOW);
	assert_int_equal(strlen(got.jti), 43);
	key_pin(key, pin, &e);
	assert_memory_equal(pin, got.key_pin, 32);
	assert_int_equal(proof_make_dpop(key, "GET", URL, TOKEN, NOW, second, &e), 0);
	assert_int_equal(proof_check_dpop(second, TOKEN, NOW, 60000, &other, &e), 0);
	assert_string_not_equal(got.jti, other.jti);
}

/* RFC 9449, section 7.1: the proof for a protected resource and its access token. */
static void test_dpop_of_the_rfc(void **state)
{
	(void)state;
	const char *proof =
		"eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklDUkRZ"
		"OXpDa0RscEJoRjQyVVFVZldWQVdCRnMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JEQSIs"
		"ImNydiI6IlAtMjU2In19.eyJqdGkiOiJlMWozVl9iS2ljOC1MQUVCIiwiaHRtIjoiR0VUIiwiaHR1IjoiaHR0cHM6Ly9yZXNvdXJj"
		"ZS5leGFtcGxlLm9yZy9wcm90ZWN0ZWRyZXNvdXJjZSIsImlhdCI6MTU2MjI2MjYxOCwiYXRoIjoiZlVIeU8ycjJaM0RaNTNFc05y"
		"V0JiMHhXWG9hTnk1OUlpS0NBcWtzbVFFbyJ9.2oW9RP35yRqzhrtNP86L-Ey71EOptxRimPPToA1plemAgR6pxHF8y6-yqyVnmcw6"
		"Fy1dqd-jfxSYoMxhAJpLjA";
	struct proof_dpop got;
	struct err e = { 0 };
	int rc = proof_check_dpop(proof, "Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU", 1562262618000, 60000, &got, &e);
	if (rc)
		fail_msg("%s", e.text);
	assert_string_equal(got.htu, "https://resource.example.org/protectedresource");
	assert_string_equal(got.htm, "GET");
	assert_string_equal(got.jti, "e1j3V_bKic8-LAEB");
}

static void test_dpop_tampered(void **state)
{
	(void)state;
	char proof[PROOF_TEXT_MAX], bad[PROOF_TEXT_MAX + 8];
	struct err e = { 0 };
	assert_int_equal(proof_make_dpop(key, "GET", URL, TOKEN, NOW, proof, &e), 0);
	size_t len = strlen(proof), sig = (size_t)(strrchr(proof, '.') - proof) + 1;
	/* Each character replaced by its neighbour in the alphabet: never accepted. */
	for (size_t i = 0; i < len; i++) {
		struct proof_dpop got;
		strcpy(bad, proof);
		bad[i] = bad[i] == 'A' ? 'B' : 'A';
		if (strcmp(bad, proof) != 0)
			assert_int_equal(proof_check_dpop(bad, TOKEN, NOW, 60000, &got, &e), ERR_DENIED);
	}
	strcpy(bad, proof);
	bad[sig] = bad[sig] == 'A' ? 'B' : 'A';
	refused(bad, "signature is wrong");
	snprintf(bad, sizeof bad, "%s!!", proof);
	refused(bad, "signature");
	snprintf(bad, sizeof bad, "%s.x", proof);
	refused(bad, "three parts");
	snprintf(bad, sizeof bad, "%.*s", (int)(sig - 1), proof);
	refused(bad, "three parts");
	memset(bad, 'A', sizeof bad);
	bad[sizeof bad - 1] = '\0';
	refused(bad, "longer");
	refused("", "empty");
	refused("..", "header");
	snprintf(bad, sizeof bad, "%.*s%s", (int)sig, proof,
		 "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA");
	refused(bad, "signature is wrong"); /* r = s = 0 */
}

static void test_dpop_algorithms_are_not_confused(void **state)
{
	(void)state;
	char bad[PROOF_TEXT_MAX];
	static const char *const others[] = { "none", "None", "HS256", "RS256", "ES384", "ES256K", "EdDSA", "es256" };
	for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
		forge_dpop("header", "alg", json_string(others[i]), bad);
		refused(bad, "alg");
		*(strrchr(bad, '.') + 1) = '\0'; /* and with no signature at all */
		refused(bad, "alg");
	}
	forge_dpop("header", "alg", NULL, bad);
	refused(bad, "alg");
	forge_dpop("header", "alg", json_integer(256), bad);
	refused(bad, "alg");

	/* ES256 in the header, HMAC with the public key's bytes as the signature. */
	char text[KEY_TEXT_MAX];
	unsigned char mac[64] = { 0 };
	unsigned int mac_len = 0;
	key_public_text(key, text, NULL);
	forge_dpop("header", "typ", json_string("dpop+jwt"), bad);
	char *sig = strrchr(bad, '.') + 1;
	HMAC(EVP_sha256(), text, (int)strlen(text), (unsigned char *)bad, (size_t)(sig - 1 - bad), mac, &mac_len);
	text_b64url(mac, sizeof mac, sig, PROOF_TEXT_MAX - (size_t)(sig - bad));
	refused(bad, "signature is wrong");
}

static void test_dpop_wrong_header(void **state)
{
	(void)state;
	char bad[PROOF_TEXT_MAX];
	forge_dpop("header", "typ", json_string("JWT"), bad);
	refused(bad, "typ");
	forge_dpop("header", "typ", NULL, bad);
	refused(bad, "typ");
	forge_dpop("header", "crit", json_pack("[s]", "exp"), bad);
	refused(bad, "crit");
	forge_dpop("header", "jwk", NULL, bad);
	refused(bad, "jwk");
	EVP_PKEY *other = key_generate(NULL);
	forge_dpop("header", "jwk", key_to_jwk(other, NULL), bad);
	refused(bad, "signature is wrong");
	EVP_PKEY_free(other);
	json_t *jwk = key_to_jwk(key, NULL);
	json_object_set_new(jwk, "d", json_string("AAAA"));
	forge_dpop("header", "jwk", jwk, bad);
	refused(bad, "private");
}

static void test_dpop_wrong_claims(void **state)
{
	(void)state;
	char bad[PROOF_TEXT_MAX], ath[TEXT_B64_SIZE(32)];
	static const char *const needed[] = { "jti", "htm", "htu", "iat", "ath" };
	for (size_t i = 0; i < sizeof needed / sizeof needed[0]; i++) {
		forge_dpop("claims", needed[i], NULL, bad);
		refused(bad, needed[i]);
		forge_dpop("claims", needed[i], json_true(), bad);
		refused(bad, needed[i]);
	}
	hash_text("another token", ath);
	forge_dpop("claims", "ath", json_string(ath), bad);
	refused(bad, "ath");
	forge_dpop("claims", "iat", json_integer(NOW / 1000 - 61), bad);
	refused_with(ERR_TIMEOUT, bad, "61 s old");
	forge_dpop("claims", "iat", json_integer(NOW / 1000 + 61), bad);
	refused_with(ERR_TIMEOUT, bad, "61 s ahead");
	forge_dpop("claims", "iat", json_integer(-1), bad);
	refused(bad, "iat");
	forge_dpop("claims", "iat", json_real(1e300), bad);
	refused(bad, "iat");
	forge_dpop("claims", "jti", json_string("short"), bad);
	refused(bad, "jti");
	char jti[PROOF_JTI_MAX + 1];
	memset(jti, 'j', sizeof jti);
	forge_dpop("claims", "jti", json_stringn(jti, PROOF_JTI_MAX), bad);
	refused(bad, "jti");
	forge_dpop("claims", "jti", json_stringn(jti, PROOF_JTI_MAX + 1), bad);
	refused(bad, "jti");
	forge_dpop("claims", "htm", json_string("AVERYLONGMETHODNAME"), bad);
	refused(bad, "htm");
	struct proof_dpop got;
	struct err e = { 0 };
	forge_dpop("claims", "jti", json_stringn(jti, PROOF_JTI_MAX - 1), bad);
	assert_int_equal(proof_check_dpop(bad, TOKEN, NOW, 60000, &got, &e), 0);
	assert_int_equal(strlen(got.jti), PROOF_JTI_MAX - 1);
	forge_dpop("claims", "htu", json_string("https://elsewhere.example/"), bad);
	assert_int_equal(proof_check_dpop(bad, TOKEN, NOW, 60000, &got, &e), 0);
	assert_string_not_equal(got.htu, URL); /* for the caller to compare */
	assert_int_equal(proof_check_dpop(bad, "other token", NOW, 60000, &got, &e), ERR_DENIED);
	assert_int_equal(proof_check_dpop(bad, NULL, NOW, 60000, &got, &e), ERR_DENIED);
}

static void test_dpop_with_duplicate_members_is_refused(void **state)
{
	(void)state;
	char bad[PROOF_TEXT_MAX], header[512], claims[512], ath[TEXT_B64_SIZE(32)];
	json_t *jwk = key_to_jwk(key, NULL);
	char *text = json_text(jwk);
	hash_text(TOKEN, ath);
	snprintf(header, sizeof header, "{\"typ\":\"dpop+jwt\",\"alg\":\"ES256\",\"jwk\":%s}", text);
	snprintf(claims, sizeof claims,
		 "{\"jti\":\"0123456789abcdef\",\"htm\":\"GET\",\"htu\":\"a\",\"htu\":\"b\",\"iat\":%lld,\"ath\":\"%"
		 "s\"}",
		 (long long)NOW / 1000, ath);
	forge(header, claims, key, bad);
	refused(bad, "payload");
	free(text);
	json_decref(jwk);
}

static void test_a_proof_that_would_be_too_long_is_refused(void **state)
{
	(void)state;
	char url[1400], out[PROOF_TEXT_MAX];
	memset(url, 'a', sizeof url - 1);
	url[sizeof url - 1] = '\0';
	struct err e = { 0 };
	assert_int_equal(proof_make_dpop(key, "GET", url, TOKEN, NOW, out, &e), ERR_LIMIT);
	EVP_PKEY *ed = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
	assert_true(proof_make_dpop(ed, "GET", URL, TOKEN, NOW, out, &e) < 0);
	EVP_PKEY_free(ed);
}

static int check_assertion(const char *text, EVP_PKEY *by, int64_t now, struct err *e)
{
	char jti[PROOF_JTI_MAX];
	int64_t exp;
	return proof_check_assertion(text, by, "web-1", "tunnel-server", now, jti, &exp, e);
}

static void test_assertion_round_trip(void **state)
{
	(void)state;
	char text[PROOF_TEXT_MAX], target[65], jti[PROOF_JTI_MAX];
	int64_t exp = 0;
	struct err e = { 0 };
	assert_int_equal(proof_make_assertion(key, "web-1", "tunnel-server", NOW, text, &e), 0);
	assert_int_equal(proof_assertion_target(text, target, &e), 0);
	assert_string_equal(target, "web-1");
	assert_int_equal(proof_check_assertion(text, key, "web-1", "tunnel-server", NOW, jti, &exp, &e), 0);
	assert_true(exp == NOW + 60000);
	assert_int_equal(check_assertion(text, key, NOW - 59000, &e), 0);
	assert_int_equal(check_assertion(text, key, NOW + 119000, &e), 0);
}

static void test_assertion_refusals(void **state)
{
	(void)state;
	char text[PROOF_TEXT_MAX], jti[PROOF_JTI_MAX], target[65];
	int64_t exp;
	struct err e = { 0 };
	EVP_PKEY *other = key_generate(NULL), *ed = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
	assert_int_equal(proof_make_assertion(key, "web-1", "tunnel-server", NOW, text, &e), 0);
	assert_int_equal(check_assertion(text, other, NOW, &e), ERR_DENIED);
	assert_non_null(strstr(e.text, "signature"));
	assert_int_equal(check_assertion(text, ed, NOW, &e), ERR_DENIED);
	assert_int_equal(check_assertion(text, key, NOW + 120000, &e), ERR_TIMEOUT);
	assert_non_null(strstr(e.text, "expired"));
	assert_int_equal(check_assertion(text, key, NOW - 61000, &e), ERR_TIMEOUT);
	assert_int_equal(proof_check_assertion(text, key, "web-2", "tunnel-server", NOW, jti, &exp, &e), ERR_DENIED);
	assert_int_equal(proof_check_assertion(text, key, "web-1", "other", NOW, jti, &exp, &e), ERR_DENIED);
	forge("{\"typ\":\"JWT\",\"alg\":\"ES256\",\"kid\":\"web-1\"}",
	      "{\"iss\":\"web-1\",\"sub\":\"web-1\",\"aud\":\"tunnel-server\",\"iat\":1800000000,\"exp\":1800000061,"
	      "\"jti\":\"0123456789abcdef\"}",
	      key, text);
	assert_int_equal(check_assertion(text, key, NOW, &e), ERR_DENIED);
	assert_non_null(strstr(e.text, "60 s"));
	forge("{\"typ\":\"JWT\",\"alg\":\"ES256\",\"kid\":\"web-1\"}",
	      "{\"iss\":\"web-1\",\"sub\":\"web-2\",\"aud\":\"tunnel-server\",\"iat\":1800000000,\"exp\":1800000060,"
	      "\"jti\":\"0123456789abcdef\"}",
	      key, text);
	assert_int_equal(check_assertion(text, key, NOW, &e), ERR_DENIED);
	forge("{\"typ\":\"JWT\",\"alg\":\"none\",\"kid\":\"web-1\"}", "{}", key, text);
	assert_int_equal(check_assertion(text, key, NOW, &e), ERR_DENIED);
	forge("{\"typ\":\"JWT\",\"alg\":\"ES256\",\"kid\":\"../etc\"}", "{}", key, text);
	assert_int_equal(proof_assertion_target(text, target, &e), ERR_DENIED);
	/* A DPoP proof is no assertion, and the other way round. */
	assert_int_equal(proof_make_dpop(key, "GET", URL, TOKEN, NOW, text, &e), 0);
	assert_int_equal(check_assertion(text, key, NOW, &e), ERR_DENIED);
	assert_int_equal(proof_make_assertion(key, "web-1", "tunnel-server", NOW, text, &e), 0);
	refused(text, "typ");
	EVP_PKEY_free(other);
	EVP_PKEY_free(ed);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_dpop_round_trip, make_key, free_key),
		cmocka_unit_test(test_dpop_of_the_rfc),
		cmocka_unit_test_setup_teardown(test_dpop_tampered, make_key, free_key),
		cmocka_unit_test_setup_teardown(test_dpop_algorithms_are_not_confused, make_key, free_key),
		cmocka_unit_test_setup_teardown(test_dpop_wrong_header, make_key, free_key),
		cmocka_unit_test_setup_teardown(test_dpop_wrong_claims, make_key, free_key),
		cmocka_unit_test_setup_teardown(test_dpop_with_duplicate_members_is_refused, make_key, free_key),
		cmocka_unit_test_setup_teardown(test_a_proof_that_would_be_too_long_is_refused, make_key, free_key),
		cmocka_unit_test_setup_teardown(test_assertion_round_trip, make_key, free_key),
		cmocka_unit_test_setup_teardown(test_assertion_refusals, make_key, free_key),
	};
	return RUN_CASES(tests);
}
