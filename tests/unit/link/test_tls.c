/* Who gets an epoch, and who does not. The strangers are plain OpenSSL with memory BIOs. */
#include "support/case.h"
#include "wire.h"

#include <openssl/ssl.h>
#include <openssl/x509.h>

static void shuttle_one_round(struct wire *w, int *rc, struct err *e)
{
	static uint8_t bytes[65536];
	for (int i = 0; i < 2; i++) {
		size_t n = link_output(w->end[i], bytes, sizeof(bytes), w->now);
		if (n && rc[!i] == 0)
			rc[!i] = link_input(w->end[!i], bytes, n, w->now, &e[!i]);
	}
}

/* The end whose pin is wrong says so; no end comes up; the session is not over, for another leg may be right. */
static void check_wrong_pin(enum link_role strict)
{
	struct wire w = { .now = 1000 };
	struct err e[2];
	int rc[2] = { 0, 0 };
	for (int i = 0; i < 2; i++) {
		struct link_config c = { .role = i ? LINK_TARGET : LINK_CLIENT, .key = wire_keys()->key[i] };
		memcpy(c.peer_pin, wire_keys()->pin[!i], sizeof(c.peer_pin));
		c.peer_pin[31] ^= (int)strict == i;
		assert_int_equal(link_new(&c, &w.end[i], NULL), 0);
	}
	wire_start(&w);
	for (int i = 0; i < 4; i++)
		shuttle_one_round(&w, rc, e);
	assert_int_equal(rc[strict], ERR_DENIED);
	assert_non_null(strstr(e[strict].text, "not the one that belongs to the session"));
	assert_true(rc[!strict] < 0); /* the alert arrives */
	for (int i = 0; i < 2; i++) {
		assert_false(link_is_up(w.end[i]));
		wire_expect_none(&w, (enum link_role)i);
		assert_int_equal(link_input(w.end[i], "x", 1, w.now, &e[i]), ERR_CLOSED);
		assert_int_equal(link_epoch_start(w.end[i], w.now, NULL), 0);
	}
	wire_free(&w);
}

static void test_client_refuses_another_target(void **state)
{
	(void)state;
	check_wrong_pin(LINK_CLIENT);
}

static void test_target_refuses_another_client(void **state)
{
	(void)state;
	check_wrong_pin(LINK_TARGET);
}

/* ---- a stranger with OpenSSL ---- */

struct stranger {
	SSL_CTX *ctx;
	SSL *ssl;
	BIO *in, *out;
	struct link *link;
	int rc;
	struct err e;
};

static int accept_any(X509_STORE_CTX *store, void *user)
{
	(void)user;
	X509_STORE_CTX_set_error(store, X509_V_OK);
	return 1;
}

static int take_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_len, const unsigned char *in,
		     unsigned in_len, void *user)
{
	(void)ssl, (void)in, (void)in_len;
	const unsigned char *mine = user;
	*out = mine + 1;
	*out_len = mine[0];
	return SSL_TLSEXT_ERR_OK;
}

static X509 *certificate(EVP_PKEY *key)
{
	X509 *cert = X509_new();
	X509_set_version(cert, X509_VERSION_3);
	X509_gmtime_adj(X509_getm_notBefore(cert), 0);
	X509_gmtime_adj(X509_getm_notAfter(cert), 3600);
	X509_set_pubkey(cert, key);
	assert_true(X509_sign(cert, key, EVP_sha256()) > 0);
	return cert;
}

/* It plays the role opposite to the link's, with the right key unless with_key is false. */
static void stranger_init(struct stranger *s, enum link_role link_role, int version, const char *alpn, bool with_key)
{
	*s = (struct stranger){ .rc = 0 };
	bool is_server = link_role == LINK_CLIENT;
	struct link_config c = { .role = link_role, .key = wire_keys()->key[link_role] };
	memcpy(c.peer_pin, wire_keys()->pin[!link_role], sizeof(c.peer_pin));
	assert_int_equal(link_new(&c, &s->link, NULL), 0);
	s->ctx = SSL_CTX_new(is_server ? TLS_server_method() : TLS_client_method());
	SSL_CTX_set_max_proto_version(s->ctx, version);
	SSL_CTX_set_verify(s->ctx, SSL_VERIFY_PEER, NULL);
	SSL_CTX_set_cert_verify_callback(s->ctx, accept_any, NULL);
	if (with_key) {
		EVP_PKEY *key = wire_keys()->key[!link_role];
		X509 *cert = certificate(key);
		SSL_CTX_use_certificate(s->ctx, cert);
		SSL_CTX_use_PrivateKey(s->ctx, key);
		X509_free(cert);
	}
	if (alpn) {
		SSL_CTX_set_alpn_protos(s->ctx, (const unsigned char *)alpn, (unsigned)strlen(alpn));
		SSL_CTX_set_alpn_select_cb(s->ctx, take_alpn, (void *)(uintptr_t)alpn);
	}
	s->ssl = SSL_new(s->ctx);
	s->in = BIO_new(BIO_s_mem());
	s->out = BIO_new(BIO_s_mem());
	SSL_set_bio(s->ssl, s->in, s->out);
	if (is_server)
		SSL_set_accept_state(s->ssl);
	else
		SSL_set_connect_state(s->ssl);
	assert_int_equal(link_epoch_start(s->link, 1000, NULL), 0);
}

