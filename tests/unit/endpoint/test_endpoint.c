/* Sessions through cuts, moves and ends. */
#include "harness.h"

#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

static void expect_clean_close(struct harness *h, uint32_t id, uint64_t total)
{
	HARNESS_UNTIL(h, h->client.streams[id].done && h->target.streams[id].done);
	assert_int_equal(h->client.streams[id].code, LINK_OK);
	assert_int_equal(h->target.streams[id].code, LINK_OK);
	assert_int_equal(h->client.streams[id].in, total);
	assert_int_equal(h->client.streams[id].out, total);
	assert_int_equal(h->target.streams[id].in, total);
	assert_int_equal(h->target.streams[id].out, total);
}

static void test_streams_both_ways_and_a_clean_end(void **state)
{
	struct harness *h = *state;
	struct app app[3];
	uint32_t id[3];
	harness_start_both(h);
	assert_int_equal(h->client.outage_ms, 0);
	for (unsigned i = 0; i < 3; i++)
		id[i] = harness_open_app(h, &app[i], i * 3000000, i);
	for (unsigned i = 0; i < 3; i++) {
		HARNESS_UNTIL(h, app[i].done);
		app_join(&app[i]);
		expect_clean_close(h, id[i], i * 3000000);
	}
	endpoint_end(h->client.ep, LINK_OK, "done");
	assert_false(h->client.over);
	HARNESS_UNTIL(h, h->client.over && h->target.over);
	assert_int_equal(h->client.end.close_code, 0);
	assert_int_equal(h->client.end.link_code, LINK_OK);
	assert_int_equal(h->target.end.link_code, LINK_OK);
	assert_string_equal(h->target.end.text, "done");
	assert_int_equal(h->client.losts + h->target.losts, 0);
	HARNESS_UNTIL(h, harness_stat(h, "bye") == 1000); /* the relay counts it after it has answered */
	assert_int_equal(endpoint_get_state(h->client.ep), ENDPOINT_OVER);
}

static uint64_t moved(const struct harness *h)
{
	struct link_stats s;
	endpoint_get_stats(h->client.ep, &s);
	return s.bytes_in + s.bytes_out;
}

/* Where the relay pairs anew before it has seen the old leg go, nobody is told of a loss: epochs count, not states. */
static uint64_t epochs(const struct harness *h)
{
	struct link_stats s;
	endpoint_get_stats(h->client.ep, &s);
	return s.epochs;
}

/* Cuts after every so many bytes, in turn the client's, the target's and both legs. */
static void test_equal_bytes_through_many_cuts(void **state)
{
	static const char *const who[] = { "client", "target", "both" };
	enum { APPS = 4, TOTAL = 4000000, CUTS = 12 };
	struct harness *h = *state;
	struct app app[APPS];
	uint32_t id[APPS];
	harness_start_both(h);
	for (unsigned i = 0; i < APPS; i++)
		id[i] = harness_open_app(h, &app[i], TOTAL, i * 77);
	for (unsigned i = 0; i < CUTS; i++) {
		uint64_t mark = (i + 1) * 2 * APPS * (uint64_t)TOTAL / (CUTS + 4);
		HARNESS_UNTIL(h, moved(h) >= mark);
		uint64_t before = epochs(h);
		harness_tell(h, "cut %s", who[i % 3]);
		HARNESS_UNTIL(h, epochs(h) > before);
	}
	for (unsigned i = 0; i < APPS; i++) {
		HARNESS_UNTIL(h, app[i].done);
		app_join(&app[i]);
		expect_clean_close(h, id[i], TOTAL);
	}
	assert_true(h->client.losts >= CUTS / 3);
	assert_int_equal(h->client.ups, h->client.losts + 1);
}

static void test_a_black_hole_is_left(void **state)
{
	struct harness *h = *state;
	struct app app;
	harness_start_both(h);
	uint32_t id = harness_open_app(h, &app, 8000000, 1);
	HARNESS_UNTIL(h, moved(h) > 1000000);
	harness_tell(h, "hole both");
	int64_t from = clock_mono_ms();
	HARNESS_UNTIL(h, h->client.losts == 1);
	assert_string_equal(h->client.lost, "the other end does not answer");
	HARNESS_UNTIL(h, h->client.up && h->client.ups == 2);
	assert_true(clock_mono_ms() - from >= 2000);
	HARNESS_UNTIL(h, app.done);
	app_join(&app);
	expect_clean_close(h, id, 8000000);
}

