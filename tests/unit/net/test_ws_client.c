#include "harness.h"

#include "base/secret.h"
#include "net/ws_state.h"

#include <unistd.h>

static void test_echo_over_tls(void **state)
{
	struct harness *h = *state;
	struct seen_ws s;
	struct ws_options o = harness_options(h, "https", PORT_TLS, "/");
	o.subprotocol = "test.v1";
	harness_open(h, &o, &s);
	assert_int_equal(ws_client_send_text(s.ws, "early"), ERR_CLOSED);
	harness_wait(h, &s.opened);
	assert_int_equal(ws_client_send_text(s.ws, "hello"), 0);
	assert_int_equal(ws_client_send_text(s.ws, "gr\xc3\xbc\xc3\x9f"), 0);
	assert_int_equal(ws_client_send_text(s.ws, ""), 0);
	assert_int_equal(ws_client_send_binary(s.ws, "\0\1\2", 3), 0);
	harness_wait_text(&s, "hello\ngr\xc3\xbc\xc3\x9f\n\n");
	harness_wait_bytes(&s, 3);
	ws_client_close(s.ws, 1000, "done");
	harness_wait(h, &s.ended);
	assert_int_equal(s.code, 1000);
	assert_int_equal(s.ends, 1);
	harness_close(&s);
}

static void test_plain_works_too(void **state)
{
	struct harness *h = *state;
	struct seen_ws s;
	struct ws_options o = harness_options(h, "ws", PORT_PLAIN, "/");
	harness_open(h, &o, &s);
	harness_wait(h, &s.opened);
	assert_int_equal(ws_client_send_text(s.ws, "hello"), 0);
	harness_wait_text(&s, "hello\n");
	harness_close(&s);
	assert_int_equal(s.ends, 0);
}

static void test_a_held_client_asks_when_it_is_told(void **state)
{
	struct harness *h = *state;
	for (int tls = 0; tls < 2; tls++) {
		struct seen_ws s;
		struct ws_options o = harness_options(h, tls ? "https" : "http", tls ? PORT_TLS : PORT_PLAIN, "/");
		o.hold = true;
		harness_open(h, &o, &s);
		harness_wait(h, &s.secured);
		assert_true(s.connected);
		for (int i = 0; i < 20; i++) {
			uv_run(&h->loop, UV_RUN_NOWAIT);
			usleep(5000);
		}
		assert_false(s.opened);
		ws_client_go(s.ws);
		harness_wait(h, &s.opened);
		assert_int_equal(ws_client_send_text(s.ws, "hello"), 0);
		harness_wait_text(&s, "hello\n");
		harness_close(&s);
	}
}

static void test_freed_while_it_connects(void **state)
{
	struct harness *h = *state;
	for (int i = 0; i < 8; i++) {
		struct seen_ws s;
		struct ws_options o = harness_options(h, i & 1 ? "https" : "http", i & 1 ? PORT_TLS : PORT_PLAIN, "/");
		o.hold = i & 2;
		harness_open(h, &o, &s);
		s.free_when_connected = i & 4;
		s.free_when_secured = !s.free_when_connected;
		harness_wait(h, &s.ended);
		assert_false(s.opened);
		harness_close(&s);
	}
}

/* Both ways at once, as much as fits, of sizes that are no powers of two. */
static void echo_much(struct harness *h, const char *scheme, int port)
{
	enum { TOTAL = 12 * 1000 * 1000 };
	struct seen_ws s;
	struct ws_options o = harness_options(h, scheme, port, "/");
	harness_open(h, &o, &s);
	harness_wait(h, &s.opened);
	uint8_t chunk[96 * 1024];
	secret_random(chunk, sizeof chunk);
	uint64_t sent = 0, sum = 0, most = 0;
	size_t size = 1;
	bool was_full = false;
	while (sent < TOTAL) {
		size_t room = ws_client_room(s.ws);
		if (room == 0) {
			was_full = true;
			uv_run(&h->loop, UV_RUN_ONCE);
			continue;
		}
		size_t n = size < room ? size : room;
		if (n > TOTAL - sent)
			n = (size_t)(TOTAL - sent);
		for (size_t i = 0; i < n; i++)
			sum = sum * 31 + chunk[i];
		assert_int_equal(ws_client_send_binary(s.ws, chunk, n), 0);
		sent += n;
		size = size * 7 % 65521 + 1;
		if (ws_client_unsent(s.ws) > most)
			most = ws_client_unsent(s.ws);
	}
	harness_wait_bytes(&s, TOTAL);
	assert_int_equal(s.bytes, TOTAL);
	assert_true(s.sum == sum);
	assert_true(was_full);
	assert_true(s.writable > 0);
	assert_true(most < 128 * 1024);
	assert_true(s.largest > 16 * 1024);
	harness_close(&s);
}

