/* auth-jwt as the server uses it: the built plugin, loaded. What it does with tokens. */
#include "jwt_case.h"

static void test_accepts_and_fills_the_identity(void **state)
{
	(void)state;
	struct fixture f;
	struct tunnel_identity id;
	begin_open(&f);
	char *token = es256(&f, "{" CLAIMS ",\"jti\":\"t-17\",\"groups\":[\"dev\",\"ops\"],\"team\":\"blå\"}");
	for (int i = 0; i < 2; i++) { /* fresh, and remembered */
		assert_int_equal(verify(&f, token, &id), 0);
		assert_string_equal(id.subject, "alice");
		assert_string_equal(id.credential, "t-17");
		assert_string_equal(id.groups, "[\"dev\",\"ops\"]");
		assert_non_null(strstr(id.claims, "\"team\":\"blå\""));
		/* With the leeway, or the host would refuse what we took. */
		assert_true(id.expires_ms == INT64_C(1700000630000));
	}
	assert_int_equal(fake_host_count(&f.p.host, "cache_hits"), 1);
	free(token);

	token = es256(&f, "{" CLAIMS ",\"groups\":\"dev\"}");
	assert_int_equal(verify(&f, token, &id), 0);
	assert_string_equal(id.groups, "[\"dev\"]");
	assert_memory_equal(id.credential, "sha256:", 7);
	assert_int_equal(strlen(id.credential), 7 + 32);
	free(token);
	end(&f);
}

static void test_other_credentials_are_not_mine(void **state)
{
	(void)state;
	static const char *const values[] = { NULL,
					      "",
					      "Basic YTpi",
					      "Bearer",
					      "Bearer ",
					      "Bearer abc",
					      "Bearer a.b",
					      "Bearer a.b.c.d",
					      "Bearer a.b.c.d.e",
					      "AWS4-HMAC-SHA256 Credential=a.b.c",
					      "Bearer .a.b",
					      "bearer xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx" };
	struct fixture f;
	struct tunnel_identity id;
	begin_open(&f);
	for (size_t i = 0; i < sizeof values / sizeof *values; i++)
		assert_int_equal(verify_header(&f, values[i], &id, NULL), TUNNEL_NOT_MINE);
	end(&f);
}

static void test_two_authorization_headers_are_refused(void **state)
{
	(void)state;
	struct fixture f;
	struct tunnel_identity id;
	begin_open(&f);
	char *token = es256(&f, "{" CLAIMS "}"), *value = NULL;
	assert_true(asprintf(&value, "Bearer %s", token) > 0);
	struct tunnel_header headers[] = { { "authorization", "Basic YTpi" }, { "authorization", value } };
	struct tunnel_auth_request r = {
		.size = sizeof r, .method = "GET", .path = "/", .query = "", .headers = headers, .header_count = 2
	};
	assert_int_equal(fake_verify(&f.p, &r, &id, NULL), TUNNEL_DENIED);
	assert_string_equal(f.p.err, "more than one Authorization header");
	r.headers = headers + 1;
	r.header_count = 1;
	assert_int_equal(fake_verify(&f.p, &r, &id, NULL), 0);
	free(value);
	free(token);
	end(&f);
}

/* RFC 8725, 2.1: no signature, or one of an algorithm the token chose. */
static void test_alg_none_is_refused(void **state)
{
	(void)state;
	static const char *const names[] = { "none", "None", "NONE", "nOnE", "" };
	struct fixture f;
	char header[64];
	begin_open(&f);
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		snprintf(header, sizeof header, "{\"alg\":\"%s\"}", names[i]);
		assert_denied(&f, make_token("-", NULL, NULL, header, "{" CLAIMS "}"), "not signed");
		assert_denied(&f, make_token("ES256", f.key, NULL, header, "{" CLAIMS "}"), "no key is known for alg");
	}
	assert_denied(&f, make_token("-", NULL, NULL, HEADER("ES256"), "{" CLAIMS "}"), "not signed");
	assert_denied(&f, make_token("ES256", f.key, NULL, "{\"typ\":\"JWT\"}", "{" CLAIMS "}"), "no alg");
	assert_denied(&f, make_token("ES256", f.key, NULL, "{\"alg\":7}", "{" CLAIMS "}"), "no alg");
	end(&f);
}

