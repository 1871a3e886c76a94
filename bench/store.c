/* What a store does in a second, and how fast the audit log grows on it: the plugin is loaded as tunnel-server loads
 * it, documents are as large as a session's, and every answered change is as durable as the store was told to make it.
 * One line of JSON, operations a second by what was done and how many callers did it at once. Run by scripts/bench. */
#include "base/clock.h"
#include "base/log.h"
#include "server/audit.h"
#include "server/server.h"
#include "server/store.h"

#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define CALLERS_MAX 32u
#define PAGE 100u
#define DOCUMENT_BYTES 1000
#define RECORD_BYTES 400
#define OPTIONS_MAX 16

static struct {
	struct server server;
	char document[DOCUMENT_BYTES + 1], record[RECORD_BYTES + 1]; /* JSON texts */
	long most_ms;                                                /* of one measurement */
} bench;

struct caller {
	pthread_t thread;
	unsigned number;
	uint64_t done; /* operations of this measurement */
	int64_t begun_us;
	uint64_t created; /* documents of this caller's, over all measurements */
	uint64_t version; /* of the one that it updates */
};
static struct caller callers[CALLERS_MAX];

static _Noreturn void die(const char *what, const char *why)
{
	fprintf(stderr, "tunnel-bench-store: %s: %s\n", what, why);
	exit(1);
}

static void expect(int result, const char *what, const struct tunnel_call *call)
{
	char text[300];
	if (result == TUNNEL_OK)
		return;
	snprintf(text, sizeof text, "answered %d: %s", result, call->err);
	die(what, text);
}

#define CALL(words)                                                                                       \
	{                                                                                                 \
		.size = sizeof(struct tunnel_call), .deadline_ms = clock_mono_ms() + 30000, .err = words, \
		.err_len = sizeof words                                                                   \
	}

/* ---- the operations; each is done once ---- */

static uint64_t put(const struct caller *c, const char *key, uint64_t expect_version)
{
	char words[200] = "", owner[32];
	snprintf(owner, sizeof owner, "caller-%u", c->number);
	const struct tunnel_index indexes[] = { { "principal", owner }, { "state", "active" } };
	const struct tunnel_call call = CALL(words);
	const struct tunnel_put put = { .size = sizeof put,
					.collection = "bench",
					.key = key,
					.value = bench.document,
					.value_len = DOCUMENT_BYTES,
					.expect_version = expect_version,
					.indexes = indexes,
					.index_count = 2 };
	uint64_t version = 0;
	expect(plugin_store_put_blocking(store_plugin(bench.server.store), &call, &put, &version), "put", &call);
	return version;
}

static const char *own_key(const struct caller *c, char out[64])
{
	snprintf(out, 64, "own-%u", c->number);
	return out;
}

static void create(struct caller *c)
{
	char key[64];
	snprintf(key, sizeof key, "d-%u-%llu", c->number, (unsigned long long)c->created++);
	put(c, key, TUNNEL_VERSION_NONE);
}

static void update(struct caller *c)
{
	char key[64];
	c->version = put(c, own_key(c, key), c->version);
}

static int pass_over(void *arg, const struct tunnel_row *row)
{
	(void)arg, (void)row;
	return 0;
}

static void get(struct caller *c)
{
	char words[200] = "", key[64];
	const struct tunnel_call call = CALL(words);
	expect(plugin_store_get_blocking(store_plugin(bench.server.store), &call, "bench", own_key(c, key), pass_over,
					 c),
	       "get", &call);
}

static void list(struct caller *c)
{
	char words[200] = "", cursor[TUNNEL_CURSOR_MAX];
	const struct tunnel_call call = CALL(words);
	const struct tunnel_scan scan = { .size = sizeof scan, .collection = "bench", .limit = PAGE };
	expect(plugin_store_scan_blocking(store_plugin(bench.server.store), &call, &scan, pass_over, c, cursor), "scan",
	       &call);
}

static void append(struct caller *c)
{
	char words[200] = "";
	uint64_t seq;
	(void)c;
	const struct tunnel_call call = CALL(words);
	expect(plugin_store_append_blocking(store_plugin(bench.server.store), &call, "bench", bench.record,
					    RECORD_BYTES, &seq),
	       "append", &call);
}

/* As the server does: chained by hashes, and those who wait at the same time share a change of the store. */
static void audit(struct caller *c)
{
	struct err e = { 0 };
	json_t *fields =
		json_pack("{s:s, s:s, s:s, s:s, s:s, s:i}", "session", "s-0123456789abcdefghijklmnop", "principal",
			  "alice", "target", "web-1", "kind", "ssh", "source", "192.0.2.1", "caller", (int)c->number);
	if (audit_append_blocking(bench.server.audit, "session.start", fields, &e) != 0)
		die("audit", e.text);
}

