/* Each single allocation of auth-jwt fails once while a token is judged and while keys are read (jansson's have the
 * server's reserve, base/certain.h). Then the outcome is the right one, or a refusal in words; a token with a wrong
 * signature is never taken, and keys that were in force stay until new ones are read whole. */
#include "support/case.h"
#include "support/failing_alloc.h"

#include "base/text.h"
#include "plugins/auth-jwt/claims.h"
#include "plugins/auth-jwt/keyset.h"

#include <openssl/hmac.h>

#define NOW_MS 1750000000000
#define SECRET "a secret of thirty-two characters"
#define HEADER "{\"alg\":\"HS256\",\"kid\":\"k\"}"
#define CLAIMS                                                                                             \
	"{\"iss\":\"https://"                                                                              \
	"issuer\",\"aud\":[\"tunnel\"],\"sub\":\"alice\",\"groups\":[\"dev\",\"ops\"],\"exp\":1750000600," \
	"\"nbf\":1749999000,\"jti\":\"t-1\"}"

static const struct claim_rules rules = {
	.issuer = (char *)(uintptr_t) "https://issuer",
	.audience = (char *)(uintptr_t) "tunnel",
	.groups_claim = (char *)(uintptr_t) "groups",
	.subject_claim = (char *)(uintptr_t) "sub",
	.leeway_ms = 60000,
};

struct judged {
	char good[1024], forged[1024];
	struct key key;
};

static void sign(char out[1024])
{
	unsigned char sig[32];
	unsigned sig_len = 0;
	size_t n = text_b64url(HEADER, strlen(HEADER), out, 1024);
	out[n++] = '.';
	n += text_b64url(CLAIMS, strlen(CLAIMS), out + n, 1024 - n);
	HMAC(EVP_sha256(), SECRET, sizeof SECRET - 1, (const unsigned char *)out, n, sig, &sig_len);
	out[n++] = '.';
	text_b64url(sig, sizeof sig, out + n, 1024 - n);
}

/* 0: taken. Else it says why. */
static int judge(const char *text, const struct key *key, struct verdict *out, char *err, size_t err_len)
{
	struct token token;
	int rc = token_read(text, &token, err, err_len);
	if (rc != 0)
		return rc;
	rc = token_verify(&token, key);
	if (rc != 0)
		snprintf(err, err_len, "the signature is wrong");
	else
		rc = claims_judge(&rules, &token, NOW_MS, out, err, err_len);
	token_clear(&token);
	return rc;
}

static bool judge_both(void *arg)
{
	struct judged *j = arg;
	struct verdict good = { .subject = NULL }, forged = { .subject = NULL };
	char err[2][256] = { "", "" };
	int rc[] = { judge(j->good, &j->key, &good, err[0], sizeof err[0]),
		     judge(j->forged, &j->key, &forged, err[1], sizeof err[1]) };
	bool failed = failing_alloc_over();
	assert_true(rc[0] == 0 || (failed && err[0][0]));
	assert_true(rc[1] != 0 && err[1][0] && !forged.subject);
	if (rc[0] == 0) {
		assert_string_equal(good.subject, "alice");
		assert_string_equal(good.groups, "[\"dev\",\"ops\"]");
		assert_string_equal(good.credential, "t-1");
		assert_int_equal(good.expires_ms, 1750000600000);
		verdict_clear(&good);
	}
	return failed;
}

static void test_tokens(void **state)
{
	(void)state;
	static struct judged j = { .key = { .material = (unsigned char *)(uintptr_t)SECRET,
					    .len = sizeof SECRET - 1 } };
	char err[256];
	j.key.alg = key_alg_find("HS256", 5, err, sizeof err);
	assert_non_null(j.key.alg);
	sign(j.good);
	memcpy(j.forged, j.good, sizeof j.good);
	char *signature = strrchr(j.forged, '.') + 1;
	*signature = *signature == 'A' ? 'B' : 'A';
	failing_alloc_json(false);
	assert_true(failing_alloc_sweep(judge_both, &j) > 3);
}

/* ---- keys ---- */

