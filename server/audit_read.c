/* Reading and searching the audit log. A store reads a log forward from a number; backward is made of pages that lie
 * one before the other. What does not match is thrown away here, so it does not travel. */
#include "base/clock.h"
#include "base/limits.h"
#include "base/text.h"
#include "server/audit.h"
#include "server/store.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define SEARCH_PAGES 32u                      /* of LIMIT_SCAN_PAGE records a call: a fraction of a second of parsing */
#define SEARCH_TEXT (LIMIT_HTTP_RESPONSE / 2) /* bytes of records an answer; what surrounds them takes little */
#define CLOCKS_APART_MS (24 * 3600 * 1000LL)

struct page {
	json_t *records;
	uint64_t next;
	bool failed;
};

static int add_record(void *arg, const char *key, json_t *record, uint64_t seq)
{
	(void)key;
	struct page *page = arg;
	json_t *out = json_pack("{s:I}", "seq", (json_int_t)seq);
	page->failed = !out || json_object_update(out, record) != 0 ||
		       json_object_set_new(out, "seq", json_integer((json_int_t)seq)) != 0 ||
		       json_array_append(page->records, out) != 0;
	json_decref(out);
	page->next = seq + 1;
	return page->failed;
}

int audit_read_blocking(struct audit *audit, uint64_t from, uint32_t limit, json_t **out_records, uint64_t *out_next,
			struct err *e)
{
	if (from < 1)
		from = 1;
	if (limit < 1 || limit > LIMIT_SCAN_PAGE)
		return err_set(e, ERR_INVALID, "limit: %" PRIu32 "; allowed: 1 to %u", limit, LIMIT_SCAN_PAGE);
	struct page page = { .records = json_array(), .next = from };
	if (!page.records)
		return err_set(e, ERR_NOMEM, "out of memory");
	int rc = store_read_blocking(audit_store(audit), AUDIT_LOG, from, limit, add_record, &page, e);
	if (rc == 0 && page.failed)
		rc = err_set(e, ERR_NOMEM, "out of memory");
	if (rc != 0) {
		json_decref(page.records);
		return rc;
	}
	*out_records = page.records;
	*out_next = page.next;
	return 0;
}

/* --- what matches --- */

static bool member_is(const json_t *record, const char *key, const char *prefix, const char *value)
{
	const char *text = json_string_value(json_object_get(record, key));
	return text && text_starts(text, prefix) && strcmp(text + strlen(prefix), value) == 0;
}

static bool read_time(const json_t *record, int64_t *out_ms)
{
	const char *at = json_string_value(json_object_get(record, "at"));
	return at && clock_parse(at, out_ms) == 0;
}

/* A record whose time cannot be read is not kept from anybody. */
static bool is_in_time(const struct audit_query *q, const json_t *record)
{
	int64_t at_ms;
	if ((!q->has_since && !q->has_until) || !read_time(record, &at_ms))
		return true;
	return (!q->has_since || at_ms >= q->since_ms) && (!q->has_until || at_ms < q->until_ms);
}

static bool matches(const struct audit_query *q, const json_t *record)
{
	const char *event = json_string_value(json_object_get(record, "event"));
	if (q->session && !member_is(record, "session", "", q->session) &&
	    !member_is(record, "resource", "session/", q->session))
		return false;
	if (q->principal && !member_is(record, "principal", "", q->principal) &&
	    !member_is(record, "subject", "", q->principal) && !member_is(record, "by", "", q->principal))
		return false;
	if (q->target && !member_is(record, "target", "", q->target) &&
	    !member_is(record, "resource", "target/", q->target))
		return false;
	if (q->event && !(event && text_glob(q->event, event)))
		return false;
	return is_in_time(q, record);
}

static bool is_plain(const struct audit_query *q)
{
	return !q->session && !q->principal && !q->target && !q->event && !q->has_since && !q->has_until;
}

/* --- searching --- */

struct search {
	struct audit *audit;
	const struct audit_query *q;
	struct audit_found *out;
	size_t text; /* bytes of what was found */
	bool full;
};

