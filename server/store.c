/* JSON on one side, the store plugin's bytes on the other. Every call gets the same deadline; every result that is not
 * an answer becomes an error whose text begins with "store". */
#include "server/store.h"

#include "base/clock.h"
#include "base/json.h"
#include "base/limits.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define HEALTH_MS 1000 /* so long an answer about its health stands */

struct store {
	struct plugin *plugin;
	pthread_mutex_t lock; /* of the rest */
	int64_t asking_ms;    /* since when somebody asks how it is; 0: nobody does */
	int health;           /* what the last one heard */
	int64_t asked_ms;     /* when he asked; 0: nobody has */
	struct err why;
};

int store_open(const char *plugin_dir, const struct conf_section *section, struct metrics *metrics,
	       struct store **out_store, struct err *e)
{
	struct store *s = calloc(1, sizeof *s);
	if (!s)
		return err_set(e, ERR_NOMEM, "out of memory");
	pthread_mutex_init(&s->lock, NULL);
	int rc = plugin_open(plugin_dir, section, TUNNEL_KIND_STORE, metrics, &s->plugin, e);
	if (rc != 0) {
		store_close(&s);
		return rc;
	}
	*out_store = s;
	return 0;
}

void store_close(struct store **store)
{
	if (!store || !*store)
		return;
	plugin_close(&(*store)->plugin);
	pthread_mutex_destroy(&(*store)->lock);
	free(*store);
	*store = NULL;
}

struct plugin *store_plugin(struct store *store)
{
	return store->plugin;
}

int store_reload(struct store *store, struct err *e)
{
	return plugin_reload(store->plugin, e);
}

/* One call: its deadline and the plugin's words. */
struct once {
	char words[200];
	struct tunnel_call call;
};

static const struct tunnel_call *begin(struct once *o)
{
	o->words[0] = '\0';
	o->call = (struct tunnel_call){ .size = sizeof o->call,
					.deadline_ms = clock_mono_ms() + LIMIT_STORE_CALL_MS,
					.err = o->words,
					.err_len = sizeof o->words };
	return &o->call;
}

static int end(const struct once *o, int rc, struct err *e)
{
	int code;
	switch (rc) {
	case TUNNEL_OK:
		return 0;
	case TUNNEL_NOT_FOUND:
		return err_set(e, ERR_NOT_FOUND, "store: %s", o->words[0] ? o->words : "no such document");
	case TUNNEL_CONFLICT:
		return err_set(e, ERR_CONFLICT, "store: %s", o->words[0] ? o->words : "somebody changed it in between");
	case TUNNEL_UNAVAILABLE:
		code = ERR_UNAVAILABLE;
		break;
	case TUNNEL_TIMEOUT:
		code = ERR_TIMEOUT;
		break;
	default:
		code = ERR_INTERNAL;
	}
	return err_set(e, code, "store: %s", o->words);
}

/* Rows of the plugin to JSON. A row that is not JSON ends the walk with an error: the store gave back what nobody put.
 */
struct rows {
	const char *what; /* collection or log, for texts */
	store_doc_fn *fn;
	void *arg;
	int rc;
	struct err *e;
};

static int on_row(void *arg, const struct tunnel_row *row)
{
	struct rows *r = arg;
	json_t *doc = NULL;
	r->rc = json_parse(row->value, row->value_len, &doc, r->e);
	if (r->rc != 0) {
		r->rc = err_set(r->e, ERR_INTERNAL, "store: %s %s, version %llu, is not JSON", r->what,
				row->key ? row->key : "", (unsigned long long)row->version);
		return 1;
	}
	int stop = r->fn(r->arg, row->key ? row->key : "", doc, row->version);
	json_decref(doc);
	return stop;
}

struct one_doc {
	json_t *doc;
	uint64_t version;
};

static int keep_doc(void *arg, const char *key, json_t *doc, uint64_t version)
{
	struct one_doc *o = arg;
	(void)key;
	o->doc = json_incref(doc);
	o->version = version;
	return 0;
}

int store_get_blocking(struct store *store, const char *collection, const char *key, json_t **out_doc,
		       uint64_t *out_version, struct err *e)
{
	struct once o;
	struct one_doc one = { NULL, 0 };
	struct rows r = { collection, keep_doc, &one, 0, e };
	int rc = plugin_store_get_blocking(store->plugin, begin(&o), collection, key, on_row, &r);
	rc = end(&o, rc, e);
	if (rc == 0)
		rc = r.rc;
	if (rc != 0) {
		json_decref(one.doc);
		return rc;
	}
	if (out_doc)
		*out_doc = one.doc;
	else
		json_decref(one.doc);
	if (out_version)
		*out_version = one.version;
	return 0;
}

int store_put_blocking(struct store *store, const char *collection, const char *key, const json_t *doc, uint64_t expect,
		       int64_t expires_ms, const struct tunnel_index *indexes, uint64_t *out_version, struct err *e)
{
	struct once o;
	char *text = json_text(doc);
	if (!text)
		return err_set(e, ERR_NOMEM, "out of memory");
	struct tunnel_put put = { .size = sizeof put,
				  .collection = collection,
				  .key = key,
				  .value = text,
				  .value_len = strlen(text),
				  .expect_version = expect,
				  .expires_ms = expires_ms,
				  .indexes = indexes };
	while (indexes && indexes[put.index_count].name)
		put.index_count++;
	int rc = plugin_store_put_blocking(store->plugin, begin(&o), &put, out_version);
	free(text);
	return end(&o, rc, e);
}

