/* What the server's own transport reads before it lets anybody further. */
#include "support/case.h"

#include "server/hello.h"
#include "server/request_head.h"

#include <openssl/ssl.h>

#define ALPN "tunnel-leg/1"

/* What OpenSSL says first; protocols in the form of ALPN. */
static size_t real_hello(const char *protocols, unsigned len, uint8_t *out, size_t size)
{
	char name[] = "localhost";
	SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
	SSL *ssl = SSL_new(ctx);
	BIO *in = BIO_new(BIO_s_mem()), *wire = BIO_new(BIO_s_mem());
	SSL_set_bio(ssl, in, wire);
	assert_int_equal(SSL_set_alpn_protos(ssl, (const unsigned char *)protocols, len), 0);
	SSL_set_tlsext_host_name(ssl, name);
	assert_int_equal(SSL_connect(ssl), -1);
	int n = BIO_read(wire, out, (int)size);
	assert_true(n > 50);
	SSL_free(ssl);
	SSL_CTX_free(ctx);
	return (size_t)n;
}

static void test_hello_of_ours_and_of_others(void **state)
{
	static const char ours[] = "\x08http/1.1\x0c" ALPN, other[] = "\x02h2\x0dtunnel-leg/11";
	uint8_t hello[2048];
	(void)state;
	size_t n = real_hello(ours, sizeof ours - 1, hello, sizeof hello);
	assert_int_equal(hello_offers(hello, n, ALPN), HELLO_OURS);
	for (size_t cut = 0; cut < n; cut++)
		assert_int_equal(hello_offers(hello, cut, ALPN), HELLO_MORE);
	hello[5] = 2; /* a ServerHello */
	assert_int_equal(hello_offers(hello, n, ALPN), HELLO_OTHER);
	assert_int_equal(hello_offers(hello, 6, ALPN), HELLO_OTHER);
	n = real_hello(other, sizeof other - 1, hello, sizeof hello);
	assert_int_equal(hello_offers(hello, n, ALPN), HELLO_OTHER);
	n = real_hello(NULL, 0, hello, sizeof hello);
	assert_int_equal(hello_offers(hello, n, ALPN), HELLO_OTHER);
	assert_int_equal(hello_offers((const uint8_t *)"GET / HTTP/1.1\r\n", 16, ALPN), HELLO_OTHER);
}

static void test_hello_that_lies_about_lengths(void **state)
{
	static const char ours[] = "\x0c" ALPN;
	uint8_t hello[2048], bad[2048];
	(void)state;
	size_t n = real_hello(ours, sizeof ours - 1, hello, sizeof hello);
	size_t differ = 0;
	for (size_t i = 0; i < n; i++) {
		memcpy(bad, hello, n);
		bad[i] ^= 0x80;
		uint8_t *exact = malloc(n); /* a sanitizer sees a byte too far */
		memcpy(exact, bad, n);
		differ += hello_offers(exact, n, ALPN) != HELLO_OURS;
		free(exact);
	}
	assert_true(differ > 10);
	/* A record that is longer than one may be, and a hello longer than its record. */
	memcpy(bad, hello, n);
	bad[3] = 0x40, bad[4] = 0x01;
	assert_int_equal(hello_offers(bad, 5, ALPN), HELLO_OTHER);
	memcpy(bad, hello, n);
	bad[7] = 0xff;
	assert_int_equal(hello_offers(bad, 9, ALPN), HELLO_OTHER);
}

static enum request_head parse(const char *text, struct http_head *head, size_t *size, const char **why)
{
	size_t len = strlen(text);
	char *copy = malloc(len ? len : 1);
	memcpy(copy, text, len);
	enum request_head rc = request_head_parse(copy, len, head, size, why);
	free(copy);
	return rc;
}

static void test_request_head(void **state)
{
	struct http_head head;
	size_t size = 0;
	const char *why = "";
	(void)state;
	static const char text[] = "GET /a/b?c=d&e HTTP/1.1\r\nHost: x:1\r\nX-Odd:\t two words \t\r\nEmpty:\r\n\r\n";
	assert_int_equal(parse(text, &head, &size, &why), REQUEST_HEAD_OK);
	assert_int_equal(size, sizeof text - 1);
	assert_string_equal(head.method, "GET");
	assert_string_equal(head.path, "/a/b");
	assert_string_equal(head.query, "c=d&e");
	assert_int_equal(head.header_count, 3);
	assert_string_equal(http_head_get(&head, "x-odd"), "two words");
	assert_string_equal(http_head_get(&head, "empty"), "");
	assert_int_equal(head.content_length, HTTP_BODY_NONE);
	http_head_free(&head);
	for (size_t cut = 0; cut < sizeof text - 1; cut++) {
		char part[sizeof text];
		snprintf(part, cut + 1, "%s", text);
		assert_int_equal(parse(part, &head, &size, &why), REQUEST_HEAD_MORE);
	}
}

