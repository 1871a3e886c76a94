/* The simulator over a wire without cryptography: many seeds, many cuts. */
#include "sim.h"
#include "support/case.h"

static void test_short_sessions(void **state)
{
	(void)state;
	sim_run_many(1, 8000, &(struct sim_options){ .steps = 400, .streams = 6, .cuts = 8 });
}

static void test_long_sessions(void **state)
{
	(void)state;
	sim_run_many(100001, 300, &(struct sim_options){ .steps = 8000, .streams = 64, .cuts = 100 });
}

static void test_no_cuts(void **state)
{
	(void)state;
	sim_run_many(200001, 1000, &(struct sim_options){ .steps = 1500, .streams = 16, .cuts = 0 });
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_short_sessions),
		cmocka_unit_test(test_long_sessions),
		cmocka_unit_test(test_no_cuts),
	};
	return RUN_CASES(tests);
}