static void test_network_change_makes_before_it_breaks(void **state)
{
	struct harness *h = *state;
	struct app app;
	harness_start_both(h);
	uint32_t id = harness_open_app(h, &app, 6000000, 1);
	for (unsigned i = 1; i <= 3; i++) {
		HARNESS_UNTIL(h, moved(h) > i * 1000000);
		unsigned legs = harness_stat(h, "legs");
		endpoint_network_changed(h->client.ep);
		endpoint_network_changed(h->client.ep); /* two in a row are one */
		HARNESS_UNTIL(h, harness_stat(h, "legs") > legs);
	}
	HARNESS_UNTIL(h, app.done);
	app_join(&app);
	expect_clean_close(h, id, 6000000);
	assert_int_equal(h->client.losts, 0);
	assert_int_equal(h->client.ups, 1);
	assert_true(harness_stat(h, "most") >= 2);
}

/* The newer leg took the older one's place and was lost; the word of it comes late. */
static void test_replaced_by_a_leg_that_was_lost(void **state)
{
	struct harness *h = *state;
	struct app app;
	harness_start_both(h);
	uint32_t id = harness_open_app(h, &app, 2000000, 1);
	harness_tell(h, "answer 503");
	harness_tell(h, "refuse 1000 503");
	endpoint_network_changed(h->client.ep);
	HARNESS_UNTIL(h, harness_stat(h, "attaches") > 0);
	harness_tell(h, "close client 4001");
	HARNESS_UNTIL(h, h->client.losts == 1 || h->client.over);
	assert_false(h->client.over);
	harness_tell(h, "refuse 0 503");
	harness_tell(h, "answer 200 A");
	HARNESS_UNTIL(h, h->client.ups == 2);
	HARNESS_UNTIL(h, app.done);
	app_join(&app);
	expect_clean_close(h, id, 2000000);
}

static void test_final_codes_end_it(void **state)
{
	static const unsigned codes[] = { 1000, 4000, 4001, 4003, 4004, 4005, 4006,
					  4007, 4008, 4011, 4013, 4401, 4403, 4404 };
	struct harness *h = *state;
	for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++) {
		struct app app;
		memset(&h->client, 0, sizeof h->client);
		memset(&h->target, 0, sizeof h->target);
		harness_start_both(h);
		uint32_t id = harness_open_app(h, &app, 1u << 30, 1);
		HARNESS_UNTIL(h, moved(h) > 100000);
		harness_tell(h, "close both %u", codes[i]);
		HARNESS_UNTIL(h, h->client.over && h->target.over);
		assert_int_equal(h->client.end.close_code, codes[i]);
		assert_int_equal(h->client.end.link_code, 0);
		assert_string_equal(h->client.end.text, "the test closes");
		assert_true(h->client.streams[id].done);
		assert_int_equal(h->client.streams[id].code, LINK_TERMINATED);
		pthread_join(app.thread, NULL);
		endpoint_free(&h->client.ep);
		endpoint_free(&h->target.ep);
	}
}

static void test_other_codes_are_tried_again(void **state)
{
	static const unsigned codes[] = { 1001, 1011, 4002, 4009, 4010, 4012, 4402, 4503, 4999 };
	struct harness *h = *state;
	struct app app;
	harness_start_both(h);
	uint32_t id = harness_open_app(h, &app, 4000000, 1);
	for (unsigned i = 0; i < sizeof codes / sizeof codes[0]; i++) {
		uint64_t before = epochs(h);
		harness_tell(h, "close %s %u", i % 2 ? "client" : "target", codes[i]);
		HARNESS_UNTIL(h, epochs(h) > before);
	}
	HARNESS_UNTIL(h, app.done);
	app_join(&app);
	expect_clean_close(h, id, 4000000);
}

static void test_moves_where_the_relay_says(void **state)
{
	struct harness *h = *state;
	harness_start_both(h);
	harness_tell(h, "answer 503");
	harness_tell(h, "close both 4009 B");
	HARNESS_UNTIL(h, h->client.ups == 2 && h->target.ups == 2);
	harness_tell(h, "down"); /* A is not used any more */
	struct app app;
	uint32_t id = harness_open_app(h, &app, 100000, 1);
	HARNESS_UNTIL(h, app.done);
	app_join(&app);
	expect_clean_close(h, id, 100000);
	assert_int_equal(h->client.losts, 1);
}

