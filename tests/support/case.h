/* Every unit test program: RUN_CASES(tests) as the body of main(int argc, char **argv). With an argument it runs that
 * one case, as ctest does. The headers that cmocka needs come along. */
#ifndef TESTS_SUPPORT_CASE_H
#define TESTS_SUPPORT_CASE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define RUN_CASES(tests) (argc > 1 ? case_filter(argv[1]) : (void)0, cmocka_run_group_tests(tests, NULL, NULL))

void case_filter(const char *name);

/* A fresh folder for one case, below $TMPDIR or /tmp; removed with all it holds by case_folder_remove. */
char *case_folder(char out[64]);
void case_folder_remove(const char *path);

#endif