static void test_request_head_with_two_readings(void **state)
{
	static const char *const wrong[] = {
		"GET / HTTP/1.1\nHost: x\n\n",
		"GET / HTTP/1.1\r\nA: b\nC: d\r\n\r\n",
		"GET / HTTP/1.1\r\nA: b\rC: d\r\n\r\n",
		"GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n",
		"GET / HTTP/1.1\r\nA : b\r\n\r\n",
		"GET / HTTP/1.1\r\n: b\r\n\r\n",
		"GET / HTTP/1.1\r\nno colon\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\nHOST: a\r\n\r\n",
		"GET / HTTP/1.1\r\nA: \x01\r\n\r\n",
		"GET / HTTP/1.1\r\nA: \x7f\r\n\r\n",
		"GET / HTTP/1.0\r\n\r\n",
		"GET / HTTP/1.1 \r\n\r\n",
		"GET  / HTTP/1.1\r\n\r\n",
		"GET /a b HTTP/1.1\r\n\r\n",
		"GET /a#b HTTP/1.1\r\n\r\n",
		"GET /\xc3\xa4 HTTP/1.1\r\n\r\n",
		"GET http://x/ HTTP/1.1\r\n\r\n",
		"GET * HTTP/1.1\r\n\r\n",
		"G(T / HTTP/1.1\r\n\r\n",
		" / HTTP/1.1\r\n\r\n",
		"\r\nGET / HTTP/1.1\r\n\r\n",
		"\r\n\r\n",
	};
	(void)state;
	for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
		struct http_head head;
		size_t size = 4711;
		const char *why = "";
		if (parse(wrong[i], &head, &size, &why) != REQUEST_HEAD_WRONG || !*why || size != 4711)
			fail_msg("taken: %s", wrong[i]);
	}
}

static void test_request_head_limits(void **state)
{
	struct http_head head;
	size_t size = 0;
	const char *why = "";
	static char text[REQUEST_HEAD_MAX + 64];
	(void)state;
	for (int count = 64; count <= 65; count++) {
		int n = snprintf(text, sizeof text, "GET / HTTP/1.1\r\n");
		for (int i = 0; i < count; i++)
			n += snprintf(text + n, sizeof text - (size_t)n, "X-%d: y\r\n", i);
		snprintf(text + n, sizeof text - (size_t)n, "\r\n");
		assert_int_equal(parse(text, &head, &size, &why),
				 count == 64 ? REQUEST_HEAD_OK : REQUEST_HEAD_TOO_LARGE);
		if (count == 64)
			http_head_free(&head);
	}
	memset(text, 'x', sizeof text - 1);
	memcpy(text, "GET /", 5);
	text[REQUEST_HEAD_MAX - 1] = '\0';
	assert_int_equal(parse(text, &head, &size, &why), REQUEST_HEAD_MORE);
	text[REQUEST_HEAD_MAX - 1] = 'x';
	assert_int_equal(parse(text, &head, &size, &why), REQUEST_HEAD_TOO_LARGE);
	static const struct {
		const char *headers;
		int64_t length;
		bool chunked;
	} bodies[] = { { "Content-Length: 5\r\n", 5, false },
		       { "Content-Length: +5\r\n", HTTP_BODY_INVALID, false },
		       { "Content-Length:\r\n", HTTP_BODY_INVALID, false },
		       { "Content-Length: 1234567890123456\r\n", HTTP_BODY_INVALID, false },
		       { "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", 5, true } };
	for (size_t i = 0; i < sizeof bodies / sizeof bodies[0]; i++) {
		snprintf(text, sizeof text, "POST / HTTP/1.1\r\n%s\r\n", bodies[i].headers);
		assert_int_equal(parse(text, &head, &size, &why), REQUEST_HEAD_OK);
		assert_true(head.content_length == bodies[i].length && head.chunked == bodies[i].chunked);
		http_head_free(&head);
	}
}

int main(int argc, char **argv)
{
	const struct CMUnitTest cases[] = {
		cmocka_unit_test(test_hello_of_ours_and_of_others),
		cmocka_unit_test(test_hello_that_lies_about_lengths),
		cmocka_unit_test(test_request_head),
		cmocka_unit_test(test_request_head_with_two_readings),
		cmocka_unit_test(test_request_head_limits),
	};
	return RUN_CASES(cases);
}
