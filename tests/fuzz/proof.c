/* DPoP proofs and agents' assertions: as they come, and "header\npayload" signed with a key that the checker knows, so
 * that the claims behind the signature are reached. */
#include "fuzz.h"

#include "base/text.h"
#include "ident/key.h"
#include "ident/proof.h"

#include <openssl/bn.h>
#include <openssl/ec.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NOW_MS 1750000000000
#define WINDOW_MS 60000
#define TOKEN "session-token"

/* The P-256 key whose private number is 1; its jwk stands in the seeds. */
static EVP_PKEY *known_key(void)
{
	static const unsigned char der[] = { 0x30, 0x31, 0x02, 0x01, 0x01, 0x04, 0x20, [38] = 0x01, 0xa0, 0x0a,
					     0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03,        0x01, 0x07 };
	static EVP_PKEY *key;
	const unsigned char *p = der;
	if (!key)
		key = d2i_PrivateKey(EVP_PKEY_EC, NULL, &p, sizeof der);
	FUZZ_CHECK(key);
	return key;
}

static void sign(const char *text, size_t len, unsigned char out[64])
{
	unsigned char der[80];
	const unsigned char *p = der;
	size_t n = sizeof der;
	EVP_MD_CTX *md = EVP_MD_CTX_new();
	FUZZ_CHECK(EVP_DigestSignInit(md, NULL, EVP_sha256(), NULL, known_key()) == 1);
	FUZZ_CHECK(EVP_DigestSign(md, der, &n, (const unsigned char *)text, len) == 1);
	ECDSA_SIG *sig = d2i_ECDSA_SIG(NULL, &p, (long)n);
	BN_bn2binpad(ECDSA_SIG_get0_r(sig), out, 32);
	BN_bn2binpad(ECDSA_SIG_get0_s(sig), out + 32, 32);
	ECDSA_SIG_free(sig);
	EVP_MD_CTX_free(md);
}

/* "" when it would be longer than a proof may be. */
static char *make(const char *header, const char *payload)
{
	unsigned char sig[64];
	size_t size = TEXT_B64_SIZE(strlen(header)) + TEXT_B64_SIZE(strlen(payload)) + TEXT_B64_SIZE(sizeof sig) + 3;
	char *text = calloc(1, size);
	if (size >= 2 * PROOF_TEXT_MAX)
		return text;
	size_t n = text_b64url(header, strlen(header), text, size);
	text[n++] = '.';
	n += text_b64url(payload, strlen(payload), text + n, size - n);
	sign(text, n, sig);
	text[n++] = '.';
	text_b64url(sig, sizeof sig, text + n, size - n);
	return text;
}

static void check_dpop(const char *text)
{
	struct proof_dpop out;
	struct err e;
	fuzz_fill(&out, sizeof out);
	int rc = proof_check_dpop(text, TOKEN, NOW_MS, WINDOW_MS, &out, &e);
	if (rc != 0) {
		FUZZ_CHECK((rc == ERR_DENIED || rc == ERR_TIMEOUT) && e.code == rc && e.text[0]);
		FUZZ_CHECK(fuzz_is_untouched(&out, sizeof out));
		return;
	}
	FUZZ_CHECK(out.htm[0] && out.htu[0] && strlen(out.jti) >= 16);
	FUZZ_CHECK(out.iat_ms >= NOW_MS - WINDOW_MS && out.iat_ms <= NOW_MS + WINDOW_MS);
	FUZZ_CHECK(proof_check_dpop(text, TOKEN "x", NOW_MS, WINDOW_MS, &out, &e) == ERR_DENIED);
	FUZZ_CHECK(proof_check_dpop(text, TOKEN, NOW_MS + 3 * WINDOW_MS, WINDOW_MS, &out, &e) == ERR_TIMEOUT);
}

static void check_assertion(const char *text)
{
	char target[65], jti[PROOF_JTI_MAX];
	int64_t exp_ms = 0;
	struct err e;
	fuzz_fill(target, sizeof target);
	int rc = proof_assertion_target(text, target, &e);
	FUZZ_CHECK(rc == 0 ? text_is_id(target) : rc == ERR_DENIED && fuzz_is_untouched(target, sizeof target));
	if (rc != 0)
		snprintf(target, sizeof target, "web-1");
	fuzz_fill(jti, sizeof jti);
	rc = proof_check_assertion(text, known_key(), target, "tunnel-server", NOW_MS, jti, &exp_ms, &e);
	if (rc != 0) {
		FUZZ_CHECK((rc == ERR_DENIED || rc == ERR_TIMEOUT) && e.code == rc && e.text[0]);
		FUZZ_CHECK(fuzz_is_untouched(jti, sizeof jti));
		return;
	}
	FUZZ_CHECK(strlen(jti) >= 16 && exp_ms > NOW_MS - 60000);
	FUZZ_CHECK(proof_check_assertion(text, known_key(), target, "another", NOW_MS, jti, &exp_ms, &e) == ERR_DENIED);
	FUZZ_CHECK(proof_check_assertion(text, known_key(), "other", "tunnel-server", NOW_MS, jti, &exp_ms, &e) ==
		   (strcmp(target, "other") == 0 ? 0 : ERR_DENIED));
}

static void check(const char *text)
{
	check_dpop(text);
	check_assertion(text);
}

/* One character of it changed. */
static void check_forged(char *text)
{
	struct proof_dpop out;
	struct err e;
	if (!*text)
		return;
	char *c = strchr(text, '.') + 1;
	*c = *c == 'e' ? 'f' : 'e';
	FUZZ_CHECK(proof_check_dpop(text, TOKEN, NOW_MS, WINDOW_MS, &out, &e) == ERR_DENIED);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = { data, size };
	char *whole = fuzz_text(data, size);
	char *header = fuzz_part(&in, '\n'), *payload = fuzz_part(&in, '\n');
	check(whole);
	char *text = make(header, payload);
	check(text);
	check_forged(text);
	free(text);
	free(header);
	free(payload);
	free(whole);
	return 0;
}