static void test_much_both_ways_over_tls(void **state)
{
	echo_much(*state, "wss", PORT_TLS);
}

static void test_much_both_ways_plain(void **state)
{
	echo_much(*state, "ws", PORT_PLAIN);
}

static void test_fragments_are_joined(void **state)
{
	struct harness *h = *state;
	struct seen_ws s;
	struct ws_options o = harness_options(h, "wss", PORT_TLS, "/fragments");
	harness_open(h, &o, &s);
	harness_wait_text(&s, "one two\n");
	assert_int_equal(s.bytes, 6);
	harness_close(&s);
}

static void test_answers_pings(void **state)
{
	struct harness *h = *state;
	struct seen_ws s;
	struct ws_options o = harness_options(h, "wss", PORT_TLS, "/ping");
	harness_open(h, &o, &s);
	harness_wait_text(&s, "pong came\n");
	harness_close(&s);
}

static void test_close_of_the_server(void **state)
{
	struct harness *h = *state;
	struct seen_ws s;
	struct ws_options o = harness_options(h, "wss", PORT_TLS, "/close");
	harness_open(h, &o, &s);
	harness_wait(h, &s.ended);
	assert_int_equal(s.code, 4003);
	assert_int_equal(s.status, 0);
	assert_string_equal(s.reason, "an operator ended it \xe2\x80\x93 \xc3\xbc");
	assert_int_equal(ws_client_send_text(s.ws, "late"), ERR_CLOSED);
	assert_int_equal(ws_client_send_binary(s.ws, "late", 4), ERR_CLOSED);
	harness_close(&s);
}

static void test_lost_connection(void **state)
{
	struct harness *h = *state;
	struct seen_ws s;
	struct ws_options o = harness_options(h, "wss", PORT_TLS, "/drop");
	harness_open(h, &o, &s);
	harness_wait(h, &s.ended);
	assert_true(s.opened);
	assert_int_equal(s.code, 1006);
	assert_true(s.reason[0]);
	harness_close(&s);
}

static void test_refused_upgrade(void **state)
{
	struct harness *h = *state;
	struct seen_ws s;
	struct ws_options o = harness_options(h, "wss", PORT_TLS, "/refuse/403");
	const struct ws_header headers[] = { { "Authorization", "Bearer t" }, { NULL, NULL } };
	o.headers = headers;
	harness_open(h, &o, &s);
	harness_wait(h, &s.ended);
	assert_false(s.opened);
	assert_int_equal(s.status, 403);
	assert_string_equal(s.body, "no: Bearer t");
	assert_non_null(strstr(s.reason, "403 Forbidden"));
	harness_close(&s);
}

static void ask_for_more(struct harness *h)
{
	struct seen_ws s;
	struct ws_options o = harness_options(h, "ws", PORT_RAW, "/more");
	harness_open(h, &o, &s);
	harness_wait(h, &s.ended);
	harness_close(&s);
}

/* The head is read before the body is sent; so `in` grows, and moves, behind it. */
static void test_refused_in_parts(void **state)
{
	static const size_t sizes[] = { 2, 600, 60000, 300000 };
	struct harness *h = *state;
	for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
		struct seen_ws s;
		char path[32];
		snprintf(path, sizeof path, "/parts/%zu", sizes[i]);
		struct ws_options o = harness_options(h, "ws", PORT_RAW, path);
		harness_open(h, &o, &s);
		while (!s.ended && s.ws->phase != WS_REFUSED)
			uv_run(&h->loop, UV_RUN_ONCE);
		size_t head = s.ws->in.len;
		ask_for_more(h);
		while (!s.ended && s.ws->in.len < head + sizes[i] / 2)
			uv_run(&h->loop, UV_RUN_ONCE);
		ask_for_more(h);
		harness_wait(h, &s.ended);
		assert_int_equal(s.status, 404);
		assert_non_null(strstr(s.reason, "404 Not Found"));
		assert_int_equal(strspn(s.body, "x"), sizes[i] < sizeof s.body ? sizes[i] : sizeof s.body - 1);
		harness_close(&s);
		ask_for_more(h); /* lets the server's end go */
	}
}

static void test_refused_without_end(void **state)
{
	struct harness *h = *state;
	struct seen_ws s;
	struct ws_options o = harness_options(h, "ws", PORT_RAW, "/endless");
	o.connect_timeout_ms = 500;
	harness_open(h, &o, &s);
	harness_wait(h, &s.ended);
	assert_int_equal(s.status, 404);
	assert_string_equal(s.body, "404 page");
	harness_close(&s);
}

