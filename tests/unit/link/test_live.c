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

static void test_idle_ping_after_10_s(void **state)
{
	(void)state;
	struct wire w;
	wire_up(&w, NULL);
	assert_int_equal(link_deadline(w.end[0]), w.now + 10000);
	pass(&w, 9999);
	assert_false(link_has_output(w.end[0]));
	pass(&w, 1);
	assert_true(link_has_output(w.end[0]));
	wire_run(&w);
	struct link_stats stats;
	link_get_stats(w.end[0], &stats);
	assert_int_equal(stats.rtt_ms, 0);
	wire_expect_none(&w, LINK_CLIENT);
	assert_int_equal(link_deadline(w.end[0]), w.now + 10000);
	wire_free(&w);
}

static void test_idle_and_dead_after_13_s(void **state)
{
	(void)state;
	struct wire w;
	wire_up(&w, NULL);
	pass(&w, 10000);
	assert_true(swallow(&w, LINK_CLIENT) > 0);
	for (int i = 0; i < 2; i++) { /* the PING is outstanding: another each second */
		assert_int_equal(link_deadline(w.end[0]), w.now + 1000);
		pass(&w, 1000);
		assert_true(swallow(&w, LINK_CLIENT) > 0);
	}
	pass(&w, 999);
	wire_expect_none(&w, LINK_CLIENT);
	pass(&w, 1);
	wire_expect(&w, LINK_CLIENT, LINK_EVENT_STALLED);
	pass(&w, 60000);
	wire_expect_none(&w, LINK_CLIENT); /* once an epoch */
	wire_free(&w);
}

/* Three PINGs are on a slow way; what is heard meanwhile and the late answers keep the epoch. */
static void test_late_pongs(void **state)
{
	(void)state;
	struct wire w;
	wire_up(&w, NULL);
	static uint8_t pings[4096], bytes[4096];
	size_t n = 0;
	pass(&w, 10000);
	for (int i = 0; i < 3; i++) {
		n += link_output(w.end[0], pings + n, sizeof(pings) - n, w.now);
		pass(&w, i < 2 ? 1000 : 990);
	}
	wire_expect_none(&w, LINK_CLIENT);
	assert_int_equal(w.end[0]->ping_number, w.end[0]->ping_answered + 3);
	/* the first is answered alone, the two others by one PONG */
	size_t first = n / 3;
	assert_int_equal(link_input(w.end[1], pings, first, w.now, NULL), 0);
	size_t len = link_output(w.end[1], bytes, sizeof(bytes), w.now);
	assert_int_equal(link_input(w.end[0], bytes, len, w.now, NULL), 0);
	assert_int_equal(w.end[0]->ping_number, w.end[0]->ping_answered + 2);
	assert_int_equal(w.end[0]->rtt_ms, 2990);
	assert_int_equal(link_input(w.end[1], pings + first, n - first, w.now, NULL), 0);
	wire_run(&w);
	assert_int_equal(w.end[0]->ping_number, w.end[0]->ping_answered);
	assert_int_equal(link_deadline(w.end[0]), w.now + 10000);
	pass(&w, 3000);
	wire_expect_none(&w, LINK_CLIENT);
	wire_free(&w);
}

/* A tombstone is confirmed by a PING behind its last word, not by an earlier one that is answered late. */
static void test_tombstone_waits_for_its_own_ping(void **state)
{
	(void)state;
	struct wire w;
	wire_up(&w, NULL);
	uint32_t id = wire_stream(&w);
	static uint8_t first[4096], second[4096], bytes[4096];
	pass(&w, 10000);
	size_t n_first = link_output(w.end[0], first, sizeof(first), w.now);
	link_stream_reset(w.end[0], id, LINK_IO, NULL);
	pass(&w, 1000);
	size_t n_second = link_output(w.end[0], second, sizeof(second), w.now);
	assert_int_equal(w.end[0]->ping_number, w.end[0]->ping_answered + 2);
	link_input(w.end[1], first, n_first, w.now, NULL);
	size_t n = link_output(w.end[1], bytes, sizeof(bytes), w.now);
	assert_int_equal(link_input(w.end[0], bytes, n, w.now, NULL), 0);
	assert_int_equal(w.end[0]->n_streams, 1);
	link_input(w.end[1], second, n_second, w.now, NULL);
	wire_run(&w);
	assert_int_equal(w.end[0]->n_streams, 0);
	wire_free(&w);
}

/* The byte waits in vain for an answer; returns how long the link takes to say so. */
static int64_t time_to_stall(struct wire *w, uint32_t id)
{
	wire_write(w, LINK_CLIENT, id, "x");
	int64_t from = w->now;
	struct link_event ev;
	while (!link_next_event(w->end[0], &ev) && w->now < from + 100000) {
		swallow(w, LINK_CLIENT);
		swallow(w, LINK_TARGET);
		pass(w, 500);
	}
	assert_int_equal(ev.type, LINK_EVENT_STALLED);
	return w->now - from;
}

static void up_again(struct wire *w)
{
	struct link_event ev;
	wire_start(w);
	wire_run(w);
	while (link_next_event(w->end[1], &ev))
		;
	wire_expect(w, LINK_CLIENT, LINK_EVENT_UP);
}

