/* The store of server/store.h in memory, so that a case can take it away and bring it back, and "restart" the services
 * around it. It keeps what a real one promises: versions, expiry, indexes, key order, logs without gaps. */
#include "fakes.h"

#include "base/clock.h"
#include "server/store.h"

#include <stdlib.h>
#include <string.h>

struct entry {
	char collection[65], key[257];
	json_t *doc, *indexes;
	uint64_t version;
	int64_t expires_ms;
};

static struct entry *entries;
static size_t entry_count;
static json_t *logs; /* name → array */
static int puts_left = -1, appends_left = -1;
static bool away;
static int64_t ahead_ms;
static int crash_in; /* calls; 0: never */
static bool crash_after;

void fake_store_reset(void)
{
	for (size_t i = 0; i < entry_count; i++) {
		json_decref(entries[i].doc);
		json_decref(entries[i].indexes);
	}
	free(entries);
	entries = NULL;
	entry_count = 0;
	ahead_ms = 0;
	json_decref(logs);
	logs = json_object();
	fake_store_heal();
}

void fake_store_away(void)
{
	away = true;
}

static void (*hang_call)(void *arg);
static void *hang_arg;

void fake_store_hang(void (*meanwhile)(void *arg), void *arg)
{
	away = true;
	hang_call = meanwhile;
	hang_arg = arg;
}

void fake_store_fail_after(int puts, int appends)
{
	puts_left = puts;
	appends_left = appends;
}

static const char *then_collection;
static void (*then_call)(void *arg);
static void *then_arg;

void fake_store_then(const char *collection, void (*then)(void *arg), void *arg)
{
	then_collection = collection;
	then_call = then;
	then_arg = arg;
}

static const char *unanswered;

void fake_store_unanswered(const char *collection)
{
	unanswered = collection;
}

void fake_store_heal(void)
{
	unanswered = NULL;
	away = false;
	hang_call = NULL;
	crash_in = 0;
	puts_left = appends_left = -1;
}

void fake_store_ahead(int64_t ms)
{
	ahead_ms = ms;
}

void fake_store_crash_at(int n, bool after)
{
	crash_in = n;
	crash_after = after;
}

bool fake_store_crashed(void)
{
	return away;
}

/* Counts a call; is it the last? Then nothing comes back of it. */
static bool dies(bool after)
{
	if (crash_in == 0 || crash_after != after || --crash_in > 0)
		return false;
	away = true;
	return true;
}

/* What a call that changed something returns. */
static int done(const char *where, struct err *e)
{
	if (unanswered && strcmp(unanswered, where) == 0) {
		unanswered = NULL;
		return err_set(e, ERR_TIMEOUT, "the store did not answer in time");
	}
	return dies(true) ? err_set(e, ERR_UNAVAILABLE, "the store is away") : 0;
}

static int gone(int *left, struct err *e)
{
	void (*call_now)(void *arg) = hang_call;
	dies(false);
	hang_call = NULL;
	if (call_now)
		call_now(hang_arg);
	if (away || (left && *left == 0))
		return err_set(e, ERR_UNAVAILABLE, "the store is away");
	if (left && *left > 0)
		--*left;
	return 0;
}

static struct entry *find(const char *collection, const char *key)
{
	for (size_t i = 0; i < entry_count; i++)
		if (strcmp(entries[i].collection, collection) == 0 && strcmp(entries[i].key, key) == 0)
			return entries[i].expires_ms && entries[i].expires_ms <= clock_wall_ms() + ahead_ms
				       ? NULL
				       : &entries[i];
	return NULL;
}

static void drop(const char *collection, const char *key)
{
	for (size_t i = 0; i < entry_count; i++)
		if (strcmp(entries[i].collection, collection) == 0 && strcmp(entries[i].key, key) == 0) {
			json_decref(entries[i].doc);
			json_decref(entries[i].indexes);
			memmove(&entries[i], &entries[i + 1], (entry_count - i - 1) * sizeof *entries);
			entry_count--;
			return;
		}
}

int store_get_blocking(struct store *store, const char *collection, const char *key, json_t **out_doc,
		       uint64_t *out_version, struct err *e)
{
	(void)store;
	if (gone(NULL, e))
		return ERR_UNAVAILABLE;
	struct entry *found = find(collection, key);
	if (!found)
		return err_set(e, ERR_NOT_FOUND, "no document %s/%s", collection, key);
	*out_doc = json_deep_copy(found->doc);
	if (out_version)
		*out_version = found->version;
	return 0;
}