static void test_odd_answers(void **state)
{
	struct harness *h = *state;
	static const struct {
		const char *path, *words, *body;
		int status;
		unsigned code;
	} cases[] = {
		{ "/garbage", "does not speak HTTP/1.1", "", 0, 1006 },
		{ "/wrongkey", "not for our key", "", 0, 1006 },
		{ "/chunked", "502 Bad Gateway", "abcdef", 502, 1006 },
		{ "/moved", "302 Found", "", 302, 1006 },
		{ "/eof", "closed the connection before it answered", "", 0, 1006 },
		{ "/halfhead", "closed the connection before it answered", "", 0, 1006 },
		{ "/badframe", "unknown opcode 3", "", 0, 1002 },
	};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct seen_ws s;
		struct ws_options o = harness_options(h, "ws", PORT_RAW, cases[i].path);
		harness_open(h, &o, &s);
		harness_wait(h, &s.ended);
		if (!strstr(s.reason, cases[i].words))
			fail_msg("%s: %s", cases[i].path, s.reason);
		assert_string_equal(s.body, cases[i].body);
		assert_int_equal(s.status, cases[i].status);
		assert_int_equal(s.code, cases[i].code);
		harness_close(&s);
	}
}

static void test_frames_glued_to_the_answer(void **state)
{
	struct harness *h = *state;
	struct seen_ws s;
	struct ws_options o = harness_options(h, "ws", PORT_RAW, "/glued");
	harness_open(h, &o, &s);
	harness_wait(h, &s.ended);
	assert_true(s.opened);
	assert_int_equal(s.texts.len, 6);
	assert_int_equal(s.code, 4000);
	assert_string_equal(s.reason, "ok");
	harness_close(&s);
}

static void test_subprotocol_must_be_chosen(void **state)
{
	struct harness *h = *state;
	struct seen_ws s;
	struct ws_options o = harness_options(h, "wss", PORT_TLS, "/");
	o.subprotocol = "other.v1";
	harness_open(h, &o, &s);
	harness_wait(h, &s.ended);
	assert_false(s.opened);
	assert_non_null(strstr(s.reason, "other.v1"));
	harness_close(&s);
}

static void expect_lost(struct harness *h, const struct ws_options *o, const char *words)
{
	struct seen_ws s;
	harness_open(h, o, &s);
	harness_wait(h, &s.ended);
	assert_false(s.opened);
	assert_int_equal(s.code, 1006);
	if (!strstr(s.reason, words))
		fail_msg("\"%s\" is not in: %s", words, s.reason);
	harness_close(&s);
}

static void test_unknown_certificate(void **state)
{
	struct harness *h = *state;
	struct ws_options o = harness_options(h, "wss", PORT_ELSEWHERE, "/");
	expect_lost(h, &o, "certificate is refused: self");
}

static void test_certificate_of_another_host(void **state)
{
	struct harness *h = *state;
	struct net_tls *tls;
	char ca[100], url[100];
	snprintf(ca, sizeof ca, "%s/other.pem", h->folder);
	assert_int_equal(net_tls_new(ca, &tls, NULL), 0);
	struct ws_options o = harness_options(h, "wss", PORT_ELSEWHERE, "/");
	o.tls = tls;
	expect_lost(h, &o, "hostname mismatch");
	snprintf(url, sizeof url, "wss://127.0.0.1:%u/", h->ports[PORT_ELSEWHERE]);
	o.url = url;
	expect_lost(h, &o, "IP address mismatch");
	net_tls_free(&tls);
}

static void test_certificate_of_an_address(void **state)
{
	struct harness *h = *state;
	struct seen_ws s;
	char url[100];
	struct ws_options o = harness_options(h, "wss", PORT_TLS, "/");
	snprintf(url, sizeof url, "wss://127.0.0.1:%u/", h->ports[PORT_TLS]);
	o.url = url;
	harness_open(h, &o, &s);
	harness_wait(h, &s.opened);
	harness_close(&s);
}

static void test_tls_with_a_plain_server(void **state)
{
	struct harness *h = *state;
	struct ws_options o = harness_options(h, "wss", PORT_PLAIN, "/");
	expect_lost(h, &o, "TLS: ");
}

static void test_second_connection_resumes(void **state)
{
	struct harness *h = *state;
	for (int i = 0; i < 4; i++) {
		struct seen_ws s;
		struct ws_options o = harness_options(h, "wss", PORT_TLS, "/resumed");
		harness_open(h, &o, &s);
		harness_wait_text(&s, i == 0 ? "fresh\n" : "resumed\n");
		harness_close(&s);
	}
}

static void test_ca_file_without_certificates(void **state)
{
	(void)state;
	struct net_tls *tls = NULL;
	struct err e;
	assert_int_equal(net_tls_new("/nonexistent.pem", &tls, &e), ERR_INVALID);
	assert_non_null(strstr(e.text, "/nonexistent.pem"));
	assert_null(tls);
}