static void stranger_run(struct stranger *s)
{
	static uint8_t bytes[65536];
	for (int i = 0; i < 6; i++) {
		size_t len = link_output(s->link, bytes, sizeof(bytes), 1000);
		if (len)
			BIO_write(s->in, bytes, (int)len);
		SSL_do_handshake(s->ssl);
		int n = BIO_read(s->out, bytes, sizeof(bytes));
		if (n > 0 && s->rc == 0)
			s->rc = link_input(s->link, bytes, (size_t)n, 1000, &s->e);
	}
}

static void stranger_free(struct stranger *s)
{
	SSL_free(s->ssl);
	SSL_CTX_free(s->ctx);
	link_free(&s->link);
}

#define RIGHT_ALPN "\x0dtunnel-link/1"

/* The stranger of these tests is one that a link takes, when nothing is wrong with it. */
static void test_right_peer(void **state)
{
	(void)state;
	for (int role = 0; role < 2; role++) {
		struct stranger s;
		stranger_init(&s, (enum link_role)role, TLS1_3_VERSION, RIGHT_ALPN, true);
		stranger_run(&s);
		if (s.rc != 0)
			fail_msg("%s", s.e.text);
		uint8_t hello[12];
		assert_int_equal(SSL_read(s.ssl, hello, sizeof(hello)), sizeof(hello));
		assert_int_equal(hello[0], 1);
		assert_int_equal(SSL_version(s.ssl), TLS1_3_VERSION);
		assert_false(SSL_session_reused(s.ssl));
		if (role == LINK_TARGET)
			assert_false(SSL_SESSION_has_ticket(SSL_get0_session(s.ssl)));
		stranger_free(&s);
	}
}

static void expect_refused(enum link_role role, int version, const char *alpn, bool with_key)
{
	struct stranger s;
	stranger_init(&s, role, version, alpn, with_key);
	stranger_run(&s);
	assert_true(s.rc < 0);
	assert_false(link_is_up(s.link));
	struct link_event ev;
	assert_false(link_next_event(s.link, &ev));
	stranger_free(&s);
}

static void test_wrong_alpn(void **state)
{
	(void)state;
	expect_refused(LINK_TARGET, TLS1_3_VERSION, "\x08http/1.1", true);
	expect_refused(LINK_CLIENT, TLS1_3_VERSION, "\x08http/1.1", true);
}

static void test_no_alpn(void **state)
{
	(void)state;
	expect_refused(LINK_TARGET, TLS1_3_VERSION, NULL, true);
	expect_refused(LINK_CLIENT, TLS1_3_VERSION, NULL, true);
}

static void test_tls_1_2(void **state)
{
	(void)state;
	expect_refused(LINK_TARGET, TLS1_2_VERSION, RIGHT_ALPN, true);
	expect_refused(LINK_CLIENT, TLS1_2_VERSION, RIGHT_ALPN, true);
}

static void test_client_without_a_key(void **state)
{
	(void)state;
	expect_refused(LINK_TARGET, TLS1_3_VERSION, RIGHT_ALPN, false);
}

static void test_not_tls_at_all(void **state)
{
	(void)state;
	struct wire w;
	struct err e;
	wire_init(&w, NULL);
	wire_start(&w);
	assert_true(link_input(w.end[LINK_TARGET], "GET / HTTP/1.1\r\n\r\n", 18, w.now, &e) < 0);
	assert_true(link_input(w.end[LINK_CLIENT], "SSH-2.0-OpenSSH_9.2\r\n", 21, w.now, &e) < 0);
	wire_expect_none(&w, LINK_CLIENT);
	wire_start(&w);
	wire_run(&w);
	wire_expect(&w, LINK_CLIENT, LINK_EVENT_UP);
	wire_free(&w);
}

static void test_changed_byte_breaks_the_epoch_only(void **state)
{
	(void)state;
	struct wire w;
	struct err e;
	wire_up(&w, NULL);
	uint32_t id = wire_stream(&w);
	wire_write(&w, LINK_CLIENT, id, "precious");
	uint8_t bytes[4096];
	size_t n = link_output(w.end[LINK_CLIENT], bytes, sizeof(bytes), w.now);
	bytes[n - 1] ^= 1;
	assert_true(link_input(w.end[LINK_TARGET], bytes, n, w.now, &e) < 0);
	assert_false(link_is_up(w.end[LINK_TARGET]));
	wire_expect_none(&w, LINK_TARGET);
	wire_start(&w);
	wire_run(&w);
	assert_string_equal(wire_read(&w, LINK_TARGET, id), "precious");
	wire_free(&w);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_client_refuses_another_target),
		cmocka_unit_test(test_target_refuses_another_client),
		cmocka_unit_test(test_right_peer),
		cmocka_unit_test(test_wrong_alpn),
		cmocka_unit_test(test_no_alpn),
		cmocka_unit_test(test_tls_1_2),
		cmocka_unit_test(test_client_without_a_key),
		cmocka_unit_test(test_not_tls_at_all),
		cmocka_unit_test(test_changed_byte_breaks_the_epoch_only),
	};
	return RUN_CASES(tests);
}