#define POINT                                                                                               \
	"\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"axfR8uEsQkf4vOblY6RA8ncDfYEt6zOg9KE5RdiYwpY\",\"y\":\"T-" \
	"NC4v4af5uO5-"                                                                                      \
	"tKfA-eFivOM1drMV7Oy7ZAaDe_UfU\""
#define OLD "{\"keys\":[{" POINT ",\"kid\":\"old\"}]}"
#define NEW "{\"keys\":[{" POINT ",\"kid\":\"new\"},{" POINT "},{\"kty\":\"oct\",\"k\":\"AA\"}]}"

static int64_t now(void *ctx)
{
	(void)ctx;
	return 1000;
}

static void on_log(void *ctx, enum tunnel_log_level level, const char *text)
{
	(void)ctx, (void)level;
	assert_true(text[0]);
}

static const struct tunnel_host host = {
	.size = sizeof host, .abi = TUNNEL_ABI, .log = on_log, .wall_ms = now, .mono_ms = now
};

static void check_keys(struct keystore *store, bool is_new)
{
	struct keyset *set = keystore_get(store);
	assert_int_equal(set->n, is_new ? 2 : 1);
	assert_true(keyset_has(set, is_new ? "new" : "old"));
	for (size_t i = 0; i < set->n; i++)
		assert_true(set->keys[i].alg && set->keys[i].material && set->keys[i].where);
	assert_true(!is_new || !set->keys[1].kid);
	keyset_unref(set);
}

static bool publish(void *arg)
{
	struct keystore *store = arg;
	char err[512] = "";
	int rc = keystore_put_published(store, "it", NEW, strlen(NEW), err, sizeof err);
	bool failed = failing_alloc_over();
	assert_true(rc == 0 || (failed && rc < 0 && err[0]));
	check_keys(store, rc == 0);
	assert_int_equal(keystore_put_published(store, "it", OLD, strlen(OLD), err, sizeof err), 0);
	return failed;
}

static void test_published_keys(void **state)
{
	(void)state;
	struct keystore *store = NULL;
	char err[512];
	failing_alloc_json(false);
	assert_int_equal(keystore_open(&host, NULL, 0, NULL, &store, err, sizeof err), 0);
	assert_int_equal(keystore_put_published(store, "it", OLD, strlen(OLD), err, sizeof err), 0);
	assert_true(failing_alloc_sweep(publish, store) > 3);
	keystore_close(&store);
}

struct file {
	char folder[64], path[96];
};

static bool open_files(void *arg)
{
	const struct file *f = arg;
	struct keystore *store = NULL;
	struct key_source source = { .alg = NULL };
	char err[512] = "", why[512] = "";
	char text[128];
	snprintf(text, sizeof text, "ES256:kid=it:%s", f->path);
	int parsed = key_source_parse(text, "here", &source, why, sizeof why);
	char *jwks = strdup(f->folder);
	int rc = jwks ? keystore_open(&host, NULL, 0, jwks, &store, err, sizeof err) : -1;
	bool failed = failing_alloc_over();
	assert_true(parsed == 0 ? source.kid && strcmp(source.kid, "it") == 0 : failed && why[0] && !source.path);
	assert_true(rc == 0 ? store != NULL : failed && !store && (!jwks || err[0]));
	if (rc == 0)
		check_keys(store, true);
	else
		free(jwks);
	keystore_close(&store);
	key_source_clear(&source);
	return failed;
}

static void test_keys_in_files(void **state)
{
	(void)state;
	struct file f;
	snprintf(f.path, sizeof f.path, "%s/a.jwks", case_folder(f.folder));
	FILE *out = fopen(f.path, "we");
	assert_non_null(out);
	fputs("{\"keys\":[{" POINT ",\"kid\":\"new\"},{" POINT "},{" POINT ",\"use\":\"enc\"}]}", out);
	fclose(out);
	failing_alloc_json(false);
	assert_true(failing_alloc_sweep(open_files, &f) > 3);
	case_folder_remove(f.folder);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_tokens),
		cmocka_unit_test(test_published_keys),
		cmocka_unit_test(test_keys_in_files),
	};
	return RUN_CASES(tests);
}
