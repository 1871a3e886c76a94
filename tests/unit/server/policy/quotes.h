/* JSON in C tables without backslashes: 'text' is read as "text", and ` as '. */
#ifndef TESTS_POLICY_QUOTES_H
#define TESTS_POLICY_QUOTES_H

#include <jansson.h>

json_t *quotes_json(const char *text); /* fails the test when it is no JSON; NULL for NULL */

#endif
