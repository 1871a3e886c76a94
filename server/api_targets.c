/* /v1/targets and /v1/enrollments. */
#include "base/json.h"
#include "base/text.h"
#include "ident/key.h"
#include "server/api_call.h"
#include "server/audit.h"
#include "server/metrics.h"
#include "server/policies.h"
#include "server/server.h"
#include "server/session_record.h"
#include "server/targets.h"

#include <string.h>

#define ENROLLMENT_DEFAULT_S 900

json_t *api_tags_context(const json_t *tags)
{
	json_t *context = json_object();
	const char *key;
	json_t *value;
	json_object_foreach((json_t *)(uintptr_t)tags, key, value)
	{
		char name[sizeof "target:Tag/" + LIMIT_TAG_TEXT];
		snprintf(name, sizeof name, "target:Tag/%s", key);
		if (json_is_string(value))
			json_object_set(context, name, value);
	}
	return context;
}

static void resource_of(const char *id, char out[sizeof "target/" + LIMIT_ID])
{
	snprintf(out, sizeof "target/" + LIMIT_ID, "target/%s", id);
}

static int may_see(struct api_call *c, const json_t *doc, struct err *e)
{
	char resource[sizeof "target/" + LIMIT_ID];
	json_auto_t *context = api_tags_context(json_object_get(doc, "tags"));
	resource_of(record_text(doc, "id"), resource);
	return policies_allows_blocking(c->server, &c->id, c->request->remote_address, "tunnel:ListTargets", resource,
					context, e);
}

static int pick_target(struct api_call *c, void *arg, const json_t *doc, json_t **out_view, struct err *e)
{
	const char *key;
	json_t *value;
	json_object_foreach((json_t *)arg, key, value)
	{
		if (text_starts(key, "tag.") &&
		    !json_equal(value, json_object_get(json_object_get(doc, "tags"), key + 4)))
			return 0;
	}
	int rc = may_see(c, doc, e);
	if (rc == 0)
		*out_view = targets_view(c->server, doc);
	return rc == ERR_DENIED ? 0 : rc;
}

void api_targets_list(struct api_call *c)
{
	json_auto_t *query = api_query(c, (const char *const[]){ "tag.", "limit", "cursor", NULL });
	if (!query)
		return;
	const struct api_list list = { .name = "targets", .collection = "targets", .pick = pick_target, .arg = query };
	api_answer_list(c, &list, query);
}

int api_seen_target(struct api_call *c, const char *id, json_t **out_doc, struct err *e)
{
	json_t *doc = NULL;
	int rc = targets_read_blocking(c->server, id, &doc, e);
	if (rc)
		return rc;
	rc = may_see(c, doc, e);
	if (rc == 0)
		*out_doc = doc;
	else
		json_decref(doc);
	return rc == ERR_DENIED ? err_set(e, ERR_NOT_FOUND, "no target '%s'", id) : rc;
}

void api_targets_get(struct api_call *c)
{
	json_auto_t *query = api_query(c, (const char *const[]){ NULL });
	json_auto_t *doc = NULL;
	struct err e;
	if (!query)
		return;
	int rc = api_seen_target(c, c->param, &doc, &e);
	if (rc)
		api_answer_err(c, rc, &e);
	else
		api_answer(c, 200, targets_view(c->server, doc));
}

void api_targets_delete(struct api_call *c)
{
	char resource[sizeof "target/" + LIMIT_ID];
	json_auto_t *query = api_query(c, (const char *const[]){ NULL });
	json_auto_t *doc = NULL;
	struct err e;
	if (!query)
		return;
	int rc = targets_read_blocking(c->server, c->param, &doc, &e);
	if (rc && rc != ERR_NOT_FOUND) {
		api_answer_err(c, rc, &e);
		return;
	}
	json_auto_t *context = api_tags_context(json_object_get(doc, "tags"));
	resource_of(c->param, resource);
	if (!api_require(c, "tunnel:DeregisterTarget", resource, context))
		return;
	if (rc == 0)
		rc = audit_append_blocking(c->server->audit, "target.deleted",
					   json_pack("{s:s, s:s, s:s}", "target", c->param, "principal", c->id.subject,
						     "remote_address", c->request->remote_address),
					   &e);
	if (rc == 0)
		rc = targets_delete_blocking(c->server, c->param, &e);
	if (rc)
		api_answer_err(c, rc, &e);
	else
		api_answer_nothing(c);
}

/* Enrolling under the name of a target that exists takes it over, so it is asked about the target that is to be and
 * about the one that is there. *out_old (may stay NULL): the latter's document. */
