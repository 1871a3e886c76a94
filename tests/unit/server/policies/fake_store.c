#include "fake_store.h"

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

struct store *fake_store_new(void)
{
	struct store *s = calloc(1, sizeof *s);
	if (!s)
		abort();
	s->docs = json_object();
	s->log = json_array();
	s->late = json_array();
	return s;
}

void fake_store_free(struct store *s)
{
	json_decref(s->docs);
	json_decref(s->log);
	json_decref(s->late);
	free(s);
}

static json_t *collection(struct store *s, const char *name)
{
	json_t *c = json_object_get(s->docs, name);
	if (!c) {
		c = json_object();
		json_object_set_new(s->docs, name, c);
	}
	return c;
}

/* With the lock held: a change comes behind the one that was left unanswered. */
static void let_late_in(struct store *s)
{
	json_array_extend(s->log, s->late);
	json_array_clear(s->late);
}

static int told(struct err *e, int code)
{
	return err_set(e, code, "the store says %d", code);
}

int store_get_blocking(struct store *s, const char *name, const char *key, json_t **out_doc, uint64_t *out_version,
		       struct err *e)
{
	pthread_mutex_lock(&lock);
	json_t *doc = json_object_get(collection(s, name), key);
	*out_doc = doc ? json_deep_copy(doc) : NULL;
	*out_version = 1;
	pthread_mutex_unlock(&lock);
	return doc ? 0 : told(e, ERR_NOT_FOUND);
}

int store_put_blocking(struct store *s, const char *name, const char *key, const json_t *doc, uint64_t expect,
		       int64_t expires_ms, const struct tunnel_index *indexes, uint64_t *out_version, struct err *e)
{
	(void)expect, (void)expires_ms, (void)indexes, (void)out_version;
	pthread_mutex_lock(&lock);
	let_late_in(s);
	int rc = s->fail_put;
	if (rc == 0) {
		json_object_set_new(collection(s, name), key, json_deep_copy(doc));
		s->puts++;
	}
	pthread_mutex_unlock(&lock);
	return rc ? told(e, rc) : 0;
}

int store_del_blocking(struct store *s, const char *name, const char *key, uint64_t expect, struct err *e)
{
	(void)expect;
	return json_object_del(collection(s, name), key) == 0 ? 0 : told(e, ERR_NOT_FOUND);
}

int store_scan_blocking(struct store *s, const char *name, const char *index, const char *value, uint32_t limit,
			char *cursor, store_doc_fn *fn, void *arg, struct err *e)
{
	(void)index, (void)value, (void)limit;
	if (s->fail_read)
		return told(e, s->fail_read);
	/* pages of two, so that whoever forgets the cursor is found out */
	json_t *c = collection(s, name), *doc;
	const char *key;
	size_t at = 0, from = (size_t)atoi(cursor);
	cursor[0] = '\0';
	json_object_foreach(c, key, doc)
	{
		if (at == from + 2) {
			snprintf(cursor, TUNNEL_CURSOR_MAX, "%zu", at);
			break;
		}
		if (at++ >= from && fn(arg, key, doc, 1) != 0)
			break;
	}
	return 0;
}

int store_append_blocking(struct store *s, const char *log, json_t *const *records, size_t n, size_t *out_n,
			  uint64_t *out_first, struct err *e)
{
	(void)log;
	sched_yield(); /* gives whoever appends without waiting for its turn the chance to show it */
	if (s->on_append)
		s->on_append(s->arg);
	pthread_mutex_lock(&lock);
	let_late_in(s);
	s->appends++;
	int rc = s->fail_append;
	size_t taken = s->singly ? 1 : n;
	*out_first = json_array_size(s->log) + 1;
	for (size_t i = 0; i < taken; i++)
		if (rc == 0 || s->append_anyway)
			json_array_append_new(s->log, json_deep_copy(records[i]));
		else if (s->append_late)
			json_array_append_new(s->late, json_deep_copy(records[i]));
	*out_n = rc == 0 ? taken : 0;
	pthread_mutex_unlock(&lock);
	return rc ? told(e, rc) : 0;
}

int store_read_blocking(struct store *s, const char *log, uint64_t from, uint32_t limit, store_doc_fn *fn, void *arg,
			struct err *e)
{
	(void)log;
	if (s->fail_read)
		return told(e, s->fail_read);
	for (uint64_t seq = from ? from : 1; limit-- && seq <= json_array_size(s->log); seq++) {
		s->rows_read++;
		if (fn(arg, "", json_array_get(s->log, seq - 1), seq) != 0)
			break;
	}
	return 0;
}

int store_publish_blocking(struct store *s, const char *channel, const json_t *message, struct err *e)
{
	(void)channel, (void)message;
	if (s->fail_publish)
		return told(e, s->fail_publish);
	s->published++;
	return 0;
}
