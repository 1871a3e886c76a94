/* /v1/policies. The router has asked policy for the named one; the list shows what the caller may read. A change is
 * judged against all live sessions before the answer. */
#include "base/json.h"
#include "base/text.h"
#include "server/api_call.h"
#include "server/audit.h"
#include "server/policies.h"
#include "server/server.h"
#include "server/sessions.h"

#include <string.h>

void api_policies_list(struct api_call *c)
{
	json_auto_t *query = api_query(c, (const char *const[]){ NULL });
	if (!query)
		return;
	json_auto_t *all = policies_list(c->server->policies);
	json_t *seen = json_array();
	for (size_t i = 0; i < json_array_size(all); i++) {
		char resource[sizeof "policy/" + LIMIT_ID];
		struct err e;
		json_t *one = json_array_get(all, i);
		snprintf(resource, sizeof resource, "policy/%s", json_string_value(json_object_get(one, "name")));
		int rc = policies_allows_blocking(c->server, &c->id, c->request->remote_address, "tunnel:GetPolicy",
						  resource, NULL, &e);
		if (rc && rc != ERR_DENIED) {
			json_decref(seen);
			api_answer_err(c, rc, &e);
			return;
		}
		if (rc == 0)
			json_array_append(seen, one);
	}
	api_answer(c, 200, json_pack("{s:o}", "policies", seen));
}

void api_policies_get(struct api_call *c)
{
	json_t *document = NULL;
	struct err e;
	json_auto_t *query = api_query(c, (const char *const[]){ NULL });
	if (!query)
		return;
	int rc = policies_get_blocking(c->server->policies, c->param, &document, &e);
	if (rc)
		api_answer_err(c, rc, &e);
	else
		api_answer(c, 200, document);
}

static int audit_change(struct api_call *c, const char *event, struct err *e)
{
	return audit_append_blocking(c->server->audit, event,
				     json_pack("{s:s, s:s, s:s}", "policy", c->param, "principal", c->id.subject,
					       "remote_address", c->request->remote_address),
				     e);
}

/* All of them, whole; the detail has room for the first. */
static void answer_mistakes(struct api_call *c, const struct policy_mistakes *m, const struct err *e)
{
	json_t *members = json_pack("{s:O, s:I}", "mistakes", m->list, "mistake_count", (json_int_t)m->n);
	api_answer_problem(c, 400, "invalid-request", members, "%s", e->text);
}

void api_policies_put(struct api_call *c)
{
	struct err e;
	json_auto_t *query = api_query(c, (const char *const[]){ NULL });
	json_auto_t *body = query ? api_body(c) : NULL;
	if (!body)
		return;
	struct policy_mistakes mistakes = { .n = 0 };
	int rc = policies_may_put(c->server->policies, c->param, body, &mistakes, &e);
	if (rc == 0)
		rc = audit_change(c, "policy.put", &e);
	if (rc == 0)
		rc = policies_put_blocking(c->server->policies, c->param, body, &e);
	if (rc == 0)
		sessions_rejudge_blocking(c->server);
	if (mistakes.n)
		answer_mistakes(c, &mistakes, &e);
	else if (rc)
		api_answer_err(c, rc, &e);
	else
		api_answer(c, 200, json_incref(body));
	policy_mistakes_free(&mistakes);
}

void api_policies_delete(struct api_call *c)
{
	struct err e;
	json_auto_t *query = api_query(c, (const char *const[]){ NULL });
	if (!query)
		return;
	int rc = policies_may_del_blocking(c->server->policies, c->param, &e);
	if (rc == 0)
		rc = audit_change(c, "policy.delete", &e);
	if (rc == 0)
		rc = policies_del_blocking(c->server->policies, c->param, &e);
	if (rc == 0)
		sessions_rejudge_blocking(c->server);
	if (rc)
		api_answer_err(c, rc, &e);
	else
		api_answer_nothing(c);
}
