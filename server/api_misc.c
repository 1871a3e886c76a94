/* /v1/audit, /v1/whoami, health and metrics. */
#include "base/text.h"
#include "server/api_call.h"
#include "server/audit.h"
#include "server/metrics.h"
#include "server/server.h"
#include "server/session_record.h"
#include "server/store.h"

#include <string.h>

static int number(const json_t *query, const char *name, int64_t min, int64_t max, int64_t *out, struct err *e)
{
	const char *text = json_string_value(json_object_get(query, name));
	if (text && text_parse_int(text, min, max, out))
		return err_set(e, ERR_INVALID, "%s: expected a number from %lld to %lld", name, (long long)min,
			       (long long)max);
	return 0;
}

void api_audit_get(struct api_call *c)
{
	int64_t from = 1, limit = 100;
	uint64_t next = 0;
	json_t *records = NULL;
	struct err e;
	json_auto_t *query = api_query(c, (const char *const[]){ "from", "limit", NULL });
	if (!query)
		return;
	int rc = number(query, "from", 0, INT64_MAX, &from, &e);
	if (rc == 0)
		rc = number(query, "limit", 1, LIMIT_SCAN_PAGE, &limit, &e);
	if (rc == 0)
		rc = audit_read_blocking(c->server->audit, (uint64_t)from, (uint32_t)limit, &records, &next, &e);
	if (rc)
		api_answer_err(c, rc, &e);
	else
		api_answer(c, 200, json_pack("{s:o, s:I}", "records", records, "next_from", (json_int_t)next));
}

void api_whoami_get(struct api_call *c)
{
	json_auto_t *query = api_query(c, (const char *const[]){ NULL });
	if (!query)
		return;
	json_t *answer = json_pack("{s:s, s:O, s:s}", "subject", c->id.subject, "groups", c->id.groups, "provider",
				   c->id.provider);
	if (answer && c->id.expires_ms)
		json_object_set_new(answer, "expires_at", record_time(c->id.expires_ms));
	api_answer(c, 200, answer);
}

void api_healthz_get(struct api_call *c)
{
	api_answer(c, 200, json_pack("{s:s}", "status", "ok"));
}

void api_readyz_get(struct api_call *c)
{
	struct err e;
	if (atomic_load(&c->server->draining))
		api_answer_problem(c, 503, "busy", NULL, "this node is draining");
	else if (store_health_blocking(c->server->store, &e))
		api_answer_problem(c, 503, "busy", NULL, "the store cannot serve now");
	else
		api_answer(c, 200, json_pack("{s:s}", "status", "ready"));
}

void api_metrics_get(struct api_call *c)
{
	char *text = metrics_text(c->server->metrics);
	if (!text) {
		api_answer(c, 500, NULL);
		return;
	}
	c->out->status = 200;
	c->out->body = text;
	c->out->body_len = strlen(text);
	c->out->content_type = "text/plain; version=0.0.4";
}
