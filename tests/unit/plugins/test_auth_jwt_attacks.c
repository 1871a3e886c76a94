/* auth-jwt: tokens that were made to deceive it, beyond those of test_auth_jwt.c. */
#include "jwt_case.h"

#include <arpa/inet.h>
#include <errno.h>
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <sys/socket.h>
#include <unistd.h>

/* A listener on loopback that nobody may call. */
static int listen_somewhere(unsigned *out_port)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t n = sizeof a;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&a, n), 0);
	assert_int_equal(listen(fd, 8), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &n), 0);
	*out_port = ntohs(a.sin_port);
	return fd;
}

static void assert_nobody_called(int fd)
{
	assert_int_equal(accept(fd, NULL, NULL), -1);
	assert_true(errno == EAGAIN || errno == EWOULDBLOCK);
}

/* RFC 8725, 3.10: where a token says its key is to be found is not looked at, and nothing is fetched. */
static void test_keys_that_a_token_brings_or_names_are_not_used(void **state)
{
	(void)state;
	static const char *const members[] = { "jku", "x5u", "x5c", "x5t", "x5t#S256", "jwk", "iss", "kid" };
	struct fixture f;
	unsigned port = 0;
	char url[64];
	begin_open(&f);
	EVP_PKEY *stranger = make_ec("P-256");
	int fd = listen_somewhere(&port);
	for (size_t i = 0; i < sizeof members / sizeof *members; i++) {
		snprintf(url, sizeof url, "http://127.0.0.1:%u/jwks.json", port);
		json_t *value = strcmp(members[i], "jwk") == 0   ? make_jwk(stranger, "ES256", NULL)
				: strcmp(members[i], "x5c") == 0 ? json_pack("[s]", "MIIB")
								 : json_string(url);
		json_t *header = json_pack("{ss so}", "alg", "ES256", members[i], value);
		char *text = json_dumps(header, JSON_COMPACT);
		assert_denied(&f, make_token("ES256", stranger, NULL, text, "{" CLAIMS "}"), "signature is wrong");
		assert_accepted(&f, make_token("ES256", f.key, NULL, text, "{" CLAIMS "}"));
		free(text);
		json_decref(header);
		assert_nobody_called(fd);
	}
	close(fd);
	EVP_PKEY_free(stranger);
	end(&f);
}

/* An encrypted token has five parts: not one of ours, whatever its header says. */
static void test_an_encrypted_token_is_not_taken(void **state)
{
	(void)state;
	static const char *const headers[] = { "{\"alg\":\"RSA-OAEP\",\"enc\":\"A256GCM\"}",
					       "{\"alg\":\"dir\",\"enc\":\"A128CBC-HS256\",\"zip\":\"DEF\"}",
					       "{\"alg\":\"ES256\",\"enc\":\"A256GCM\"}" };
	struct fixture f;
	struct tunnel_identity id;
	begin_open(&f);
	for (size_t i = 0; i < sizeof headers / sizeof *headers; i++) {
		char *three = make_token("ES256", f.key, NULL, headers[i], "{" CLAIMS "}"), *five = NULL;
		assert_true(asprintf(&five, "%s.%s", three, "AAAA.AAAA") > 0);
		assert_int_equal(verify(&f, five, &id), TUNNEL_NOT_MINE);
		assert_string_equal(id.subject, "");
		free(five);
		if (i < 2)
			assert_denied(&f, three, "no key is known for alg");
		else
			free(three);
	}
	end(&f);
}

/* token with the signature replaced by these 64 bytes */
static char *with_signature(const char *token, const unsigned char bytes[64])
{
	char *text = base64url(bytes, 64), *out = NULL;
	assert_true(asprintf(&out, "%.*s.%s", (int)(strrchr(token, '.') - token), token, text) > 0);
	free(text);
	return out;
}

/* Signatures of ECDSA that a careless verifier takes for any key: r and s are 1 to n - 1. */
static void test_ecdsa_numbers_out_of_range_are_refused(void **state)
{
	(void)state;
	enum number { ZERO, ONE, ORDER, ORDER_LESS_1, MAX, NUMBERS };
	struct fixture f;
	unsigned char numbers[NUMBERS][32] = { { 0 } };
	BIGNUM *order = NULL;
	begin_open(&f);
	assert_int_equal(EVP_PKEY_get_bn_param(f.key, OSSL_PKEY_PARAM_EC_ORDER, &order), 1);
	numbers[ONE][31] = 1;
	BN_bn2binpad(order, numbers[ORDER], 32);
	BN_sub_word(order, 1);
	BN_bn2binpad(order, numbers[ORDER_LESS_1], 32);
	memset(numbers[MAX], 0xff, 32);
	BN_free(order);
	char *token = es256(&f, "{" CLAIMS "}");
	for (int r = 0; r < NUMBERS; r++)
		for (int s = 0; s < NUMBERS; s++) {
			unsigned char bytes[64];
			memcpy(bytes, numbers[r], 32);
			memcpy(bytes + 32, numbers[s], 32);
			assert_denied(&f, with_signature(token, bytes), "signature is wrong");
		}
	assert_accepted(&f, token);
	end(&f);
}

