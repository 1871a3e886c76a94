/* What a program that runs with failing_calls.so reads from the file that $FAILING_CALLS names, and writes there: one
 * struct failing, shared by all processes that were started with it. tests/scenario/failing.py is the other side. */
#ifndef TESTS_SUPPORT_FAILING_CALLS_H
#define TESTS_SUPPORT_FAILING_CALLS_H

#include <stdint.h>

enum failing_kind {
	FAILING_ALLOC,  /* malloc, calloc, realloc, strdup, strndup */
	FAILING_WRITE,  /* write, writev, pwrite, ftruncate, fallocate: of a regular file, not of standard error */
	FAILING_SYNC,   /* fsync, fdatasync */
	FAILING_OPEN,   /* open, openat, fopen */
	FAILING_SOCKET, /* socket, socketpair, accept4, pipe2, eventfd */
	FAILING_FORK,
	FAILING_THREAD, /* pthread_create */
	FAILING_KINDS,
};

/* Calls are counted from 1 on; those from first to last fail with that errno. last 0: none does. */
struct failing_call {
	int64_t first, last, errnum;
	int64_t calls, failed; /* written here; of all processes */
};

struct failing {
	int64_t clock_ms; /* the wall clock is so far ahead */
	struct failing_call call[FAILING_KINDS];
};

#endif
