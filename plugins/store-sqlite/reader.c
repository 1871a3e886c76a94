/* Reading: a few connections of their own, each with its statements prepared once, lent to one call at a time. In WAL
 * mode they see the last commit and never wait for the writer. A progress handler ends a read at its deadline. */
#include "sqlite_store.h"

#include <stdlib.h>
#include <string.h>

#define LIVE "(d.expires_ms = 0 OR d.expires_ms > ?2)"

enum statement { GET, SCAN, SCAN_INDEX, READ, STATEMENTS };
static const char *const sql[STATEMENTS] = {
	[GET] = "SELECT d.key, d.value, d.version, d.expires_ms FROM _document d "
		"WHERE d.collection = ?1 AND d.key = ?3 AND " LIVE,
	[SCAN] = "SELECT d.key, d.value, d.version, d.expires_ms FROM _document d "
		 "WHERE d.collection = ?1 AND d.key >= ?3 AND d.key < ?4 AND " LIVE " ORDER BY d.key LIMIT ?5",
	[SCAN_INDEX] =
		"SELECT e.key, d.value, d.version, d.expires_ms FROM _entry e CROSS JOIN _document d ON d.id = e.id "
		"WHERE e.collection = ?1 AND e.name = ?6 AND e.value = ?7 AND e.key >= ?3 AND e.key < ?4 "
		"AND " LIVE " ORDER BY e.key LIMIT ?5",
	[READ] = "SELECT '', record, seq, 0 FROM _log WHERE name = ?1 AND seq >= ?3 ORDER BY seq LIMIT ?5",
};

struct reader {
	sqlite3 *db;
	sqlite3_stmt *s[STATEMENTS];
	const struct tunnel_host *host;
	int64_t deadline_ms; /* of the call that has it now */
	bool lent;
};

struct readers {
	const struct tunnel_host *host;
	int busy_ms;
	size_t count;
	struct reader *at;
	pthread_mutex_t lock;
	pthread_cond_t returned;
};

static int is_late(void *arg)
{
	const struct reader *r = arg;
	return r->deadline_ms && r->host->mono_ms(r->host->ctx) >= r->deadline_ms;
}

static int reader_open(struct reader *r, const struct tunnel_host *host, const struct database_options *o,
		       struct words w)
{
	r->host = host;
	int rc = database_connect(o, true, &r->db, w);
	for (size_t i = 0; rc == 0 && i < STATEMENTS; i++) {
		int code = sqlite3_prepare_v3(r->db, sql[i], -1, SQLITE_PREPARE_PERSISTENT, &r->s[i], NULL);
		if (code != SQLITE_OK)
			rc = words_sqlite(w, r->db, code, "prepare");
	}
	if (rc == 0)
		sqlite3_progress_handler(r->db, 2000, is_late, r);
	return rc;
}

int readers_new(const struct tunnel_host *host, const struct database_options *o, size_t count,
		struct readers **out_readers, struct words w)
{
	struct readers *r = calloc(1, sizeof *r);
	if (r)
		r->at = calloc(count, sizeof *r->at);
	if (!r || !r->at) {
		free(r);
		return words_set(w, TUNNEL_UNAVAILABLE, "out of memory");
	}
	r->host = host;
	r->busy_ms = o->busy_ms;
	r->count = count;
	pthread_mutex_init(&r->lock, NULL);
	cond_init_monotonic(&r->returned);
	int rc = 0;
	for (size_t i = 0; rc == 0 && i < count; i++)
		rc = reader_open(&r->at[i], host, o, w);
	if (rc != 0)
		readers_free(&r);
	else
		*out_readers = r;
	return rc;
}

void readers_free(struct readers **readers)
{
	struct readers *r = *readers;
	if (!r)
		return;
	for (size_t i = 0; i < r->count; i++) {
		for (size_t k = 0; k < STATEMENTS; k++)
			sqlite3_finalize(r->at[i].s[k]);
		sqlite3_close_v2(r->at[i].db);
	}
	pthread_mutex_destroy(&r->lock);
	pthread_cond_destroy(&r->returned);
	free(r->at);
	free(r);
	*readers = NULL;
}

static struct reader *find_idle(struct readers *r)
{
	for (size_t i = 0; i < r->count; i++)
		if (!r->at[i].lent)
			return &r->at[i];
	return NULL;
}

static struct reader *borrow(struct readers *r, const struct tunnel_call *call)
{
	struct reader *one;
	pthread_mutex_lock(&r->lock);
	while (!(one = find_idle(r))) {
		int64_t left = time_left(r->host, call->deadline_ms, 60000);
		if (left == 0)
			break;
		wait_on(&r->returned, &r->lock, left);
	}
	if (one)
		one->lent = true;
	pthread_mutex_unlock(&r->lock);
	if (!one) {
		words_set(words_of(call), TUNNEL_TIMEOUT, "the deadline passed while all readers were busy");
		return NULL;
	}
	one->deadline_ms = call->deadline_ms;
	sqlite3_busy_timeout(one->db, (int)time_left(r->host, call->deadline_ms, r->busy_ms));
	return one;
}

