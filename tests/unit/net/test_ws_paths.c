/* How a connection comes about and how its silence is noticed: proxies, refusals, black holes, races, pings, pauses. */
#include "harness.h"

#include "net/dial.h"
#include "net/http.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <unistd.h>

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

static void test_nobody_listens(void **state)
{
	struct harness *h = *state;
	struct ws_options o = harness_options(h, "wss", PORT_DEAD, "/");
	expect_lost(h, &o, "Connection refused");
}

static void test_unknown_host(void **state)
{
	struct harness *h = *state;
	struct ws_options o = harness_options(h, "wss", PORT_DEAD, "/");
	o.url = "wss://no-such-host.invalid/";
	expect_lost(h, &o, "look up no-such-host.invalid:443: ");
}

/* A listener whose queue is full drops SYNs: to a client it is a black hole. */
struct black_hole {
	int listener, fill[4];
	struct dial_address at;
};

static void dig_black_hole(struct black_hole *b)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof a;
	b->listener = socket(AF_INET, SOCK_STREAM, 0);
	assert_int_equal(bind(b->listener, (struct sockaddr *)&a, len), 0);
	assert_int_equal(listen(b->listener, 0), 0);
	getsockname(b->listener, (struct sockaddr *)&a, &len);
	for (int i = 0; i < 4; i++) {
		b->fill[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
		(void)connect(b->fill[i], (struct sockaddr *)&a, len);
	}
	memset(&b->at, 0, sizeof b->at);
	memcpy(&b->at.address, &a, sizeof a);
	b->at.len = sizeof a;
}

static void fill_black_hole(struct black_hole *b)
{
	close(b->listener);
	for (int i = 0; i < 4; i++)
		close(b->fill[i]);
}

static void test_black_hole_times_out(void **state)
{
	struct harness *h = *state;
	struct black_hole b;
	struct sockaddr_in a;
	char url[100];
	dig_black_hole(&b);
	memcpy(&a, &b.at.address, sizeof a);
	snprintf(url, sizeof url, "wss://127.0.0.1:%u/", ntohs(a.sin_port));
	struct ws_options o = { .url = url, .tls = h->tls, .proxy = "", .connect_timeout_ms = 300 };
	int64_t from = clock_mono_ms();
	expect_lost(h, &o, "connect to 127.0.0.1:");
	assert_true(clock_mono_ms() - from >= 290);
	fill_black_hole(&b);
}

struct race_end {
	bool done;
	int fd;
	char why[300];
};

static void on_raced(void *user, int fd, const char *why_not)
{
	struct race_end *end = user;
	assert_false(end->done);
	end->done = true;
	end->fd = fd;
	snprintf(end->why, sizeof end->why, "%s", why_not ? why_not : "");
}

static void test_a_dial_that_nobody_answers_ends(void **state)
{
	struct harness *h = *state;
	struct black_hole b;
	struct race_end end = { .done = false };
	struct sockaddr_in a;
	struct dial *d;
	dig_black_hole(&b);
	memcpy(&a, &b.at.address, sizeof a);
	assert_int_equal(dial_start(&h->loop, "127.0.0.1", ntohs(a.sin_port), 50, on_raced, &end, &d, NULL), 0);
	harness_wait(h, &end.done);
	assert_int_equal(end.fd, -1);
	assert_non_null(strstr(end.why, "127.0.0.1:")); /* a busy machine may be too late for the address, too */
	assert_non_null(strstr(end.why, "no answer within 50 ms"));
	assert_int_equal(dial_start(&h->loop, "127.0.0.1", ntohs(a.sin_port), 50, on_raced, &end, &d, NULL), 0);
	dial_cancel(&d);
	fill_black_hole(&b);
}

