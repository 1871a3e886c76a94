/* A policy of many statements and a request to judge by it: for the bench and for the test of how it grows. */
#ifndef TESTS_POLICY_MANY_H
#define TESTS_POLICY_MANY_H

#include "server/policy/policy.h"

#include <stdint.h>

json_t *many_statements(int n, bool similar); /* similar: each matches until its last condition */
/* Microseconds that one judgement takes: the least of rounds times per_round, so that what else the machine does
 * counts for little. */
double many_judge_us(const struct policy *p, int rounds, int per_round, enum policy_effect *out_effect);

#endif
