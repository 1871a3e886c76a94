/* A second evaluator, written to be obviously right instead of fast: it reads the JSON document at each question,
 * expands variables into text, and knows docs/policy.md and RFC 3339 but nothing of the engine. */
#ifndef TESTS_POLICY_NAIVE_H
#define TESTS_POLICY_NAIVE_H

#include "server/policy/policy.h"

#define NAIVE_TEXT_MAX 4096 /* bytes of a text, with NUL: no document and no request may have a longer one */

/* documents: an array of policy documents, each of which policy_parse takes; the action is one that there is. */
enum policy_effect naive_judge(const json_t *documents, const struct policy_request *request);

#endif
