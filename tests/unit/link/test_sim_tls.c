/* The simulator over real TLS: records are cut in the middle, and bytes change on the way. */
#include "sim.h"
#include "support/case.h"

static void test_cuts(void **state)
{
	(void)state;
	sim_run_many(1, 100, &(struct sim_options){ .steps = 2000, .streams = 12, .cuts = 6 });
}

static void test_tampering(void **state)
{
	(void)state;
	sim_run_many(1001, 60, &(struct sim_options){ .steps = 2000, .streams = 8, .cuts = 2, .tamper = true });
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cuts),
		cmocka_unit_test(test_tampering),
	};
	return RUN_CASES(tests);
}
