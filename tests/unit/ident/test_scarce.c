/* Each single allocation fails once while keys, proofs and certificates are made and read, and while the SSH agent
 * answers (but for jansson's, which our programs have a reserve for: base/certain.h). Then what was asked for is there,
 * whole, or it is refused for want of memory in words and nothing is handed out; and nothing leaks (under
 * AddressSanitizer). */
#include "support/case.h"
#include "support/failing_alloc.h"

#include "ident/key.h"
#include "ident/proof.h"
#include "ident/sshagent.h"
#include "ident/sshcert.h"
#include "ident/sshwire.h"

#include <jansson.h>
#include <unistd.h>

#define NOW_MS 1750000000000
#define URL "https://node-1:8443/v1/sessions/s-1/leg"

static char folder[64];
static EVP_PKEY *key, *ssh, *ca;
static char key_text[KEY_TEXT_MAX], ssh_text[SSHCERT_KEY_TEXT], proof[PROOF_TEXT_MAX], assertion[PROOF_TEXT_MAX];
static char certificate[SSHCERT_TEXT], print[64];
static const char *const principals[] = { "root", "root@web-1" };
static const struct sshcert about = { .type = SSHCERT_USER,
				      .key_id = "s-1",
				      .principals = principals,
				      .principal_count = 2,
				      .valid_before_s = 4102444800,
				      .source_address = "192.0.2.0/24",
				      .force_command = "true",
				      .permit_port_forwarding = 1 };

static int set_up(void **state)
{
	(void)state;
	case_folder(folder);
	key = key_generate(NULL);
	ssh = sshkey_generate(NULL);
	ca = sshkey_generate(NULL);
	assert_int_equal(key_public_text(key, key_text, NULL), 0);
	assert_int_equal(sshkey_public_text(ssh, ssh_text, NULL), 0);
	assert_int_equal(sshkey_fingerprint(ssh_text, print, NULL), 0);
	assert_int_equal(sshcert_sign(ca, &about, ssh_text, certificate, NULL), 0);
	assert_int_equal(proof_make_dpop(key, "GET", URL, "token", NOW_MS, proof, NULL), 0);
	assert_int_equal(proof_make_assertion(key, "web-1", "it", NOW_MS, assertion, NULL), 0);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	EVP_PKEY_free(key);
	EVP_PKEY_free(ssh);
	EVP_PKEY_free(ca);
	case_folder_remove(folder);
	return 0;
}

/* Asked for when the call is done: was it done, or refused for the reason that there is? */
static bool judge(int rc, const struct err *e, bool *out_done)
{
	bool failed = failing_alloc_over();
	*out_done = rc == 0;
	if (rc != 0 && (!failed || rc != ERR_NOMEM || e->code != rc || !e->text[0]))
		fail_msg("%d: %s%s", rc, e->text, failed ? "" : " (with all memory)");
	return failed;
}

static const char *path_of(const char *name)
{
	static char path[128];
	snprintf(path, sizeof path, "%s/%s", folder, name);
	return path;
}

/* ---- keys ---- */

static bool save_key(void *arg)
{
	(void)arg;
	struct err e = { 0 };
	EVP_PKEY *again = NULL;
	bool done, failed = judge(key_save(path_of("key"), key, &e), &e, &done);
	assert_true(!done || (key_load(path_of("key"), &again, NULL) == 0 && EVP_PKEY_eq(again, key) == 1));
	EVP_PKEY_free(again);
	return failed;
}

static bool load_key(void *arg)
{
	(void)arg;
	struct err e = { 0 };
	EVP_PKEY *again = NULL;
	bool done, failed = judge(key_load(path_of("key"), &again, &e), &e, &done);
	assert_true(done ? EVP_PKEY_eq(again, key) == 1 : !again);
	EVP_PKEY_free(again);
	return failed;
}

static bool through_jwk(void *arg)
{
	(void)arg;
	struct err e = { 0 };
	EVP_PKEY *again = NULL;
	json_t *jwk = key_to_jwk(key, &e);
	bool done, failed = judge(jwk ? key_from_jwk(jwk, &again, &e) : e.code, &e, &done);
	assert_true(done ? EVP_PKEY_eq(again, key) == 1 : !again);
	json_decref(jwk);
	EVP_PKEY_free(again);
	return failed;
}

