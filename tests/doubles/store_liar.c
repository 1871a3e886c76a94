/* A store that answers OK and does not do what OK means: no row, too many rows, no version, an endless cursor. Only
 * what is named "late" it does, but after the deadline. */
#include "double.h"

#include <time.h>
#include <tunnel/store.h>

static const struct tunnel_row row = { .size = sizeof row, .key = "k", .value = "{}", .value_len = 2, .version = 1 };

static int liar_open(const struct tunnel_host *host, const struct tunnel_option *options, size_t n, void **out_instance,
		     char *err, size_t err_len)
{
	(void)options, (void)n, (void)err, (void)err_len;
	*out_instance = (void *)(uintptr_t)host;
	return TUNNEL_OK;
}

static int be_late(const struct tunnel_host *host, const struct tunnel_call *call, uint64_t *out)
{
	while (host->mono_ms(host->ctx) < call->deadline_ms)
		nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
	*out = 11;
	return TUNNEL_OK;
}

static int liar_get(void *instance, const struct tunnel_call *call, const char *collection, const char *key,
		    tunnel_row_fn *fn, void *arg)
{
	(void)instance, (void)call, (void)collection;
	if (strcmp(key, "denied") == 0)
		return TUNNEL_DENIED; /* a result, but none of get's */
	if (strcmp(key, "twice") == 0) {
		fn(arg, &row);
		fn(arg, &row);
	}
	if (strcmp(key, "not-json") == 0) {
		struct tunnel_row bad = row;
		bad.value = "{]";
		fn(arg, &bad);
	}
	return TUNNEL_OK;
}

static int liar_put(void *instance, const struct tunnel_call *call, const struct tunnel_put *put, uint64_t *out_version)
{
	return strcmp(put->key, "late") == 0 ? be_late(instance, call, out_version) : TUNNEL_OK;
}

static int liar_del(void *instance, const struct tunnel_call *call, const char *collection, const char *key,
		    uint64_t expect_version)
{
	(void)instance, (void)call, (void)collection, (void)key, (void)expect_version;
	return 4711;
}

static int liar_scan(void *instance, const struct tunnel_call *call, const struct tunnel_scan *scan, tunnel_row_fn *fn,
		     void *arg, char *out_cursor)
{
	(void)instance, (void)call;
	if (scan->prefix) {
		memset(out_cursor, 'c', TUNNEL_CURSOR_MAX);
		return TUNNEL_OK;
	}
	for (uint32_t i = 0; i <= scan->limit; i++)
		fn(arg, &row);
	return TUNNEL_OK;
}

static int liar_append(void *instance, const struct tunnel_call *call, const char *log, const char *record, size_t len,
		       uint64_t *out_seq)
{
	(void)record, (void)len;
	return strcmp(log, "late") == 0 ? be_late(instance, call, out_seq) : TUNNEL_OK;
}

static int liar_read(void *instance, const struct tunnel_call *call, const char *log, uint64_t from, uint32_t limit,
		     tunnel_row_fn *fn, void *arg)
{
	(void)instance, (void)call, (void)log, (void)from;
	for (uint32_t i = 0; i <= limit; i++)
		fn(arg, &row);
	return TUNNEL_OK;
}

static int liar_publish(void *instance, const struct tunnel_call *call, const char *channel, const char *message,
			size_t len)
{
	(void)instance, (void)call, (void)channel, (void)message, (void)len;
	return TUNNEL_NOT_FOUND;
}

static int liar_subscribe(void *instance, const struct tunnel_call *call, tunnel_event_fn *event, void *arg)
{
	(void)instance, (void)call, (void)event, (void)arg;
	return TUNNEL_UNAVAILABLE; /* without a word */
}

static int liar_health(void *instance, const struct tunnel_call *call)
{
	(void)instance, (void)call;
	return -99;
}

static const struct tunnel_store_ops ops = {
	.size = sizeof ops,
	.get = liar_get,
	.put = liar_put,
	.del = liar_del,
	.scan = liar_scan,
	.append = liar_append,
	.read = liar_read,
	.publish = liar_publish,
	.subscribe = liar_subscribe,
	.health = liar_health,
};

static const struct tunnel_plugin descriptor = {
	.size = sizeof descriptor,
	.abi = TUNNEL_ABI,
	.kind = TUNNEL_KIND_STORE,
	.threads = TUNNEL_THREADS_PARALLEL,
	.name = "store-liar",
	.open = liar_open,
	.close = double_close,
	.ops = &ops,
};
TUNNEL_PLUGIN_REGISTER(descriptor)