static void test_hmac_with_a_public_key_is_refused(void **state)
{
	(void)state;
	struct fixture f;
	begin(&f);
	EVP_PKEY *rsa = make_rsa(2048);
	char spec[128], *pem = public_pem(rsa);
	write_pem(f.folder, "rsa.pem", rsa, 0);
	snprintf(spec, sizeof spec, "RS256:%s/rsa.pem", f.folder);
	open_with(&f, "key", spec, NULL, NULL);
	assert_accepted(&f, make_token("RS256", rsa, NULL, HEADER("RS256"), "{" CLAIMS "}"));
	assert_denied(&f, make_token("HS256", NULL, pem, HEADER("HS256"), "{" CLAIMS "}"), "no key is known for alg");
	assert_denied(&f, make_token("HS256", NULL, pem, HEADER("RS256"), "{" CLAIMS "}"), "signature is wrong");
	assert_denied(&f, make_token("RS512", rsa, NULL, HEADER("RS512"), "{" CLAIMS "}"), "no key is known for alg");
	free(pem);
	EVP_PKEY_free(rsa);
	end(&f);
}

static void test_a_curve_belongs_to_its_algorithm(void **state)
{
	(void)state;
	struct fixture f;
	begin(&f);
	EVP_PKEY *p384 = make_ec("P-384");
	char spec[128];
	write_pem(f.folder, "p384.pem", p384, 0);
	snprintf(spec, sizeof spec, "ES256:%s/p384.pem", f.folder);
	const char *pairs[] = { "issuer", ISS, "audience", AUD, "key", spec, NULL };
	assert_int_equal(fake_plugin_open(&f.p, pairs), TUNNEL_CONFIG);
	assert_non_null(strstr(f.p.err, "is an EC key on curve secp384r1; ES256 needs P-256"));

	json_t *keys[] = { make_jwk(p384, NULL, "big") };
	write_jwks(f.folder, "jwks.json", keys, 1);
	snprintf(spec, sizeof spec, "%s/jwks.json", f.folder);
	open_with(&f, "jwks", spec, NULL, NULL);
	assert_accepted(&f, make_token("ES384", p384, NULL, "{\"alg\":\"ES384\",\"kid\":\"big\"}", "{" CLAIMS "}"));
	assert_denied(&f, make_token("ES256", p384, NULL, "{\"alg\":\"ES256\",\"kid\":\"big\"}", "{" CLAIMS "}"),
		      "the token says alg \"ES256\", but the key \"big\" is for ES384");
	EVP_PKEY_free(p384);
	end(&f);
}

