/* The timers of PROTOCOL.md 4.4, in made-up time. */
#include "link/internal.h"
#include "support/case.h"
#include "wire.h"

static void pass(struct wire *w, int64_t ms)
{
	w->now += ms;
	link_tick(w->end[0], w->now);
	link_tick(w->end[1], w->now);
}

/* Takes an end's output away, as a dead leg does. */
static size_t swallow(struct wire *w, enum link_role role)
{
	static uint8_t bytes[65536];
	return link_output(w->end[role], bytes, sizeof(bytes), w->now);
}

static void test_idle_ping_after_15_s(void **state)
{
	(void)state;
	struct wire w;
	wire_up(&w, NULL);
	assert_int_equal(link_deadline(w.end[0]), w.now + 15000);
	pass(&w, 14999);
	assert_false(link_has_output(w.end[0]));
	pass(&w, 1);
	assert_true(link_has_output(w.end[0]));
	wire_run(&w);
	struct link_stats stats;
	link_get_stats(w.end[0], &stats);
	assert_int_equal(stats.rtt_ms, 0);
	wire_expect_none(&w, LINK_CLIENT);
	assert_int_equal(link_deadline(w.end[0]), w.now + 15000);
	wire_free(&w);
}

static void test_idle_and_dead_after_30_s(void **state)
{
	(void)state;
	struct wire w;
	wire_up(&w, NULL);
	pass(&w, 15000);
	assert_true(swallow(&w, LINK_CLIENT) > 0);
	pass(&w, 14999);
	wire_expect_none(&w, LINK_CLIENT);
	pass(&w, 1);
	wire_expect(&w, LINK_CLIENT, LINK_EVENT_STALLED);
	pass(&w, 60000);
	wire_expect_none(&w, LINK_CLIENT); /* once an epoch */
	wire_free(&w);
}

static void test_busy_ping_after_1_s_dead_after_3_s(void **state)
{
	(void)state;
	struct wire w;
	wire_up(&w, NULL);
	uint32_t id = wire_stream(&w);
	pass(&w, 10000); /* idle until then: the clock starts with the byte */
	wire_write(&w, LINK_CLIENT, id, "x");
	assert_true(swallow(&w, LINK_CLIENT) > 0);
	assert_int_equal(link_deadline(w.end[0]), w.now + 1000);
	pass(&w, 1000);
	assert_true(swallow(&w, LINK_CLIENT) > 0);
	assert_int_equal(link_deadline(w.end[0]), w.now + 2000);
	pass(&w, 1999);
	wire_expect_none(&w, LINK_CLIENT);
	pass(&w, 1);
	wire_expect(&w, LINK_CLIENT, LINK_EVENT_STALLED);
	wire_free(&w);
}

/* The reader's socket is stuck: bytes stay unacknowledged, but the link lives, as the PONGs say. */
static void test_slow_reader_is_not_a_dead_link(void **state)
{
	(void)state;
	struct wire w;
	wire_up(&w, NULL);
	uint32_t id = wire_stream(&w);
	wire_write(&w, LINK_CLIENT, id, "x");
	wire_run(&w);
	wire_expect(&w, LINK_TARGET, LINK_EVENT_READABLE);
	for (int i = 0; i < 600; i++) {
		pass(&w, 100);
		wire_run(&w);
	}
	wire_expect_none(&w, LINK_CLIENT);
	wire_expect_none(&w, LINK_TARGET);
	wire_free(&w);
}

static void test_open_without_answer_is_outstanding(void **state)
{
	(void)state;
	struct wire w;
	wire_up(&w, NULL);
	uint32_t id;
	link_stream_open(w.end[0], &(struct link_dest){ .kind = LINK_KIND_SSH }, &id, NULL);
	assert_true(swallow(&w, LINK_CLIENT) > 0);
	pass(&w, 1000);
	swallow(&w, LINK_CLIENT);
	pass(&w, 2000);
	wire_expect(&w, LINK_CLIENT, LINK_EVENT_STALLED);
	wire_free(&w);
}

static void test_handshake_that_does_not_end(void **state)
{
	(void)state;
	struct wire w;
	wire_init(&w, NULL);
	assert_true(link_deadline(w.end[0]) == INT64_MAX);
	wire_start(&w);
	assert_int_equal(link_deadline(w.end[0]), w.now + 10000);
	pass(&w, 10000);
	wire_expect(&w, LINK_CLIENT, LINK_EVENT_STALLED);
	wire_expect(&w, LINK_TARGET, LINK_EVENT_STALLED);
	wire_start(&w);
	wire_run(&w);
	wire_expect(&w, LINK_CLIENT, LINK_EVENT_UP);
	wire_free(&w);
}

static void test_round_trip_time(void **state)
{
	(void)state;
	struct wire w;
	wire_up(&w, NULL);
	pass(&w, 15000);
	static uint8_t bytes[4096];
	size_t n = link_output(w.end[0], bytes, sizeof(bytes), w.now);
	w.now += 70;
	link_input(w.end[1], bytes, n, w.now, NULL);
	wire_run(&w);
	struct link_stats stats;
	link_get_stats(w.end[0], &stats);
	assert_int_equal(stats.rtt_ms, 70);
	wire_free(&w);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_idle_ping_after_15_s),
		cmocka_unit_test(test_idle_and_dead_after_30_s),
		cmocka_unit_test(test_busy_ping_after_1_s_dead_after_3_s),
		cmocka_unit_test(test_slow_reader_is_not_a_dead_link),
		cmocka_unit_test(test_open_without_answer_is_outstanding),
		cmocka_unit_test(test_handshake_that_does_not_end),
		cmocka_unit_test(test_round_trip_time),
	};
	return RUN_CASES(tests);
}
