/* What the agent of one identity answers, byte by byte; OpenSSH's own programs speak with it in tests/scenario. */
#include "support/case.h"

#include "base/text.h"
#include "ident/sshagent.h"
#include "ident/sshcert.h"
#include "ident/sshwire.h"

static EVP_PKEY *key, *ca;
static char certificate[SSHCERT_TEXT];
static struct sshagent_identity identity;

static void certify(EVP_PKEY *subject, char out[SSHCERT_TEXT])
{
	const char *const principals[] = { "root" };
	const struct sshcert cert = { .type = SSHCERT_USER,
				      .key_id = "s-1",
				      .principals = principals,
				      .principal_count = 1,
				      .valid_before_s = 4102444800 };
	char public_key[SSHCERT_KEY_TEXT];
	assert_int_equal(sshkey_public_text(subject, public_key, NULL), 0);
	assert_int_equal(sshcert_sign(ca, &cert, public_key, out, NULL), 0);
}

static int set_up(void **state)
{
	(void)state;
	key = sshkey_generate(NULL);
	ca = sshkey_generate(NULL);
	certify(key, certificate);
	return sshagent_identity_init(&identity, key, certificate, NULL);
}

static int tear_down(void **state)
{
	(void)state;
	sshagent_identity_free(&identity);
	EVP_PKEY_free(key);
	EVP_PKEY_free(ca);
	return 0;
}

/* Puts the request's length before it, and takes the answer's away. */
static void ask(const struct buf *request, struct buf *out_answer)
{
	struct buf whole = BUF_INIT(SSHAGENT_REQUEST_MAX), answer = BUF_INIT(SSHAGENT_ANSWER_MAX);
	sshwire_add(&whole, buf_data(request), request->len);
	assert_int_equal(sshagent_request_size(&whole), whole.len);
	assert_int_equal(sshagent_answer(&identity, buf_data(&whole), whole.len, &answer), 0);
	struct sshwire_reader r = { .at = buf_data(&answer), .left = answer.len };
	size_t len;
	const uint8_t *inner = sshwire_string(&r, &len);
	assert_true(!r.bad && r.left == 0);
	buf_add(out_answer, inner, len);
	buf_free(&whole);
	buf_free(&answer);
}

static struct buf sign_request(const struct buf *blob, const char *data)
{
	struct buf b = BUF_INIT(SSHAGENT_REQUEST_MAX);
	buf_add_u8(&b, 13);
	sshwire_add(&b, buf_data(blob), blob->len);
	sshwire_add_text(&b, data);
	buf_add_u32(&b, 0);
	return b;
}

static void test_it_lists_its_certificate(void **state)
{
	(void)state;
	struct buf request = BUF_INIT(8), answer = BUF_INIT(SSHAGENT_ANSWER_MAX);
	buf_add_u8(&request, 11);
	ask(&request, &answer);
	assert_int_equal(*buf_data(&answer), 12);
	struct sshwire_reader r = { .at = buf_data(&answer) + 1, .left = answer.len - 1 };
	assert_int_equal(sshwire_u32(&r), 1);
	size_t len;
	const uint8_t *blob = sshwire_string(&r, &len);
	assert_true(sshwire_string_is(&r, "tunnel") && r.left == 0);
	char text[SSHCERT_TEXT];
	text_b64(blob, len, text, sizeof text);
	assert_string_equal(text, strchr(certificate, ' ') + 1);
	buf_free(&request);
	buf_free(&answer);
}

static void test_it_signs_with_its_certificate(void **state)
{
	(void)state;
	struct buf request = sign_request(&identity.certificate, "to be signed");
	struct buf answer = BUF_INIT(SSHAGENT_ANSWER_MAX);
	ask(&request, &answer);
	assert_int_equal(*buf_data(&answer), 14);
	struct sshwire_reader r = { .at = buf_data(&answer) + 1, .left = answer.len - 1 };
	size_t len;
	const uint8_t *inner = sshwire_string(&r, &len);
	struct sshwire_reader s = { .at = inner, .left = len };
	assert_true(sshwire_string_is(&s, "ssh-ed25519") && r.left == 0);
	const uint8_t *signature = sshwire_string(&s, &len);
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	assert_int_equal(EVP_DigestVerifyInit(ctx, NULL, NULL, NULL, key), 1);
	assert_int_equal(EVP_DigestVerify(ctx, signature, len, (const uint8_t *)"to be signed", 12), 1);
	EVP_MD_CTX_free(ctx);
	buf_free(&request);
	buf_free(&answer);
}

static void assert_fails(const struct buf *request)
{
	struct buf answer = BUF_INIT(SSHAGENT_ANSWER_MAX);
	ask(request, &answer);
	assert_int_equal(answer.len, 1);
	assert_int_equal(*buf_data(&answer), 5);
	buf_free(&answer);
}

static void test_everything_else_fails(void **state)
{
	(void)state;
	struct buf other = BUF_INIT(SSHCERT_TEXT), request = BUF_INIT(64);
	assert_fails(&request); /* no type at all */
	for (unsigned type = 0; type < 256; type++) {
		buf_clear(&request);
		buf_add_u8(&request, (uint8_t)type);
		if (type != 11)
			assert_fails(&request);
	}
	buf_free(&request);
	buf_add(&other, buf_data(&identity.certificate), identity.certificate.len);
	other.bytes[other.head + other.len - 1] ^= 1;
	request = sign_request(&other, "x");
	assert_fails(&request);
	buf_free(&request);
	request = sign_request(&identity.certificate, "cut in the middle");
	request.len -= 10;
	assert_fails(&request);
	buf_free(&request);
	buf_free(&other);
}

static void test_requests_are_told_apart_and_bounded(void **state)
{
	(void)state;
	static const uint8_t two[] = { 0, 0, 0, 1, 11, 0, 0, 0, 1, 11 };
	struct buf b = BUF_INIT(64);
	for (size_t i = 0; i < sizeof two; i++) {
		buf_add(&b, two + i, 1);
		assert_int_equal(sshagent_request_size(&b), b.len < 5 ? 0 : 5);
	}
	buf_clear(&b);
	buf_add_u32(&b, SSHAGENT_REQUEST_MAX - 4);
	assert_int_equal(sshagent_request_size(&b), 0);
	buf_clear(&b);
	buf_add_u32(&b, SSHAGENT_REQUEST_MAX - 3);
	assert_true(sshagent_request_size(&b) == SIZE_MAX);
	buf_free(&b);
}

static void test_only_a_certificate_of_its_key_is_taken(void **state)
{
	(void)state;
	struct sshagent_identity id;
	struct err e = { 0 };
	char others[SSHCERT_TEXT], plain[SSHCERT_KEY_TEXT];
	certify(ca, others);
	assert_int_equal(sshkey_public_text(key, plain, NULL), 0);
	const char *const wrong[] = { others,
				      plain,
				      "",
				      "ssh-ed25519-cert-v01@openssh.com ",
				      "ssh-ed25519-cert-v01@openssh.com AAAA",
				      "ssh-ed25519-cert-v01@openssh.com *" };
	for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
		assert_int_equal(sshagent_identity_init(&id, key, wrong[i], &e), ERR_INVALID);
		sshagent_identity_free(&id);
	}
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_it_lists_its_certificate, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_it_signs_with_its_certificate, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_everything_else_fails, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_requests_are_told_apart_and_bounded, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_only_a_certificate_of_its_key_is_taken, set_up, tear_down),
	};
	return RUN_CASES(tests);
}