int store_put_blocking(struct store *store, const char *collection, const char *key, const json_t *doc, uint64_t expect,
		       int64_t expires_ms, const struct tunnel_index *indexes, uint64_t *out_version, struct err *e)
{
	(void)store;
	if (gone(strcmp(collection, "sessions") == 0 ? &puts_left : NULL, e))
		return ERR_UNAVAILABLE;
	struct entry *found = find(collection, key);
	uint64_t version = found ? found->version : 0;
	if (expect != TUNNEL_VERSION_ANY && expect != version)
		return err_set(e, ERR_CONFLICT, "version is %llu", (unsigned long long)version);
	drop(collection, key);
	size_t at = 0;
	while (at < entry_count && strcmp(entries[at].key, key) < 0)
		at++;
	entries = realloc(entries, (entry_count + 1) * sizeof *entries);
	memmove(&entries[at + 1], &entries[at], (entry_count - at) * sizeof *entries);
	entry_count++;
	struct entry *n = &entries[at];
	*n = (struct entry){
		.doc = json_deep_copy(doc), .indexes = json_object(), .version = version + 1, .expires_ms = expires_ms
	};
	snprintf(n->collection, sizeof n->collection, "%s", collection);
	snprintf(n->key, sizeof n->key, "%s", key);
	for (; indexes && indexes->name; indexes++)
		json_object_set_new(n->indexes, indexes->name, json_string(indexes->value));
	if (out_version)
		*out_version = n->version;
	if (then_call && strcmp(collection, then_collection) == 0) {
		void (*call_now)(void *arg) = then_call;
		then_call = NULL;
		call_now(then_arg);
	}
	return done(collection, e);
}

int store_del_blocking(struct store *store, const char *collection, const char *key, uint64_t expect, struct err *e)
{
	(void)store;
	if (gone(strcmp(collection, "sessions") == 0 ? &puts_left : NULL, e))
		return ERR_UNAVAILABLE;
	struct entry *found = find(collection, key);
	if (!found)
		return err_set(e, ERR_NOT_FOUND, "no document %s/%s", collection, key);
	if (expect != TUNNEL_VERSION_ANY && expect != found->version)
		return err_set(e, ERR_CONFLICT, "another version");
	drop(collection, key);
	return done(collection, e);
}

/* The cursor is the last key of the page. */
int store_scan_blocking(struct store *store, const char *collection, const char *index, const char *value,
			uint32_t limit, char *cursor, store_doc_fn *fn, void *arg, struct err *e)
{
	(void)store;
	char after[257] = "", last[257] = "";
	uint32_t n = 0;
	if (gone(NULL, e))
		return ERR_UNAVAILABLE;
	snprintf(after, sizeof after, "%.256s", cursor);
	*cursor = '\0';
	for (size_t i = 0; i < entry_count; i++) {
		struct entry *one = &entries[i];
		const char *indexed = index ? json_string_value(json_object_get(one->indexes, index)) : NULL;
		if (strcmp(one->collection, collection) != 0 || !find(collection, one->key) ||
		    strcmp(one->key, after) <= 0)
			continue;
		if (index ? !indexed || strcmp(indexed, value) != 0 : value && strncmp(one->key, value, strlen(value)))
			continue;
		if (n++ == limit) {
			snprintf(cursor, TUNNEL_CURSOR_MAX, "%s", last);
			return 0;
		}
		snprintf(last, sizeof last, "%s", one->key);
		json_t *copy = json_deep_copy(one->doc);
		int stop = fn(arg, one->key, copy, one->version);
		json_decref(copy);
		if (stop)
			return 0;
	}
	return 0;
}

int store_append_blocking(struct store *store, const char *log, json_t *const *records, size_t n, size_t *out_n,
			  uint64_t *out_first, struct err *e)
{
	(void)store;
	*out_n = 0;
	if (gone(&appends_left, e))
		return ERR_UNAVAILABLE;
	if (!json_object_get(logs, log))
		json_object_set_new(logs, log, json_array());
	*out_first = json_array_size(json_object_get(logs, log)) + 1;
	for (; *out_n < n; ++*out_n)
		json_array_append_new(json_object_get(logs, log), json_deep_copy(records[*out_n]));
	return done(log, e);
}

int store_read_blocking(struct store *store, const char *log, uint64_t from, uint32_t limit, store_doc_fn *fn,
			void *arg, struct err *e)
{
	(void)store;
	if (gone(NULL, e))
		return ERR_UNAVAILABLE;
	json_t *records = json_object_get(logs, log);
	uint32_t n = 0;
	for (size_t i = from ? from - 1 : 0; i < json_array_size(records) && n++ < limit; i++) {
		json_t *copy = json_deep_copy(json_array_get(records, i));
		int stop = fn(arg, "", copy, i + 1);
		json_decref(copy);
		if (stop)
			return 0;
	}
	return 0;
}

int store_publish_blocking(struct store *store, const char *channel, const json_t *message, struct err *e)
{
	(void)store, (void)channel, (void)message;
	return gone(NULL, e);
}

int store_health_blocking(struct store *store, struct err *e)
{
	(void)store;
	return gone(NULL, e);
}
