/* auth-jwt: where its keys come from, what is refused when they are read, and how they change. */
#include "jwt_case.h"

#include "base/file.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/stat.h>
#include <unistd.h>

#define SECRET_64 "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

/* "%" stands for the folder. */
static int open_key(struct fixture *f, const char *form)
{
	char spec[256];
	size_t n = strcspn(form, "%");
	snprintf(spec, sizeof spec, "%.*s%s%s", (int)n, form, form[n] ? f->folder : "", form[n] ? form + n + 1 : "");
	const char *pairs[] = { "issuer", ISS, "audience", AUD, "key", spec, NULL };
	return fake_plugin_open(&f->p, pairs);
}

static void test_every_algorithm_verifies(void **state)
{
	(void)state;
	static const char *const algs[] = { "RS256", "RS384", "RS512", "ES256", "ES384",
					    "ES512", "HS256", "HS384", "HS512" };
	static const char *const curves[] = { "P-256", "P-384", "P-521" };
	struct fixture f;
	char header[64];
	begin(&f);
	EVP_PKEY *rsa = make_rsa(2048);
	for (size_t i = 0; i < sizeof algs / sizeof *algs; i++) {
		EVP_PKEY *ec = i / 3 == 1 ? make_ec(curves[i % 3]) : NULL;
		if (i / 3 == 2)
			write_text(f.folder, "k", SECRET_64 "\n", 0600);
		else
			write_pem(f.folder, "k", ec ? ec : rsa, 0);
		char spec[128];
		snprintf(spec, sizeof spec, "%s:%s/k", algs[i], f.folder);
		open_with(&f, "key", spec, NULL, NULL);
		snprintf(header, sizeof header, "{\"alg\":\"%s\"}", algs[i]);
		assert_accepted(&f, make_token(algs[i], ec ? ec : rsa, SECRET_64, header, "{" CLAIMS "}"));
		if (i / 3 == 2) /* the newline at the file's end is not part of the secret */
			assert_denied(&f, make_token(algs[i], NULL, SECRET_64 "\n", header, "{" CLAIMS "}"),
				      "signature is wrong");
		fake_plugin_close(&f.p);
		EVP_PKEY_free(ec);
	}
	EVP_PKEY_free(rsa);
	end(&f);
}

/* One RSA key, two kinds of signature; it verifies the one that it was given for. */
static void test_pss_is_not_pkcs1(void **state)
{
	(void)state;
	struct fixture f;
	begin(&f);
	EVP_PKEY *rsa = make_rsa(2048);
	write_pem(f.folder, "rsa.pem", rsa, 0);
	static const char *const pss[] = { "PS256", "PS384", "PS512" };
	static const char *const headers[] = { HEADER("PS256"), HEADER("PS384"), HEADER("PS512") };
	for (size_t i = 0; i < sizeof pss / sizeof *pss; i++) {
		char spec[32];
		snprintf(spec, sizeof spec, "%s:%%/rsa.pem", pss[i]);
		assert_int_equal(open_key(&f, spec), 0);
		assert_accepted(&f, make_token(pss[i], rsa, NULL, headers[i], "{" CLAIMS "}"));
		assert_denied(&f, make_token("RS256", rsa, NULL, headers[i], "{" CLAIMS "}"), "signature is wrong");
		assert_denied(&f, make_token(pss[(i + 1) % 3], rsa, NULL, headers[i], "{" CLAIMS "}"),
			      "signature is wrong");
		assert_denied(&f, make_token("RS256", rsa, NULL, HEADER("RS256"), "{" CLAIMS "}"), "no key is known");
		fake_plugin_close(&f.p);
	}
	assert_int_equal(open_key(&f, "RS256:%/rsa.pem"), 0);
	assert_denied(&f, make_token("PS256", rsa, NULL, HEADER("PS256"), "{" CLAIMS "}"), "no key is known");
	assert_denied(&f, make_token("PS256", rsa, NULL, HEADER("RS256"), "{" CLAIMS "}"), "signature is wrong");
	EVP_PKEY_free(rsa);
	end(&f);
}

