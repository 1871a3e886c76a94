/* /v1/audit: forward from a number, or the newest; only what the caller looks for. */
#include "base/clock.h"
#include "base/text.h"
#include "server/api_call.h"
#include "server/audit.h"
#include "server/server.h"

#include <string.h>

/* *out is left alone when the query does not name it. */
static int number(const json_t *query, const char *name, int64_t min, int64_t max, int64_t *out, struct err *e)
{
	const char *text = json_string_value(json_object_get(query, name));
	if (text && text_parse_int(text, min, max, out))
		return err_set(e, ERR_INVALID, "%s: expected a number from %lld to %lld", name, (long long)min,
			       (long long)max);
	return 0;
}

static int instant(const json_t *query, const char *name, bool *out_has, int64_t *out, struct err *e)
{
	const char *text = json_string_value(json_object_get(query, name));
	*out_has = text != NULL;
	if (text && clock_parse(text, out))
		return err_set(e, ERR_INVALID, "%s: expected a time like 2026-01-31T09:15:00Z", name);
	return 0;
}

static int name(const json_t *query, const char *key, const char **out, struct err *e)
{
	*out = json_string_value(json_object_get(query, key));
	return *out && !**out ? err_set(e, ERR_INVALID, "%s: expected a name, not an empty one", key) : 0;
}

/* Which way, from where, how many. */
static int read_way(const json_t *query, struct audit_query *q, struct err *e)
{
	int64_t from = 1, before = INT64_MAX, limit = 100;
	q->backward = json_object_get(query, "tail") != NULL;
	if (q->backward && (json_object_get(query, "from") || json_object_get(query, "limit")))
		return err_set(e, ERR_INVALID, "tail: gives the newest records; from and limit do not go with it");
	if (!q->backward && json_object_get(query, "before"))
		return err_set(e, ERR_INVALID, "before: goes with tail alone");
	int rc = number(query, "from", 0, INT64_MAX, &from, e);
	if (rc == 0)
		rc = number(query, "before", 1, INT64_MAX, &before, e);
	if (rc == 0)
		rc = number(query, q->backward ? "tail" : "limit", 1, LIMIT_SCAN_PAGE, &limit, e);
	q->from = (uint64_t)from;
	q->before = (uint64_t)before;
	q->limit = (uint32_t)limit;
	return rc;
}

static int read_query(const json_t *query, struct audit_query *q, struct err *e)
{
	int rc = read_way(query, q, e);
	if (rc == 0)
		rc = name(query, "session", &q->session, e);
	if (rc == 0)
		rc = name(query, "principal", &q->principal, e);
	if (rc == 0)
		rc = name(query, "target", &q->target, e);
	if (rc == 0)
		rc = name(query, "event", &q->event, e);
	if (rc == 0)
		rc = instant(query, "since", &q->has_since, &q->since_ms, e);
	return rc ? rc : instant(query, "until", &q->has_until, &q->until_ms, e);
}

void api_audit_get(struct api_call *c)
{
	static const char *const allowed[] = { "from",   "limit", "tail",  "before", "session", "principal",
					       "target", "event", "since", "until",  NULL };
	struct audit_query q = { .from = 1 };
	struct audit_found found = { .records = NULL };
	struct err e;
	json_auto_t *query = api_query(c, allowed);
	if (!query)
		return;
	int rc = read_query(query, &q, &e);
	if (rc == 0)
		rc = audit_search_blocking(c->server->audit, &q, &found, &e);
	if (rc) {
		api_answer_err(c, rc, &e);
		return;
	}
	json_t *answer = json_pack("{s:o, s:I}", "records", found.records, "next_from", (json_int_t)found.next_from);
	if (answer && q.backward && found.next_before)
		json_object_set_new(answer, "next_before", json_integer((json_int_t)found.next_before));
	if (answer && !q.backward)
		json_object_set_new(answer, "at_end", json_boolean(found.at_end));
	api_answer(c, 200, answer);
}
