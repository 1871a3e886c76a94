/* /v1/whoami, /v1/nodes, health and metrics. */
#include "server/api_call.h"

#include "base/clock.h"
#include "server/audit.h"
#include "server/metrics.h"
#include "server/nodes.h"
#include "server/server.h"
#include "server/session_record.h"
#include "server/store.h"

#include <string.h>

void api_whoami_get(struct api_call *c)
{
	json_auto_t *query = api_query(c, (const char *const[]){ NULL });
	if (!query)
		return;
	json_t *answer = json_pack("{s:s, s:O, s:s, s:s}", "subject", c->id.subject, "groups", c->id.groups, "provider",
				   c->id.provider, "credential", c->id.credential);
	if (answer && c->id.expires_ms)
		json_object_set_new(answer, "expires_at", record_time(c->id.expires_ms));
	api_answer(c, 200, answer);
}

void api_healthz_get(struct api_call *c)
{
	api_answer(c, 200, json_pack("{s:s, s:o}", "status", "ok", "time", record_time(clock_wall_ms())));
}

void api_readyz_get(struct api_call *c)
{
	struct err e;
	bool stops;
	if (atomic_load(&c->server->draining))
		api_answer_problem(c, 503, "busy", NULL, "this node is draining");
	else if (audit_waiting_anythread(c->server->audit, &stops) && stops)
		api_answer_problem(c, 503, "busy", NULL, "audit records wait to be written, so no session starts");
	else if (store_health_blocking(c->server->store, &e))
		api_answer_problem(c, 503, "busy", NULL, "the store cannot serve now");
	else
		api_answer(c, 200, json_pack("{s:s}", "status", "ready"));
}

void api_nodes_list(struct api_call *c)
{
	json_auto_t *query = api_query(c, (const char *const[]){ NULL });
	if (query)
		api_answer(c, 200, json_pack("{s:o}", "nodes", nodes_view(c->server->nodes)));
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