static void test_unfit_keys_are_refused(void **state)
{
	(void)state;
	static const struct {
		const char *key, *why;
	} cases[] = {
		{ "EdDSA:%/key.pem", "unsupported algorithm \"EdDSA\"; allowed: RS256" },
		{ "none:%/key.pem", "unsupported algorithm \"none\"" },
		{ "es256:%/key.pem", "unsupported algorithm \"es256\"" },
		{ ":%/key.pem", "unsupported algorithm \"\"" },
		{ "%/key.pem", "expected \"ALG:/absolute/path\"" },
		{ "ES256:key.pem", "expected \"ALG:/absolute/path\"" },
		{ "ES256:kid=:%/key.pem", "a kid has 1 to 255 characters" },
		{ "ES256:kid=x", "expected \"ALG:/absolute/path\"" },
		{ "ES256:%/none.pem", "No such file" },
		{ "ES256:%/private.pem", "holds a private key; only its public half belongs here" },
		{ "ES256:%/secret", "no \"PUBLIC KEY\" or \"CERTIFICATE\" in PEM form" },
		{ "ES256:%/rsa.pem", "is not an EC key; ES256 needs one on P-256" },
		{ "ES256:%", "Is a directory" },
		{ "RS256:%/key.pem", "is not an RSA key; RS256 needs one" },
		{ "RS256:%/weak.pem", "is an RSA key of 1024 bits; allowed: 2048 to 8192" },
		{ "HS256:%/rsa.pem", "holds PEM, which is no shared secret for HS256" },
		{ "HS256:%/open", "has mode 0644, others could read it; allowed: 0600" },
		{ "HS256:%/short", "a secret of 31 bytes; HS256 needs at least 32" },
		{ "HS512:%/short", "HS512 needs at least 64" },
		{ "HS256:%/big", "larger than" },
		{ "ES256:%/ed.pem", "is not an EC key" },
	};
	struct fixture f;
	char big[300000];
	begin(&f);
	EVP_PKEY *rsa = make_rsa(2048), *weak = make_rsa(1024), *ed = make_ed25519();
	write_pem(f.folder, "private.pem", f.key, 1);
	write_pem(f.folder, "rsa.pem", rsa, 0);
	write_pem(f.folder, "weak.pem", weak, 0);
	write_pem(f.folder, "ed.pem", ed, 0);
	write_text(f.folder, "secret", SECRET_64, 0600);
	write_text(f.folder, "open", SECRET_64, 0644);
	write_text(f.folder, "short", "0123456789abcdef0123456789abcde\n", 0600);
	memset(big, 'x', sizeof big - 1);
	big[sizeof big - 1] = '\0';
	write_text(f.folder, "big", big, 0600);
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		int rc = open_key(&f, cases[i].key);
		if (rc != TUNNEL_CONFIG || !strstr(f.p.err, cases[i].why) || !strstr(f.p.err, "test.conf:1: key: "))
			fail_msg("%s: expected \"%s\", got %d: %s", cases[i].key, cases[i].why, rc, f.p.err);
	}
	const char *none[] = { "issuer", ISS, "audience", AUD, NULL };
	assert_int_equal(fake_plugin_open(&f.p, none), TUNNEL_CONFIG);
	assert_string_equal(f.p.err, "no key: give key, jwks, jwks_url or follow_issuer");
	EVP_PKEY_free(rsa);
	EVP_PKEY_free(weak);
	EVP_PKEY_free(ed);
	end(&f);
}

static void test_a_kid_is_there_once(void **state)
{
	(void)state;
	struct fixture f;
	char spec[160], path[128];
	begin(&f);
	json_t *keys[] = { make_jwk(f.key, NULL, "k1"), make_jwk(f.key, NULL, "k1") };
	json_incref(keys[0]); /* for the second file */
	snprintf(path, sizeof path, "%s/jwks.json", f.folder);
	snprintf(spec, sizeof spec, "ES256:kid=k1:%s/key.pem", f.folder);
	write_jwks(f.folder, "jwks.json", keys, 2);
	const char *alone[] = { "issuer", ISS, "audience", AUD, "jwks", path, NULL };
	assert_int_equal(fake_plugin_open(&f.p, alone), TUNNEL_CONFIG);
	assert_non_null(strstr(f.p.err, "the kid \"k1\" is already taken by a key of "));
	write_jwks(f.folder, "jwks.json", keys, 1);
	const char *both[] = { "issuer", ISS, "audience", AUD, "key", spec, "jwks", path, NULL };
	assert_int_equal(fake_plugin_open(&f.p, both), TUNNEL_CONFIG);
	assert_non_null(strstr(f.p.err, "is already taken by a key of test.conf:1"));
	assert_int_equal(fake_plugin_open(&f.p, alone), 0);
	end(&f);
}

