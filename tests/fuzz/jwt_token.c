/* Bearer tokens of auth-jwt: as they come, and "header\nclaims" signed with a secret that the checker knows, so that
 * what stands behind the signature is reached. */
#include "fuzz.h"

#include "base/text.h"
#include "plugins/auth-jwt/claims.h"

#include <openssl/hmac.h>
#include <stdlib.h>
#include <string.h>

#define NOW_MS 1750000000000
#define SECRET "a secret of thirty-two characters"

static const struct claim_rules rules = {
	.issuer = (char *)(uintptr_t) "https://issuer",
	.audience = (char *)(uintptr_t) "tunnel",
	.groups_claim = (char *)(uintptr_t) "groups",
	.subject_claim = (char *)(uintptr_t) "sub",
	.leeway_ms = 60000,
};

static const struct key *known_key(void)
{
	static struct key key = { .material = (unsigned char *)(uintptr_t)SECRET, .len = sizeof SECRET - 1 };
	char err[256];
	if (!key.alg)
		key.alg = key_alg_find("HS256", 5, err, sizeof err);
	FUZZ_CHECK(key.alg);
	return &key;
}

static char *make(const char *header, const char *claims)
{
	unsigned char sig[32];
	unsigned sig_len = 0;
	size_t size = TEXT_B64_SIZE(strlen(header)) + TEXT_B64_SIZE(strlen(claims)) + TEXT_B64_SIZE(sizeof sig) + 3;
	char *text = malloc(size);
	size_t n = text_b64url(header, strlen(header), text, size);
	text[n++] = '.';
	n += text_b64url(claims, strlen(claims), text + n, size - n);
	HMAC(EVP_sha256(), SECRET, sizeof SECRET - 1, (const unsigned char *)text, n, sig, &sig_len);
	text[n++] = '.';
	text_b64url(sig, sizeof sig, text + n, size - n);
	return text;
}

static void check_verdict(const struct verdict *v)
{
	FUZZ_CHECK(v->subject[0] && strlen(v->subject) < TUNNEL_SUBJECT_MAX && v->credential[0]);
	FUZZ_CHECK(v->expires_ms > NOW_MS - rules.leeway_ms && v->not_before_ms <= NOW_MS + rules.leeway_ms);
	for (const char *c = v->subject; *c; c++)
		FUZZ_CHECK((unsigned char)*c >= ' ' && *c != 0x7f);
	json_t *groups = *v->groups ? json_loads(v->groups, JSON_REJECT_DUPLICATES, NULL) : json_array();
	json_t *claims = json_loads(v->claims, JSON_REJECT_DUPLICATES, NULL);
	FUZZ_CHECK(json_is_array(groups) && json_is_object(claims));
	for (size_t i = 0; i < json_array_size(groups); i++)
		FUZZ_CHECK(json_is_string(json_array_get(groups, i)));
	json_decref(groups);
	json_decref(claims);
}

static void judge(const struct token *token)
{
	struct verdict v;
	char err[256] = "";
	fuzz_fill(&v, sizeof v);
	int rc = claims_judge(&rules, token, NOW_MS, &v, err, sizeof err);
	FUZZ_CHECK(rc == 0 || (rc == TUNNEL_DENIED && err[0] && fuzz_is_untouched(&v, sizeof v)));
	if (rc == 0) {
		check_verdict(&v);
		verdict_clear(&v);
	}
}

/* Is it taken? */
static bool check(const char *text)
{
	struct token t;
	char err[256] = "";
	fuzz_fill(&t, sizeof t);
	if (token_read(text, &t, err, sizeof err) != 0) {
		FUZZ_CHECK(err[0] && fuzz_is_untouched(&t, sizeof t));
		return false;
	}
	FUZZ_CHECK(token_has_form(text) && t.head_len < t.signed_len && t.signed_len < t.len && t.len <= TOKEN_MAX);
	FUZZ_CHECK(json_is_object(t.header) && json_is_object(t.claims) && !token_claims(&t));
	bool verified = token_verify(&t, known_key()) == 0;
	FUZZ_CHECK(!verified || strcmp(t.alg, "HS256") == 0);
	if (verified)
		judge(&t);
	token_clear(&t);
	return verified;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = { data, size };
	char *whole = fuzz_text(data, size);
	char *header = fuzz_part(&in, '\n'), *claims = fuzz_part(&in, '\n');
	check(whole);
	char *text = make(header, claims);
	check(text);
	char *signature = strrchr(text, '.') + 1;
	*signature = *signature == 'A' ? 'B' : 'A';
	FUZZ_CHECK(!check(text));
	free(text);
	free(header);
	free(claims);
	free(whole);
	return 0;
}
