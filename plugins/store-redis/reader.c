/* Pages are fetched in pieces: small at first, then as large as brings about PIECE_BYTES, so that neither the server
 * nor we hold a page of a thousand large documents at once. */
#include "reader.h"
#include "scripts.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define PIECE_FIRST 32u
#define PIECE_MAX 256u
#define PIECE_BYTES (1024u * 1024)

struct reading {
	struct errand errand;
	const char *prefix;
	const char *collection, *key; /* or the log */
	const struct tunnel_scan *scan;
	uint64_t from;
	uint32_t limit;
	tunnel_row_fn *row;
	void *arg;
	char *cursor;
};

static int poisoned(struct errand *e, const char *doing, const char *why)
{
	e->poisoned = true;
	return words_set(e->w, TUNNEL_INTERNAL, "%s: %s", doing, why);
}

static int damaged(struct errand *e, const char *doing)
{
	return poisoned(e, doing, "what is stored is not in the form that this store writes");
}

static int to_caller(struct reading *r, const char *key, const struct stored *stored)
{
	struct tunnel_row out = { .size = sizeof out,
				  .key = key,
				  .value = stored->value,
				  .value_len = stored->value_len,
				  .version = stored->version,
				  .expires_ms = stored->expires_ms };
	r->errand.told = true;
	return r->row(r->arg, &out);
}

static bool whole_number(const redisReply *text, size_t from, uint64_t *out)
{
	const char *at = text->str + from, *end = text->str + text->len + 1; /* its NUL, too */
	return from < text->len && number_read(&at, end, '\0', out) && at == end;
}

/* Of TIME: seconds and microseconds. */
static bool read_time(const redisReply *time, int64_t *out_ms)
{
	const redisReply *seconds = time ? reply_text(time, 0) : NULL, *micros = time ? reply_text(time, 1) : NULL;
	uint64_t s, us;
	if (!seconds || !micros || !whole_number(seconds, 0, &s) || !whole_number(micros, 0, &us) ||
	    s >= INT64_MAX / 1000 || us >= 1000000)
		return false;
	*out_ms = (int64_t)(s * 1000 + us / 1000);
	return true;
}

/* The server's time comes with the document: it says whether that has expired. */
static int run_get(struct errand *e, struct conn *c)
{
	struct reading *r = (struct reading *)e;
	redisReply *time = NULL, *doc = NULL;
	struct stored stored;
	command_begin(conn_out(c), 1);
	command_text(conn_out(c), "TIME");
	command_begin(conn_out(c), 2);
	command_text(conn_out(c), "GET");
	command_format(conn_out(c), KEY_DOCUMENT, r->prefix, r->collection, r->key);
	int rc = errand_ask(e, c, "TIME", &time);
	if (!e->poisoned) {
		int second = errand_hear(e, c, "GET", &doc);
		rc = rc == 0 ? second : rc;
	}
	int64_t now_ms = 0;
	if (rc == 0 && doc->type == REDIS_REPLY_NIL)
		rc = TUNNEL_NOT_FOUND;
	else if (rc == 0 && !read_time(time, &now_ms))
		rc = poisoned(e, "get", "TIME is answered with what is no time");
	else if (rc == 0 && (doc->type != REDIS_REPLY_STRING || !stored_read(doc->str, doc->len, &stored)))
		rc = damaged(e, "get");
	if (rc == 0) {
		if (stored.expires_ms && stored.expires_ms <= now_ms)
			rc = TUNNEL_NOT_FOUND;
		else
			to_caller(r, r->key, &stored);
	}
	freeReplyObject(time);
	freeReplyObject(doc);
	return rc;
}

int reader_get(struct pool *p, const char *prefix, const struct tunnel_call *call, const char *collection,
	       const char *key, tunnel_row_fn *row, void *arg)
{
	struct reading r = {
		.errand.run = run_get, .prefix = prefix, .collection = collection, .key = key, .row = row, .arg = arg
	};
	return pool_run(p, &r.errand, call);
}

