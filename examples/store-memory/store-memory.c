/* An example of a session store outside tunnel's tree: everything in the memory of one server, gone when it ends. For
 * reading and for trying out; sessions outlive a server only with a store that keeps them.
 *
 * Documents stand in one array, sorted by collection and key, so that a search is a bisection and a scan a walk. The
 * plugin is SERIAL: the host makes one call at a time, and nothing here needs a lock. A real store says PARALLEL.
 *
 * Build: make. Needs the headers (pkg-config tunnel-plugin) and jansson, which checks that values are JSON. Check it:
 * tunnel-plugin-check --volatile ./store-memory.so */
#include <inttypes.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tunnel/store.h>

#define NAME_MAX_LEN 64
#define KEY_MAX_LEN 256
#define VALUE_MAX_LEN (1024 * 1024)
#define INDEXES_MAX 8
#define PAGE_MAX 1000

/* What the caller's struct has of ours: it may come from an older or a newer host. */
#define COPY_IN(to, from)                                                                        \
	do {                                                                                     \
		memset((to), 0, sizeof *(to));                                                   \
		memcpy((to), (from), (from)->size < sizeof *(to) ? (from)->size : sizeof *(to)); \
	} while (0)

struct text {
	char *at;
	size_t len;
};

struct doc {
	char *collection, *key;
	struct text value;
	uint64_t version;
	int64_t expires_ms; /* 0: never */
	char *index_name[INDEXES_MAX], *index_value[INDEXES_MAX];
	size_t index_count;
};

struct log {
	struct log *next;
	char *name;
	struct text *records; /* number n is at n - 1 */
	size_t count;
};

struct instance {
	const struct tunnel_host *host;
	struct doc **docs; /* by collection, then key */
	size_t count;
	struct log *logs;
	tunnel_event_fn *event;
	void *event_arg;
};

static int is_open; /* open and close come on one thread at a time */

/* --- rules of store.h --- */

static int say(const struct tunnel_call *call, int result, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	if (call->err && call->err_len)
		vsnprintf(call->err, call->err_len, fmt, ap);
	va_end(ap);
	return result;
}

static int no_memory(const struct tunnel_call *call)
{
	return say(call, TUNNEL_UNAVAILABLE, "out of memory");
}

