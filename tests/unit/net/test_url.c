#include "support/case.h"

#include "net/backoff.h"
#include "net/http1.h"
#include "net/proxy.h"
#include "net/url.h"

static void test_parts_of_urls(void **state)
{
	(void)state;
	static const struct {
		const char *text, *host, *path, *authority;
		uint16_t port;
		bool tls;
	} cases[] = {
		{ "https://node-1:8443", "node-1", "/", "node-1:8443", 8443, true },
		{ "HTTPS://Node-1.Example", "node-1.example", "/", "node-1.example", 443, true },
		{ "wss://a/v1/x?y=1&z", "a", "/v1/x?y=1&z", "a", 443, true },
		{ "http://127.0.0.1:80/p", "127.0.0.1", "/p", "127.0.0.1", 80, false },
		{ "ws://[::1]:8443/p", "::1", "/p", "[::1]:8443", 8443, false },
		{ "https://[fe80::1]", "fe80::1", "/", "[fe80::1]", 443, true },
		{ "https://a?q", "a", "/?q", "a", 443, true },
	};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct url u;
		struct err e = { 0 };
		char authority[300];
		if (url_parse(cases[i].text, &u, &e) != 0)
			fail_msg("%s: %s", cases[i].text, e.text);
		url_authority(&u, authority, sizeof authority);
		assert_string_equal(u.host, cases[i].host);
		assert_string_equal(u.path, cases[i].path);
		assert_string_equal(authority, cases[i].authority);
		assert_int_equal(u.port, cases[i].port);
		assert_int_equal(u.tls, cases[i].tls);
	}
}

static void test_bad_urls_are_refused(void **state)
{
	(void)state;
	static const char *const cases[] = {
		"",
		"node-1:8443",
		"ftp://a/",
		"https://",
		"https:///x",
		"https://:443/",
		"https://a:0/",
		"https://a:65536/",
		"https://a:/",
		"https://a:12x/",
		"https://user:pw@a/",
		"https://a/#x",
		"https://a/ b",
		"https://a/\r\nX: y",
		"https://[::1/",
		"https://[zz]/",
		"https://::1/",
		"https://a_b!/",
		"https://[::1]8/",
		"https://a\\b/",
	};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct url u = { .port = 7 };
		struct err e = { 0 };
		if (url_parse(cases[i], &u, &e) != ERR_INVALID)
			fail_msg("\"%s\" was taken", cases[i]);
		assert_int_equal(u.port, 7);
		assert_true(e.text[0]);
		assert_null(strstr(e.text, "pw"));
	}
	char longer[1000];
	struct url u;
	snprintf(longer, sizeof longer, "https://a/%0600d", 1);
	assert_int_equal(url_parse(longer, &u, NULL), ERR_INVALID);
	snprintf(longer, sizeof longer, "https://%0300d/", 1);
	assert_int_equal(url_parse(longer, &u, NULL), ERR_INVALID);
}

static void test_where_credentials_go(void **state)
{
	(void)state;
	static const char *const plain[] = { "http://a", "HTTP://a", "ws://a:443/", "ftp://a", "a:443", "" };
	struct url u = { .port = 7 };
	struct err e = { 0 };
	for (size_t i = 0; i < sizeof plain / sizeof plain[0]; i++) {
		assert_int_equal(url_parse_secure(plain[i], &u, &e), ERR_INVALID);
		assert_non_null(strstr(e.text, "must start with https://, since credentials are sent there"));
		assert_int_equal(u.port, 7);
	}
	assert_int_equal(url_parse_secure("https://a b/", &u, &e), ERR_INVALID);
	assert_int_equal(url_parse_secure("wss://a", &u, &e), 0);
	assert_int_equal(url_parse_secure("https://a:8443/p", &u, &e), 0);
	assert_int_equal(u.port, 8443);
}

static void test_joining(void **state)
{
	(void)state;
	char out[64];
	struct err e;
	assert_int_equal(url_join("https://a:8443", "/v1/x", out, sizeof out, &e), 0);
	assert_string_equal(out, "https://a:8443/v1/x");
	assert_int_equal(url_join("https://a:443/pre/", "/v1/x", out, sizeof out, &e), 0);
	assert_string_equal(out, "https://a/pre/v1/x");
	assert_int_equal(url_join("http://[::1]:81", "/v1", out, sizeof out, &e), 0);
	assert_string_equal(out, "http://[::1]:81/v1");
	assert_int_equal(url_join("https://a", "v1", out, sizeof out, &e), ERR_INVALID);
	assert_int_equal(url_join("https://a/?q", "/v1", out, sizeof out, &e), ERR_INVALID);
	assert_int_equal(url_join("https://a", "/v1", out, 10, &e), ERR_INVALID);
}