/* An issuer may publish keys that are not for us; they are named in the log and passed over. What must never be in a
 * JWKS refuses the file. */
static void test_jwks_members_are_judged(void **state)
{
	(void)state;
	static const struct {
		const char *text, *refused, *logged;
	} cases[] = {
		{ "{\"keys\":[]}", "no usable key in it", NULL },
		{ "[]", "not a JWKS; expected {\"keys\"", NULL },
		{ "{\"keys\":{}}", "not a JWKS", NULL },
		{ "{\"keys\":[1]}", "keys[0] is not an object", NULL },
		{ "{\"keys\":[", "jwks.json:1: not JSON", NULL },
		{ "{\"keys\":[],\"keys\":[]}", "not JSON: duplicate object key", NULL },
		{ "{\"keys\":[{\"kty\":\"oct\",\"k\":\"c2VjcmV0\",\"alg\":\"HS256\"}]}",
		  "keys[0] holds a private key or secret", NULL },
		{ "{\"keys\":[{\"kty\":\"EC\",\"crv\":\"P-256\",\"d\":\"AA\"}]}", "holds a private key", NULL },
		{ "{\"keys\":[{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"AA\",\"y\":\"AA\"}]}",
		  "lacks x, y, or they are wrong", NULL },
		{ "{\"keys\":[{\"kty\":\"RSA\",\"e\":\"AQAB\"}]}", "lacks n, e, or they are wrong", NULL },
		{ "{\"keys\":[{\"kty\":\"RSA\",\"n\":\"AQAB\",\"e\":\"AQAB\",\"alg\":\"HS256\"}]}",
		  "has alg HS256, which is for secrets", NULL },
		{ "{\"keys\":[{\"kid\":7,\"kty\":\"RSA\"}]}", "has a kid that is not a text", NULL },
		{ "{\"keys\":[{\"kid\":\"ed\",\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"AA\"}]}", "no usable key",
		  "keys[0] (kid \"ed\") is passed over: it has the unsupported type \"OKP\"" },
		{ "{\"keys\":[{\"kty\":\"RSA\",\"use\":\"enc\",\"n\":\"AQAB\",\"e\":\"AQAB\"}]}", "no usable key",
		  "is not for signatures" },
		{ "{\"keys\":[{\"kty\":\"EC\",\"crv\":\"secp256k1\"}]}", "no usable key",
		  "unsupported curve \"secp256k1\"" },
		{ "{\"keys\":[{\"kty\":\"EC\",\"crv\":\"P-384\",\"alg\":\"ES256\"}]}", "no usable key",
		  "has alg \"ES256\", but a key on P-384 is for ES384" },
		{ "{\"keys\":[{\"kty\":\"RSA\",\"n\":\"AQAB\",\"e\":\"AQAB\"}]}", "no usable key", "is an RSA key of" },
		{ "{\"keys\":[{\"kty\":\"RSA\",\"alg\":\"RSA-OAEP\",\"n\":\"AQAB\",\"e\":\"AQAB\"}]}", "no usable key",
		  "unsupported algorithm \"RSA-OAEP\"" },
	};
	struct fixture f;
	char path[128];
	begin(&f);
	snprintf(path, sizeof path, "%s/jwks.json", f.folder);
	const char *pairs[] = { "issuer", ISS, "audience", AUD, "jwks", path, NULL };
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		write_text(f.folder, "jwks.json", cases[i].text, 0644);
		f.p.host.log[0] = '\0';
		int rc = fake_plugin_open(&f.p, pairs);
		if (rc != TUNNEL_CONFIG || !strstr(f.p.err, cases[i].refused))
			fail_msg("%s: expected \"%s\", got %d: %s", cases[i].text, cases[i].refused, rc, f.p.err);
		if (cases[i].logged ? !strstr(f.p.host.log, cases[i].logged) : f.p.host.log[0] != '\0')
			fail_msg("%s: log: %s", cases[i].text, f.p.host.log);
	}
	json_t *point = make_jwk(f.key, NULL, NULL); /* a point that is not on the curve */
	json_object_set(point, "y", json_object_get(point, "x"));
	write_jwks(f.folder, "jwks.json", &point, 1);
	assert_int_equal(fake_plugin_open(&f.p, pairs), TUNNEL_CONFIG);
	assert_non_null(strstr(f.p.err, "lacks x, y, or they are wrong"));
	end(&f);
}