static void test_moved_without_an_address_asks_a_server(void **state)
{
	struct harness *h = *state;
	harness_start_both(h);
	harness_tell(h, "answer 200 B");
	harness_tell(h, "close both 4009");
	HARNESS_UNTIL(h, h->client.ups == 2 && h->target.ups == 2);
	assert_true(harness_stat(h, "attaches") >= 2); /* a slow try is asked about again */
}

static void test_no_move_from_tls_to_plain_text(void **state)
{
	struct harness *h = *state;
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof a;
	int trap = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	assert_int_equal(bind(trap, (struct sockaddr *)&a, len), 0);
	assert_int_equal(listen(trap, 8), 0);
	getsockname(trap, (struct sockaddr *)&a, &len);
	harness_start_both(h);
	harness_tell(h, "close both 4009 http://localhost:%u", ntohs(a.sin_port));
	HARNESS_UNTIL(h, (accept(trap, NULL, NULL) >= 0) || (h->client.ups == 2 && h->target.ups == 2));
	assert_int_equal(h->client.ups, 2); /* not one connection to where the token could be read */
	assert_int_equal(accept(trap, NULL, NULL), -1);
	assert_true(harness_stat(h, "attaches") >= 2); /* a slow try is asked about again */
	close(trap);
}

static void test_a_dead_relay_is_replaced(void **state)
{
	struct harness *h = *state;
	struct app app;
	harness_start_both(h);
	uint32_t id = harness_open_app(h, &app, 6000000, 1);
	HARNESS_UNTIL(h, moved(h) > 1000000);
	harness_tell(h, "answer 200 B");
	harness_tell(h, "down");
	HARNESS_UNTIL(h, app.done);
	app_join(&app);
	expect_clean_close(h, id, 6000000);
	assert_true(harness_stat(h, "attaches") >= 2);
}

static void test_a_restarted_relay_is_found_again(void **state)
{
	struct harness *h = *state;
	struct app app;
	harness_start_both(h);
	harness_tell(h, "answer 503");
	harness_tell(h, "down");
	uint32_t id = harness_open_app(h, &app, 300000, 1); /* while it is away */
	HARNESS_UNTIL(h, harness_stat(h, "attaches") >= 3);
	harness_tell(h, "up");
	harness_tell(h, "answer 200 A");
	HARNESS_UNTIL(h, h->client.ups == 2 && h->target.ups == 2);
	assert_true(h->client.outage_ms > 0);
	HARNESS_UNTIL(h, app.done);
	app_join(&app);
	expect_clean_close(h, id, 300000);
}

static void test_a_refusal_to_attach_is_final(void **state)
{
	static const int statuses[] = { 401, 403, 404, 410 };
	struct harness *h = *state;
	for (size_t i = 0; i < 4; i++) {
		memset(&h->client, 0, sizeof h->client);
		harness_tell(h, "refuse 1 502");
		harness_tell(h, "answer %d", statuses[i]);
		harness_start(h, &h->client, LINK_CLIENT, h->url_a);
		HARNESS_UNTIL(h, h->client.over);
		assert_int_equal(h->client.end.http_status, statuses[i]);
		assert_int_equal(h->client.end.close_code, 0);
		assert_non_null(strstr(h->client.end.text, "the test says"));
		assert_non_null(strstr(h->client.trouble, "HTTP 502"));
		endpoint_free(&h->client.ep);
	}
}

/* How a session ended is the same over HTTP and over a leg; a code that is no end's says nothing. */
static void test_an_end_that_a_server_tells(void **state)
{
	static const struct {
		int told;
		unsigned close_code;
	} rows[] = { { 4007, 4007 }, { 4001, 4001 }, { 4002, 0 }, { 7, 0 }, { -4007, 0 } };
	struct harness *h = *state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		memset(&h->client, 0, sizeof h->client);
		harness_tell(h, "refuse 1 502");
		harness_tell(h, "answer 410 %d", rows[i].told);
		harness_start(h, &h->client, LINK_CLIENT, h->url_a);
		HARNESS_UNTIL(h, h->client.over);
		assert_int_equal(h->client.end.close_code, rows[i].close_code);
		assert_int_equal(h->client.end.http_status, 410);
		assert_string_equal(h->client.end.text, "the test says 410");
		endpoint_free(&h->client.ep);
	}
}