static void test_kid_chooses_a_key_and_nothing_else(void **state)
{
	(void)state;
	struct fixture f;
	begin(&f);
	EVP_PKEY *other = make_ec("P-256");
	char a[160], b[160];
	write_pem(f.folder, "b.pem", other, 0);
	snprintf(a, sizeof a, "ES256:kid=a:%s/key.pem", f.folder);
	snprintf(b, sizeof b, "ES256:kid=https://k/b:%s/b.pem", f.folder);
	open_with(&f, "key", a, "key", b);
#define WITH(kid) "{\"alg\":\"ES256\",\"kid\":" kid "}"
	assert_accepted(&f, make_token("ES256", f.key, NULL, WITH("\"a\""), "{" CLAIMS "}"));
	assert_accepted(&f, make_token("ES256", other, NULL, WITH("\"https://k/b\""), "{" CLAIMS "}"));
	assert_accepted(&f, make_token("ES256", other, NULL, HEADER("ES256"), "{" CLAIMS "}"));
	assert_denied(&f, make_token("ES256", f.key, NULL, WITH("\"https://k/b\""), "{" CLAIMS "}"),
		      "signature is wrong");
	static const char *const kids[] = { WITH("\"c\""), WITH("\"../../../dev/null\""), WITH("\"a' OR '1'='1\""),
					    WITH("\"a;ls\"") };
	for (size_t i = 0; i < sizeof kids / sizeof *kids; i++)
		assert_denied(&f, make_token("ES256", f.key, NULL, kids[i], "{" CLAIMS "}"), "no key with kid");
	assert_denied(&f, make_token("ES256", f.key, NULL, WITH("7"), "{" CLAIMS "}"), "its kid is not a text");
	assert_denied(&f, make_token("ES256", f.key, NULL, WITH("\"\""), "{" CLAIMS "}"), "its kid is not a text");
	assert_denied(&f, make_token("ES256", f.key, NULL, WITH("\"a\\n\""), "{" CLAIMS "}"), "its kid is not a text");
	/* A key that the token brings along is not looked at. */
	json_t *jwk = make_jwk(other, "ES256", NULL),
	       *header = json_pack("{ss so ss}", "alg", "ES256", "jwk", jwk, "kid", "a");
	char *text = json_dumps(header, JSON_COMPACT);
	assert_denied(&f, make_token("ES256", other, NULL, text, "{" CLAIMS "}"), "signature is wrong");
	free(text);
	json_decref(header);
	EVP_PKEY_free(other);
	end(&f);
}

static void test_claims_are_judged(void **state)
{
	(void)state;
	static const struct {
		const char *claims, *why; /* NULL: accepted */
	} cases[] = {
		{ "{" CLAIMS "}", NULL },
		{ "{" NO_EXP "}", "claim exp is missing" },
		{ "{" NO_EXP ",\"exp\":\"1700000600\"}", "claim exp is not a number" },
		{ "{" NO_EXP ",\"exp\":null}", "claim exp is not a number" },
		{ "{" NO_EXP ",\"exp\":true}", "claim exp is not a number" },
		{ "{" NO_EXP ",\"exp\":1700000600.5}", NULL },
		{ "{" NO_EXP ",\"exp\":0}", "claim exp is no time" },
		{ "{" NO_EXP ",\"exp\":-5}", "claim exp is no time" },
		{ "{" NO_EXP ",\"exp\":1e300}", "claim exp is no time" },
		{ "{" NO_EXP ",\"exp\":9223372036854775807}", "claim exp is no time" },
		{ "{" NO_EXP ",\"exp\":1699999971}", NULL }, /* 29 s ago, leeway 30 */
		{ "{" NO_EXP ",\"exp\":1699999970}", "token expired 30 s ago" },
		{ "{" NO_EXP ",\"exp\":1699999000}", "token expired 1000 s ago" },
		{ "{" CLAIMS ",\"nbf\":1700000030}", NULL },
		{ "{" CLAIMS ",\"nbf\":1700000040}", "token is not valid before 40 s from now" },
		{ "{" CLAIMS ",\"nbf\":1699999999}", NULL }, /* may be missing, as above */
		{ "{" CLAIMS ",\"nbf\":\"1\"}", "claim nbf is not a number" },
		{ "{" CLAIMS ",\"iat\":1700000100}", "token was issued 100 s from now" },
		{ "{" CLAIMS ",\"iat\":1699999999}", NULL },
		{ "{" NO_ISS ",\"iss\":[\"" ISS "\"]}", "claim iss is missing or not a text" },
		{ "{" NO_ISS "}", "claim iss is missing" },
		{ "{" NO_AUD ",\"aud\":\"mail\"}", "audience is \"mail\", expected \"tunnel\"" },
		{ "{" NO_AUD ",\"aud\":\"Tunnel\"}", "audience is" },
		{ "{" NO_AUD ",\"aud\":[\"mail\",\"tunnel\"]}", NULL },
		{ "{" NO_AUD ",\"aud\":[\"mail\",\"chat\"]}", "audience is \"mail\" and others" },
		{ "{" NO_AUD ",\"aud\":[]}", "claim aud is missing" },
		{ "{" NO_AUD ",\"aud\":[\"tunnel\",7]}", "claim aud is not a text or an array of texts" },
		{ "{" NO_AUD ",\"aud\":{\"tunnel\":1}}", "claim aud is missing or not a text" },
		{ "{" NO_AUD "}", "claim aud is missing" },
		{ "{" NO_SUB "}", "claim sub is missing" },
		{ "{" NO_SUB ",\"sub\":\"\"}", "claim sub is missing" },
		{ "{" NO_SUB ",\"sub\":7}", "claim sub is missing" },
		{ "{" NO_SUB ",\"sub\":\"a\\nb\"}", "without control characters" },
		{ "{" NO_SUB ",\"sub\":\"alice\\u0000bob\"}", "its claims is not JSON" },
		{ "{" CLAIMS ",\"groups\":{}}", "claim groups is not an array of texts" },
		{ "{" CLAIMS ",\"groups\":[\"a\",1]}", "claim groups is not an array of texts" },
		{ "{" CLAIMS ",\"groups\":[]}", NULL },
		{ "["
		  "]",
		  "its claims is not a JSON object" },
		{ "7", "its claims is not JSON" },
		{ "", "its claims is not base64url" },
		{ "{" CLAIMS "} {}", "its claims is not JSON" },
		{ "{" CLAIMS ",\"sub\":\"root\"}", "a key is there twice" },
		{ "{" CLAIMS ",\"x\":{\"a\":1,\"a\":2}}", "a key is there twice" },
	};
	struct fixture f;
	begin_open(&f);
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		if (cases[i].why)
			assert_denied(&f, es256(&f, cases[i].claims), cases[i].why);
		else
			assert_accepted(&f, es256(&f, cases[i].claims));
	}
	end(&f);
}