static uint32_t next_piece(uint32_t piece, size_t bytes)
{
	if (bytes >= PIECE_BYTES)
		return piece > 1 ? piece / 2 : 1;
	return bytes < PIECE_BYTES / 4 && piece < PIECE_MAX ? piece * 2 : piece;
}

static void say_page(struct reading *r, struct conn *c, const char *low, const char *high, uint32_t members,
		     bool by_text)
{
	const struct tunnel_scan *scan = r->scan;
	struct command *out = conn_out(c);
	script_begin(out, SCRIPT_PAGE, by_text, 1, 6);
	if (scan->index)
		command_format(out, KEY_ENTRY, r->prefix, scan->collection, scan->index, scan->index_value);
	else
		command_format(out, KEY_COLLECTION, r->prefix, scan->collection);
	command_format(out, KEY_DOCUMENTS, r->prefix, scan->collection);
	command_text(out, low);
	command_text(out, high);
	command_format(out, "%u", members);
	command_format(out, "%u", PIECE_BYTES);
}

static int fetch_page(struct reading *r, struct conn *c, const char *low, const char *high, uint32_t members,
		      redisReply **out_reply)
{
	char first[256] = "";
	struct errand *e = &r->errand;
	struct words kept = e->w;
	say_page(r, c, low, high, members, false);
	e->w = (struct words){ first, sizeof first };
	int rc = errand_ask(e, c, "scan", out_reply);
	e->w = kept;
	if (rc != 0 && strstr(first, "NOSCRIPT")) {
		say_page(r, c, low, high, members, true);
		return errand_ask(e, c, "scan", out_reply);
	}
	return rc == 0 ? 0 : words_set(e->w, rc, "%s", first);
}

/* How far a walk is. */
struct walk {
	char low[KEY_MAX_LEN + 2], last[KEY_MAX_LEN + 1];
	uint32_t given;
	size_t bytes; /* of the last piece */
	bool stopped, further;
};

static bool is_key(const redisReply *reply)
{
	return reply->len <= KEY_MAX_LEN && strlen(reply->str) == reply->len;
}

/* A piece that is not the last one leads further, or there would be no end. */
static bool leads_on(const char *low, const redisReply *last, bool end)
{
	return end || (last->len && (low[0] != '(' || strcmp(last->str, low + 1) > 0));
}

/* One row more than asked for is fetched: whether it is there tells whether there is a further page. */
static int take_piece(struct reading *r, struct walk *walk, const redisReply *reply)
{
	walk->bytes = 0;
	for (size_t i = 2; i + 1 < reply->elements && !walk->further; i += 2) {
		const redisReply *key = reply_text(reply, i), *doc = reply_text(reply, i + 1);
		struct stored stored;
		if (!key || !doc || !is_key(key) || strcmp(key->str, walk->last) <= 0 ||
		    !stored_read(doc->str, doc->len, &stored))
			return damaged(&r->errand, "scan");
		walk->further = walk->stopped || walk->given == r->scan->limit;
		if (walk->further)
			break;
		memcpy(walk->last, key->str, key->len + 1);
		walk->bytes += doc->len;
		walk->given++;
		walk->stopped = to_caller(r, key->str, &stored) != 0;
	}
	return 0;
}

static int run_scan(struct errand *e, struct conn *c)
{
	struct reading *r = (struct reading *)e;
	struct key_range range;
	struct walk walk = { .given = 0 };
	char low[KEY_MAX_LEN + 4], high[KEY_MAX_LEN + 4];
	uint32_t piece = PIECE_FIRST;
	int rc = key_range_of(e->w, r->scan, &range);
	snprintf(low, sizeof low, range.low[0] ? "[%s" : "-", range.low);
	snprintf(high, sizeof high, "(%s", range.high);
	for (bool end = false; rc == 0 && !end && !walk.further;) {
		redisReply *reply = NULL;
		uint32_t left = r->scan->limit + 1 - walk.given;
		rc = fetch_page(r, c, low, high, walk.stopped ? 1 : piece < left ? piece : left, &reply);
		if (rc != 0)
			break;
		const redisReply *last = reply_text(reply, 1);
		end = reply_number(reply, 0) != 0;
		if (!last || !is_key(last) || !leads_on(low, last, end))
			rc = damaged(e, "scan");
		else
			rc = take_piece(r, &walk, reply);
		if (rc == 0)
			snprintf(low, sizeof low, "(%s", last->str);
		piece = next_piece(piece, walk.bytes);
		freeReplyObject(reply);
	}
	if (rc == 0 && walk.further)
		cursor_after(walk.last, r->cursor);
	return rc;
}

