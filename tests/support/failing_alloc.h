/* Memory that runs out on demand, for unit tests: tunnel_unit_test(… FAILING_ALLOC …) has every malloc, calloc,
 * realloc, strdup and strndup of our code, and jansson's where that is said, go through here. What OpenSSL and others
 * allocate is not counted. One thread. */
#ifndef TESTS_SUPPORT_FAILING_ALLOC_H
#define TESTS_SUPPORT_FAILING_ALLOC_H

#include <stdbool.h>
#include <stddef.h>

/* The n-th allocation from now on fails, and with and_all each one behind it; 0: none does. */
void failing_alloc_at(size_t n, bool and_all);
/* None fails from here on. Whether one did. */
bool failing_alloc_over(void);
/* Whether jansson's fail too, as in a program that has no base/certain.h, or none does, as in one that has. */
void failing_alloc_json(bool fails);

/* Runs a case with its first, second, … allocation failing, until it needs no further one; how often it ran. run
 * returns what failing_alloc_over() told it, which it asks when the calls under test are done. */
size_t failing_alloc_sweep(bool (*run)(void *arg), void *arg);

#endif
