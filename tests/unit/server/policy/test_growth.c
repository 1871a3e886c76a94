/* The cost of a judgement grows with the number of statements and no faster. A ratio, so the machine does not matter;
 * the least of many rounds, so what else runs on it hardly does. */
#include "support/case.h"

#include "many.h"

#define FEW 10
#define MANY 1000
#define MARGIN 4 /* what a thousand may cost more than a hundred times ten: they do not fit the nearest cache */

static double cost(int n, bool similar, int per_round)
{
	json_t *document = many_statements(n, similar);
	struct policy *p = NULL;
	struct err e = { 0 };
	enum policy_effect effect = POLICY_ALLOW;
	if (policy_parse("p", document, &p, NULL, &e) != 0)
		fail_msg("%s", e.text);
	double us = many_judge_us(p, 40, per_round, &effect);
	assert_int_equal(effect, POLICY_NO_MATCH); /* none of them ends the search early */
	policy_free(&p);
	json_decref(document);
	return us;
}

static void grows(bool similar)
{
	double few = cost(FEW, similar, 200), many = cost(MANY, similar, 10);
	print_message("%d statements: %.2f us, %d: %.2f us\n", FEW, few, MANY, many);
	assert_true(few > 0);
	assert_true(many <= few * MANY / FEW * MARGIN);
}

static void test_statements_about_something_else(void **state)
{
	(void)state;
	grows(false);
}

static void test_statements_that_nearly_match(void **state)
{
	(void)state;
	grows(true);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_statements_about_something_else),
		cmocka_unit_test(test_statements_that_nearly_match),
	};
	return RUN_CASES(tests);
}
