/* A session store in one SQLite file, for a single node. What an answer promised is on disk: WAL with synchronous=FULL,
 * and the answer comes after the commit. */
#include "sqlite_store.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct instance {
	char *path;
	int lock_fd;
	struct writer *writer;
	struct readers *readers;
	struct events *events;
};

static const struct tunnel_option_spec options[] = {
	{ .size = sizeof(struct tunnel_option_spec),
	  .key = "path",
	  .type = TUNNEL_OPTION_PATH,
	  .flags = TUNNEL_OPTION_REQUIRED,
	  .max = 4000,
	  .help = "the database file, on a local disk; created with mode 0600. What was answered survives power loss" },
	{ .size = sizeof(struct tunnel_option_spec),
	  .key = "busy_timeout",
	  .type = TUNNEL_OPTION_DURATION,
	  .def = "4s",
	  .min = 0,
	  .max = 60000,
	  .help = "how long to wait while another program (a shell, a backup) holds the file" },
	{ .size = sizeof(struct tunnel_option_spec),
	  .key = "purge_interval",
	  .type = TUNNEL_OPTION_DURATION,
	  .def = "30s",
	  .min = 10,
	  .max = 3600000,
	  .help = "how often documents that have expired are removed from the file; they cannot be read before" },
	{ .size = sizeof(struct tunnel_option_spec),
	  .key = "readers",
	  .type = TUNNEL_OPTION_INT,
	  .def = "8",
	  .min = 1,
	  .max = 64,
	  .help = "connections for reading at the same time" },
	{ .key = NULL },
};

static const char *option(const struct tunnel_option *o, size_t n, const char *key)
{
	const char *at = (const char *)o;
	for (size_t i = 0; i < n; i++, at += o->size) {
		const struct tunnel_option *one = (const struct tunnel_option *)(const void *)at;
		if (strcmp(one->key, key) == 0)
			return one->value;
	}
	return "";
}

static void store_close(void *instance)
{
	struct instance *s = instance;
	if (!s)
		return;
	events_free(&s->events);
	readers_free(&s->readers);
	writer_stop(&s->writer); /* last: closing the last connection folds the WAL back into the file */
	if (s->lock_fd >= 0)
		close(s->lock_fd);
	free(s->path);
	free(s);
}

static int store_open(const struct tunnel_host *host, const struct tunnel_option *o, size_t n, void **out_instance,
		      char *err, size_t err_len)
{
	struct words w = { err, err_len };
	struct instance *s = calloc(1, sizeof *s);
	if (!s || !(s->path = strdup(option(o, n, "path")))) {
		free(s);
		return words_set(w, TUNNEL_UNAVAILABLE, "out of memory");
	}
	s->lock_fd = -1;
	struct database_options db_options = { s->path, atoi(option(o, n, "busy_timeout")) };
	size_t readers = (size_t)atoi(option(o, n, "readers"));
	sqlite3 *db = NULL;
	int rc =
		sqlite3_threadsafe() ? 0 : words_set(w, TUNNEL_CONFIG, "this SQLite library was built without threads");
	if (rc == 0)
		rc = database_prepare(&db_options, &s->lock_fd, &db, w);
	if (rc == 0)
		rc = writer_start(host, db, atoi(option(o, n, "purge_interval")), &s->writer, w);
	if (rc == 0)
		rc = readers_new(host, &db_options, readers, &s->readers, w);
	if (rc == 0)
		rc = events_new(host, &s->events, w);
	if (rc != 0)
		store_close(s);
	else
		*out_instance = s;
	return rc;
}

static int store_get(void *instance, const struct tunnel_call *call, const char *collection, const char *key,
		     tunnel_row_fn *row, void *arg)
{
	struct instance *s = instance;
	struct words w = words_of(call);
	int rc = check_document(w, collection, key);
	return rc == 0 ? readers_get(s->readers, call, collection, key, row, arg) : rc;
}

static int store_put(void *instance, const struct tunnel_call *call, const struct tunnel_put *theirs,
		     uint64_t *out_version)
{
	struct instance *s = instance;
	struct words w = words_of(call);
	struct tunnel_put put;
	COPY_IN(&put, theirs);
	int rc = check_put(w, &put);
	if (rc != 0)
		return rc;
	struct change *c = change_new(CHANGE_PUT, put.collection, put.key, put.value, put.value_len);
	bool whole = c != NULL;
	for (size_t i = 0; whole && i < put.index_count; i++)
		whole = change_add_index(c, put.indexes[i].name, put.indexes[i].value);
	if (!whole) {
		change_free(c);
		return words_set(w, TUNNEL_UNAVAILABLE, "out of memory");
	}
	c->expect_version = put.expect_version;
	c->expires_ms = put.expires_ms;
	return writer_submit(s->writer, call, c, out_version);
}