/* Takes a record if it matches; not when it would be too much, and then the search is full and must come back to it. */
static bool take(struct search *s, json_t *record)
{
	if (!matches(s->q, record))
		return true;
	size_t text = json_dumpb(record, NULL, 0, JSON_COMPACT);
	if (s->text && s->text + text > SEARCH_TEXT) {
		s->full = true;
		return false;
	}
	s->text += text;
	json_array_append(s->out->records, record);
	s->full = json_array_size(s->out->records) >= s->q->limit;
	return true;
}

static int search_forward(struct search *s, struct err *e)
{
	uint32_t page = is_plain(s->q) ? s->q->limit : LIMIT_SCAN_PAGE;
	struct audit_found *out = s->out;
	out->next_from = s->q->from ? s->q->from : 1;
	for (unsigned pages = 0; pages < SEARCH_PAGES && !s->full && !out->at_end; pages++) {
		json_auto_t *records = NULL;
		uint64_t from = out->next_from, next;
		int rc = audit_read_blocking(s->audit, from, page, &records, &next, e);
		if (rc != 0)
			return rc;
		size_t i = 0;
		while (i < json_array_size(records) && !s->full && take(s, json_array_get(records, i)))
			i++;
		out->next_from = from + i;
		out->at_end = i == json_array_size(records) && i < page;
	}
	return 0;
}

/* Whether nothing before these records can be late enough. */
static bool all_too_old(const struct audit_query *q, const json_t *records)
{
	bool old = q->has_since;
	int64_t at_ms;
	for (size_t i = 0; old && i < json_array_size(records); i++)
		old = read_time(json_array_get(records, i), &at_ms) && at_ms + CLOCKS_APART_MS < q->since_ms;
	return old;
}

static void turn_round(json_t *array)
{
	size_t n = json_array_size(array);
	for (size_t i = 0; i < n; i++) {
		json_t *last = json_incref(json_array_get(array, n - 1));
		json_array_remove(array, n - 1);
		json_array_insert_new(array, i, last);
	}
}

static int search_backward(struct search *s, struct err *e)
{
	uint32_t page = is_plain(s->q) ? s->q->limit : LIMIT_SCAN_PAGE;
	uint64_t end;
	int rc = audit_end_blocking(s->audit, &end, e);
	if (rc != 0)
		return rc;
	uint64_t at = s->q->before > end ? end + 1 : s->q->before; /* all from here on was looked at */
	s->out->next_from = at;
	bool old = false;
	for (unsigned pages = 0; pages < SEARCH_PAGES && !s->full && !old && at > 1; pages++) {
		json_auto_t *records = NULL;
		uint64_t low = at > page ? at - page : 1, next;
		rc = audit_read_blocking(s->audit, low, (uint32_t)(at - low), &records, &next, e);
		if (rc == 0 && next != at)
			rc = err_set(e, ERR_INTERNAL, "record %" PRIu64 " of the audit log is not in the store", next);
		if (rc != 0)
			return rc;
		while (at > low && !s->full && take(s, json_array_get(records, (size_t)(at - low - 1))))
			at--;
		old = page == LIMIT_SCAN_PAGE && all_too_old(s->q, records);
	}
	turn_round(s->out->records);
	s->out->next_before = at > 1 && !old ? at : 0;
	return 0;
}

int audit_search_blocking(struct audit *audit, const struct audit_query *query, struct audit_found *out, struct err *e)
{
	struct search s = { .audit = audit, .q = query, .out = out };
	if (query->limit < 1 || query->limit > LIMIT_SCAN_PAGE)
		return err_set(e, ERR_INVALID, "limit: %" PRIu32 "; allowed: 1 to %u", query->limit, LIMIT_SCAN_PAGE);
	*out = (struct audit_found){ .records = json_array() };
	if (!out->records)
		return err_set(e, ERR_NOMEM, "out of memory");
	int rc = query->backward ? search_backward(&s, e) : search_forward(&s, e);
	if (rc != 0) {
		json_decref(out->records);
		out->records = NULL;
	}
	return rc;
}