static void live(struct wire *w, int64_t ms)
{
	for (int64_t until = w->now + ms; w->now < until; wire_run(w))
		pass(w, until - w->now < 1000 ? until - w->now : 1000);
}

static void test_dead_time_doubles(void **state)
{
	(void)state;
	static const int64_t expected[] = { 3000, 6000, 12000, 24000, 24000 };
	struct wire w;
	wire_up(&w, NULL);
	uint32_t id = wire_stream(&w);
	for (int i = 0; i < 5; i++) {
		assert_int_equal(time_to_stall(&w, id), expected[i]);
		up_again(&w);
	}
	/* A cut before the minute is over says nothing, a life of a minute does. */
	live(&w, 59999);
	up_again(&w);
	assert_int_equal(w.end[0]->doublings, 3);
	live(&w, 60000);
	up_again(&w);
	assert_int_equal(time_to_stall(&w, id), 3000);
	/* So does one that stalls in the end. */
	up_again(&w);
	live(&w, 60000);
	assert_int_equal(time_to_stall(&w, id), 6000);
	up_again(&w);
	assert_int_equal(time_to_stall(&w, id), 3000);
	wire_free(&w);
}

/* Between the word that it stalled and its end an epoch does not come of age. */
static void test_waiting_for_a_new_leg_is_not_life(void **state)
{
	(void)state;
	struct wire w;
	wire_up(&w, NULL);
	uint32_t id = wire_stream(&w);
	assert_int_equal(time_to_stall(&w, id), 3000);
	pass(&w, 120000);
	up_again(&w);
	assert_int_equal(time_to_stall(&w, id), 6000);
	wire_free(&w);
}

/* The handshake took too long, but ended; whether the caller was told or not, and though nothing more is heard. */
static void test_late_handshake_is_watched_still(void **state)
{
	(void)state;
	struct wire w;
	wire_init(&w, NULL);
	wire_start(&w);
	pass(&w, 10000);
	wire_expect(&w, LINK_TARGET, LINK_EVENT_STALLED);
	wire_run(&w);
	for (int i = 0; i < 2; i++) {
		wire_expect(&w, (enum link_role)i, LINK_EVENT_UP);
		wire_expect_none(&w, (enum link_role)i);
	}
	pass(&w, 10000);
	swallow(&w, LINK_CLIENT);
	swallow(&w, LINK_TARGET);
	pass(&w, 3000);
	wire_expect(&w, LINK_CLIENT, LINK_EVENT_STALLED);
	wire_expect(&w, LINK_TARGET, LINK_EVENT_STALLED);
	wire_free(&w);
}

/* What comes too late for one limit is in time for the next. */
static void test_heard_again_is_watched_again(void **state)
{
	(void)state;
	struct wire w;
	wire_up(&w, NULL);
	uint32_t id = wire_stream(&w);
	for (int i = 0; i < 2; i++) {
		static uint8_t late[4096];
		wire_write(&w, LINK_CLIENT, id, "x");
		size_t n = link_output(w.end[0], late, sizeof(late), w.now);
		pass(&w, i == 0 ? 2999 : 5999);
		wire_expect_none(&w, LINK_CLIENT);
		pass(&w, 1);
		wire_expect(&w, LINK_CLIENT, LINK_EVENT_STALLED);
		assert_int_equal(link_input(w.end[1], late, n, w.now, NULL), 0);
		wire_run(&w);
		assert_string_equal(wire_read(&w, LINK_TARGET, id), "x");
	}
	wire_free(&w);
}

static void test_busy_ping_after_1_s_dead_after_3_s(void **state)
{
	(void)state;
	struct wire w;
	wire_up(&w, NULL);
	uint32_t id = wire_stream(&w);
	pass(&w, 9000); /* idle until then: the clock starts with the byte */
	wire_write(&w, LINK_CLIENT, id, "x");
	assert_true(swallow(&w, LINK_CLIENT) > 0);
	assert_int_equal(link_deadline(w.end[0]), w.now + 1000);
	pass(&w, 1000);
	assert_true(swallow(&w, LINK_CLIENT) > 0);
	assert_int_equal(link_deadline(w.end[0]), w.now + 1000);
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
	pass(&w, 10000);
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
		cmocka_unit_test(test_idle_ping_after_10_s),
		cmocka_unit_test(test_idle_and_dead_after_13_s),
		cmocka_unit_test(test_late_pongs),
		cmocka_unit_test(test_tombstone_waits_for_its_own_ping),
		cmocka_unit_test(test_dead_time_doubles),
		cmocka_unit_test(test_waiting_for_a_new_leg_is_not_life),
		cmocka_unit_test(test_late_handshake_is_watched_still),
		cmocka_unit_test(test_heard_again_is_watched_again),
		cmocka_unit_test(test_busy_ping_after_1_s_dead_after_3_s),
		cmocka_unit_test(test_slow_reader_is_not_a_dead_link),
		cmocka_unit_test(test_open_without_answer_is_outstanding),
		cmocka_unit_test(test_handshake_that_does_not_end),
		cmocka_unit_test(test_round_trip_time),
	};
	return RUN_CASES(tests);
}