static void test_backoff_grows_within_bounds(void **state)
{
	(void)state;
	int64_t least[8] = { INT64_MAX, INT64_MAX, INT64_MAX, INT64_MAX, INT64_MAX, INT64_MAX, INT64_MAX, INT64_MAX };
	int64_t most[8] = { 0 };
	for (int round = 0; round < 400; round++) {
		struct backoff b;
		backoff_reset(&b);
		for (int i = 0; i < 40; i++) {
			int64_t ms = backoff_next_ms(&b);
			int64_t top = i == 0 ? 0 : i > 7 ? 5000 : (int64_t)50 << (i - 1);
			if (top > 5000)
				top = 5000;
			assert_in_range(ms, top / 2, top);
			if (i < 8) {
				least[i] = ms < least[i] ? ms : least[i];
				most[i] = ms > most[i] ? ms : most[i];
			}
		}
	}
	for (int i = 2; i < 8; i++)
		assert_true(most[i] - least[i] > (50 << (i - 1)) / 4);
}

static void test_proxy_texts(void **state)
{
	(void)state;
	struct proxy p;
	struct err e;
	struct buf b = BUF_INIT(1000);
	assert_int_equal(proxy_parse("http://al%40ice:s%3acret@Proxy:3128/", &p, &e), 0);
	assert_string_equal(p.host, "proxy");
	assert_int_equal(p.port, 3128);
	assert_int_equal(proxy_connect_request(&p, "::1", 443, &b), 0);
	char *text = buf_take_text(&b);
	assert_string_equal(text, "CONNECT [::1]:443 HTTP/1.1\r\nHost: [::1]:443\r\n"
				  "Proxy-Authorization: Basic YWxAaWNlOnM6Y3JldA==\r\n\r\n");
	free(text);
	proxy_free(&p);
	assert_int_equal(proxy_parse("10.0.0.1:8080", &p, &e), 0);
	assert_null(p.basic);
	static const char *const bad[] = { "socks5://a:1",
					   "https://a:1",
					   "http://a:99999",
					   "http://a:1/x",
					   "http://u:%zz@a:1",
					   "http://u:hunter2@:1",
					   "" };
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		if (proxy_parse(bad[i], &p, &e) != ERR_INVALID)
			fail_msg("\"%s\" was taken", bad[i]);
		assert_null(strstr(e.text, "hunter2"));
		proxy_free(&p);
	}
}

static void test_no_proxy_lists(void **state)
{
	(void)state;
	assert_true(proxy_is_excepted("*", "a"));
	assert_true(proxy_is_excepted("x, example.com ,y", "a.example.com"));
	assert_true(proxy_is_excepted(".example.com", "example.com"));
	assert_true(proxy_is_excepted("EXAMPLE.com", "example.com"));
	assert_false(proxy_is_excepted("example.com", "badexample.com"));
	assert_false(proxy_is_excepted("example.com", "example.com.evil"));
	assert_false(proxy_is_excepted("", "a"));
	assert_false(proxy_is_excepted(".", "a"));
	assert_true(proxy_is_excepted("10.0.0.0/8", "10.200.1.1"));
	assert_false(proxy_is_excepted("10.0.0.0/8", "11.0.0.1"));
	assert_true(proxy_is_excepted("10.1.2.3", "10.1.2.3"));
	assert_true(proxy_is_excepted("192.168.1.128/25", "192.168.1.200"));
	assert_false(proxy_is_excepted("192.168.1.128/25", "192.168.1.100"));
	assert_true(proxy_is_excepted("fd00::/8,::1", "fd12::1"));
	assert_true(proxy_is_excepted("fd00::/8,::1", "::1"));
	assert_false(proxy_is_excepted("10.0.0.0/33", "10.0.0.1"));
}

static void test_environment_chooses_the_proxy(void **state)
{
	(void)state;
	struct url u;
	struct proxy p;
	struct err e;
	url_parse("https://web.example/", &u, NULL);
	static const char *const names[] = { "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY",
					     "no_proxy",    "NO_PROXY",    "http_proxy" };
	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
		unsetenv(names[i]);
	assert_int_equal(proxy_choose(NULL, &u, &p, &e), 0);
	assert_false(p.used);
	setenv("all_proxy", "http://all:1", 1);
	assert_int_equal(proxy_choose(NULL, &u, &p, &e), 0);
	assert_string_equal(p.host, "all");
	setenv("https_proxy", "http://special:1", 1);
	assert_int_equal(proxy_choose(NULL, &u, &p, &e), 0);
	assert_string_equal(p.host, "special");
	assert_int_equal(proxy_choose("", &u, &p, &e), 0);
	assert_false(p.used);
	assert_int_equal(proxy_choose("http://own:1", &u, &p, &e), 0);
	assert_string_equal(p.host, "own");
	setenv("no_proxy", "example", 1);
	assert_int_equal(proxy_choose(NULL, &u, &p, &e), 0);
	assert_false(p.used);
	setenv("no_proxy", "", 1);
	setenv("https_proxy", "socks5://a:1", 1);
	assert_int_equal(proxy_choose(NULL, &u, &p, &e), ERR_INVALID);
	assert_non_null(strstr(e.text, "environment"));
}

