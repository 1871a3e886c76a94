/* How long does it take to read, and to judge a request against, a thousand statements? No test:
 * scripts/bench runs it. */
#include "many.h"

#include "base/clock.h"

#include <stdio.h>
#include <stdlib.h>

#define STATEMENTS 1000

static void measure(const char *name, bool similar)
{
	json_t *document = many_statements(STATEMENTS, similar);
	struct policy *p = NULL;
	struct err e = { 0 };
	enum policy_effect effect;
	int64_t start = clock_mono_us();
	if (policy_parse("p", document, &p, NULL, &e) != 0) {
		fprintf(stderr, "%s\n", e.text);
		exit(1);
	}
	double parsed = (double)(clock_mono_us() - start) / 1000;
	double us = many_judge_us(p, 20, 100, &effect);
	printf("policy, %d statements, %s: read in %.2f ms, a request judged in %.1f us (effect %d)\n", STATEMENTS,
	       name, parsed, us, (int)effect);
	policy_free(&p);
	json_decref(document);
}

int main(void)
{
	measure("about other targets", false);
	measure("all conditions judged", true);
	return 0;
}
