/* Pages. A store's cursor stands between its own pages, but filters make ours end in the middle of one. So our cursor
 * is "where that page begins" and "the last key that was shown": the page is read again and continued behind that key.
 * Rows come in key order, so nothing is shown twice or left out, whatever changes in between. */
#include "base/json.h"
#include "base/text.h"
#include "server/api_call.h"
#include "server/server.h"
#include "server/session_record.h"
#include "server/store.h"

#include <string.h>

#define PAGE 200u
#define MAX_PAGES 50u /* of the store a call; a filter that finds little then answers a short page and a cursor */
#define CURSOR_TEXT TEXT_B64_SIZE(TUNNEL_CURSOR_MAX + LIMIT_STORE_KEY + 2)

struct cursor {
	char page[TUNNEL_CURSOR_MAX];
	char after[LIMIT_STORE_KEY + 1];
};

/* "<after>\n<page>" in base64url. */
static int cursor_parse(const char *text, struct cursor *out, struct err *e)
{
	uint8_t raw[TUNNEL_CURSOR_MAX + LIMIT_STORE_KEY + 2];
	size_t len;
	if (text_b64url_decode(text, strlen(text), raw, sizeof raw - 1, &len) || memchr(raw, '\0', len))
		return err_set(e, ERR_INVALID, "cursor: not one that this server gave");
	raw[len] = '\0';
	char *newline = strchr((char *)raw, '\n');
	if (!newline || (size_t)(newline - (char *)raw) >= sizeof out->after || strlen(newline + 1) >= sizeof out->page)
		return err_set(e, ERR_INVALID, "cursor: not one that this server gave");
	*newline = '\0';
	memcpy(out->after, raw, strlen((char *)raw) + 1);
	memcpy(out->page, newline + 1, strlen(newline + 1) + 1);
	return 0;
}

static json_t *cursor_json(const struct cursor *c)
{
	char raw[TUNNEL_CURSOR_MAX + LIMIT_STORE_KEY + 2], text[CURSOR_TEXT];
	int n = snprintf(raw, sizeof raw, "%s\n%s", c->after, c->page);
	text_b64url(raw, (size_t)n, text, sizeof text);
	return json_string(text);
}

static int collect(void *arg, const char *key, json_t *doc, uint64_t version)
{
	(void)version;
	return json_array_append_new(arg, json_pack("[s, O]", key, doc));
}

struct page_walk {
	struct api_call *call;
	const struct api_list *list;
	struct cursor at;
	size_t limit;
	json_t *views;
	bool full;
};

static int pick_row(struct page_walk *w, const json_t *row, struct err *e)
{
	const char *key = json_string_value(json_array_get(row, 0));
	if (*w->at.after && strcmp(key, w->at.after) <= 0)
		return 0;
	json_t *view = NULL;
	int rc = w->list->pick(w->call, w->list->arg, json_array_get(row, 1), &view, e);
	if (rc)
		return rc;
	if (view)
		json_array_append_new(w->views, view);
	snprintf(w->at.after, sizeof w->at.after, "%s", key);
	w->full = json_array_size(w->views) >= w->limit;
	return 0;
}

/* One page of the store's. *out_more: the walk is not at its end. */
static int walk_page(struct page_walk *w, bool *out_more, struct err *e)
{
	char next[TUNNEL_CURSOR_MAX];
	json_auto_t *rows = json_array();
	memcpy(next, w->at.page, sizeof next);
	int rc = store_scan_blocking(w->call->server->store, w->list->collection, w->list->index, w->list->value, PAGE,
				     next, collect, rows, e);
	size_t i = 0;
	for (; rc == 0 && !w->full && i < json_array_size(rows); i++)
		rc = pick_row(w, json_array_get(rows, i), e);
	if (rc)
		return rc;
	*out_more = i < json_array_size(rows) || *next;
	if (i == json_array_size(rows) && *next)
		memcpy(w->at.page, next, sizeof next);
	return 0;
}

static int start_walk(struct page_walk *w, const json_t *query, struct err *e)
{
	int64_t limit = 100;
	const char *limit_text = json_string_value(json_object_get(query, "limit"));
	const char *cursor = json_string_value(json_object_get(query, "cursor"));
	if (limit_text && text_parse_int(limit_text, 1, LIMIT_SCAN_PAGE, &limit))
		return err_set(e, ERR_INVALID, "limit: expected a number from 1 to %u", LIMIT_SCAN_PAGE);
	w->limit = (size_t)limit;
	return cursor ? cursor_parse(cursor, &w->at, e) : 0;
}

void api_answer_list(struct api_call *c, const struct api_list *list, const json_t *query)
{
	struct page_walk w = { .call = c, .list = list, .views = json_array() };
	struct err e;
	bool more = true;
	int rc = start_walk(&w, query, &e);
	for (unsigned pages = 0; rc == 0 && more && !w.full && pages < MAX_PAGES; pages++)
		rc = walk_page(&w, &more, &e);
	if (rc) {
		json_decref(w.views);
		api_answer_err(c, rc, &e);
		return;
	}
	json_t *answer = json_pack("{s:o}", list->name, w.views);
	if (more)
		json_object_set_new(answer, "next_cursor", cursor_json(&w.at));
	api_answer(c, 200, answer);
}