static int check_name(const struct tunnel_call *call, const char *what, const char *name)
{
	size_t n = name ? strlen(name) : 0;
	if (n == 0 || n > NAME_MAX_LEN || name[0] < 'a' || name[0] > 'z' ||
	    strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_") != n)
		return say(call, TUNNEL_INVALID, "%s name; allowed: a-z, then a-z, 0-9 and _, at most %d bytes", what,
			   NAME_MAX_LEN);
	return 0;
}

static int check_key(const struct tunnel_call *call, const char *key)
{
	size_t n = key ? strlen(key) : 0;
	int good = n >= 1 && n <= KEY_MAX_LEN;
	for (size_t i = 0; good && i < n; i++)
		good = key[i] > ' ' && key[i] < 0x7f;
	return good ? 0
		    : say(call, TUNNEL_INVALID, "key; allowed: 1 to %d printable ASCII without blanks", KEY_MAX_LEN);
}

static int check_json(const struct tunnel_call *call, const char *text, size_t len)
{
	json_t *json = text && len && len <= VALUE_MAX_LEN
			       ? json_loadb(text, len, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL)
			       : NULL;
	if (!json)
		return say(call, TUNNEL_INVALID, "value of %zu bytes; allowed: a JSON text of at most %d", len,
			   VALUE_MAX_LEN);
	json_decref(json);
	return 0;
}

static int check_index(const struct tunnel_call *call, const char *name, const char *value)
{
	size_t n = value ? strlen(value) : 0;
	int rc = check_name(call, "index", name);
	if (rc == 0 && (n == 0 || n > KEY_MAX_LEN))
		rc = say(call, TUNNEL_INVALID, "value of index %s; allowed: 1 to %d bytes", name, KEY_MAX_LEN);
	return rc;
}

/* --- documents --- */

static void doc_free(struct doc *d)
{
	if (!d)
		return;
	for (size_t i = 0; i < d->index_count; i++) {
		free(d->index_name[i]);
		free(d->index_value[i]);
	}
	free(d->collection);
	free(d->key);
	free(d->value.at);
	free(d);
}

static int text_copy(struct text *out, const char *from, size_t len)
{
	out->at = malloc(len + 1);
	if (!out->at)
		return -1;
	memcpy(out->at, from, len);
	out->at[len] = '\0';
	out->len = len;
	return 0;
}

static struct doc *doc_new(const struct tunnel_put *put)
{
	struct doc *d = calloc(1, sizeof *d);
	if (!d)
		return NULL;
	d->collection = strdup(put->collection);
	d->key = strdup(put->key);
	int whole = d->collection && d->key && text_copy(&d->value, put->value, put->value_len) == 0;
	for (; whole && d->index_count < put->index_count; d->index_count++) {
		size_t i = d->index_count;
		d->index_name[i] = strdup(put->indexes[i].name);
		d->index_value[i] = strdup(put->indexes[i].value);
		whole = d->index_name[i] && d->index_value[i];
	}
	if (whole)
		return d;
	doc_free(d);
	return NULL;
}

/* The first place whose document is not before collection and key. */
static size_t place_of(const struct instance *s, const char *collection, const char *key)
{
	size_t low = 0, high = s->count;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		int order = strcmp(s->docs[middle]->collection, collection);
		if (order == 0)
			order = strcmp(s->docs[middle]->key, key);
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static int is_at(const struct instance *s, size_t place, const char *collection, const char *key)
{
	return place < s->count && strcmp(s->docs[place]->collection, collection) == 0 &&
	       strcmp(s->docs[place]->key, key) == 0;
}

static int is_alive(const struct instance *s, const struct doc *d)
{
	return d->expires_ms == 0 || d->expires_ms > s->host->wall_ms(s->host->ctx);
}

static void remove_at(struct instance *s, size_t place)
{
	doc_free(s->docs[place]);
	memmove(&s->docs[place], &s->docs[place + 1], (s->count - place - 1) * sizeof(struct doc *));
	s->count--;
}

/* Where the document is, if it is and lives; an expired one is removed on the way. */
static int find(struct instance *s, const char *collection, const char *key, size_t *out_place)
{
	*out_place = place_of(s, collection, key);
	if (!is_at(s, *out_place, collection, key))
		return 0;
	if (is_alive(s, s->docs[*out_place]))
		return 1;
	remove_at(s, *out_place);
	return 0;
}

static int give(const struct doc *d, tunnel_row_fn *row, void *arg)
{
	struct tunnel_row r = { .size = sizeof r,
				.key = d->key,
				.value = d->value.at,
				.value_len = d->value.len,
				.version = d->version,
				.expires_ms = d->expires_ms };
	return row(arg, &r);
}

static int get(void *instance, const struct tunnel_call *call, const char *collection, const char *key,
	       tunnel_row_fn *row, void *arg)
{
	struct instance *s = instance;
	size_t place;
	int rc = check_name(call, "collection", collection);
	if (rc == 0)
		rc = check_key(call, key);
	if (rc != 0)
		return rc;
	if (!find(s, collection, key, &place))
		return say(call, TUNNEL_NOT_FOUND, "there is no such document");
	give(s->docs[place], row, arg);
	return TUNNEL_OK;
}

static int check_put(const struct tunnel_call *call, const struct tunnel_put *put)
{
	int rc = check_name(call, "collection", put->collection);
	if (rc == 0)
		rc = check_key(call, put->key);
	if (rc == 0)
		rc = check_json(call, put->value, put->value_len);
	if (rc == 0 && put->expires_ms < 0)
		rc = say(call, TUNNEL_INVALID, "expires_ms is negative");
	if (rc == 0 && put->index_count > INDEXES_MAX)
		rc = say(call, TUNNEL_INVALID, "%zu indexes; allowed: at most %d", put->index_count, INDEXES_MAX);
	for (size_t i = 0; rc == 0 && i < put->index_count; i++)
		rc = check_index(call, put->indexes[i].name, put->indexes[i].value);
	return rc;
}

static int put(void *instance, const struct tunnel_call *call, const struct tunnel_put *theirs, uint64_t *out_version)
{
	struct instance *s = instance;
	struct tunnel_put p;
	size_t place;
	COPY_IN(&p, theirs);
	int rc = check_put(call, &p);
	if (rc != 0)
		return rc;
	int exists = find(s, p.collection, p.key, &place);
	uint64_t present = exists ? s->docs[place]->version : 0;
	if (p.expect_version != TUNNEL_VERSION_ANY && p.expect_version != present)
		return say(call, TUNNEL_CONFLICT, "the version is %" PRIu64 "; expected %" PRIu64, present,
			   p.expect_version);
	struct doc *d = doc_new(&p);
	struct doc **docs = exists ? s->docs : realloc(s->docs, (s->count + 1) * sizeof(struct doc *));
	if (docs)
		s->docs = docs;
	if (!d || !docs) {
		doc_free(d);
		return no_memory(call);
	}
	d->version = present + 1;
	d->expires_ms = p.expires_ms;
	if (exists) {
		doc_free(s->docs[place]);
	} else {
		memmove(&s->docs[place + 1], &s->docs[place], (s->count - place) * sizeof(struct doc *));
		s->count++;
	}
	s->docs[place] = d;
	if (out_version)
		*out_version = d->version;
	return TUNNEL_OK;
}

static int del(void *instance, const struct tunnel_call *call, const char *collection, const char *key,
	       uint64_t expect_version)
{
	struct instance *s = instance;
	size_t place;
	int rc = check_name(call, "collection", collection);
	if (rc == 0)
		rc = check_key(call, key);
	if (rc == 0 && expect_version == TUNNEL_VERSION_NONE)
		rc = say(call, TUNNEL_INVALID, "del of a document that must not exist");
	if (rc != 0)
		return rc;
	if (!find(s, collection, key, &place))
		return say(call, TUNNEL_NOT_FOUND, "there is no such document");
	if (expect_version != TUNNEL_VERSION_ANY && expect_version != s->docs[place]->version)
		return say(call, TUNNEL_CONFLICT, "the version is %" PRIu64 "; expected %" PRIu64,
			   s->docs[place]->version, expect_version);
	remove_at(s, place);
	return TUNNEL_OK;
}

/* --- scan --- */

static int check_scan(const struct tunnel_call *call, const struct tunnel_scan *scan)
{
	int rc = check_name(call, "collection", scan->collection);
	if (rc == 0 && (scan->limit < 1 || scan->limit > PAGE_MAX))
		rc = say(call, TUNNEL_INVALID, "limit is %u; allowed: 1 to %d", (unsigned)scan->limit, PAGE_MAX);
	if (rc == 0 && (!scan->index != !scan->index_value || (scan->index && scan->prefix)))
		rc = say(call, TUNNEL_INVALID, "allowed: index and index_value, or prefix");
	if (rc == 0 && scan->index)
		rc = check_index(call, scan->index, scan->index_value);
	return rc;
}

static int matches(const struct instance *s, const struct doc *d, const struct tunnel_scan *scan)
{
	if (!is_alive(s, d))
		return 0;
	if (!scan->index)
		return !scan->prefix || strncmp(d->key, scan->prefix, strlen(scan->prefix)) == 0;
	for (size_t i = 0; i < d->index_count; i++)
		if (strcmp(d->index_name[i], scan->index) == 0 && strcmp(d->index_value[i], scan->index_value) == 0)
			return 1;
	return 0;
}

/* The cursor is the last key that was given: what comes and goes before it changes nothing. */
static int scan(void *instance, const struct tunnel_call *call, const struct tunnel_scan *theirs, tunnel_row_fn *row,
		void *arg, char *out_cursor)
{
	struct instance *s = instance;
	struct tunnel_scan sc;
	COPY_IN(&sc, theirs);
	int rc = check_scan(call, &sc);
	if (rc != 0)
		return rc;
	const char *after = sc.cursor ? sc.cursor : "";
	const struct doc *last = NULL;
	int stopped = 0;
	out_cursor[0] = '\0';
	for (size_t i = place_of(s, sc.collection, after), given = 0; i < s->count; i++) {
		const struct doc *d = s->docs[i];
		if (strcmp(d->collection, sc.collection) != 0)
			break;
		if (strcmp(d->key, after) == 0 || !matches(s, d, &sc))
			continue;
		if (stopped || given == sc.limit) { /* there is a further page */
			snprintf(out_cursor, TUNNEL_CURSOR_MAX, "%s", last->key);
			break;
		}
		stopped = give(d, row, arg);
		last = d;
		given++;
	}
	return TUNNEL_OK;
}

/* --- logs --- */

static struct log *find_log(struct instance *s, const char *name, int create)
{
	struct log *l = s->logs;
	while (l && strcmp(l->name, name) != 0)
		l = l->next;
	if (l || !create || !(l = calloc(1, sizeof *l)))
		return l;
	l->name = strdup(name);
	if (!l->name) {
		free(l);
		return NULL;
	}
	l->next = s->logs;
	s->logs = l;
	return l;
}

static int append_one(const struct tunnel_call *call, struct log *l, const char *record, size_t len)
{
	struct text *records = realloc(l->records, (l->count + 1) * sizeof *records);
	if (!records)
		return no_memory(call);
	l->records = records;
	if (text_copy(&l->records[l->count], record, len) != 0)
		return no_memory(call);
	l->count++;
	return TUNNEL_OK;
}

static int append(void *instance, const struct tunnel_call *call, const char *log, const char *record, size_t len,
		  uint64_t *out_seq)
{
	int rc = check_name(call, "log", log);
	if (rc == 0)
		rc = check_json(call, record, len);
	if (rc != 0)
		return rc;
	struct log *l = find_log(instance, log, 1);
	rc = l ? append_one(call, l, record, len) : no_memory(call);
	if (rc == 0 && out_seq)
		*out_seq = l->count;
	return rc;
}

#if TUNNEL_ABI_MINOR >= 1
static int append_many(void *instance, const struct tunnel_call *call, const char *log,
		       const struct tunnel_record *records, size_t n, uint64_t *out_first_seq)
{
	int rc = check_name(call, "log", log);
	if (rc == 0 && (n < 1 || n > TUNNEL_RECORDS_MAX))
		rc = say(call, TUNNEL_INVALID, "%zu records; allowed: 1 to %d", n, TUNNEL_RECORDS_MAX);
	for (size_t i = 0; rc == 0 && i < n; i++)
		rc = check_json(call, records[i].text, records[i].len);
	if (rc != 0)
		return rc;
	struct log *l = find_log(instance, log, 1);
	if (!l)
		return no_memory(call);
	size_t before = l->count;
	for (size_t i = 0; rc == 0 && i < n; i++)
		rc = append_one(call, l, records[i].text, records[i].len);
	while (rc != 0 && l->count > before) /* all or none */
		free(l->records[--l->count].at);
	*out_first_seq = before + 1;
	return rc;
}
#endif

static int read_log(void *instance, const struct tunnel_call *call, const char *log, uint64_t from, uint32_t limit,
		    tunnel_row_fn *row, void *arg)
{
	int rc = check_name(call, "log", log);
	if (rc == 0 && (limit < 1 || limit > PAGE_MAX))
		rc = say(call, TUNNEL_INVALID, "limit is %u; allowed: 1 to %d", (unsigned)limit, PAGE_MAX);
	if (rc != 0)
		return rc;
	const struct log *l = find_log(instance, log, 0);
	for (uint64_t seq = from ? from : 1; l && limit && seq <= l->count; seq++, limit--) {
		struct tunnel_row r = { .size = sizeof r,
					.key = "",
					.value = l->records[seq - 1].at,
					.value_len = l->records[seq - 1].len,
					.version = seq };
		if (row(arg, &r) != 0)
			break;
	}
	return TUNNEL_OK;
}

/* --- events --- */

/* There is one node, so whoever publishes tells the subscriber. */
static int publish(void *instance, const struct tunnel_call *call, const char *channel, const char *message, size_t len)
{
	struct instance *s = instance;
	int rc = check_name(call, "channel", channel);
	if (rc == 0 && s->event)
		s->event(s->event_arg, channel, message, len);
	return rc;
}

static int subscribe(void *instance, const struct tunnel_call *call, tunnel_event_fn *event, void *arg)
{
	struct instance *s = instance;
	if (s->event)
		return say(call, TUNNEL_INVALID, "there is a subscriber already");
	s->event = event;
	s->event_arg = arg;
	return TUNNEL_OK;
}

static int health(void *instance, const struct tunnel_call *call)
{
	(void)instance, (void)call;
	return TUNNEL_OK;
}

/* --- open and close --- */

static void close_instance(void *instance)
{
	struct instance *s = instance;
	for (size_t i = 0; i < s->count; i++)
		doc_free(s->docs[i]);
	free(s->docs);
	while (s->logs) {
		struct log *l = s->logs;
		s->logs = l->next;
		for (size_t i = 0; i < l->count; i++)
			free(l->records[i].at);
		free(l->records);
		free(l->name);
		free(l);
	}
	free(s);
	is_open = 0;
}

static int open_instance(const struct tunnel_host *host, const struct tunnel_option *options, size_t n,
			 void **out_instance, char *err, size_t err_len)
{
	(void)options, (void)n;
	if (is_open) {
		snprintf(err, err_len, "it is open already; a second one would not see what the first has");
		return TUNNEL_CONFIG;
	}
	struct instance *s = calloc(1, sizeof *s);
	if (!s) {
		snprintf(err, err_len, "out of memory");
		return TUNNEL_UNAVAILABLE;
	}
	s->host = host;
	is_open = 1;
	host->log(host->ctx, TUNNEL_LOG_WARN, "sessions and the audit log end with this process");
	*out_instance = s;
	return TUNNEL_OK;
}

static const struct tunnel_store_ops ops = {
	.size = sizeof ops,
	.get = get,
	.put = put,
	.del = del,
	.scan = scan,
	.append = append,
	.read = read_log,
	.publish = publish,
	.subscribe = subscribe,
	.health = health,
#if TUNNEL_ABI_MINOR >= 1
	.append_many = append_many,
#endif
};

static const struct tunnel_plugin descriptor = {
	.size = sizeof descriptor,
	.abi = TUNNEL_ABI,
	.kind = TUNNEL_KIND_STORE,
	.threads = TUNNEL_THREADS_SERIAL,
	.name = "store-memory",
	.version = "1.0",
	.options = NULL,
	.open = open_instance,
	.close = close_instance,
	.ops = &ops,
};
TUNNEL_PLUGIN_REGISTER(descriptor)