static void test_freed_inside_a_callback(void **state)
{
	struct harness *h = *state;
	struct seen_ws s;
	struct ws_options o = harness_options(h, "wss", PORT_TLS, "/");
	harness_open(h, &o, &s);
	s.free_in_text = true;
	harness_wait(h, &s.opened);
	for (int i = 0; i < 10; i++)
		ws_client_send_text(s.ws, "x");
	harness_wait(h, &s.ended);
	assert_int_equal(s.ends, 0);
	assert_int_equal(s.texts.len, 2);
	harness_close(&s);
}

/* A client that is freed at any step of connecting leaves nothing behind (the sanitizer and the teardown look). */
static void test_freed_at_any_moment(void **state)
{
	struct harness *h = *state;
	for (int turns = 0; turns < 25; turns++) {
		struct seen_ws s;
		struct ws_options o = harness_options(h, "wss", PORT_TLS, "/");
		harness_open(h, &o, &s);
		for (int i = 0; i < turns && !s.opened; i++)
			uv_run(&h->loop, UV_RUN_ONCE);
		harness_close(&s);
		assert_int_equal(s.ends, 0);
	}
}

static void test_malformed_options(void **state)
{
	struct harness *h = *state;
	struct ws_client *ws = NULL;
	struct err e;
	struct ws_options o = { .url = "nonsense", .tls = h->tls };
	assert_int_equal(ws_client_open(&h->loop, &o, &harness_callbacks, NULL, &ws, &e), ERR_INVALID);
	o = harness_options(h, "wss", PORT_TLS, "/");
	o.proxy = "socks5://a:1";
	assert_int_equal(ws_client_open(&h->loop, &o, &harness_callbacks, NULL, &ws, &e), ERR_INVALID);
	const struct ws_header evil[] = { { "X", "a\r\nY: b" }, { NULL, NULL } };
	o.proxy = "";
	o.headers = evil;
	assert_int_equal(ws_client_open(&h->loop, &o, &harness_callbacks, NULL, &ws, &e), ERR_INVALID);
	assert_null(ws);
	uv_run(&h->loop, UV_RUN_DEFAULT);
}

int main(int argc, char **argv)
{
	/* clang-format off */
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_echo_over_tls, harness_setup, harness_teardown),
		cmocka_unit_test_setup_teardown(test_a_held_client_asks_when_it_is_told, harness_setup, harness_teardown),
		cmocka_unit_test_setup_teardown(test_freed_while_it_connects, harness_setup, harness_teardown),
		cmocka_unit_test_setup_teardown(test_plain_works_too, harness_setup, harness_teardown),
		cmocka_unit_test_setup_teardown(test_much_both_ways_over_tls, harness_setup, harness_teardown),
		cmocka_unit_test_setup_teardown(test_much_both_ways_plain, harness_setup, harness_teardown),
		cmocka_unit_test_setup_teardown(test_fragments_are_joined, harness_setup, harness_teardown),
		cmocka_unit_test_setup_teardown(test_answers_pings, harness_setup, harness_teardown),
		cmocka_unit_test_setup_teardown(test_close_of_the_server, harness_setup, harness_teardown),
		cmocka_unit_test_setup_teardown(test_lost_connection, harness_setup, harness_teardown),
		cmocka_unit_test_setup_teardown(test_refused_upgrade, harness_setup, harness_teardown),
		cmocka_unit_test_setup_teardown(test_refused_in_parts, harness_setup, harness_teardown),
		cmocka_unit_test_setup_teardown(test_refused_without_end, harness_setup, harness_teardown),
		cmocka_unit_test_setup_teardown(test_odd_answers, harness_setup, harness_teardown),
		cmocka_unit_test_setup_teardown(test_frames_glued_to_the_answer, harness_setup, harness_teardown),
		cmocka_unit_test_setup_teardown(test_subprotocol_must_be_chosen, harness_setup, harness_teardown),
		cmocka_unit_test_setup_teardown(test_unknown_certificate, harness_setup, harness_teardown),
		cmocka_unit_test_setup_teardown(test_certificate_of_another_host, harness_setup, harness_teardown),
		cmocka_unit_test_setup_teardown(test_certificate_of_an_address, harness_setup, harness_teardown),
		cmocka_unit_test_setup_teardown(test_tls_with_a_plain_server, harness_setup, harness_teardown),
		cmocka_unit_test_setup_teardown(test_second_connection_resumes, harness_setup, harness_teardown),
		cmocka_unit_test(test_ca_file_without_certificates),
		cmocka_unit_test_setup_teardown(test_freed_inside_a_callback, harness_setup, harness_teardown),
		cmocka_unit_test_setup_teardown(test_freed_at_any_moment, harness_setup, harness_teardown),
		cmocka_unit_test_setup_teardown(test_malformed_options, harness_setup, harness_teardown),
	};
	/* clang-format on */
	return RUN_CASES(tests);
}
