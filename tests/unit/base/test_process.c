/* A process that gets no memory while OpenSSL sets itself up in it: what is set up but once must not be missing then.
 */
#include "base/certain.h"
#include "base/limits.h"
#include "base/process.h"
#include "support/case.h"
#include "support/failing_alloc.h"

#include <openssl/ssl.h>
#include <sys/wait.h>
#include <unistd.h>

enum { WHOLE, NOT_REACHED, BROKEN };

static int key_index = -1;

/* What every connection needs; whether its first bytes come about. */
static bool greet(void)
{
	if (key_index < 0)
		key_index = SSL_get_ex_new_index(0, NULL, NULL, NULL, NULL);
	SSL_CTX *ctx = key_index < 0 ? NULL : SSL_CTX_new(TLS_client_method());
	bool set = ctx && SSL_CTX_set_cipher_list(ctx, "ECDHE-RSA-AES128-GCM-SHA256") == 1;
	SSL *ssl = set ? SSL_new(ctx) : NULL;
	BIO *in = BIO_new(BIO_s_mem()), *out = BIO_new(BIO_s_mem());
	bool greeted = false;
	if (ssl && in && out && SSL_set_ex_data(ssl, key_index, ctx) == 1) {
		BIO_up_ref(in);
		BIO_up_ref(out);
		SSL_set_bio(ssl, in, out);
		SSL_set_connect_state(ssl);
		SSL_do_handshake(ssl);
		greeted = BIO_ctrl_pending(out) > 0;
	}
	BIO_free(in);
	BIO_free(out);
	SSL_free(ssl);
	SSL_CTX_free(ctx);
	return greeted;
}

static int in_child(size_t n)
{
	struct err e = { 0 };
	certain_init(NULL);
	process_guard(LIMIT_SECRETS, &e);
	failing_alloc_at(n, false);
	greet();
	bool reached = failing_alloc_over();
	if (!greet())
		return BROKEN;
	return reached ? WHOLE : NOT_REACHED;
}

static int without_the(size_t n)
{
	int status = 0;
	pid_t pid = fork();
	if (pid == 0)
		_exit(in_child(n));
	assert_true(waitpid(pid, &status, 0) == pid && WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void test_no_memory_once_is_no_harm_for_good(void **state)
{
	(void)state;
	size_t n = 1;
	int was;
	while ((was = without_the(n)) == WHOLE)
		n += n < 60 ? 3 : 97; /* most of what is set up but once comes first */
	if (was == BROKEN)
		fail_msg("without its %zu-th allocation OpenSSL makes no connection again", n);
	assert_true(n > 100);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_no_memory_once_is_no_harm_for_good),
	};
	return RUN_CASES(tests);
}
