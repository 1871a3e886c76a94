/* Random policies and random requests, judged by the engine and by naive.c: they must agree. Each seed can be run again
 * by its number. */
#include "support/case.h"

#include "naive.h"
#include "random_policy.h"

#define SEEDS 6000
#define REQUESTS 12

struct tally {
	size_t allow, deny, none;
};

static void one_request(uint32_t seed, const json_t *documents, const struct policy *const *policies, size_t n,
			struct tally *tally)
{
	json_t *context = random_context(), *in = random_groups();
	const struct policy_request q = { random_subject(), in, random_action(), random_resource(), context };
	struct policy_decision d;
	policy_evaluate(policies, n, &q, &d);
	enum policy_effect expected = naive_judge(documents, &q);
	if (d.effect != expected) {
		char *text = json_dumps(documents, JSON_INDENT(1)), *ctx = json_dumps(context, 0),
		     *grp = json_dumps(in, 0);
		fail_msg("seed %u: engine %d (%s), naive %d for %s %s on %s, groups %s, context %s\n%s", seed,
			 (int)d.effect, d.statement, (int)expected, q.subject, q.action, q.resource, grp, ctx, text);
	}
	tally->allow += expected == POLICY_ALLOW;
	tally->deny += expected == POLICY_DENY;
	tally->none += expected == POLICY_NO_MATCH;
	json_decref(context);
	json_decref(in);
}

static void one_seed(uint32_t seed, struct tally *tally)
{
	struct policy *policies[3];
	json_t *documents = json_array();
	random_start(seed);
	size_t n = 1 + random_below(3);
	for (size_t i = 0; i < n; i++) {
		struct err e = { 0 };
		json_t *document = random_document();
		if (policy_parse("p", document, &policies[i], NULL, &e) != 0)
			fail_msg("seed %u: %s", seed, e.text);
		json_array_append_new(documents, document);
	}
	for (int i = 0; i < REQUESTS; i++)
		one_request(seed, documents, (const struct policy *const *)policies, n, tally);
	for (size_t i = 0; i < n; i++)
		policy_free(&policies[i]);
	json_decref(documents);
}

static void test_agrees_with_the_naive_one(void **state)
{
	(void)state;
	struct tally tally = { 0 };
	const char *only = getenv("POLICY_SEED");
	if (only)
		one_seed((uint32_t)atoi(only), &tally);
	for (uint32_t seed = 1; !only && seed <= SEEDS; seed++)
		one_seed(seed, &tally);
	print_message("allow %zu, deny %zu, no match %zu\n", tally.allow, tally.deny, tally.none);
	/* agreement about nothing proves nothing */
	if (!only)
		assert_true(tally.allow > SEEDS && tally.deny > SEEDS / 2 && tally.none > SEEDS);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_agrees_with_the_naive_one),
	};
	return RUN_CASES(tests);
}
