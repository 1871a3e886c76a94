/* A host for plugin tests: loads the built .so as the server does, with a clock that the test sets and a log that it
 * reads. An error the plugin logs and the test did not announce fails the test. */
#ifndef TESTS_SUPPORT_FAKE_HOST_H
#define TESTS_SUPPORT_FAKE_HOST_H

#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <tunnel/auth.h>
#include <tunnel/plugin.h>

struct fake_count {
	char name[64];
	uint64_t n;
};

struct fake_host {
	struct tunnel_host host;
	_Atomic int64_t wall_ms, mono_ms; /* what the plugin's clocks say */
	pthread_mutex_t lock;
	char log[16384]; /* "error: …\n", as much as fits */
	unsigned errors, errors_expected;
	struct fake_count counts[32];
};

struct fake_plugin {
	struct fake_host host;
	void *library;
	const struct tunnel_plugin *desc;
	void *instance;
	char err[512]; /* of the last open, reload or call */
};

/* Loads file; fails the test when it cannot. */
void fake_plugin_load(struct fake_plugin *p, const char *file);
/* Opens an instance with key, value, …, NULL (values as plugins get them: durations in ms); rows that are not given
 * get their default. The result of the plugin's open; p->err. */
int fake_plugin_open(struct fake_plugin *p, const char *const *pairs);
void fake_plugin_close(struct fake_plugin *p); /* the instance */
void fake_plugin_unload(struct fake_plugin *p);
int fake_plugin_reload(struct fake_plugin *p);
/* The next n logged errors are part of the test. */
void fake_host_expect_errors(struct fake_host *host, unsigned n);
uint64_t fake_host_count(struct fake_host *host, const char *name);
void fake_host_pass(struct fake_host *host, int64_t ms); /* both clocks */

/* One call of an auth plugin's verify. err: 512 bytes; may be NULL for p->err (one thread then). */
int fake_verify(struct fake_plugin *p, const struct tunnel_auth_request *request, struct tunnel_identity *out,
		char *err);

#endif