static void test_a_jwks_rotates_without_a_restart(void **state)
{
	(void)state;
	struct fixture f;
	char path[128];
	begin(&f);
	EVP_PKEY *rsa = make_rsa(2048);
	json_t *first[] = { make_jwk(f.key, "ES256", "k1") };
	json_t *both[] = { make_jwk(f.key, "ES256", "k1"), make_jwk(rsa, NULL, "k2") };
	json_t *second[] = { make_jwk(rsa, NULL, "k2") };
	snprintf(path, sizeof path, "%s/jwks.json", f.folder);
	write_jwks(f.folder, "jwks.json", first, 1);
	open_with(&f, "jwks", path, NULL, NULL);
	char *old = make_token("ES256", f.key, NULL, "{\"alg\":\"ES256\",\"kid\":\"k1\"}", "{" CLAIMS "}");
	char *new = make_token("RS256", rsa, NULL, "{\"alg\":\"RS256\",\"kid\":\"k2\"}", "{" CLAIMS "}");
	assert_accepted(&f, strdup(old));
	assert_denied(&f, strdup(new), "no key with kid \"k2\" is known");
	write_jwks(f.folder, "jwks.json", both, 2);
	assert_denied(&f, strdup(new), "no key with kid \"k2\" is known"); /* looked at once a second */
	f.p.host.mono_ms += 1000;
	assert_accepted(&f, strdup(new));
	assert_accepted(&f, strdup(old));
	write_jwks(f.folder, "jwks.json", second, 1);
	f.p.host.mono_ms += 1000;
	assert_denied(&f, strdup(old), "no key with kid \"k1\" is known"); /* though it was remembered */
	assert_accepted(&f, strdup(new));

	fake_host_expect_errors(&f.p.host, 1); /* once, however often it is looked at */
	write_text(f.folder, "jwks.json", "{\"keys\":", 0644);
	for (int i = 0; i < 3; i++) {
		f.p.host.mono_ms += 1000;
		assert_accepted(&f, strdup(new));
	}
	assert_non_null(strstr(f.p.host.log, "changed keys are not used, the earlier ones stay: jwks: "));
	assert_int_equal(fake_plugin_reload(&f.p), TUNNEL_CONFIG);
	assert_non_null(strstr(f.p.err, "not JSON"));
	assert_accepted(&f, new);
	json_t *again[] = { make_jwk(f.key, "ES256", "k1") };
	write_jwks(f.folder, "jwks.json", again, 1);
	assert_int_equal(fake_plugin_reload(&f.p), 0); /* does not wait */
	assert_accepted(&f, old);
	EVP_PKEY_free(rsa);
	end(&f);
}

static void test_a_folder_of_jwks_is_watched(void **state)
{
	(void)state;
	struct fixture f;
	char folder[128], path[160];
	begin(&f);
	EVP_PKEY *two = make_ec("P-384");
	snprintf(folder, sizeof folder, "%s/keys", f.folder);
	mkdir(folder, 0755);
	json_t *a[] = { make_jwk(f.key, NULL, "k1") }, *b[] = { make_jwk(two, NULL, "k2") };
	write_jwks(folder, "a.json", a, 1);
	write_text(folder, "README", "not a key", 0644);
	write_text(folder, ".hidden.json", "not a key", 0644);
	open_with(&f, "jwks", folder, NULL, NULL);
	char *token = make_token("ES384", two, NULL, "{\"alg\":\"ES384\",\"kid\":\"k2\"}", "{" CLAIMS "}");
	assert_denied(&f, strdup(token), "no key with kid");
	write_jwks(folder, "b.jwks", b, 1);
	f.p.host.mono_ms += 1000;
	assert_accepted(&f, strdup(token));
	snprintf(path, sizeof path, "%s/b.jwks", folder);
	unlink(path);
	f.p.host.mono_ms += 1000;
	assert_denied(&f, token, "no key with kid");
	EVP_PKEY_free(two);
	end(&f);
}