static struct dial_address address_of(unsigned port)
{
	struct sockaddr_in a = { .sin_family = AF_INET,
				 .sin_port = htons((uint16_t)port),
				 .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct dial_address out = { .len = sizeof a };
	memcpy(&out.address, &a, sizeof a);
	return out;
}

static void race(struct harness *h, const struct dial_address *addresses, size_t n, struct race_end *end)
{
	struct dial *d;
	memset(end, 0, sizeof *end);
	assert_int_equal(dial_race(&h->loop, "it:1", addresses, n, on_raced, end, &d, NULL), 0);
	harness_wait(h, &end->done);
}

static void test_second_address_wins_over_a_black_hole(void **state)
{
	struct harness *h = *state;
	struct black_hole b;
	struct race_end end;
	dig_black_hole(&b);
	struct dial_address list[] = { b.at, address_of(h->ports[PORT_PLAIN]) };
	int64_t from = clock_mono_ms();
	race(h, list, 2, &end);
	assert_true(end.fd >= 0);
	assert_true(clock_mono_ms() - from >= DIAL_NEXT_MS - 10);
	close(end.fd);
	fill_black_hole(&b);
}

static void test_refusal_starts_the_next_address_at_once(void **state)
{
	struct harness *h = *state;
	struct race_end end;
	unsigned dead = h->ports[PORT_DEAD];
	struct dial_address list[] = { address_of(dead), address_of(dead), address_of(dead),
				       address_of(h->ports[PORT_PLAIN]) };
	int64_t took = DIAL_NEXT_MS;
	for (int i = 0; i < 20 && took >= DIAL_NEXT_MS; i++) { /* once is proof; a busy machine may be slow */
		int64_t from = clock_mono_ms();
		race(h, list, 4, &end);
		took = clock_mono_ms() - from;
		assert_true(end.fd >= 0);
		close(end.fd);
	}
	assert_true(took < DIAL_NEXT_MS);
	race(h, list, 3, &end);
	assert_int_equal(end.fd, -1);
	assert_string_equal(end.why, "connect it:1: Connection refused");
}

static void through_proxy(struct harness *h, const char *user, const char *scheme, int port)
{
	struct seen_ws s;
	char proxy[100];
	struct ws_options o = harness_options(h, scheme, port, "/");
	snprintf(proxy, sizeof proxy, "http://%s@localhost:%u", user, h->ports[PORT_PROXY]);
	o.proxy = proxy;
	harness_open(h, &o, &s);
	harness_wait(h, &s.opened);
	ws_client_send_text(s.ws, "through");
	harness_wait_text(&s, "through\n");
	harness_close(&s);
}

static void test_through_a_proxy(void **state)
{
	through_proxy(*state, "user:pw", "wss", PORT_TLS);
	through_proxy(*state, "user:pw", "ws", PORT_PLAIN);
}

static void test_through_a_proxy_that_answers_in_pieces(void **state)
{
	through_proxy(*state, "split:p%40ss", "wss", PORT_TLS);
}

static void test_proxy_of_the_environment(void **state)
{
	struct harness *h = *state;
	struct seen_ws s;
	char proxy[100];
	struct ws_options o = harness_options(h, "wss", PORT_TLS, "/");
	snprintf(proxy, sizeof proxy, "http://localhost:%u", h->ports[PORT_PROXY]);
	setenv("https_proxy", proxy, 1);
	unsetenv("no_proxy");
	unsetenv("NO_PROXY");
	o.proxy = NULL;
	expect_lost(h, &o, "407 Proxy Authentication Required");
	setenv("no_proxy", "localhost", 1);
	harness_open(h, &o, &s);
	harness_wait(h, &s.opened);
	harness_close(&s);
}

static void test_proxy_that_fails(void **state)
{
	struct harness *h = *state;
	char proxy[100];
	struct ws_options o = harness_options(h, "wss", PORT_TLS, "/");
	o.proxy = proxy;
	snprintf(proxy, sizeof proxy, "http://localhost:%u", h->ports[PORT_DEAD]);
	expect_lost(h, &o, "proxy: connect localhost:");
	snprintf(proxy, sizeof proxy, "http://localhost:%u",
		 h->ports[PORT_HTTP]); /* answers CONNECT as if it were GET */
	expect_lost(h, &o, "proxy localhost:");
	snprintf(proxy, sizeof proxy, "http://mute:@localhost:%u", h->ports[PORT_PROXY]);
	o.connect_timeout_ms = 2000; /* enough to come as far as the proxy */
	expect_lost(h, &o, "proxy's answer for localhost:");
}

static void test_silence_is_noticed(void **state)
{
	struct harness *h = *state;
	struct seen_ws s;
	struct ws_options o = harness_options(h, "wss", PORT_TLS, "/silent");
	o.ping_ms = 100;
	o.dead_ms = 400;
	harness_open(h, &o, &s);
	harness_wait(h, &s.opened);
	int64_t from = clock_mono_ms();
	harness_wait(h, &s.ended);
	assert_int_equal(s.code, 1006);
	assert_non_null(strstr(s.reason, "no answer for"));
	assert_true(clock_mono_ms() - from >= 350);
	harness_close(&s);
}

static bool stays_for(struct harness *h, int64_t dead_ms)
{
	struct seen_ws s;
	struct ws_options o = harness_options(h, "wss", PORT_TLS, "/");
	o.ping_ms = dead_ms / 6;
	o.dead_ms = dead_ms;
	harness_open(h, &o, &s);
	harness_wait(h, &s.opened);
	int64_t from = clock_mono_ms();
	while (clock_mono_ms() - from < 3 * dead_ms && !s.ended)
		uv_run(&h->loop, UV_RUN_ONCE); /* the pings wake it */
	bool stayed = !s.ended;
	harness_close(&s);
	return stayed;
}

/* Where the server is too busy to answer in time, more time is given. */
static void test_pings_keep_a_quiet_connection(void **state)
{
	bool stayed = false;
	for (int64_t dead_ms = 300; dead_ms < 20000 && !stayed; dead_ms *= 4)
		stayed = stays_for(*state, dead_ms);
	assert_true(stayed);
}

static void test_probe_finds_a_dead_peer(void **state)
{
	struct harness *h = *state;
	struct seen_ws quiet, alive;
	struct ws_options o = harness_options(h, "wss", PORT_TLS, "/silent");
	harness_open(h, &o, &quiet);
	harness_wait(h, &quiet.opened);
	o = harness_options(h, "wss", PORT_TLS, "/");
	harness_open(h, &o, &alive);
	harness_wait(h, &alive.opened);
	ws_client_probe(quiet.ws);
	ws_client_probe(alive.ws);
	harness_wait(h, &quiet.ended);
	assert_false(alive.ended);
	harness_close(&quiet);
	harness_close(&alive);
}

static void test_a_pause_holds_back_everything(void **state)
{
	enum { TOTAL = 6 * 1000 * 1000 };
	struct harness *h = *state;
	struct seen_ws s, other;
	char path[40];
	snprintf(path, sizeof path, "/flood/%d", TOTAL);
	struct ws_options o = harness_options(h, "wss", PORT_TLS, path);
	harness_open(h, &o, &s);
	harness_wait_bytes(&s, 1);
	for (int i = 0; i < 20; i++) {
		ws_client_pause(s.ws, true);
		uint64_t before = s.bytes;
		o = harness_options(h, "ws", PORT_PLAIN, "/"); /* many turns of the loop */
		harness_open(h, &o, &other);
		harness_wait(h, &other.opened);
		harness_close(&other);
		assert_int_equal(s.bytes, before);
		ws_client_pause(s.ws, false);
		if (before < TOTAL)
			harness_wait_bytes(&s, before + 1);
	}
	harness_wait_bytes(&s, TOTAL);
	snprintf(path, sizeof path, "flooded %d\n", TOTAL);
	harness_wait_text(&s, path);
	harness_close(&s);
}

/* Texts are queued to a mebibyte, no further, and none is lost. */
static void test_a_deaf_server_fills_the_queue_only(void **state)
{
	struct harness *h = *state;
	struct seen_ws s, other;
	struct ws_options o = harness_options(h, "wss", PORT_TLS, "/deaf");
	char *text = malloc(60001), expected[40];
	memset(text, 'x', 60000);
	text[60000] = '\0';
	harness_open(h, &o, &s);
	harness_wait(h, &s.opened);
	size_t sent = 0;
	int rc = 0;
	for (int idle = 0; idle < 50;) {
		rc = ws_client_send_text(s.ws, text);
		if (rc == 0)
			sent++;
		idle = rc == 0 ? 0 : idle + 1;
		uv_run(&h->loop, UV_RUN_NOWAIT);
	}
	assert_int_equal(rc, ERR_LIMIT);
	assert_int_equal(ws_client_room(s.ws), 0);
	assert_int_equal(ws_client_send_binary(s.ws, "x", 1), ERR_LIMIT);
	assert_in_range(ws_client_unsent(s.ws), 900 * 1024, 1300 * 1024);
	o = harness_options(h, "wss", PORT_TLS, "/hear");
	harness_open(h, &o, &other);
	snprintf(expected, sizeof expected, "heard %zu\n", sent * 60000);
	while (!s.ended && !(s.texts.len >= strlen(expected) &&
			     memmem(buf_data(&s.texts), s.texts.len, expected, strlen(expected))))
		uv_run(&h->loop, UV_RUN_ONCE);
	assert_false(s.ended);
	assert_true(s.writable > 0);
	free(text);
	harness_close(&s);
	harness_close(&other);
}

static void call_within(struct harness *h, int64_t timeout_ms, const char *method, const char *path, const char *body,
			int want_rc, struct http_response *out)
{
	char url[200];
	struct err e = { 0 };
	static const char *const headers[] = { "Authorization: Bearer t", NULL };
	snprintf(url, sizeof url, "http://127.0.0.1:%u%s", h->ports[PORT_HTTP], path);
	struct http_request r = {
		.method = method, .url = url, .headers = headers, .body = body, .proxy = "", .timeout_ms = timeout_ms
	};
	memset(out, 0, sizeof *out);
	int rc = http_call_blocking(&r, out, &e);
	if (rc != want_rc)
		fail_msg("%s: %d %s", path, rc, e.text);
	if (rc != 0)
		assert_non_null(strstr(e.text, "127.0.0.1"));
}

static void call(struct harness *h, const char *method, const char *path, const char *body, int want_rc,
		 struct http_response *out)
{
	call_within(h, 60000, method, path, body, want_rc, out);
}

static void test_rest_calls(void **state)
{
	struct harness *h = *state;
	struct http_response r;
	call(h, "POST", "/echo", "{1}", 0, &r);
	assert_int_equal(r.status, 200);
	assert_string_equal(json_string_value(json_object_get(r.json, "method")), "POST");
	assert_string_equal(json_string_value(json_object_get(r.json, "body")), "{1}");
	assert_true(json_is_true(json_object_get(r.json, "auth")));
	http_response_free(&r);
	call(h, "POST", "/echo", NULL, 0, &r);
	assert_true(json_is_true(json_object_get(r.json, "sized")));
	http_response_free(&r);
	call(h, "DELETE", "/echo", NULL, 0, &r);
	assert_string_equal(json_string_value(json_object_get(r.json, "method")), "DELETE");
	http_response_free(&r);
	call(h, "GET", "/problem", NULL, 0, &r);
	assert_int_equal(r.status, 403);
	assert_string_equal(r.code, "forbidden");
	assert_string_equal(r.detail, "no statement allows it");
	http_response_free(&r);
	call(h, "GET", "/busy", NULL, 0, &r);
	assert_int_equal(r.retry_after_ms, 7000);
	assert_string_equal(r.body, "later");
	assert_null(r.json);
	assert_string_equal(r.detail, "HTTP status 503");
	http_response_free(&r);
	call(h, "GET", "/redirect", NULL, 0, &r);
	assert_int_equal(r.status, 302);
	http_response_free(&r);
	call(h, "GET", "/broken", NULL, 0, &r);
	assert_null(r.json);
	http_response_free(&r);
	call(h, "GET", "/huge", NULL, ERR_LIMIT, &r);
	call_within(h, 1000, "GET", "/slow", NULL, ERR_TIMEOUT, &r);
}

static void test_rest_calls_that_get_no_answer(void **state)
{
	struct harness *h = *state;
	struct http_response r;
	struct err e;
	char url[100], ca[100];
	snprintf(url, sizeof url, "https://127.0.0.1:%u/", h->ports[PORT_DEAD]);
	struct http_request q = { .method = "GET", .url = url, .proxy = "" };
	assert_int_equal(http_call_blocking(&q, &r, &e), ERR_UNAVAILABLE);
	snprintf(url, sizeof url, "https://localhost:%u/", h->ports[PORT_ELSEWHERE]);
	assert_int_equal(http_call_blocking(&q, &r, &e), ERR_DENIED);
	snprintf(ca, sizeof ca, "%s/other.pem", h->folder);
	q.ca_file = ca;
	assert_int_equal(http_call_blocking(&q, &r, &e), ERR_DENIED);
	snprintf(ca, sizeof ca, "%s/good.pem", h->folder);
	snprintf(url, sizeof url, "https://localhost:%u/refuse/404", h->ports[PORT_TLS]);
	assert_int_equal(http_call_blocking(&q, &r, &e), 0); /* a WebSocket server answers 4xx */
	assert_in_range(r.status, 400, 499);
	http_response_free(&r);
	q.url = "file:///etc/passwd";
	assert_int_equal(http_call_blocking(&q, &r, &e), ERR_INVALID);
	static const char *const evil[] = { "X: a\r\nY: b", NULL };
	q.url = url;
	q.headers = evil;
	assert_int_equal(http_call_blocking(&q, &r, &e), ERR_INVALID);
}

int main(int argc, char **argv)
{
	/* clang-format off */
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_nobody_listens, harness_setup, harness_teardown),
		cmocka_unit_test_setup_teardown(test_unknown_host, harness_setup, harness_teardown),
		cmocka_unit_test_setup_teardown(test_black_hole_times_out, harness_setup, harness_teardown),
		cmocka_unit_test_setup_teardown(test_a_dial_that_nobody_answers_ends, harness_setup, harness_teardown),
		cmocka_unit_test_setup_teardown(test_second_address_wins_over_a_black_hole, harness_setup, harness_teardown),
		cmocka_unit_test_setup_teardown(test_refusal_starts_the_next_address_at_once, harness_setup, harness_teardown),
		cmocka_unit_test_setup_teardown(test_through_a_proxy, harness_setup, harness_teardown),
		cmocka_unit_test_setup_teardown(test_through_a_proxy_that_answers_in_pieces, harness_setup, harness_teardown),
		cmocka_unit_test_setup_teardown(test_proxy_of_the_environment, harness_setup, harness_teardown),
		cmocka_unit_test_setup_teardown(test_proxy_that_fails, harness_setup, harness_teardown),
		cmocka_unit_test_setup_teardown(test_silence_is_noticed, harness_setup, harness_teardown),
		cmocka_unit_test_setup_teardown(test_pings_keep_a_quiet_connection, harness_setup, harness_teardown),
		cmocka_unit_test_setup_teardown(test_probe_finds_a_dead_peer, harness_setup, harness_teardown),
		cmocka_unit_test_setup_teardown(test_a_pause_holds_back_everything, harness_setup, harness_teardown),
		cmocka_unit_test_setup_teardown(test_a_deaf_server_fills_the_queue_only, harness_setup, harness_teardown),
		cmocka_unit_test_setup_teardown(test_rest_calls, harness_setup, harness_teardown),
		cmocka_unit_test_setup_teardown(test_rest_calls_that_get_no_answer, harness_setup, harness_teardown),
	};
	/* clang-format on */
	return RUN_CASES(tests);
}
