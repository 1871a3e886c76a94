#include "support/failing_alloc.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *old, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *old, size_t size);
char *__wrap_strdup(const char *s);
char *__wrap_strndup(const char *s, size_t n);

static size_t left; /* until it fails; 0: never */
static bool all, failed;

static bool fails(void)
{
	if (left == 0 || (left > 1 && left--))
		return false;
	left = all ? 1 : 0;
	failed = true;
	errno = ENOMEM;
	return true;
}

void failing_alloc_at(size_t n, bool and_all)
{
	left = n;
	all = and_all;
	failed = false;
}

bool failing_alloc_over(void)
{
	left = 0;
	return failed;
}

void *__wrap_malloc(size_t size)
{
	return fails() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t n, size_t size)
{
	return fails() ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *old, size_t size)
{
	return fails() ? NULL : __real_realloc(old, size);
}

char *__wrap_strdup(const char *s)
{
	return __wrap_strndup(s, strlen(s));
}

char *__wrap_strndup(const char *s, size_t n)
{
	size_t len = strnlen(s, n);
	char *copy = __wrap_malloc(len + 1);
	if (!copy)
		return NULL;
	memcpy(copy, s, len);
	copy[len] = '\0';
	return copy;
}

void failing_alloc_json(bool fail)
{
	json_set_alloc_funcs(fail ? __wrap_malloc : __real_malloc, free);
}

size_t failing_alloc_sweep(bool (*run)(void *arg), void *arg)
{
	size_t n = 0;
	do
		failing_alloc_at(++n, false);
	while (run(arg));
	return n;
}