/* A second implementation makes the tokens. */
static void test_tokens_of_pyjwt_verify(void **state)
{
	(void)state;
	static const char script[] = "import jwt,sys\n"
				     "k=open(sys.argv[2]).read()\n"
				     "print(jwt.encode({'iss':'" ISS "','aud':['x','" AUD
				     "'],'sub':'alice','exp':1700000600,'groups':['a']},"
				     "k,algorithm=sys.argv[1],headers={'kid':'py'}),end='')\n";
	static const char *const algs[] = { "ES256", "RS256", "HS256" };
	struct fixture f;
	begin(&f);
	EVP_PKEY *rsa = make_rsa(2048);
	write_text(f.folder, "make.py", script, 0600);
	write_pem(f.folder, "ES256.key", f.key, 1);
	write_pem(f.folder, "RS256.key", rsa, 1);
	write_text(f.folder, "HS256.key", SECRET_64, 0600);
	write_pem(f.folder, "RS256.pub", rsa, 0);
	char es[160], rs[160], hs[160], command[256], token[4096];
	snprintf(es, sizeof es, "ES256:%s/key.pem", f.folder);
	snprintf(rs, sizeof rs, "RS256:%s/RS256.pub", f.folder);
	snprintf(hs, sizeof hs, "HS256:%s/HS256.key", f.folder);
	const char *pairs[] = { "issuer", ISS, "audience", AUD, "key", es, "key", rs, "key", hs, NULL };
	assert_int_equal(fake_plugin_open(&f.p, pairs), 0);
	for (size_t i = 0; i < 3; i++) {
		snprintf(command, sizeof command, "/usr/bin/python3 %s/make.py %s %s/%s.key", f.folder, algs[i],
			 f.folder, algs[i]);
		FILE *pipe = popen(command, "re");
		assert_non_null(pipe);
		token[fread(token, 1, sizeof token - 1, pipe)] = '\0';
		assert_int_equal(pclose(pipe), 0);
		assert_accepted(&f, strdup(token));
	}
	EVP_PKEY_free(rsa);
	end(&f);
}

struct worker {
	struct fixture *f;
	atomic_bool *stop;
	char *tokens[16];
	unsigned wrong, calls;
};

static void *work(void *arg)
{
	struct worker *w = arg;
	struct tunnel_identity id;
	char value[1024], err[512];
	while (!*w->stop || w->calls < 32) {
		snprintf(value, sizeof value, "Bearer %s", w->tokens[w->calls++ % 16]);
		w->wrong += verify_header(w->f, value, &id, err) != 0 || strcmp(id.subject, "alice") != 0;
		w->f->p.host.mono_ms += 300; /* the files are looked at again and again */
	}
	return NULL;
}

static void test_threads_share_an_instance(void **state)
{
	(void)state;
	struct fixture f;
	pthread_t threads[4];
	struct worker workers[4];
	atomic_bool stop = false;
	begin_open(&f);
	for (int i = 0; i < 4; i++) {
		workers[i] = (struct worker){ .f = &f, .stop = &stop };
		for (int k = 0; k < 16; k++) /* the same for all, and some of its own */
			workers[i].tokens[k] = es256(&f, k % 2 ? "{" CLAIMS "}" : "{" CLAIMS ",\"groups\":[\"g\"]}");
		assert_int_equal(pthread_create(&threads[i], NULL, work, &workers[i]), 0);
	}
	for (int i = 0; i < 30; i++) {
		write_pem(f.folder, "key.pem", f.key, 0);
		assert_int_equal(fake_plugin_reload(&f.p), 0);
	}
	stop = true;
	for (int i = 0; i < 4; i++) {
		pthread_join(threads[i], NULL);
		assert_int_equal(workers[i].wrong, 0);
		for (int k = 0; k < 16; k++)
			free(workers[i].tokens[k]);
	}
	end(&f);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_algorithm_verifies),
		cmocka_unit_test(test_pss_is_not_pkcs1),
		cmocka_unit_test(test_unfit_keys_are_refused),
		cmocka_unit_test(test_a_kid_is_there_once),
		cmocka_unit_test(test_jwks_members_are_judged),
		cmocka_unit_test(test_a_jwks_rotates_without_a_restart),
		cmocka_unit_test(test_a_folder_of_jwks_is_watched),
		cmocka_unit_test(test_tokens_of_pyjwt_verify),
		cmocka_unit_test(test_threads_share_an_instance),
	};
	return RUN_CASES(tests);
}