static void test_refused_upgrades_without_servers(void **state)
{
	static const int statuses[] = { 401, 403, 404, 410, 503 };
	struct harness *h = *state;
	h->no_servers = true;
	for (unsigned i = 0; i < sizeof statuses / sizeof statuses[0]; i++) {
		memset(&h->client, 0, sizeof h->client);
		harness_tell(h, "refuse 3 %d", statuses[i]);
		harness_start(h, &h->client, LINK_CLIENT, h->url_a);
		HARNESS_UNTIL(h, harness_stat(h, "legs") == i + 1 || h->client.over);
		assert_false(h->client.over);
		endpoint_free(&h->client.ep);
	}
}

/* A load balancer has lost its way to the servers for a while, and says so in its own words. */
static void test_what_stands_in_front_ends_nothing(void **state)
{
	static const char *const answers[] = {
		"404 text/plain 404 page not found",
		"401 text/html <h1>Sign in</h1>",
		"403 application/json {\"code\":\"forbidden\",\"detail\":\"no route\"}",
		"410 application/problem+json {\"code\":\"route-gone\",\"end\":{\"code\":4003}}",
		"404 application/problem+json {\"code\":\"forbidden\"}",
		"200 text/html <h1>Accept the terms</h1>",
	};
	struct harness *h = *state;
	harness_start_both(h);
	for (size_t i = 0; i < sizeof answers / sizeof answers[0]; i++) {
		unsigned misled = harness_stat(h, "misled");
		harness_tell(h, "gateway %s", answers[i]);
		harness_tell(h, "cut both");
		HARNESS_UNTIL(h, harness_stat(h, "misled") >= misled + 8 || h->client.over || h->target.over);
		harness_tell(h, "gateway 0");
		HARNESS_UNTIL(h, (h->client.up && h->target.up) || h->client.over || h->target.over);
		assert_false(h->client.over || h->target.over);
	}
}

/* As after a long sleep, when one clock or the other is set right. */
static void test_a_clock_that_is_off_delays_only(void **state)
{
	static const int ahead_ms[] = { 300000, -7200000, 0 };
	struct harness *h = *state;
	harness_start_both(h);
	for (size_t i = 0; i < sizeof ahead_ms / sizeof ahead_ms[0]; i++) {
		unsigned dated = harness_stat(h, "dated"), ups = h->client.ups;
		harness_tell(h, "clock %d", ahead_ms[i]);
		harness_tell(h, "cut both");
		HARNESS_UNTIL(h, (h->client.ups > ups && h->client.up && h->target.up) || h->client.over);
		assert_false(h->client.over || h->target.over);
		assert_true(harness_stat(h, "dated") >= dated + 2); /* each end was told */
	}
}

static void test_a_server_tells_the_time(void **state)
{
	struct harness *h = *state;
	harness_tell(h, "clock 300000");
	harness_tell(h, "refuse 1000 502");
	harness_start(h, &h->client, LINK_CLIENT, h->url_a);
	HARNESS_UNTIL(h, h->client.over || harness_stat(h, "attaches") >= 3);
	assert_int_equal(harness_stat(h, "dated"), 1);
	harness_tell(h, "refuse 0 0");
	HARNESS_UNTIL(h, h->client.over || harness_stat(h, "legs") == 1);
	assert_int_equal(harness_stat(h, "dated"), 1);
	assert_false(h->client.over);
}

/* The session has a new client. What this one has left without an answer before is no leg of its own any more. */
static void test_superseded_after_an_upgrade_without_answer(void **state)
{
	struct harness *h = *state;
	harness_start_both(h);
	harness_tell(h, "swallow 1");
	harness_tell(h, "cut client");
	HARNESS_UNTIL(h, harness_stat(h, "swallowed") == 1 && h->client.ups == 2);
	harness_tell(h, "supersede client");
	HARNESS_UNTIL(h, h->client.over || harness_stat(h, "superseded") > 3);
	assert_true(h->client.over);
	assert_int_equal(h->client.end.close_code, 4001);
	assert_false(h->target.over);
}

static void test_superseded_while_another_leg_is_asked_for(void **state)
{
	struct harness *h = *state;
	harness_start_both(h);
	harness_tell(h, "slow 300");
	endpoint_network_changed(h->client.ep);
	HARNESS_UNTIL(h, harness_stat(h, "pending") == 1);
	harness_tell(h, "supersede client");
	HARNESS_UNTIL(h, h->client.over || harness_stat(h, "superseded") > 3);
	assert_true(h->client.over);
	assert_int_equal(h->client.end.close_code, 4001);
}

