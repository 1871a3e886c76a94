/* The delays of coming back, by numbers alone. */
#include "support/case.h"

#include "endpoint/pace.h"

#define ROUNDS 300

static void test_first_at_once_then_the_list(void **state)
{
	static const int64_t list[] = { 0, 50, 100, 200, 300, 300, 300 };
	(void)state;
	for (int round = 0; round < ROUNDS; round++) {
		struct pace p;
		pace_reset(&p);
		for (size_t i = 0; i < sizeof list / sizeof list[0]; i++)
			assert_in_range(pace_next_ms(&p, 1000 + (int64_t)i * 300), list[i] / 2, list[i]);
	}
}

static void test_slower_after_half_a_minute_and_never_over_the_most(void **state)
{
	(void)state;
	struct pace p;
	pace_reset(&p);
	int64_t now = 5000, most = 300, begin = now;
	for (int i = 0; i < 500 && now - begin < PACE_EAGER_MS; i++) {
		int64_t ms = pace_next_ms(&p, now);
		assert_in_range(ms, 0, 300);
		now += ms + 1;
	}
	assert_true(now - begin >= PACE_EAGER_MS);
	for (int i = 0; i < 100; i++) {
		most = most * 2 < PACE_MOST_MS ? most * 2 : PACE_MOST_MS;
		assert_in_range(pace_next_ms(&p, now), most / 2, most);
	}
	pace_reset(&p); /* the next outage begins anew, whenever that is */
	assert_int_equal(pace_next_ms(&p, now + 1000000), 0);
	assert_in_range(pace_next_ms(&p, now + 1000000), 25, 50);
	assert_in_range(pace_hold_ms(&p, now + 1000000), PACE_HOLD_MS / 2, PACE_HOLD_MS);
}

static void test_a_long_outage_holds_longer(void **state)
{
	(void)state;
	struct pace p;
	pace_reset(&p);
	assert_in_range(pace_hold_ms(&p, 1), PACE_HOLD_MS / 2, PACE_HOLD_MS);
	for (int i = 0; i < 20; i++)
		assert_in_range(pace_hold_ms(&p, 1 + PACE_EAGER_MS), PACE_HOLD_MS, PACE_MOST_MS);
	assert_in_range(pace_hold_ms(&p, 1 + PACE_EAGER_MS), PACE_MOST_MS / 2, PACE_MOST_MS);
}

/* A thousand ends lose their relay at once: no tenth of a second sees more than twice its share of their attempts. */
static void test_a_thousand_ends_do_not_come_in_step(void **state)
{
	enum { ENDS = 1000, SLOTS = 20, SLOT_MS = 100 };
	unsigned slots[SLOTS] = { 0 }, total = 0;
	(void)state;
	for (int end = 0; end < ENDS; end++) {
		struct pace p;
		pace_reset(&p);
		for (int64_t now = 1000; now < 1000 + SLOTS * SLOT_MS;) {
			slots[(now - 1000) / SLOT_MS]++;
			int64_t ms = pace_next_ms(&p, now);
			now += ms > 0 ? ms : 1;
		}
	}
	for (int i = 10; i < SLOTS; i++) /* the first second is the list's own */
		total += slots[i];
	for (int i = 10; i < SLOTS; i++)
		assert_in_range(slots[i], total / (SLOTS - 10) / 2, total / (SLOTS - 10) * 2);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_first_at_once_then_the_list),
		cmocka_unit_test(test_slower_after_half_a_minute_and_never_over_the_most),
		cmocka_unit_test(test_a_long_outage_holds_longer),
		cmocka_unit_test(test_a_thousand_ends_do_not_come_in_step),
	};
	return RUN_CASES(tests);
}