static int store_del(void *instance, const struct tunnel_call *call, const char *collection, const char *key,
		     uint64_t expect_version)
{
	struct instance *s = instance;
	struct words w = words_of(call);
	int rc = check_del(w, collection, key, expect_version);
	if (rc != 0)
		return rc;
	struct change *c = change_new(CHANGE_DEL, collection, key, NULL, 0);
	if (!c)
		return words_set(w, TUNNEL_UNAVAILABLE, "out of memory");
	c->expect_version = expect_version;
	return writer_submit(s->writer, call, c, NULL);
}

static int store_scan(void *instance, const struct tunnel_call *call, const struct tunnel_scan *theirs,
		      tunnel_row_fn *row, void *arg, char *out_cursor)
{
	struct instance *s = instance;
	struct tunnel_scan scan;
	COPY_IN(&scan, theirs);
	int rc = check_scan(words_of(call), &scan);
	return rc == 0 ? readers_scan(s->readers, call, &scan, row, arg, out_cursor) : rc;
}

static int store_append_many(void *instance, const struct tunnel_call *call, const char *log,
			     const struct tunnel_record *records, size_t n, uint64_t *out_first_seq)
{
	struct instance *s = instance;
	struct words w = words_of(call);
	int rc = check_name(w, "log", log);
	if (rc == 0)
		rc = check_records(w, records, n);
	if (rc != 0)
		return rc;
	struct change *c = change_new_append(log, records, n);
	if (!c)
		return words_set(w, TUNNEL_UNAVAILABLE, "out of memory");
	return writer_submit(s->writer, call, c, out_first_seq);
}

static int store_append(void *instance, const struct tunnel_call *call, const char *log, const char *record, size_t len,
			uint64_t *out_seq)
{
	return store_append_many(instance, call, log, &(struct tunnel_record){ record, len }, 1, out_seq);
}

static int store_read(void *instance, const struct tunnel_call *call, const char *log, uint64_t from, uint32_t limit,
		      tunnel_row_fn *row, void *arg)
{
	struct instance *s = instance;
	struct words w = words_of(call);
	int rc = check_read(w, log, limit);
	return rc == 0 ? readers_read(s->readers, call, log, from, limit, row, arg) : rc;
}

static int store_publish(void *instance, const struct tunnel_call *call, const char *channel, const char *message,
			 size_t len)
{
	struct instance *s = instance;
	struct words w = words_of(call);
	int rc = check_message(w, channel, message, len);
	return rc == 0 ? events_publish(s->events, call, channel, message, len) : rc;
}

static int store_subscribe(void *instance, const struct tunnel_call *call, tunnel_event_fn *event, void *arg)
{
	struct instance *s = instance;
	return events_subscribe(s->events, call, event, arg);
}

static int no_row(void *arg, const struct tunnel_row *row)
{
	(void)arg, (void)row;
	return 0;
}

/* A read, and a write that goes all the way to the disk; probes that arrive together share one commit. */
static int store_health(void *instance, const struct tunnel_call *call)
{
	struct instance *s = instance;
	int rc = readers_get(s->readers, call, "health", "health", no_row, NULL);
	if (rc < 0)
		return rc;
	struct change *c = change_new(CHANGE_PROBE, NULL, NULL, NULL, 0);
	if (!c)
		return words_set(words_of(call), TUNNEL_UNAVAILABLE, "out of memory");
	return writer_submit(s->writer, call, c, NULL);
}

static const struct tunnel_store_ops ops = {
	.size = sizeof ops,
	.get = store_get,
	.put = store_put,
	.del = store_del,
	.scan = store_scan,
	.append = store_append,
	.read = store_read,
	.publish = store_publish,
	.subscribe = store_subscribe,
	.health = store_health,
	.append_many = store_append_many,
};

static const struct tunnel_plugin descriptor = {
	.size = sizeof descriptor,
	.abi = TUNNEL_ABI,
	.kind = TUNNEL_KIND_STORE,
	.threads = TUNNEL_THREADS_PARALLEL,
	.name = "store-sqlite",
	.version = TUNNEL_VERSION,
	.options = options,
	.open = store_open,
	.close = store_close,
	.ops = &ops,
};
TUNNEL_PLUGIN_REGISTER(descriptor)