/* It may be for another provider; whoever signed it. */
static void test_another_issuers_token_is_not_mine(void **state)
{
	(void)state;
	static const char *const claims[] = { "{" NO_ISS ",\"iss\":\"https://evil\"}",
					      "{" NO_ISS ",\"iss\":\"" ISS "/\"}", "{\"iss\":\"https://other\"}" };
	struct fixture f;
	begin_open(&f);
	for (size_t i = 0; i < sizeof claims / sizeof *claims; i++) {
		struct tunnel_identity id;
		char *token = es256(&f, claims[i]);
		assert_int_equal(verify(&f, token, &id), TUNNEL_NOT_MINE);
		assert_string_equal(id.subject, "");
		assert_non_null(strstr(f.p.err, "expected \"" ISS "\""));
		free(token);
	}
	end(&f);
}

static void test_a_prefix_is_before_subject_and_groups(void **state)
{
	(void)state;
	struct fixture f;
	struct tunnel_identity id;
	char longest[TUNNEL_SUBJECT_MAX], claims[1024];
	begin(&f);
	open_with(&f, "key", f.spec, "prefix", "partner:");
	char *token = es256(&f, "{" CLAIMS ",\"groups\":[\"a\",\"\"]}");
	assert_int_equal(verify(&f, token, &id), 0);
	assert_string_equal(id.subject, "partner:alice");
	assert_string_equal(id.groups, "[\"partner:a\",\"partner:\"]");
	free(token);
	token = es256(&f, "{" CLAIMS ",\"groups\":\"a\"}");
	assert_int_equal(verify(&f, token, &id), 0);
	assert_string_equal(id.groups, "[\"partner:a\"]");
	free(token);
	memset(longest, 'x', sizeof longest);
	longest[sizeof longest - 1] = '\0';
	snprintf(claims, sizeof claims, "{" NO_SUB ",\"sub\":\"%s\"}", longest);
	assert_denied(&f, es256(&f, claims), "longer than 247 bytes, which is what fits behind the prefix");
	end(&f);
}

