#include "support/case.h"

#include "server/replay.h"

static void test_takes_an_id_once(void **state)
{
	(void)state;
	struct replay *r = replay_new(10, 10);
	assert_int_equal(replay_check(r, "a", 1, "x", 100, 0), REPLAY_NEW);
	assert_int_equal(replay_check(r, "a", 1, "x", 100, 99), REPLAY_SEEN);
	assert_int_equal(replay_check(r, "b", 1, "x", 100, 0), REPLAY_NEW); /* another's id is another id */
	assert_int_equal(replay_check(r, "a", 1, "x", 300, 100), REPLAY_NEW);
	replay_free(&r);
	assert_null(r);
}

static void test_refuses_when_full_of_fresh_ids(void **state)
{
	(void)state;
	struct replay *r = replay_new(2, 2);
	assert_int_equal(replay_check(r, "a", 1, "1", 100, 0), REPLAY_NEW);
	assert_int_equal(replay_check(r, "a", 1, "2", 200, 0), REPLAY_NEW);
	assert_int_equal(replay_check(r, "a", 1, "3", 200, 50), REPLAY_FULL);
	assert_int_equal(replay_check(r, "a", 1, "3", 200, 100), REPLAY_NEW);
	assert_int_equal(replay_check(r, "a", 1, "2", 200, 100), REPLAY_SEEN);
	replay_free(&r);
}

static void test_one_does_not_take_the_place_of_others(void **state)
{
	(void)state;
	char jti[16];
	struct replay *r = replay_new(1000, 3);
	for (int i = 0; i < 1000; i++) {
		snprintf(jti, sizeof jti, "%d", i);
		assert_int_equal(replay_check(r, "a", 1, jti, 100, 0), i < 3 ? REPLAY_NEW : REPLAY_FULL);
	}
	assert_int_equal(replay_check(r, "a", 1, "1", 100, 0), REPLAY_SEEN);
	assert_int_equal(replay_check(r, "b", 1, "1", 100, 0), REPLAY_NEW);
	assert_int_equal(replay_check(r, "a", 1, "999", 200, 100), REPLAY_NEW);
	replay_free(&r);
}

/* However many rows there are, a full table finds room again once they have expired. */
static void test_a_full_table_is_swept_piece_by_piece(void **state)
{
	(void)state;
	char who[16];
	struct replay *r = replay_new(20000, 1);
	for (int round = 0; round < 3; round++)
		for (int i = 0; i < 20000; i++) {
			snprintf(who, sizeof who, "%d-%d", round, i);
			enum replay_result got = REPLAY_FULL;
			for (int tries = 0; got == REPLAY_FULL && tries < 300; tries++)
				got = replay_check(r, who, strlen(who), "x", (round + 1) * 100, round * 100);
			assert_int_equal(got, REPLAY_NEW);
		}
	assert_int_equal(replay_check(r, "z", 1, "x", 400, 299), REPLAY_FULL);
	replay_free(&r);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_takes_an_id_once),
		cmocka_unit_test(test_refuses_when_full_of_fresh_ids),
		cmocka_unit_test(test_one_does_not_take_the_place_of_others),
		cmocka_unit_test(test_a_full_table_is_swept_piece_by_piece),
	};
	return RUN_CASES(tests);
}