/* In this order: what is read was written before. */
static const struct {
	const char *name;
	void (*once)(struct caller *c);
} operations[] = {
	{ "create", create }, { "update", update }, { "get", get },
	{ "list", list },     { "append", append }, { "audit", audit },
};

/* ---- one measurement ---- */

struct turn {
	pthread_barrier_t start;
	void (*once)(struct caller *c);
	atomic_bool over;
};
static struct turn turn;

static void *run_caller(void *arg)
{
	struct caller *c = arg;
	pthread_barrier_wait(&turn.start);
	c->begun_us = clock_mono_us();
	for (c->done = 0; !atomic_load(&turn.over); c->done++)
		turn.once(c);
	return NULL;
}

static double per_second(void (*once)(struct caller *c), unsigned count)
{
	uint64_t done = 0;
	pthread_barrier_init(&turn.start, NULL, count + 1);
	turn.once = once;
	atomic_store(&turn.over, false);
	for (unsigned i = 0; i < count; i++)
		if (pthread_create(&callers[i].thread, NULL, run_caller, &callers[i]) != 0)
			die("callers", "no thread");
	pthread_barrier_wait(&turn.start);
	int64_t begun = INT64_MAX; /* when the first of them did: on a busy machine this thread may be late */
	struct timespec pause = { bench.most_ms / 1000, bench.most_ms % 1000 * 1000000 };
	nanosleep(&pause, NULL);
	atomic_store(&turn.over, true);
	for (unsigned i = 0; i < count; i++) {
		pthread_join(callers[i].thread, NULL);
		done += callers[i].done;
		begun = callers[i].begun_us < begun ? callers[i].begun_us : begun;
	}
	pthread_barrier_destroy(&turn.start);
	return (double)done * 1e6 / (double)(clock_mono_us() - begun);
}

static void measure_all(void)
{
	static const unsigned counts[] = { 1, 8, CALLERS_MAX };
	char key[64];
	for (unsigned i = 0; i < CALLERS_MAX; i++) {
		callers[i].number = i;
		callers[i].version = put(&callers[i], own_key(&callers[i], key), TUNNEL_VERSION_NONE);
	}
	for (size_t i = 0; i < sizeof operations / sizeof *operations; i++)
		for (size_t n = 0; n < sizeof counts / sizeof *counts; n++)
			printf("%s\"%s.%u\": %.1f", i || n ? ", " : "{", operations[i].name, counts[n],
			       per_second(operations[i].once, counts[n]));
	puts("}");
}

/* ---- the store ---- */

static void open_store(char *file, char **options)
{
	static char where[] = "the command line", plugin[] = "plugin";
	struct conf_pair pairs[OPTIONS_MAX + 1] = { { plugin, file, where } };
	struct conf_section section = { .pairs = pairs, .n = 1, .where = where };
	struct err e = { 0 };
	for (; *options; options++) {
		char *equals = strchr(*options, '=');
		if (!equals || section.n > OPTIONS_MAX)
			die(*options, "expected key=value, and at most 16 of them");
		*equals = '\0';
		pairs[section.n++] = (struct conf_pair){ *options, equals + 1, where };
	}
	bench.server.node = "bench";
	if (store_open("/", &section, NULL, &bench.server.store, &e) != 0 ||
	    audit_open_blocking(&bench.server, &bench.server.audit, &e) != 0)
		die(file, e.text);
}

/* A JSON text of so many bytes. */
static void fill(char *out, int bytes)
{
	snprintf(out, (size_t)bytes + 1, "{\"text\":\"%0*d\"}", bytes - 11, 0);
}

int main(int argc, char **argv)
{
	char file[PATH_MAX];
	bench.most_ms = argc > 2 ? atol(argv[1]) : 0;
	if (bench.most_ms <= 0) {
		fputs("Usage: tunnel-bench-store MILLISECONDS PLUGIN.so [key=value …]     so long each operation; an "
		      "empty "
		      "store\n",
		      stderr);
		return 2;
	}
	if (!realpath(argv[2], file))
		die(argv[2], "there is no such file");
	log_init("tunnel-bench-store", LOG_LEVEL_ERROR, LOG_FORMAT_PLAIN);
	fill(bench.document, DOCUMENT_BYTES);
	fill(bench.record, RECORD_BYTES);
	open_store(file, argv + 3);
	measure_all();
	audit_close(&bench.server.audit);
	store_close(&bench.server.store);
	return 0;
}