static void test_nbf_can_be_demanded(void **state)
{
	(void)state;
	struct fixture f;
	begin(&f);
	open_with(&f, "key", f.spec, "require_nbf", "true");
	assert_denied(&f, es256(&f, "{" CLAIMS "}"), "claim nbf is missing; this server demands it (require_nbf)");
	assert_denied(&f, es256(&f, "{" CLAIMS ",\"nbf\":null}"), "claim nbf is not a number");
	assert_denied(&f, es256(&f, "{" CLAIMS ",\"nbf\":0}"), "claim nbf is no time");
	assert_denied(&f, es256(&f, "{" CLAIMS ",\"nbf\":1700000040}"), "token is not valid before 40 s from now");
	assert_accepted(&f, es256(&f, "{" CLAIMS ",\"nbf\":1700000000}"));
	end(&f);
}

static void test_names_of_claims_can_be_chosen(void **state)
{
	(void)state;
	struct fixture f;
	struct tunnel_identity id;
	begin(&f);
	const char *pairs[] = {
		"issuer",          ISS,      "audience", AUD, "key", f.spec, "subject_claim", "email", "groups_claim",
		"https://x/roles", "leeway", "0",        NULL
	};
	assert_int_equal(fake_plugin_open(&f.p, pairs), 0);
	char *token = es256(&f, "{" CLAIMS ",\"email\":\"a@x\",\"https://x/roles\":[\"r\"],\"groups\":[\"no\"]}");
	assert_int_equal(verify(&f, token, &id), 0);
	assert_string_equal(id.subject, "a@x");
	assert_string_equal(id.groups, "[\"r\"]");
	free(token);
	assert_denied(&f, es256(&f, "{" CLAIMS "}"), "claim email is missing");
	f.p.host.wall_ms = INT64_C(1700000600000);
	assert_denied(&f, es256(&f, "{" CLAIMS ",\"email\":\"a@x\"}"), "token expired 0 s ago");
	end(&f);
}

static void test_sizes_are_bounded(void **state)
{
	(void)state;
	struct fixture f;
	begin_open(&f);
	char *big = NULL, *pad = malloc(7001);
	memset(pad, 'x', 7000);
	pad[7000] = '\0';
	assert_true(asprintf(&big, "{" CLAIMS ",\"pad\":\"%s\"}", pad) > 0);
	assert_denied(&f, es256(&f, big), "bytes; allowed: up to 8192");
	free(big);
	pad[300] = '\0';
	assert_true(asprintf(&big, "{" NO_SUB ",\"sub\":\"%s\"}", pad) > 0);
	assert_denied(&f, es256(&f, big), "claim sub is missing or not a text of 1 to 255 bytes");
	free(big);
	pad[300] = 'x';
	pad[4200] = '\0';
	assert_true(asprintf(&big, "{" CLAIMS ",\"groups\":[\"%s\"]}", pad) > 0);
	assert_denied(&f, es256(&f, big), "the token's groups take 4204 bytes; allowed: up to 4095");
	free(big);
	pad[300] = '\0';
	struct tunnel_identity id; /* a long jti gives way to a hash */
	assert_true(asprintf(&big, "{" CLAIMS ",\"jti\":\"%s\"}", pad) > 0);
	char *token = es256(&f, big);
	assert_int_equal(verify(&f, token, &id), 0);
	assert_memory_equal(id.credential, "sha256:", 7);
	free(token);
	free(big);
	free(pad);
	end(&f);
}

