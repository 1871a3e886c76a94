#include "suite.h"
const struct suite_case auth_cases[] = { CASES_END };