/* Its form is not text: memory for it would be OpenSSL's. */
static bool through_text(void *arg)
{
	(void)arg;
	struct err e = { 0 };
	EVP_PKEY *again = NULL;
	bool done, failed = judge(key_from_public_text(key_text, &again, &e), &e, &done);
	assert_true(done ? EVP_PKEY_eq(again, key) == 1 : !again);
	EVP_PKEY_free(again);
	return failed;
}

static void test_keys(void **state)
{
	(void)state;
	assert_true(failing_alloc_sweep(save_key, NULL) >= 1);
	assert_true(failing_alloc_sweep(load_key, NULL) > 1);
	assert_true(failing_alloc_sweep(through_jwk, NULL) >= 1);
	assert_true(failing_alloc_sweep(through_text, NULL) >= 1);
}

/* ---- proofs ---- */

static bool make_proof(void *arg)
{
	(void)arg;
	struct err e = { 0 };
	struct proof_dpop read;
	char out[PROOF_TEXT_MAX] = "untouched";
	bool done, failed = judge(proof_make_dpop(key, "GET", URL, "token", NOW_MS, out, &e), &e, &done);
	assert_true(!done || proof_check_dpop(out, "token", NOW_MS, 1000, &read, NULL) == 0);
	assert_true(done || strcmp(out, "untouched") == 0);
	return failed;
}

static bool check_proof(void *arg)
{
	(void)arg;
	struct err e = { 0 };
	struct proof_dpop read = { .htm = "" };
	bool done, failed = judge(proof_check_dpop(proof, "token", NOW_MS, 1000, &read, &e), &e, &done);
	assert_string_equal(read.htm, done ? "GET" : "");
	assert_string_equal(read.htu, done ? URL : "");
	return failed;
}

static bool make_assertion(void *arg)
{
	(void)arg;
	struct err e = { 0 };
	char out[PROOF_TEXT_MAX] = "untouched", jti[PROOF_JTI_MAX];
	int64_t until_ms;
	bool done, failed = judge(proof_make_assertion(key, "web-1", "it", NOW_MS, out, &e), &e, &done);
	if (done && proof_check_assertion(out, key, "web-1", "it", NOW_MS, jti, &until_ms, &e) != 0)
		fail_msg("%s", e.text);
	assert_true(done || strcmp(out, "untouched") == 0);
	return failed;
}

static bool check_assertion(void *arg)
{
	(void)arg;
	struct err e = { 0 };
	char jti[PROOF_JTI_MAX] = "", target[65] = "";
	int64_t until_ms = 0;
	int rc = proof_assertion_target(assertion, target, &e);
	if (rc == 0)
		rc = proof_check_assertion(assertion, key, target, "it", NOW_MS, jti, &until_ms, &e);
	bool done, failed = judge(rc, &e, &done);
	assert_true(done ? *jti && until_ms > NOW_MS && strcmp(target, "web-1") == 0 : !*jti && !until_ms);
	return failed;
}

static void test_proofs(void **state)
{
	(void)state;
	assert_true(failing_alloc_sweep(make_proof, NULL) >= 1);
	assert_true(failing_alloc_sweep(check_proof, NULL) >= 1);
	assert_true(failing_alloc_sweep(make_assertion, NULL) >= 1);
	assert_true(failing_alloc_sweep(check_assertion, NULL) >= 1);
}

/* ---- SSH ---- */

static bool save_ssh(void *arg)
{
	(void)arg;
	struct err e = { 0 };
	EVP_PKEY *again = NULL;
	bool done, failed = judge(sshkey_save(path_of("ssh"), ssh, "comment", &e), &e, &done);
	assert_true(!done || (sshkey_load(path_of("ssh"), &again, NULL) == 0 && EVP_PKEY_eq(again, ssh) == 1));
	EVP_PKEY_free(again);
	return failed;
}

static bool load_ssh(void *arg)
{
	(void)arg;
	struct err e = { 0 };
	EVP_PKEY *again = NULL;
	bool done, failed = judge(sshkey_load(path_of("ssh"), &again, &e), &e, &done);
	assert_true(done ? EVP_PKEY_eq(again, ssh) == 1 : !again);
	EVP_PKEY_free(again);
	return failed;
}