static void test_gives_up_in_time(void **state)
{
	struct harness *h = *state;
	h->give_up_ms = 400;
	int64_t from = clock_mono_ms();
	harness_start(h, &h->client, LINK_CLIENT, h->url_a);
	HARNESS_UNTIL(h, h->client.over); /* the other end never comes */
	assert_true(clock_mono_ms() - from >= 380);
	assert_int_equal(h->client.end.link_code, LINK_TIMEOUT);
	assert_int_equal(h->client.end.close_code, 0);
}

static void test_another_key_never_comes_up(void **state)
{
	struct harness *h = *state;
	EVP_PKEY *real = h->target_key;
	h->give_up_ms = 4000;
	harness_start(h, &h->client, LINK_CLIENT, h->url_a);
	h->target_key = key_generate(NULL); /* the client has the pin of the real one */
	harness_start(h, &h->target, LINK_TARGET, h->url_a);
	HARNESS_UNTIL(h, h->client.over);
	assert_int_equal(h->client.ups + h->target.ups, 0);
	assert_int_equal(h->client.end.link_code, LINK_TIMEOUT);
	assert_true(h->client.trouble[0]);
	EVP_PKEY_free(real);
}

static void test_malformed_relay_messages_cost_a_leg_only(void **state)
{
	static const char *const texts[] = {
		"nonsense",
		"[1]",
		"{\"type\":7}",
		"{\"type\":\"attached\"}",
		"{\"type\":\"paired\"}",
		"{\"type\":\"paired\",\"epoch\":0}",
		"{\"type\":\"paired\",\"epoch\":\"1\"}",
		"{\"type\":\"closing\",\"code\":1}",
	};
	struct harness *h = *state;
	harness_start_both(h);
	harness_tell(h, "say both {\"type\":\"unheard-of\"}");
	for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
		unsigned ups = h->client.ups;
		harness_tell(h, "say client %s", texts[i]);
		HARNESS_UNTIL(h, h->client.ups > ups && h->target.up);
	}
	assert_int_equal(h->client.ups, 1 + sizeof texts / sizeof texts[0]);
}

static void test_target_ends_it(void **state)
{
	struct harness *h = *state;
	struct app app;
	h->client.free_at = AT_OVER;
	harness_start_both(h);
	uint32_t id = harness_open_app(h, &app, 1u << 30, 1);
	HARNESS_UNTIL(h, moved(h) > 100000 && h->target.asked == 1);
	endpoint_end(h->target.ep, LINK_TERMINATED, "the agent stops");
	HARNESS_UNTIL(h, h->client.over && h->target.over);
	assert_null(h->client.ep);
	assert_int_equal(h->client.end.link_code, LINK_TERMINATED);
	assert_string_equal(h->client.end.text, "the agent stops");
	assert_int_equal(h->client.streams[id].code, LINK_TERMINATED);
	assert_int_equal(h->target.streams[id].code, LINK_TERMINATED);
	pthread_join(app.thread, NULL);
}

static void test_freed_at_any_moment(void **state)
{
	struct harness *h = *state;
	for (int turns = 0; turns < 40; turns++) {
		struct app app;
		memset(&h->client, 0, sizeof h->client);
		memset(&h->target, 0, sizeof h->target);
		harness_start(h, &h->client, LINK_CLIENT, h->url_a);
		harness_start(h, &h->target, LINK_TARGET, h->url_a);
		harness_open_app(h, &app, 1u << 30, 1);
		for (int i = 0; i < turns * 2; i++)
			uv_run(&h->loop, UV_RUN_ONCE);
		endpoint_free(&h->client.ep);
		endpoint_free(&h->target.ep);
		pthread_join(app.thread, NULL);
	}
}

