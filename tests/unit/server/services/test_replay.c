#include "support/case.h"

#include "server/replay.h"

static void test_takes_an_id_once(void **state)
{
	(void)state;
	struct replay *r = replay_new(10);
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
	struct replay *r = replay_new(2);
	assert_int_equal(replay_check(r, "a", 1, "1", 100, 0), REPLAY_NEW);
	assert_int_equal(replay_check(r, "a", 1, "2", 200, 0), REPLAY_NEW);
	assert_int_equal(replay_check(r, "a", 1, "3", 200, 50), REPLAY_FULL);
	assert_int_equal(replay_check(r, "a", 1, "3", 200, 100), REPLAY_NEW);
	assert_int_equal(replay_check(r, "a", 1, "2", 200, 100), REPLAY_SEEN);
	replay_free(&r);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_takes_an_id_once),
		cmocka_unit_test(test_refuses_when_full_of_fresh_ids),
	};
	return RUN_CASES(tests);
}
