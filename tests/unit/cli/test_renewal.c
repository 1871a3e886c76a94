/* When a session is renewed. */
#include "support/case.h"

#include "cli/renewal.h"

#define NOON 1764072000000LL
#define MINUTE 60000LL

/* How many attempts there are until the end when all fail; no two are closer than a second. */
static int attempts(int64_t left_ms)
{
	struct renewal r;
	int64_t end_ms = NOON + left_ms, now_ms = NOON, last_ms = 0;
	int n = 0;
	renewal_begin(&r, end_ms, NOON);
	while (now_ms < end_ms) {
		int64_t wait_ms = renewal_wait_ms(&r, now_ms);
		assert_in_range(wait_ms, 0, 30000);
		now_ms += wait_ms;
		if (wait_ms)
			continue;
		assert_true(n == 0 || now_ms - last_ms >= 1000);
		last_ms = now_ms;
		n++;
		renewal_failed(&r, now_ms);
	}
	return n;
}

static void test_the_first_attempt_leaves_room_for_more(void **state)
{
	(void)state;
	struct renewal r;
	for (int i = 0; i < 100; i++) {
		renewal_begin(&r, NOON + 60 * MINUTE, NOON);
		assert_in_range(r.due_ms - NOON, 50 * MINUTE, 51 * MINUTE);
		renewal_begin(&r, NOON + 15000, NOON); /* a short one */
		assert_in_range(r.due_ms - NOON, 5000, 6000);
		assert_in_range(attempts(60 * MINUTE), 8, 60);
		assert_in_range(attempts(15000), 5, 20);
	}
}

static void test_nothing_to_renew(void **state)
{
	(void)state;
	struct renewal r;
	renewal_begin(&r, 0, NOON);
	assert_int_equal(renewal_wait_ms(&r, NOON + 1000 * MINUTE), -1);
	renewal_hurry(&r, NOON);
	assert_int_equal(renewal_wait_ms(&r, NOON), -1);
	assert_false(renewal_is_urgent(&r, NOON));
}

static void test_the_server_knows_the_time_better(void **state)
{
	(void)state;
	struct renewal r;
	renewal_begin(&r, NOON + 600 * MINUTE, NOON);
	renewal_hurry(&r, NOON + MINUTE);
	assert_int_equal(renewal_wait_ms(&r, NOON + MINUTE), 0);
	renewal_begin(&r, NOON - 10 * MINUTE, NOON); /* our clock is ahead: no hurry, and no end to trying */
	assert_int_equal(renewal_wait_ms(&r, NOON), 0);
	renewal_failed(&r, NOON);
	assert_in_range(renewal_wait_ms(&r, NOON), 10000, 30000);
}

static void test_somebody_is_told_when_it_is_urgent(void **state)
{
	(void)state;
	struct renewal r;
	renewal_begin(&r, NOON + 60 * MINUTE, NOON);
	assert_false(renewal_is_urgent(&r, NOON + 54 * MINUTE));
	assert_true(renewal_is_urgent(&r, NOON + 56 * MINUTE));
	renewal_begin(&r, NOON + 15000, NOON);
	assert_false(renewal_is_urgent(&r, NOON + 9000));
	assert_true(renewal_is_urgent(&r, NOON + 11000));
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_first_attempt_leaves_room_for_more),
		cmocka_unit_test(test_nothing_to_renew),
		cmocka_unit_test(test_the_server_knows_the_time_better),
		cmocka_unit_test(test_somebody_is_told_when_it_is_urgent),
	};
	return RUN_CASES(tests);
}