static void give_back(struct readers *r, struct reader *one, sqlite3_stmt *s)
{
	sqlite3_reset(s);
	sqlite3_clear_bindings(s);
	pthread_mutex_lock(&r->lock);
	one->lent = false;
	pthread_cond_signal(&r->returned);
	pthread_mutex_unlock(&r->lock);
}

static int to_caller(sqlite3_stmt *s, tunnel_row_fn *row, void *arg)
{
	struct tunnel_row out = { .size = sizeof out };
	out.key = (const char *)sqlite3_column_text(s, 0);
	out.value = (const char *)sqlite3_column_text(s, 1);
	out.value_len = (size_t)sqlite3_column_bytes(s, 1);
	out.version = (uint64_t)sqlite3_column_int64(s, 2);
	out.expires_ms = sqlite3_column_int64(s, 3);
	return out.key && out.value ? row(arg, &out) : -1;
}

int readers_get(struct readers *r, const struct tunnel_call *call, const char *collection, const char *key,
		tunnel_row_fn *row, void *arg)
{
	struct reader *one = borrow(r, call);
	if (!one)
		return TUNNEL_TIMEOUT;
	sqlite3_stmt *s = one->s[GET];
	sqlite3_bind_text(s, 1, collection, -1, SQLITE_STATIC);
	sqlite3_bind_int64(s, 2, r->host->wall_ms(r->host->ctx));
	sqlite3_bind_text(s, 3, key, -1, SQLITE_STATIC);
	int rc = sqlite3_step(s), result = TUNNEL_OK;
	if (rc == SQLITE_ROW)
		to_caller(s, row, arg);
	else
		result = rc == SQLITE_DONE ? TUNNEL_NOT_FOUND : words_sqlite(words_of(call), one->db, rc, "get");
	give_back(r, one, s);
	return result;
}

/* One row more than asked for is fetched: whether it is there tells whether there is a further page. */
static int walk_page(struct reader *one, sqlite3_stmt *s, const struct tunnel_call *call, uint32_t limit,
		     tunnel_row_fn *row, void *arg, char *cursor)
{
	char last[KEY_MAX_LEN + 1] = "";
	uint32_t given = 0;
	bool stopped = false;
	int rc;
	while ((rc = sqlite3_step(s)) == SQLITE_ROW && given < limit && !stopped) {
		const char *key = (const char *)sqlite3_column_text(s, 0);
		if (cursor && key && strlen(key) < sizeof last)
			memcpy(last, key, strlen(key) + 1);
		given++;
		stopped = to_caller(s, row, arg) != 0;
	}
	if (rc != SQLITE_ROW && rc != SQLITE_DONE)
		return words_sqlite(words_of(call), one->db, rc, cursor ? "scan" : "read");
	if (cursor && rc == SQLITE_ROW)
		cursor_after(last, cursor);
	return TUNNEL_OK;
}

int readers_scan(struct readers *r, const struct tunnel_call *call, const struct tunnel_scan *scan, tunnel_row_fn *row,
		 void *arg, char *out_cursor)
{
	struct key_range range;
	char cursor[TUNNEL_CURSOR_MAX] = "";
	int rc = key_range_of(words_of(call), scan, &range);
	if (rc != 0)
		return rc;
	struct reader *one = borrow(r, call);
	if (!one)
		return TUNNEL_TIMEOUT;
	sqlite3_stmt *s = one->s[scan->index ? SCAN_INDEX : SCAN];
	sqlite3_bind_text(s, 1, scan->collection, -1, SQLITE_STATIC);
	sqlite3_bind_int64(s, 2, r->host->wall_ms(r->host->ctx));
	sqlite3_bind_text(s, 3, range.low, -1, SQLITE_STATIC);
	sqlite3_bind_text(s, 4, range.high, -1, SQLITE_STATIC);
	sqlite3_bind_int64(s, 5, (int64_t)scan->limit + 1);
	if (scan->index) {
		sqlite3_bind_text(s, 6, scan->index, -1, SQLITE_STATIC);
		sqlite3_bind_text(s, 7, scan->index_value, -1, SQLITE_STATIC);
	}
	rc = walk_page(one, s, call, scan->limit, row, arg, cursor);
	give_back(r, one, s);
	if (rc == TUNNEL_OK)
		memcpy(out_cursor, cursor, strlen(cursor) + 1);
	return rc;
}

int readers_read(struct readers *r, const struct tunnel_call *call, const char *log, uint64_t from, uint32_t limit,
		 tunnel_row_fn *row, void *arg)
{
	if (from > INT64_MAX)
		return TUNNEL_OK; /* no log gets that long */
	struct reader *one = borrow(r, call);
	if (!one)
		return TUNNEL_TIMEOUT;
	sqlite3_stmt *s = one->s[READ];
	sqlite3_bind_text(s, 1, log, -1, SQLITE_STATIC);
	sqlite3_bind_int64(s, 3, (int64_t)from);
	sqlite3_bind_int64(s, 5, limit);
	int rc = walk_page(one, s, call, limit, row, arg, NULL);
	give_back(r, one, s);
	return rc;
}