static void test_malformed_tokens_are_refused(void **state)
{
	(void)state;
	struct fixture f;
	begin_open(&f);
	assert_denied(&f, strdup("a.b.c"), "not base64url");
	assert_denied(&f, strdup("e30.e30.AAAA"), "no alg");
	assert_denied(&f, strdup("e30.e30."), "no alg");
	assert_denied(&f, strdup("W10.e30.AAAA"), "header is not a JSON object");
	assert_denied(&f, make_token("ES256", f.key, NULL, "{\"alg\":\"ES256\",\"alg\":\"ES256\"}", "{" CLAIMS "}"),
		      "its header is not JSON: a key is there twice");
	assert_denied(&f,
		      make_token("ES256", f.key, NULL, "{\"alg\":\"ES256\",\"crit\":[\"b64\"],\"b64\":false}",
				 "{" CLAIMS "}"),
		      "demands extensions (crit)");
	assert_denied(&f, make_token("ES256", f.key, NULL, "{\"alg\":\"ES256\",\"typ\":\"dpop+jwt\"}", "{" CLAIMS "}"),
		      "typ \"dpop+jwt\"; allowed: JWT, at+jwt");
	assert_denied(&f, make_token("ES256", f.key, NULL, "{\"alg\":\"ES256\",\"typ\":5}", "{" CLAIMS "}"), "typ");
	static const char bad[] = "{" CLAIMS ",\"x\":\"\xff\xfe\"}",
			  bad_head[] = "{\"alg\":\"ES256\",\"x\":\"\xc0\x80\"}";
	static const char head[] = HEADER("ES256"), good[] = "{" CLAIMS "}";
	assert_denied(&f, make_token_bytes("ES256", f.key, NULL, head, sizeof head - 1, bad, sizeof bad - 1),
		      "its claims is not JSON: invalid UTF-8");
	assert_denied(&f, make_token_bytes("ES256", f.key, NULL, bad_head, sizeof bad_head - 1, good, sizeof good - 1),
		      "its header is not JSON: invalid UTF-8");
	/* deep nesting neither crashes nor passes */
	char deep[6000];
	memset(deep, '[', sizeof deep);
	assert_denied(&f, make_token_bytes("ES256", f.key, NULL, deep, sizeof deep, "{}", 2), "its header is not JSON");
	end(&f);
}

/* RFC 9068. */
static void test_an_access_token_says_so_in_its_typ(void **state)
{
	(void)state;
	static const char *const headers[] = { "{\"alg\":\"ES256\",\"typ\":\"at+jwt\"}",
					       "{\"alg\":\"ES256\",\"typ\":\"application/at+jwt\"}",
					       "{\"alg\":\"ES256\"}" };
	struct fixture f;
	begin_open(&f);
	for (size_t i = 0; i < sizeof headers / sizeof *headers; i++)
		assert_accepted(&f, make_token("ES256", f.key, NULL, headers[i], "{" CLAIMS "}"));
	end(&f);
}

static void test_one_token_has_one_text(void **state)
{
	(void)state;
	static const char *const tails[] = { "!!", "=", "==", " ", "\n", "+", "/", "A" };
	struct fixture f;
	begin_open(&f);
	char *token = es256(&f, "{" CLAIMS "}");
	for (size_t i = 0; i < sizeof tails / sizeof *tails; i++) {
		char *longer = NULL;
		assert_true(asprintf(&longer, "%s%s", token, tails[i]) > 0);
		assert_denied(&f, longer, i == 7 ? "signature is wrong" : "not base64url");
	}
	/* 64 bytes are 86 characters and the last one's low bits mean nothing: they must be zero. */
	char *same_bytes = strdup(token);
	same_bytes[strlen(token) - 1]++;
	assert_denied(&f, same_bytes, "not base64url");
	/* Every single changed character counts. */
	for (size_t i = 0; token[i]; i++) {
		struct tunnel_identity id;
		char *changed = strdup(token);
		changed[i] = changed[i] == 'A' ? 'B' : 'A';
		if (changed[i] == token[i] || token[i] == '.')
			changed[i] = 'C';
		int rc = verify(&f, changed, &id);
		if (rc == 0)
			fail_msg("accepted with character %zu changed", i);
		free(changed);
	}
	assert_accepted(&f, token);
	end(&f);
}

