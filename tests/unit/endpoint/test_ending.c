/* How an end leaves: with and without a leg, ended and only detached; and what the relay says of an end to come. */
#include "harness.h"

static void go_down(struct harness *h)
{
	harness_tell(h, "answer 503");
	harness_tell(h, "down");
	HARNESS_UNTIL(h, !h->client.up && !h->target.up);
}

static void test_ending_while_away_tells_a_server(void **state)
{
	struct harness *h = *state;
	harness_start_both(h);
	go_down(h);
	endpoint_end(h->client.ep, LINK_OK, "enough");
	endpoint_end(h->client.ep, LINK_OK, "again");
	assert_false(h->client.over);
	HARNESS_UNTIL(h, h->client.over);
	assert_string_equal(h->client.end.text, "enough");
	assert_int_equal(harness_stat(h, "deletes"), 1);
	endpoint_end(h->target.ep, LINK_OK, "me too");
	HARNESS_UNTIL(h, h->target.over);
	assert_int_equal(harness_stat(h, "deletes"), 1); /* only the client's end ends the session */
}

static void test_ending_before_the_first_leg_tells_a_server(void **state)
{
	struct harness *h = *state;
	harness_start(h, &h->client, LINK_CLIENT, h->url_a);
	endpoint_end(h->client.ep, LINK_OK, "never mind");
	HARNESS_UNTIL(h, h->client.over);
	assert_int_equal(harness_stat(h, "deletes"), 1);
	assert_int_equal(harness_stat(h, "legs"), 0);
}

static void test_ending_unpaired_tells_the_relay(void **state)
{
	struct harness *h = *state;
	harness_start(h, &h->client, LINK_CLIENT, h->url_a);
	HARNESS_UNTIL(h, harness_stat(h, "legs") == 1);
	for (int i = 0; i < 10; i++) /* "attached" is read */
		harness_turn(h);
	endpoint_end(h->client.ep, LINK_OK, "nobody came");
	HARNESS_UNTIL(h, h->client.over);
	HARNESS_UNTIL(h, harness_stat(h, "bye") == 1000);
}

static void test_ending_in_a_black_hole_tells_a_server(void **state)
{
	struct harness *h = *state;
	harness_start_both(h);
	harness_tell(h, "hole client");
	endpoint_end(h->client.ep, LINK_OK, "enough");
	HARNESS_UNTIL(h, h->client.over);
	assert_int_equal(harness_stat(h, "deletes"), 1);
}

static void test_a_server_that_never_answers_holds_no_end(void **state)
{
	struct harness *h = *state;
	harness_start_both(h);
	harness_tell(h, "delete 0");
	go_down(h);
	endpoint_end(h->client.ep, LINK_OK, "enough");
	HARNESS_UNTIL(h, h->client.over); /* 2 s, not until somebody answers */
	assert_int_equal(h->client.end.link_code, LINK_OK);
}

static void test_ending_and_freed_at_once(void **state)
{
	struct harness *h = *state;
	for (int away = 0; away < 2; away++) {
		memset(&h->client, 0, sizeof h->client);
		memset(&h->target, 0, sizeof h->target);
		harness_start_both(h);
		if (away)
			go_down(h);
		endpoint_end(h->client.ep, LINK_OK, "enough");
		endpoint_free(&h->client.ep);
		endpoint_free(&h->target.ep);
		for (int i = 0; i < 5; i++)
			harness_turn(h);
		assert_int_equal(h->client.overs, 0);
	}
}

static void test_detach_leaves_the_session_to_its_grace(void **state)
{
	struct harness *h = *state;
	struct app app;
	harness_start_both(h);
	uint32_t id = harness_open_app(h, &app, 1u << 30, 1);
	HARNESS_UNTIL(h, h->target.asked == 1);
	endpoint_detach(h->client.ep);
	endpoint_detach(h->client.ep);
	assert_false(h->client.over);
	HARNESS_UNTIL(h, h->client.over && !h->target.up);
	assert_int_equal(h->client.end.close_code, 0);
	assert_int_equal(h->client.end.link_code, LINK_OK);
	assert_string_equal(h->client.end.text, "detached");
	assert_true(h->client.streams[id].done);
	assert_false(h->target.over);
	HARNESS_UNTIL(h, harness_stat(h, "bye") == 1001);
	assert_int_equal(harness_stat(h, "deletes"), 0);
	pthread_join(app.thread, NULL);
}

static void test_detach_while_away(void **state)
{
	struct harness *h = *state;
	harness_start_both(h);
	go_down(h);
	endpoint_detach(h->client.ep);
	HARNESS_UNTIL(h, h->client.over);
	assert_string_equal(h->client.end.text, "detached");
	assert_int_equal(harness_stat(h, "deletes"), 0);
	assert_false(h->target.over);
}

static void test_notices_are_told(void **state)
{
	struct harness *h = *state;
	harness_start_both(h);
	harness_tell(h, "say client {\"type\":\"notice\",\"code\":4005,\"at_ms\":1767225600123,\"reason\":\"idle\"}");
	HARNESS_UNTIL(h, h->client.notices == 1);
	assert_int_equal(h->client.notice_code, 4005);
	assert_int_equal(h->client.notice_at, 1767225600123);
	assert_string_equal(h->client.notice_reason, "idle");
	assert_int_equal(h->client.losts, 0);
	harness_tell(h, "say client {\"type\":\"notice\",\"code\":4005}");
	HARNESS_UNTIL(h, h->client.ups == 2); /* malformed: it costs the leg */
	assert_int_equal(h->client.notices, 1);
}

int main(int argc, char **argv)
{
	/* clang-format off */
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_ending_while_away_tells_a_server, harness_setup, harness_teardown),
		cmocka_unit_test_setup_teardown(test_ending_before_the_first_leg_tells_a_server, harness_setup, harness_teardown),
		cmocka_unit_test_setup_teardown(test_ending_unpaired_tells_the_relay, harness_setup, harness_teardown),
		cmocka_unit_test_setup_teardown(test_ending_in_a_black_hole_tells_a_server, harness_setup, harness_teardown),
		cmocka_unit_test_setup_teardown(test_a_server_that_never_answers_holds_no_end, harness_setup, harness_teardown),
		cmocka_unit_test_setup_teardown(test_ending_and_freed_at_once, harness_setup, harness_teardown),
		cmocka_unit_test_setup_teardown(test_detach_leaves_the_session_to_its_grace, harness_setup, harness_teardown),
		cmocka_unit_test_setup_teardown(test_detach_while_away, harness_setup, harness_teardown),
		cmocka_unit_test_setup_teardown(test_notices_are_told, harness_setup, harness_teardown),
	};
	/* clang-format on */
	return RUN_CASES(tests);
}