static bool may_enroll(struct api_call *c, const char *id, const json_t *tags, json_t **out_old)
{
	char resource[sizeof "target/" + LIMIT_ID];
	json_auto_t *context = api_tags_context(tags);
	struct err e;
	resource_of(id, resource);
	if (!api_require(c, "tunnel:EnrollTarget", resource, context))
		return false;
	int rc = targets_read_blocking(c->server, id, out_old, &e);
	if (rc == ERR_NOT_FOUND)
		return true;
	json_auto_t *now = api_tags_context(json_object_get(*out_old, "tags"));
	if (rc == 0)
		rc = policies_require_blocking(c->server, &c->id, c->request->remote_address, "tunnel:EnrollTarget",
					       resource, now, &e);
	if (rc)
		api_answer_err(c, rc, &e);
	return rc == 0;
}

void api_enrollments_post(struct api_call *c)
{
	char token[64];
	const char *target = NULL;
	json_t *tags = NULL;
	int64_t lifetime_s = ENROLLMENT_DEFAULT_S, expires_ms = 0;
	struct err e;
	json_auto_t *query = api_query(c, (const char *const[]){ NULL });
	json_auto_t *body = query ? api_body(c) : NULL;
	json_auto_t *none = json_object();
	const struct json_field fields[] = { { "target", JSON_FIELD_STRING, true, 1, LIMIT_ID, &target },
					     { "tags", JSON_FIELD_OBJECT, false, 0, 0, &tags },
					     { "expires_in_s", JSON_FIELD_INT, false, 1, LIMIT_ENROLLMENT_S,
					       &lifetime_s },
					     { .name = NULL } };
	if (!body)
		return;
	int rc = json_read(body, "body", true, fields, &e);
	if (rc == 0 && !text_is_id(target))
		rc = err_set(&e, ERR_INVALID, "body.target: not a target id; allowed: letters, digits, '.', '_', '-'");
	if (rc) {
		api_answer_err(c, rc, &e);
		return;
	}
	tags = tags ? tags : none;
	json_auto_t *old = NULL;
	if (!may_enroll(c, target, tags, &old))
		return;
	const struct enrollment_ask ask = { .id = target,
					    .by = c->id.subject,
					    .credential = c->id.credential,
					    .tags = tags,
					    .replaces = json_object_get(old, "tags"),
					    .lifetime_ms = lifetime_s * 1000 };
	rc = targets_enrollment_blocking(c->server, &ask, token, &expires_ms, &e);
	if (rc)
		api_answer_err(c, rc, &e);
	else
		api_answer(c, 201,
			   json_pack("{s:s, s:s, s:o}", "token", token, "target", target, "expires_at",
				     record_time(expires_ms)));
}

void api_targets_post(struct api_call *c)
{
	const char *token = api_bearer(c->request), *identity_key = NULL, *link_key = NULL, *version = NULL;
	struct err e;
	json_auto_t *query = api_query(c, (const char *const[]){ NULL });
	if (!query)
		return;
	if (!token) {
		api_answer_problem(c, 401, "unauthenticated", NULL,
				   "this call needs 'Authorization: Bearer <enrolment token>'");
		return;
	}
	/* The token says for whom it is to nobody but the store: so the address alone counts. */
	const struct guess who = { .kind = GUESS_ENROLLMENT, .address = c->request->remote_address };
	if (!api_may_guess(c, &who))
		return;
	json_auto_t *body = api_body(c);
	json_auto_t *doc = NULL;
	const struct json_field fields[] = { { "identity_key", JSON_FIELD_STRING, true, 1, KEY_TEXT_MAX - 1,
					       &identity_key },
					     { "link_key", JSON_FIELD_STRING, true, 1, KEY_TEXT_MAX - 1, &link_key },
					     { "version", JSON_FIELD_STRING, true, 1, LIMIT_ID, &version },
					     { .name = NULL } };
	if (!body)
		return;
	int rc = json_read(body, "body", true, fields, &e);
	if (rc == 0)
		rc = targets_enroll_blocking(c->server, token, identity_key, link_key, version, &doc, &e);
	c->out->known = rc == 0;
	if (rc == ERR_DENIED) {
		metrics_add(c->server->metrics, METRIC_AUTH_DENIED, 1);
		guess_wrong_blocking(c->server, &who);
		api_answer_problem(c, 401, "unauthenticated", NULL, "%s", e.text);
	} else if (rc) {
		api_answer_err(c, rc, &e);
	} else {
		api_answer(c, 201,
			   json_pack("{s:s, s:O, s:s}", "id", record_text(doc, "id"), "tags",
				     json_object_get(doc, "tags"), "node", c->server->node));
	}
}