static void test_configurations_are_checked(void **state)
{
	struct harness *h = *state;
	struct endpoint *ep = NULL;
	struct err e;
	const struct endpoint_callbacks none = { 0 };
	const char *servers[] = { "gopher://a", NULL }, *plain[] = { "https://a", "http://a", NULL };
	struct endpoint_config good = {
		.session = "s-1", .token = "t", .relay_url = h->url_a, .key = h->client_key, .tls = h->tls
	};
	struct endpoint_config bad = good;
	bad.session = "../x";
	assert_int_equal(endpoint_start(&h->loop, &bad, &none, NULL, &ep, &e), ERR_INVALID);
	bad = good;
	bad.token = "";
	assert_int_equal(endpoint_start(&h->loop, &bad, &none, NULL, &ep, &e), ERR_INVALID);
	bad = good;
	bad.relay_url = "nowhere";
	assert_int_equal(endpoint_start(&h->loop, &bad, &none, NULL, &ep, &e), ERR_INVALID);
	bad = good;
	bad.server_urls = servers;
	assert_int_equal(endpoint_start(&h->loop, &bad, &none, NULL, &ep, &e), ERR_INVALID);
	bad.server_urls = plain;
	assert_int_equal(endpoint_start(&h->loop, &bad, &none, NULL, &ep, &e), ERR_INVALID);
	assert_string_equal(e.text,
			    "server: URL \"http://a\": must start with https://, since credentials are sent there");
	bad = good;
	bad.relay_url = "ws://localhost";
	assert_int_equal(endpoint_start(&h->loop, &bad, &none, NULL, &ep, &e), ERR_INVALID);
	bad = good;
	bad.key = NULL;
	assert_int_equal(endpoint_start(&h->loop, &bad, &none, NULL, &ep, &e), ERR_INVALID);
	assert_null(ep);
}

int main(int argc, char **argv)
{
	/* clang-format off */
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_streams_both_ways_and_a_clean_end, harness_setup, harness_teardown),
		cmocka_unit_test_setup_teardown(test_equal_bytes_through_many_cuts, harness_setup, harness_teardown),
		cmocka_unit_test_setup_teardown(test_a_black_hole_is_left, harness_setup, harness_teardown),
		cmocka_unit_test_setup_teardown(test_network_change_makes_before_it_breaks, harness_setup, harness_teardown),
		cmocka_unit_test_setup_teardown(test_replaced_by_a_leg_that_was_lost, harness_setup, harness_teardown),
		cmocka_unit_test_setup_teardown(test_final_codes_end_it, harness_setup, harness_teardown),
		cmocka_unit_test_setup_teardown(test_other_codes_are_tried_again, harness_setup, harness_teardown),
		cmocka_unit_test_setup_teardown(test_moves_where_the_relay_says, harness_setup, harness_teardown),
		cmocka_unit_test_setup_teardown(test_moved_without_an_address_asks_a_server, harness_setup, harness_teardown),
		cmocka_unit_test_setup_teardown(test_no_move_from_tls_to_plain_text, harness_setup, harness_teardown),
		cmocka_unit_test_setup_teardown(test_a_dead_relay_is_replaced, harness_setup, harness_teardown),
		cmocka_unit_test_setup_teardown(test_a_restarted_relay_is_found_again, harness_setup, harness_teardown),
		cmocka_unit_test_setup_teardown(test_a_refusal_to_attach_is_final, harness_setup, harness_teardown),
		cmocka_unit_test_setup_teardown(test_an_end_that_a_server_tells, harness_setup, harness_teardown),
		cmocka_unit_test_setup_teardown(test_refused_upgrades_without_servers, harness_setup, harness_teardown),
		cmocka_unit_test_setup_teardown(test_what_stands_in_front_ends_nothing, harness_setup, harness_teardown),
		cmocka_unit_test_setup_teardown(test_a_clock_that_is_off_delays_only, harness_setup, harness_teardown),
		cmocka_unit_test_setup_teardown(test_a_server_tells_the_time, harness_setup, harness_teardown),
		cmocka_unit_test_setup_teardown(test_superseded_after_an_upgrade_without_answer, harness_setup, harness_teardown),
		cmocka_unit_test_setup_teardown(test_superseded_while_another_leg_is_asked_for, harness_setup, harness_teardown),
		cmocka_unit_test_setup_teardown(test_gives_up_in_time, harness_setup, harness_teardown),
		cmocka_unit_test_setup_teardown(test_another_key_never_comes_up, harness_setup, harness_teardown),
		cmocka_unit_test_setup_teardown(test_malformed_relay_messages_cost_a_leg_only, harness_setup, harness_teardown),
		cmocka_unit_test_setup_teardown(test_target_ends_it, harness_setup, harness_teardown),
		cmocka_unit_test_setup_teardown(test_freed_at_any_moment, harness_setup, harness_teardown),
		cmocka_unit_test_setup_teardown(test_configurations_are_checked, harness_setup, harness_teardown),
	};
	/* clang-format on */
	return RUN_CASES(tests);
}
