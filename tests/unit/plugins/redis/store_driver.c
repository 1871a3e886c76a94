/* store_driver PLUGIN.so [key=value …]: a store plugin in the server's host, driven from outside. Each line of stdin is
 * a JSON object with "op" and "id", done on a thread of its own; each answer is a line on stdout with that id. The
 * plugin's log goes to stderr. It ends with its stdin. */
#include "base/clock.h"
#include "base/log.h"
#include "server/plugin_host.h"

#include <jansson.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct plugin *plugin;
static pthread_mutex_t out_lock = PTHREAD_MUTEX_INITIALIZER, count_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t fewer = PTHREAD_COND_INITIALIZER;
static unsigned working;
static atomic_bool ending;

static void say(json_t *line)
{
	char *text = json_dumps(line, JSON_COMPACT);
	pthread_mutex_lock(&out_lock);
	puts(text);
	fflush(stdout);
	pthread_mutex_unlock(&out_lock);
	free(text);
	json_decref(line);
}

static const char *result_name(int result)
{
	static const char *const good[] = { "OK", "DENIED", "NOT_FOUND", "CONFLICT", "NOT_MINE" };
	static const char *const bad[] = { "", "UNAVAILABLE", "TIMEOUT", "CONFIG", "INVALID", "INTERNAL" };
	return result >= 0 ? good[result] : bad[-result];
}

struct work {
	json_t *ask, *answer;
	char words[256];
	struct tunnel_call call;
};

static const char *text_of(const struct work *w, const char *name)
{
	return json_string_value(json_object_get(w->ask, name));
}

static int64_t number_of(const struct work *w, const char *name, int64_t otherwise)
{
	json_t *n = json_object_get(w->ask, name);
	return n ? json_integer_value(n) : otherwise;
}

static void set_number(struct work *w, int result, uint64_t number)
{
	if (result == TUNNEL_OK)
		json_object_set_new(w->answer, "number", json_integer((json_int_t)number));
}

static int take_row(void *arg, const struct tunnel_row *row)
{
	json_t *one = json_pack("[s, s%, I]", row->key, row->value, row->value_len, (json_int_t)row->version);
	json_array_append_new(json_object_get(arg, "rows"), one);
	return 0;
}

static int do_put(struct work *w)
{
	struct tunnel_index indexes[8];
	json_t *pairs = json_object_get(w->ask, "indexes");
	uint64_t version = 0;
	struct tunnel_put put = { .size = sizeof put,
				  .collection = text_of(w, "collection"),
				  .key = text_of(w, "key"),
				  .value = text_of(w, "value"),
				  .value_len = strlen(text_of(w, "value")),
				  .expect_version = (uint64_t)number_of(w, "expect", -1),
				  .expires_ms = number_of(w, "expires_ms", 0),
				  .indexes = indexes,
				  .index_count = json_array_size(pairs) };
	for (size_t i = 0; i < put.index_count; i++)
		indexes[i] = (struct tunnel_index){ json_string_value(json_array_get(json_array_get(pairs, i), 0)),
						    json_string_value(json_array_get(json_array_get(pairs, i), 1)) };
	int rc = plugin_store_put_blocking(plugin, &w->call, &put, &version);
	set_number(w, rc, version);
	return rc;
}

static int do_del(struct work *w)
{
	return plugin_store_del_blocking(plugin, &w->call, text_of(w, "collection"), text_of(w, "key"),
					 (uint64_t)number_of(w, "expect", -1));
}

static int do_get(struct work *w)
{
	return plugin_store_get_blocking(plugin, &w->call, text_of(w, "collection"), text_of(w, "key"), take_row,
					 w->answer);
}