static bool tell_ssh(void *arg)
{
	(void)arg;
	struct err e = { 0 };
	char text[SSHCERT_KEY_TEXT] = "", checked[SSHCERT_KEY_TEXT] = "", finger[64] = "";
	int rc = sshkey_public_text(ssh, text, &e);
	if (rc == 0)
		rc = sshkey_check_public(ssh_text, checked, &e);
	if (rc == 0)
		rc = sshkey_fingerprint(ssh_text, finger, &e);
	bool done, failed = judge(rc, &e, &done);
	assert_string_equal(finger, done ? print : "");
	assert_true(!*text || strcmp(text, ssh_text) == 0);
	assert_true(!*checked || strcmp(checked, ssh_text) == 0);
	return failed;
}

static bool certify(void *arg)
{
	(void)arg;
	struct err e = { 0 };
	char out[SSHCERT_TEXT] = "untouched";
	bool done, failed = judge(sshcert_sign(ca, &about, ssh_text, out, &e), &e, &done);
	struct sshagent_identity id;
	if (done) { /* nothing of it is missing: it is as long as the other */
		assert_int_equal(strlen(out), strlen(certificate));
		assert_int_equal(sshagent_identity_init(&id, ssh, out, NULL), 0);
		sshagent_identity_free(&id);
	} else {
		assert_string_equal(out, "untouched");
	}
	return failed;
}

static void test_ssh(void **state)
{
	(void)state;
	assert_true(failing_alloc_sweep(save_ssh, NULL) > 1);
	assert_true(failing_alloc_sweep(load_ssh, NULL) > 1);
	assert_true(failing_alloc_sweep(tell_ssh, NULL) > 1);
	assert_true(failing_alloc_sweep(certify, NULL) > 10);
}

/* ---- the agent ---- */

static struct buf request_of(uint8_t what, const struct sshagent_identity *id)
{
	struct buf inner = BUF_INIT(SSHAGENT_REQUEST_MAX), whole = BUF_INIT(SSHAGENT_REQUEST_MAX);
	buf_add_u8(&inner, what);
	if (what == 13) {
		sshwire_add(&inner, buf_data(&id->certificate), id->certificate.len);
		sshwire_add_text(&inner, "data");
		buf_add_u32(&inner, 0);
	}
	sshwire_add(&whole, buf_data(&inner), inner.len);
	buf_free(&inner);
	return whole;
}

struct question {
	struct sshagent_identity id;
	struct buf request;
	uint8_t answer; /* the message that it gets */
};

/* Half an answer would leave ssh waiting: there is all of it, or none and the connection ends. */
static bool answer(void *arg)
{
	const struct question *q = arg;
	struct buf out = BUF_INIT(SSHAGENT_ANSWER_MAX);
	int rc = sshagent_answer(&q->id, buf_data(&q->request), q->request.len, &out);
	bool failed = failing_alloc_over();
	struct sshwire_reader r = { .at = buf_data(&out), .left = out.len };
	size_t len = 0;
	const uint8_t *inner = out.len ? sshwire_string(&r, &len) : NULL;
	assert_true(rc == 0 || failed);
	assert_true(rc != 0 ||
		    (inner && !r.bad && r.left == 0 && len && (*inner == q->answer || (failed && *inner == 5))));
	buf_free(&out);
	return failed;
}

static bool take_identity(void *arg)
{
	(void)arg;
	struct err e = { 0 };
	struct sshagent_identity id;
	bool done, failed = judge(sshagent_identity_init(&id, ssh, certificate, &e), &e, &done);
	assert_true(!done || id.certificate.len > 0);
	sshagent_identity_free(&id);
	return failed;
}

static void test_agent(void **state)
{
	(void)state;
	struct question q = { .answer = 12 };
	assert_true(failing_alloc_sweep(take_identity, NULL) > 1);
	assert_int_equal(sshagent_identity_init(&q.id, ssh, certificate, NULL), 0);
	q.request = request_of(11, &q.id);
	assert_true(failing_alloc_sweep(answer, &q) > 1);
	buf_free(&q.request);
	q.request = request_of(13, &q.id);
	q.answer = 14;
	assert_true(failing_alloc_sweep(answer, &q) > 1);
	buf_free(&q.request);
	sshagent_identity_free(&q.id);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_keys, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_proofs, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_ssh, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_agent, set_up, tear_down),
	};
	return RUN_CASES(tests);
}
