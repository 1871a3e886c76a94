/* A session store in a Redis server, for any number of nodes. What an answer promised is there as far as the server
 * keeps it: appendonly and appendfsync, and with wait_replicas on replicas, too. docs/store-redis.md is for who runs
 * it. */
#include "changer.h"
#include "events.h"
#include "reader.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct instance {
	struct redis_options o;
	struct owner owner;
	int stop_fd;
	struct master *master;
	struct queue *queue;
	struct changer *changer;
	struct pool *pool;
	struct events *events;
};

static void store_close(void *instance)
{
	struct instance *s = instance;
	if (!s)
		return;
	if (s->stop_fd >= 0)
		eventfd_write(s->stop_fd, 1);
	events_free(&s->events);
	changer_stop(&s->changer);
	pool_free(&s->pool);
	queue_free(&s->queue);
	master_free(&s->master);
	if (s->stop_fd >= 0)
		close(s->stop_fd);
	redis_options_clear(&s->o);
	free(s);
}

static void name_owner(const struct tunnel_host *host, struct instance *s)
{
	unsigned char random[16];
	host->random(host->ctx, random, sizeof random);
	for (size_t i = 0; i < sizeof random; i++)
		snprintf(s->owner.instance + 2 * i, 3, "%02x", random[i]);
	s->owner.prefix = s->o.prefix;
}

static int start(const struct tunnel_host *host, struct instance *s, struct words w)
{
	struct dial dial = { .host = host,
			     .tls = &s->o.tls,
			     .account = &s->o.account,
			     .database = s->o.database,
			     .stop_fd = s->stop_fd,
			     .connect_ms = s->o.connect_ms };
	int rc = s->stop_fd < 0 ? words_set(w, TUNNEL_UNAVAILABLE, "no more descriptors") : 0;
	if (rc == 0)
		rc = master_new(host, &s->master, w);
	if (rc == 0)
		rc = queue_new(host, &s->queue, w);
	if (rc == 0)
		rc = changer_start(host, &s->o, &s->owner, s->master, s->queue, s->stop_fd, &s->changer, w);
	if (rc == 0)
		rc = pool_new(&dial, s->master, s->o.connections, s->o.answer_ms, &s->pool, w);
	if (rc == 0)
		rc = events_new(&dial, &s->o, s->master, &s->events, w);
	return rc;
}

static int store_open(const struct tunnel_host *host, const struct tunnel_option *options, size_t n,
		      void **out_instance, char *err, size_t err_len)
{
	struct words w = { err, err_len };
	struct instance *s = calloc(1, sizeof *s);
	if (!s)
		return words_set(w, TUNNEL_UNAVAILABLE, "out of memory");
	s->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	int rc = redis_options_take(&s->o, options, n, w);
	if (rc == 0) {
		name_owner(host, s);
		rc = start(host, s, w);
	}
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
	int rc = check_document(words_of(call), collection, key);
	return rc == 0 ? reader_get(s->pool, s->o.prefix, call, collection, key, row, arg) : rc;
}

static int submit(struct instance *s, const struct tunnel_call *call, struct change *change, uint64_t *out_number)
{
	return queue_submit(s->queue, s->master, call, change, out_number);
}

static int store_put(void *instance, const struct tunnel_call *call, const struct tunnel_put *theirs,
		     uint64_t *out_version)
{
	struct instance *s = instance;
	struct tunnel_put put;
	COPY_IN(&put, theirs);
	int rc = check_put(words_of(call), &put);
	return rc == 0 ? submit(s, call, change_new_put(&s->owner, &put), out_version) : rc;
}

static int store_del(void *instance, const struct tunnel_call *call, const char *collection, const char *key,
		     uint64_t expect_version)
{
	struct instance *s = instance;
	int rc = check_del(words_of(call), collection, key, expect_version);
	return rc == 0 ? submit(s, call, change_new_del(&s->owner, collection, key, expect_version), NULL) : rc;
}

static int store_scan(void *instance, const struct tunnel_call *call, const struct tunnel_scan *theirs,
		      tunnel_row_fn *row, void *arg, char *out_cursor)
{
	struct instance *s = instance;
	struct tunnel_scan scan;
	COPY_IN(&scan, theirs);
	int rc = check_scan(words_of(call), &scan);
	return rc == 0 ? reader_scan(s->pool, s->o.prefix, call, &scan, row, arg, out_cursor) : rc;
}

static int store_append_many(void *instance, const struct tunnel_call *call, const char *log,
			     const struct tunnel_record *records, size_t n, uint64_t *out_first_seq)
{
	struct instance *s = instance;
	struct words w = words_of(call);
	int rc = check_name(w, "log", log);
	if (rc == 0)
		rc = check_records(w, records, n);
	return rc == 0 ? submit(s, call, change_new_append(&s->owner, log, records, n), out_first_seq) : rc;
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
	int rc = check_read(words_of(call), log, limit);
	return rc == 0 ? reader_read(s->pool, s->o.prefix, call, log, from, limit, row, arg) : rc;
}

static int store_publish(void *instance, const struct tunnel_call *call, const char *channel, const char *message,
			 size_t len)
{
	struct instance *s = instance;
	int rc = check_message(words_of(call), channel, message, len);
	return rc == 0 ? events_publish(s->pool, &s->o, call, channel, message, len) : rc;
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

/* A read, and a write that goes the whole way of a change: fence, disk, replicas. */
static int store_health(void *instance, const struct tunnel_call *call)
{
	struct instance *s = instance;
	int rc = reader_get(s->pool, s->o.prefix, call, "health", "health", no_row, NULL);
	return rc < 0 ? rc : submit(s, call, change_new_probe(&s->owner), NULL);
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
	.name = "store-redis",
	.version = TUNNEL_VERSION,
	.options = redis_option_table,
	.open = store_open,
	.close = store_close,
	.ops = &ops,
};
TUNNEL_PLUGIN_REGISTER(descriptor)
