/* A second evaluator, written to be obviously right instead of fast: it reads the JSON document at each question,
 * expands variables into text, and matches wildcards by recursion. */
#ifndef TESTS_POLICY_NAIVE_H
#define TESTS_POLICY_NAIVE_H

#include "server/policy/policy.h"

/* documents: an array of policy documents. */
enum policy_effect naive_judge(const json_t *documents, const struct policy_request *request);

#endif
