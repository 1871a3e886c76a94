/* Random policies and requests from small vocabularies, so that things match often. Each seed gives the same again. */
#ifndef TESTS_POLICY_RANDOM_POLICY_H
#define TESTS_POLICY_RANDOM_POLICY_H

#include <jansson.h>
#include <stdint.h>

void random_start(uint32_t seed);
uint32_t random_below(uint32_t n);
json_t *random_document(void); /* one to three statements */
json_t *random_context(void);
json_t *random_groups(void);
const char *random_subject(void), *random_action(void), *random_resource(void);

#endif
