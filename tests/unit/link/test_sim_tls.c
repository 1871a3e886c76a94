/* The simulator over real TLS: records are cut in the middle, and bytes change on the way. */
#include "sim.h"
#include "support/case.h"

static void test_cuts(void **state)
{
	(void)state;
	SIM_RUN_MANY(1, 100, .steps = 2000, .streams = 12, .faults = 12, .kinds = SIM_ALL);
}

static void test_tampering(void **state)
{
	(void)state;
	SIM_RUN_MANY(1000001, 60, .steps = 2000, .streams = 8, .faults = 4, .kinds = SIM_ALL, .tamper = true);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cuts),
		cmocka_unit_test(test_tampering),
	};
	return RUN_CASES(tests);
}