static int parse_head(const char *text, struct http1_head *out, struct buf *b, struct err *e)
{
	buf_free(b);
	buf_init(b, 1 << 20);
	buf_add_text(b, text);
	return http1_parse_head(b, "it", out, e);
}

static void test_http_heads(void **state)
{
	(void)state;
	struct buf b = BUF_INIT(0);
	struct http1_head h;
	struct err e;
	char v[32];
	const char *good = "HTTP/1.1 403 For\x01gone\r\nA: 1\r\nConnection:  keep-alive , Upgrade\r\nx:\r\n\r\nbody";
	for (size_t n = 0; n < strlen(good) - 4; n++) {
		char *cut = strndup(good, n);
		assert_int_equal(parse_head(cut, &h, &b, &e), 0);
		free(cut);
	}
	assert_int_equal(parse_head(good, &h, &b, &e), 1);
	assert_int_equal(h.status, 403);
	assert_string_equal(h.reason, "For?gone");
	assert_int_equal(h.size, strlen(good) - 4);
	assert_true(http1_header(&h, "a", v, sizeof v));
	assert_string_equal(v, "1");
	assert_true(http1_header(&h, "X", v, sizeof v));
	assert_string_equal(v, "");
	assert_false(http1_header(&h, "Connectio", v, sizeof v));
	assert_false(http1_header(&h, "Connection", v, 5));
	assert_true(http1_header_has(&h, "connection", "upgrade"));
	assert_false(http1_header_has(&h, "connection", "keep"));
	assert_int_equal(parse_head("HTTP/1.1 200\r\n\r\n", &h, &b, &e), 1);
	assert_int_equal(h.headers_len, 0);
	static const char *const bad[] = { "SSH-2.0-x", "HTTP/2 200 OK\r\n\r\n", "HTTP/1.1 99 x\r\n\r\n",
					   "HTTP/1.1 OK\r\n\r\n", "HTTP/1.1 20 \r\n\r\n" };
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		assert_int_equal(parse_head(bad[i], &h, &b, &e), ERR_PROTOCOL);
	char *endless = malloc(20001);
	memset(endless, 'x', 20000);
	memcpy(endless, "HTTP/", 5);
	endless[20000] = 0;
	assert_int_equal(parse_head(endless, &h, &b, &e), ERR_LIMIT);
	memcpy(endless, "HTTP/1.1 200 ", 13);
	memcpy(endless + 20000 - 4, "\r\n\r\n", 4);
	assert_int_equal(parse_head(endless, &h, &b, &e), ERR_LIMIT); /* also when its end is there */
	free(endless);
	buf_free(&b);
}

static void test_http_bodies(void **state)
{
	(void)state;
	struct buf b = BUF_INIT(0), out = BUF_INIT(1000);
	struct http1_head h;
	struct err e;
	const char *chunked = "4;x=y\r\nWiki\r\n6\r\npedia!\r\n0\r\n\r\n";
	assert_int_equal(parse_head("HTTP/1.1 500 x\r\nTransfer-Encoding: chunked\r\n\r\n", &h, &b, &e), 1);
	for (size_t n = 0; n <= strlen(chunked); n++) {
		int rc = http1_body(&h, (const uint8_t *)chunked, n, false, 1000, &out);
		assert_int_equal(rc, n >= strlen(chunked) - 2);
	}
	assert_int_equal(out.len, 10);
	assert_memory_equal(buf_data(&out), "Wikipedia!", 10);
	assert_int_equal(parse_head("HTTP/1.1 500 x\r\nContent-Length: 3\r\n\r\n", &h, &b, &e), 1);
	assert_int_equal(http1_body(&h, (const uint8_t *)"ab", 2, false, 1000, &out), 0);
	assert_int_equal(http1_body(&h, (const uint8_t *)"abcd", 4, false, 1000, &out), 1);
	assert_int_equal(out.len, 3);
	assert_int_equal(parse_head("HTTP/1.1 500 x\r\n\r\n", &h, &b, &e), 1);
	assert_int_equal(http1_body(&h, (const uint8_t *)"abcd", 4, false, 1000, &out), 0);
	assert_int_equal(http1_body(&h, (const uint8_t *)"abcd", 4, true, 1000, &out), 1);
	assert_int_equal(http1_body(&h, (const uint8_t *)"abcd", 4, false, 2, &out), 1);
	assert_int_equal(out.len, 2);
	buf_free(&b);
	buf_free(&out);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parts_of_urls),
		cmocka_unit_test(test_bad_urls_are_refused),
		cmocka_unit_test(test_where_credentials_go),
		cmocka_unit_test(test_joining),
		cmocka_unit_test(test_backoff_grows_within_bounds),
		cmocka_unit_test(test_proxy_texts),
		cmocka_unit_test(test_no_proxy_lists),
		cmocka_unit_test(test_environment_chooses_the_proxy),
		cmocka_unit_test(test_http_heads),
		cmocka_unit_test(test_http_bodies),
	};
	return RUN_CASES(tests);
}