static int do_scan(struct work *w)
{
	char cursor[TUNNEL_CURSOR_MAX] = "";
	struct tunnel_scan scan = { .size = sizeof scan,
				    .collection = text_of(w, "collection"),
				    .index = text_of(w, "index"),
				    .index_value = text_of(w, "index_value"),
				    .prefix = text_of(w, "prefix"),
				    .cursor = text_of(w, "cursor"),
				    .limit = (uint32_t)number_of(w, "limit", 1000) };
	int rc = plugin_store_scan_blocking(plugin, &w->call, &scan, take_row, w->answer, cursor);
	json_object_set_new(w->answer, "cursor", json_string(cursor));
	return rc;
}

static int do_append(struct work *w)
{
	struct tunnel_record records[TUNNEL_RECORDS_MAX];
	json_t *texts = json_object_get(w->ask, "records");
	size_t n = json_array_size(texts), done = 0;
	uint64_t first = 0;
	for (size_t i = 0; i < n; i++)
		records[i] = (struct tunnel_record){ json_string_value(json_array_get(texts, i)),
						     json_string_length(json_array_get(texts, i)) };
	int rc = plugin_store_append_many_blocking(plugin, &w->call, text_of(w, "log"), records, n, &done, &first);
	set_number(w, rc, first);
	return rc;
}

static int do_read(struct work *w)
{
	return plugin_store_read_blocking(plugin, &w->call, text_of(w, "log"), (uint64_t)number_of(w, "from", 1),
					  (uint32_t)number_of(w, "limit", 1000), take_row, w->answer);
}

static int do_publish(struct work *w)
{
	const char *message = text_of(w, "message");
	return plugin_store_publish_blocking(plugin, &w->call, text_of(w, "channel"), message, strlen(message));
}

static void on_event(void *arg, const char *channel, const char *message, size_t len)
{
	(void)arg;
	say(json_pack("{s:s, s:s%}", "event", channel, "message", message, len));
}

static int do_subscribe(struct work *w)
{
	return plugin_store_subscribe_blocking(plugin, &w->call, on_event, NULL);
}

static int do_health(struct work *w)
{
	return plugin_store_health_blocking(plugin, &w->call);
}

/* Without end: document "d<n of thread>" gets the values 1, 2, …, and each value is appended to the log "storm". What
 * was answered is told after it was. */
static int do_storm(struct work *w)
{
	char key[32], value[64];
	int64_t thread = number_of(w, "thread", 0);
	snprintf(key, sizeof key, "d%d", (int)thread);
	for (int n = 1; !atomic_load(&ending); n++) {
		struct tunnel_record record = { value,
						(size_t)snprintf(value, sizeof value, "[%d,%d]", (int)thread, n) };
		struct tunnel_put put = { .size = sizeof put,
					  .collection = "storm",
					  .key = key,
					  .value = value,
					  .value_len = record.len,
					  .expect_version = TUNNEL_VERSION_ANY };
		uint64_t version = 0, seq = 0;
		size_t done = 0;
		w->call.deadline_ms = clock_mono_ms() + 2000;
		bool stored = plugin_store_put_blocking(plugin, &w->call, &put, &version) == TUNNEL_OK;
		w->call.deadline_ms = clock_mono_ms() + 2000;
		bool logged = plugin_store_append_many_blocking(plugin, &w->call, "storm", &record, 1, &done, &seq) ==
			      TUNNEL_OK;
		say(json_pack("{s:I, s:i, s:I, s:I}", "storm", (json_int_t)thread, "n", n, "version",
			      (json_int_t)(stored ? version : 0), "seq", (json_int_t)(logged ? seq : 0)));
	}
	return 0;
}