int reader_scan(struct pool *p, const char *prefix, const struct tunnel_call *call, const struct tunnel_scan *scan,
		tunnel_row_fn *row, void *arg, char *out_cursor)
{
	char cursor[TUNNEL_CURSOR_MAX] = "";
	struct reading r = {
		.errand.run = run_scan, .prefix = prefix, .scan = scan, .row = row, .arg = arg, .cursor = cursor
	};
	int rc = pool_run(p, &r.errand, call);
	if (rc == TUNNEL_OK)
		memcpy(out_cursor, cursor, strlen(cursor) + 1);
	return rc;
}

/* An entry of a stream: its id "0-7", and its one field with the record. */
static bool read_entry(const redisReply *entry, struct stored *out)
{
	const redisReply *id = reply_text(entry, 0);
	uint64_t version;
	if (!id || strncmp(id->str, "0-", 2) != 0 || !whole_number(id, 2, &version) || entry->elements != 2)
		return false;
	const redisReply *record = reply_text(entry->element[1], 1);
	if (!record)
		return false;
	*out = (struct stored){ .version = version, .value = record->str, .value_len = record->len };
	return true;
}

static void say_range(struct reading *r, struct conn *c, uint32_t records)
{
	command_begin(conn_out(c), 6);
	command_text(conn_out(c), "XRANGE");
	command_format(conn_out(c), KEY_LOG, r->prefix, r->key);
	command_format(conn_out(c), "0-%" PRIu64, r->from);
	command_text(conn_out(c), "+");
	command_text(conn_out(c), "COUNT");
	command_format(conn_out(c), "%u", records);
}

/* Hands a piece on. *out_end: the caller wants no more. */
static int take_records(struct reading *r, const redisReply *reply, size_t *out_bytes, bool *out_end)
{
	if (reply->elements > r->limit)
		return damaged(&r->errand, "read");
	for (size_t i = 0; i < reply->elements && !*out_end; i++) {
		struct stored stored;
		if (!read_entry(reply->element[i], &stored) || stored.version < r->from)
			return damaged(&r->errand, "read");
		*out_bytes += stored.value_len;
		r->from = stored.version + 1;
		r->limit--;
		*out_end = to_caller(r, "", &stored) != 0;
	}
	return 0;
}

static int run_read(struct errand *e, struct conn *c)
{
	struct reading *r = (struct reading *)e;
	uint32_t piece = PIECE_FIRST;
	bool end = false;
	int rc = 0;
	while (rc == 0 && !end && r->limit > 0) {
		redisReply *reply = NULL;
		uint32_t want = piece < r->limit ? piece : r->limit;
		size_t bytes = 0;
		say_range(r, c, want);
		rc = errand_ask(e, c, "XRANGE", &reply);
		if (rc != 0)
			break;
		rc = take_records(r, reply, &bytes, &end);
		end = end || reply->elements < want;
		piece = next_piece(piece, bytes);
		freeReplyObject(reply);
	}
	return rc;
}

int reader_read(struct pool *p, const char *prefix, const struct tunnel_call *call, const char *log, uint64_t from,
		uint32_t limit, tunnel_row_fn *row, void *arg)
{
	struct reading r = { .errand.run = run_read,
			     .prefix = prefix,
			     .key = log,
			     .from = from,
			     .limit = limit,
			     .row = row,
			     .arg = arg };
	return pool_run(p, &r.errand, call);
}
