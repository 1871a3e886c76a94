/* A suite of rules that any plugin of a kind must keep, run through the server's own plugin host. Each case runs in a
 * process of its own, so a plugin that crashes or hangs fails that case and no other.
 *
 * A case may call EXPECT from any thread; a failure ends its process. */
#ifndef CONFORMANCE_SUITE_H
#define CONFORMANCE_SUITE_H

#include "server/plugin_host.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct suite_case {
	const char *name;
	void (*run)(void);
};
#define CASE(name)          \
	{                   \
#name, name \
	}
#define CASES_END          \
	{                  \
		NULL, NULL \
	}

extern const struct suite_case store_document_cases[], store_scan_cases[], store_log_cases[], store_event_cases[],
	store_race_cases[], store_durability_cases[], auth_cases[];

_Noreturn void suite_fail(const char *file, int line, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
_Noreturn void suite_skip(const char *why); /* the plugin does not offer what this case is about */
#define EXPECT(condition) ((condition) ? (void)0 : suite_fail(__FILE__, __LINE__, "expected %s", #condition))

/* Another instance of the plugin under test, with the options of the command line; the first call's failure fails the
 * case. NULL, with words in e, when e is given and it cannot be opened. */
struct plugin *suite_open(struct err *e);
/* The credential of --accept as a header, or NULL. */
const struct tunnel_header *suite_accept(void);
/* Skips the case when the store was said to keep nothing. */
void suite_needs_durability(void);
/* A name that no other case and no earlier run has used: "<word>_<random>", at most 64 characters. */
const char *suite_name(const char *word, char out[65]);
const char *suite_result(int result);
/* A call without limits but a far deadline. */
struct tunnel_call suite_call(char *words, size_t size);

/* n threads run fn(arg, i) for i in 0..n-1, all starting together; returns when all are done. */
void suite_threads(size_t n, void (*fn)(void *arg, size_t i), void *arg);

#endif