/* So many puts of documents of so many bytes; the answer's took_ms is of interest. */
static int do_fill(struct work *w)
{
	char key[64];
	const struct tunnel_index indexes[] = { { "principal", key }, { "state", "active" } };
	size_t bytes = (size_t)number_of(w, "bytes", 100);
	char *value = malloc(bytes + 1);
	int rc = 0;
	memset(value, 'x', bytes);
	value[0] = value[bytes - 1] = '"';
	for (int64_t i = 0; rc == 0 && i < number_of(w, "count", 1000); i++) {
		snprintf(key, sizeof key, "k-%d-%08d", (int)number_of(w, "thread", 0), (int)i);
		struct tunnel_put put = { .size = sizeof put,
					  .collection = "filled",
					  .key = key,
					  .value = value,
					  .value_len = bytes,
					  .expect_version = TUNNEL_VERSION_NONE,
					  .indexes = indexes,
					  .index_count = (size_t)number_of(w, "indexes", 0) };
		w->call.deadline_ms = clock_mono_ms() + 30000;
		rc = plugin_store_put_blocking(plugin, &w->call, &put, NULL);
	}
	free(value);
	return rc;
}

static const struct {
	const char *name;
	int (*run)(struct work *w);
} ops[] = { { "put", do_put },       { "get", do_get },         { "del", do_del },
	    { "scan", do_scan },     { "append", do_append },   { "read", do_read },
	    { "health", do_health }, { "publish", do_publish }, { "subscribe", do_subscribe },
	    { "storm", do_storm },   { "fill", do_fill } };

static void *work_main(void *arg)
{
	struct work *w = arg;
	int64_t began = clock_mono_ms();
	w->call = (struct tunnel_call){ .size = sizeof w->call,
					.deadline_ms = began + number_of(w, "within_ms", 30000),
					.err = w->words,
					.err_len = sizeof w->words };
	w->answer = json_pack("{s:O, s:[]}", "id", json_object_get(w->ask, "id"), "rows");
	for (size_t i = 0; i < sizeof ops / sizeof *ops; i++)
		if (strcmp(ops[i].name, text_of(w, "op")) == 0)
			json_object_set_new(w->answer, "result", json_string(result_name(ops[i].run(w))));
	json_object_set_new(w->answer, "words", json_string(w->words));
	json_object_set_new(w->answer, "took_ms", json_integer(clock_mono_ms() - began));
	say(w->answer);
	json_decref(w->ask);
	free(w);
	pthread_mutex_lock(&count_lock);
	working--;
	pthread_cond_signal(&fewer);
	pthread_mutex_unlock(&count_lock);
	return NULL;
}

static void start_work(const char *line)
{
	pthread_t thread;
	struct work *w = calloc(1, sizeof *w);
	w->ask = json_loads(line, 0, NULL);
	pthread_mutex_lock(&count_lock);
	working++;
	pthread_mutex_unlock(&count_lock);
	if (!w->ask || pthread_create(&thread, NULL, work_main, w) != 0)
		abort();
	pthread_detach(thread);
}

int main(int argc, char **argv)
{
	struct conf_pair pairs[32];
	char name[] = "plugin", where[] = "the command line", line[65536];
	struct conf_section section = { .pairs = pairs, .n = 1, .where = where };
	struct err e = { 0 };
	pairs[0] = (struct conf_pair){ name, argv[1], where };
	for (int i = 2; i < argc && section.n < 32; i++) {
		char *equals = strchr(argv[i], '=');
		*equals = '\0';
		pairs[section.n++] = (struct conf_pair){ argv[i], equals + 1, where };
	}
	log_init("store_driver", LOG_LEVEL_INFO, LOG_FORMAT_PLAIN);
	if (argc < 2 || plugin_open("/", &section, TUNNEL_KIND_STORE, NULL, &plugin, &e) != 0) {
		say(json_pack("{s:s}", "refused", e.text));
		return 1;
	}
	say(json_pack("{s:b}", "opened", 1));
	while (fgets(line, sizeof line, stdin))
		start_work(line);
	atomic_store(&ending, true);
	pthread_mutex_lock(&count_lock);
	while (working)
		pthread_cond_wait(&fewer, &count_lock);
	pthread_mutex_unlock(&count_lock);
	plugin_close(&plugin);
	return 0;
}