int store_del_blocking(struct store *store, const char *collection, const char *key, uint64_t expect, struct err *e)
{
	struct once o;
	return end(&o, plugin_store_del_blocking(store->plugin, begin(&o), collection, key, expect), e);
}

int store_scan_blocking(struct store *store, const char *collection, const char *index, const char *value,
			uint32_t limit, char *cursor, store_doc_fn *fn, void *arg, struct err *e)
{
	struct once o;
	struct rows r = { collection, fn, arg, 0, e };
	char next[TUNNEL_CURSOR_MAX] = "";
	struct tunnel_scan scan = { .size = sizeof scan,
				    .collection = collection,
				    .index = index,
				    .index_value = index ? value : NULL,
				    .prefix = index ? NULL : value,
				    .cursor = cursor,
				    .limit = limit };
	int rc = plugin_store_scan_blocking(store->plugin, begin(&o), &scan, on_row, &r, next);
	rc = end(&o, rc, e);
	if (rc == 0)
		rc = r.rc;
	if (rc == 0)
		memcpy(cursor, next, sizeof next);
	return rc;
}

/* The texts of as many records, from the first on, as may go together. */
static size_t record_texts(json_t *const *records, size_t n, struct tunnel_record *out)
{
	size_t bytes = 0, taken = 0;
	while (taken < n && taken < STORE_RECORDS_MAX) {
		char *text = json_text(records[taken]);
		size_t len = text ? strlen(text) : 0;
		if (!text || (taken && bytes + len > TUNNEL_RECORDS_BYTES_MAX)) {
			free(text);
			break;
		}
		out[taken++] = (struct tunnel_record){ text, len };
		bytes += len;
	}
	return taken;
}

int store_append_blocking(struct store *store, const char *log, json_t *const *records, size_t n, size_t *out_n,
			  uint64_t *out_first, struct err *e)
{
	struct once o;
	struct tunnel_record texts[STORE_RECORDS_MAX];
	size_t taken = record_texts(records, n, texts);
	*out_n = 0;
	if (!taken)
		return err_set(e, ERR_NOMEM, "out of memory");
	int rc = plugin_store_append_many_blocking(store->plugin, begin(&o), log, texts, taken, out_n, out_first);
	for (size_t i = 0; i < taken; i++)
		free((char *)(size_t)texts[i].text);
	return end(&o, rc, e);
}

int store_read_blocking(struct store *store, const char *log, uint64_t from, uint32_t limit, store_doc_fn *fn,
			void *arg, struct err *e)
{
	struct once o;
	struct rows r = { log, fn, arg, 0, e };
	int rc = plugin_store_read_blocking(store->plugin, begin(&o), log, from, limit, on_row, &r);
	rc = end(&o, rc, e);
	return rc != 0 ? rc : r.rc;
}

int store_publish_blocking(struct store *store, const char *channel, const json_t *message, struct err *e)
{
	struct once o;
	char *text = json_text(message);
	if (!text)
		return err_set(e, ERR_NOMEM, "out of memory");
	int rc = plugin_store_publish_blocking(store->plugin, begin(&o), channel, text, strlen(text));
	free(text);
	return end(&o, rc, e);
}

int store_subscribe_blocking(struct store *store, tunnel_event_fn *fn, void *arg, struct err *e)
{
	struct once o;
	return end(&o, plugin_store_subscribe_blocking(store->plugin, begin(&o), fn, arg), e);
}

/* What was heard last. With the lock. */
static int last_heard(const struct store *store, int64_t now_ms, struct err *e)
{
	if (!store->asked_ms || (store->asking_ms && now_ms - store->asking_ms > LIMIT_STORE_CALL_MS))
		return err_set(e, ERR_UNAVAILABLE, "store: it has not answered yet");
	if (store->health && e)
		*e = store->why;
	return store->health;
}

/* Strangers may ask, and a store may write to find out: so it is asked by one at a time, and not all the time. */
int store_health_blocking(struct store *store, struct err *e)
{
	struct once o;
	struct err why = { 0 };
	pthread_mutex_lock(&store->lock);
	int64_t now_ms = clock_mono_ms();
	bool fresh = store->asked_ms && now_ms - store->asked_ms < HEALTH_MS;
	if (!fresh && !store->asking_ms) {
		store->asking_ms = now_ms;
		pthread_mutex_unlock(&store->lock);
		int health = end(&o, plugin_store_health_blocking(store->plugin, begin(&o)), &why);
		pthread_mutex_lock(&store->lock);
		store->asking_ms = 0;
		store->asked_ms = now_ms;
		store->health = health;
		store->why = why;
	}
	int rc = last_heard(store, now_ms, e);
	pthread_mutex_unlock(&store->lock);
	return rc;
}
