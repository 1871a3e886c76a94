/* The simulator over a wire without cryptography: many seeds, many faults. */
#include "sim.h"
#include "support/case.h"

static void test_sessions(void **state)
{
	(void)state;
	SIM_RUN_MANY(1, 6000, .steps = 600, .streams = 6, .faults = 10, .kinds = SIM_ALL, .cut_runs = 2500);
}

static void test_cuts(void **state)
{
	(void)state;
	SIM_RUN_MANY(1000001, 8000, .steps = 800, .streams = 8, .faults = 20, .kinds = SIM_CUT | SIM_RESTART,
		     .surely_cut = true, .cut_runs = 7500);
}

static void test_black_holes(void **state)
{
	(void)state;
	SIM_RUN_MANY(2000001, 1500, .steps = 800, .streams = 8, .faults = 12, .kinds = SIM_HOLE | SIM_CUT | SIM_LEAP);
}

static void test_attaches(void **state)
{
	(void)state;
	SIM_RUN_MANY(3000001, 1500, .steps = 800, .streams = 8, .faults = 40, .kinds = SIM_ATTACH | SIM_STICK);
}

static void test_no_faults(void **state)
{
	(void)state;
	SIM_RUN_MANY(4000001, 500, .steps = 1500, .streams = 16);
}

static void test_long_sessions(void **state)
{
	(void)state;
	SIM_RUN_MANY(5000001, 200, .steps = 10000, .streams = 64, .faults = 100, .kinds = SIM_ALL);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sessions), cmocka_unit_test(test_cuts),      cmocka_unit_test(test_black_holes),
		cmocka_unit_test(test_attaches), cmocka_unit_test(test_no_faults), cmocka_unit_test(test_long_sessions),
	};
	return RUN_CASES(tests);
}