/* r || s has one length; the DER form, and one cut or made longer, are another signature's. */
static void test_ecdsa_signatures_have_one_length(void **state)
{
	(void)state;
	struct fixture f;
	begin_open(&f);
	char *token = es256(&f, "{" CLAIMS "}");
	for (size_t n = 1; n <= 132; n++) {
		unsigned char bytes[132] = { 0x30, 0x06, 0x02, 0x01, 0x01, 0x02, 0x01, 0x01 };
		char *text = base64url(bytes, n), *out = NULL;
		assert_true(asprintf(&out, "%.*s.%s", (int)(strrchr(token, '.') - token), token, text) > 0);
		free(text);
		assert_denied(&f, out, "signature is wrong");
	}
	assert_accepted(&f, token);
	end(&f);
}

/* A key verifies its own algorithm alone, also among those that it could serve. */
static void test_paddings_and_hashes_are_not_confused(void **state)
{
	(void)state;
	static const char *const others[] = { "PS256", "PS384", "RS384", "RS512" };
	struct fixture f;
	char spec[128], header[64];
	begin(&f);
	EVP_PKEY *rsa = make_rsa(2048);
	write_pem(f.folder, "rsa.pem", rsa, 0);
	snprintf(spec, sizeof spec, "RS256:%s/rsa.pem", f.folder);
	open_with(&f, "key", spec, NULL, NULL);
	for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
		snprintf(header, sizeof header, "{\"alg\":\"%s\"}", others[i]);
		assert_denied(&f, make_token(others[i], rsa, NULL, header, "{" CLAIMS "}"), "no key is known for alg");
		assert_denied(&f, make_token(others[i], rsa, NULL, HEADER("RS256"), "{" CLAIMS "}"),
			      "signature is wrong");
	}
	assert_accepted(&f, make_token("RS256", rsa, NULL, HEADER("RS256"), "{" CLAIMS "}"));
	EVP_PKEY_free(rsa);
	end(&f);
}

/* With e = 1 every signature is the padded hash itself; an even e is none. */
static void test_weak_rsa_exponents_are_refused(void **state)
{
	(void)state;
	static const char *const exponents[] = { "AQ", "AA", "Ag", "AQAA" };
	struct fixture f;
	char path[128];
	begin(&f);
	EVP_PKEY *rsa = make_rsa(2048);
	snprintf(path, sizeof path, "%s/jwks.json", f.folder);
	const char *pairs[] = { "issuer", ISS, "audience", AUD, "jwks", path, NULL };
	for (size_t i = 0; i < sizeof exponents / sizeof *exponents; i++) {
		json_t *jwk = make_jwk(rsa, NULL, "k");
		json_object_set_new(jwk, "e", json_string(exponents[i]));
		write_jwks(f.folder, "jwks.json", &jwk, 1);
		if (fake_plugin_open(&f.p, pairs) != TUNNEL_CONFIG)
			fail_msg("e = %s is taken", exponents[i]);
	}
	json_t *jwk = make_jwk(rsa, NULL, "k");
	write_jwks(f.folder, "jwks.json", &jwk, 1);
	assert_int_equal(fake_plugin_open(&f.p, pairs), 0);
	EVP_PKEY_free(rsa);
	end(&f);
}

/* A token in a token: the outer one's claims are no object, and the inner one's are nobody's. */
static void test_a_nested_token_is_refused(void **state)
{
	(void)state;
	struct fixture f;
	begin_open(&f);
	char *inner = es256(&f, "{" CLAIMS "}");
	assert_denied(&f, make_token("ES256", f.key, NULL, "{\"alg\":\"ES256\",\"cty\":\"JWT\"}", inner),
		      "its claims is not JSON");
	free(inner);
	end(&f);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_keys_that_a_token_brings_or_names_are_not_used),
		cmocka_unit_test(test_an_encrypted_token_is_not_taken),
		cmocka_unit_test(test_ecdsa_numbers_out_of_range_are_refused),
		cmocka_unit_test(test_ecdsa_signatures_have_one_length),
		cmocka_unit_test(test_paddings_and_hashes_are_not_confused),
		cmocka_unit_test(test_weak_rsa_exponents_are_refused),
		cmocka_unit_test(test_a_nested_token_is_refused),
	};
	return RUN_CASES(tests);
}