static void test_tampered_claims_are_refused(void **state)
{
	(void)state;
	struct fixture f;
	begin_open(&f);
	char *token = es256(&f, "{" CLAIMS "}"), *other = es256(&f, "{" CLAIMS ",\"groups\":[\"admin\"]}"),
	     *mixed = NULL;
	assert_true(asprintf(&mixed, "%.*s%s", (int)(strrchr(other, '.') - other), other, strrchr(token, '.')) > 0);
	assert_denied(&f, mixed, "signature is wrong");
	EVP_PKEY *stranger = make_ec("P-256");
	assert_denied(&f, make_token("ES256", stranger, NULL, HEADER("ES256"), "{" CLAIMS "}"), "signature is wrong");
	EVP_PKEY_free(stranger);
	free(token);
	free(other);
	end(&f);
}

static void test_a_remembered_token_still_expires(void **state)
{
	(void)state;
	struct fixture f;
	begin_open(&f);
	char *token = es256(&f, "{" CLAIMS "}");
	assert_accepted(&f, strdup(token));
	fake_host_pass(&f.p.host, 629999);
	assert_accepted(&f, strdup(token));
	fake_host_pass(&f.p.host, 1);
	assert_denied(&f, token, "token expired 30 s ago");
	assert_int_equal(fake_host_count(&f.p.host, "cache_hits"), 2);
	end(&f);
}

static void test_the_cache_is_bounded_and_right(void **state)
{
	(void)state;
	struct fixture f;
	struct tunnel_identity id;
	char secret[65], claims[256], want[32], spec[128];
	begin(&f);
	memset(secret, 'k', 64);
	secret[64] = '\0';
	write_text(f.folder, "secret", secret, 0600);
	snprintf(spec, sizeof spec, "HS256:%s/secret", f.folder);
	open_with(&f, "key", spec, NULL, NULL);
	for (int round = 0; round < 2; round++)
		for (int i = 0; i < 3000; i++) {
			snprintf(want, sizeof want, "user-%d", i);
			snprintf(claims, sizeof claims, "{" NO_SUB ",\"sub\":\"%s\"}", want);
			char *token = make_token("HS256", NULL, secret, HEADER("HS256"), claims);
			assert_int_equal(verify(&f, token, &id), 0);
			assert_string_equal(id.subject, want);
			free(token);
		}
	assert_true(fake_host_count(&f.p.host, "cache_hits") <= 1024);
	end(&f);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_accepts_and_fills_the_identity),
		cmocka_unit_test(test_other_credentials_are_not_mine),
		cmocka_unit_test(test_two_authorization_headers_are_refused),
		cmocka_unit_test(test_alg_none_is_refused),
		cmocka_unit_test(test_hmac_with_a_public_key_is_refused),
		cmocka_unit_test(test_a_curve_belongs_to_its_algorithm),
		cmocka_unit_test(test_kid_chooses_a_key_and_nothing_else),
		cmocka_unit_test(test_claims_are_judged),
		cmocka_unit_test(test_another_issuers_token_is_not_mine),
		cmocka_unit_test(test_a_prefix_is_before_subject_and_groups),
		cmocka_unit_test(test_nbf_can_be_demanded),
		cmocka_unit_test(test_names_of_claims_can_be_chosen),
		cmocka_unit_test(test_sizes_are_bounded),
		cmocka_unit_test(test_malformed_tokens_are_refused),
		cmocka_unit_test(test_an_access_token_says_so_in_its_typ),
		cmocka_unit_test(test_one_token_has_one_text),
		cmocka_unit_test(test_tampered_claims_are_refused),
		cmocka_unit_test(test_a_remembered_token_still_expires),
		cmocka_unit_test(test_the_cache_is_bounded_and_right),
	};
	return RUN_CASES(tests);
}
