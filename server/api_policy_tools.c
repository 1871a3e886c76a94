/* /v1/policies:simulate and :who-can. Both ask the policies in force and nothing else: what an auth plugin's own
 * authorize would add or veto is not in their answers. */
#include "base/json.h"
#include "base/text.h"
#include "server/api_call.h"
#include "server/policies.h"
#include "server/server.h"

#include <string.h>

/* A request about a target that is there is judged with its tags, if the caller may see them; in a plan for another
 * one, or for other tags, the context has them. *out_tags: those that were added; NULL: none. */
static int add_tags(struct api_call *c, const char *resource, json_t *context, json_t **out_tags, struct err *e)
{
	const char *key;
	json_t *value;
	*out_tags = NULL;
	json_object_foreach(context, key, value)
	{
		if (text_starts(key, "target:Tag/"))
			return 0;
	}
	if (!text_starts(resource, "target/"))
		return 0;
	json_auto_t *doc = NULL;
	int rc = api_seen_target(c, resource + strlen("target/"), &doc, e);
	if (rc)
		return rc == ERR_NOT_FOUND ? 0 : rc;
	json_auto_t *tags = api_tags_context(json_object_get(doc, "tags"));
	*out_tags = json_deep_copy(json_object_get(doc, "tags"));
	return json_object_update(context, tags) == 0 ? 0 : err_set(e, ERR_NOMEM, "out of memory");
}

void api_policies_simulate(struct api_call *c)
{
	const char *subject = NULL, *action = NULL, *resource = NULL;
	json_t *groups = NULL, *context = NULL, *answer = NULL, *tags = NULL;
	struct err e;
	json_auto_t *query = api_query(c, (const char *const[]){ NULL });
	json_auto_t *body = query ? api_body(c) : NULL;
	const struct json_field fields[] = { { "subject", JSON_FIELD_STRING, true, 1, LIMIT_SUBJECT, &subject },
					     { "groups", JSON_FIELD_STRINGS, false, 0, 256, &groups },
					     { "action", JSON_FIELD_STRING, true, 1, 64, &action },
					     { "resource", JSON_FIELD_STRING, true, 1, 256, &resource },
					     { "context", JSON_FIELD_OBJECT, false, 0, 0, &context },
					     { .name = NULL } };
	if (!body)
		return;
	int rc = json_read(body, "body", true, fields, &e);
	json_auto_t *known = context ? json_copy(context) : json_object();
	if (rc == 0)
		rc = add_tags(c, resource, known, &tags, &e);
	if (rc == 0)
		rc = policies_simulate(c->server->policies, subject, groups, action, resource, known, &answer, &e);
	if (rc == 0 && json_object_set_new(answer, "target_tags", tags ? json_incref(tags) : json_null()) != 0)
		rc = err_set(&e, ERR_NOMEM, "out of memory");
	json_decref(tags);
	if (rc) {
		json_decref(answer);
		api_answer_err(c, rc, &e);
	} else {
		api_answer(c, 200, answer);
	}
}

/* --- who-can --- */

/* What can be done to a target, and what a request for it says: a key that is not among it is missing for certain. */
static const struct about {
	const char *action, *kind;
	bool has_kind, has_login, has_endpoint, has_path;
	bool unless_told; /* asked for when the call names no action: they are what reaches a target */
} about[] = {
	{ "tunnel:StartSession", NULL, true, true, false, false, true },
	{ "tunnel:OpenSsh", "ssh", true, true, false, false, true },
	{ "tunnel:OpenTcp", "tcp", true, false, true, false, true },
	{ "tunnel:OpenUnix", "tcp", true, false, false, true, true },
	{ "tunnel:AcceptTcp", "tcp", true, false, true, false, false },
	{ "tunnel:ListTargets", NULL, false, false, false, false, false },
	{ "tunnel:EnrollTarget", NULL, false, false, false, false, false },
	{ "tunnel:DeregisterTarget", NULL, false, false, false, false, false },
};
#define ABOUT (sizeof about / sizeof *about)

static void clear_unless(bool has, json_t *context, const char *key)
{
	if (!has)
		json_object_set_new(context, key, json_null());
}

static json_t *known_of(const struct about *a, const json_t *context)
{
	json_t *known = json_copy((json_t *)(uintptr_t)context);
	if (a->kind)
		json_object_set_new(known, "tunnel:Kind", json_string(a->kind));
	clear_unless(a->has_kind, known, "tunnel:Kind");
	clear_unless(a->has_login, known, "tunnel:Login");
	clear_unless(a->has_endpoint, known, "tunnel:Host");
	clear_unless(a->has_endpoint, known, "tunnel:Port");
	clear_unless(a->has_path, known, "tunnel:Path");
	return known;
}

static bool is_asked(const struct about *a, const json_t *actions)
{
	for (size_t i = 0; i < json_array_size(actions); i++)
		if (strcmp(json_string_value(json_array_get(actions, i)), a->action) == 0)
			return true;
	return json_array_size(actions) == 0 && a->unless_told;
}

static int check_actions(const json_t *actions, struct err *e)
{
	char names[200] = "";
	for (size_t i = 0, used = 0; i < ABOUT && used < sizeof names; i++)
		used += (size_t)snprintf(names + used, sizeof names - used, "%s%s", i ? ", " : "", about[i].action);
	for (size_t i = 0; i < json_array_size(actions); i++) {
		size_t k = 0;
		while (k < ABOUT && strcmp(json_string_value(json_array_get(actions, i)), about[k].action) != 0)
			k++;
		if (k == ABOUT)
			return err_set(e, ERR_INVALID,
				       "body.actions[%zu]: nothing that is done to a target; allowed: %s", i, names);
	}
	return 0;
}

static int check_context(const json_t *context, struct err *e)
{
	if (json_object_get(context, "tunnel:Subject") || json_object_get(context, "tunnel:Group"))
		return err_set(
			e, ERR_INVALID,
			"context: tunnel:Subject and tunnel:Group are what is asked for; allowed: all other keys");
	return policies_check_context(context, e);
}

static int ask_who(struct api_call *c, const char *resource, const json_t *actions, const json_t *context,
		   json_t **out_rows, bool *out_more, struct err *e)
{
	struct policy_who_question questions[ABOUT];
	json_t *known[ABOUT];
	size_t n = 0;
	for (size_t i = 0; i < ABOUT; i++) {
		if (!is_asked(&about[i], actions))
			continue;
		known[n] = known_of(&about[i], context);
		questions[n] = (struct policy_who_question){ about[i].action, known[n] };
		n++;
	}
	int rc = policies_who(c->server->policies, resource, questions, n, out_rows, out_more, e);
	for (size_t i = 0; i < n; i++)
		json_decref(known[i]);
	return rc;
}

void api_policies_who_can(struct api_call *c)
{
	const char *target = NULL;
	json_t *actions = NULL, *context = NULL, *rows = NULL;
	char resource[sizeof "target/" + LIMIT_ID];
	bool more = false;
	struct err e;
	json_auto_t *query = api_query(c, (const char *const[]){ NULL });
	json_auto_t *body = query ? api_body(c) : NULL;
	json_auto_t *doc = NULL;
	const struct json_field fields[] = { { "target", JSON_FIELD_STRING, true, 1, LIMIT_ID, &target },
					     { "actions", JSON_FIELD_STRINGS, false, 0, ABOUT, &actions },
					     { "context", JSON_FIELD_OBJECT, false, 0, 0, &context },
					     { .name = NULL } };
	if (!body)
		return;
	int rc = json_read(body, "body", true, fields, &e);
	json_auto_t *known = context ? json_copy(context) : json_object();
	if (rc == 0)
		rc = check_actions(actions, &e);
	if (rc == 0)
		rc = check_context(known, &e);
	if (rc == 0)
		rc = api_seen_target(c, target, &doc, &e);
	json_auto_t *tags = api_tags_context(json_object_get(doc, "tags"));
	json_object_update_missing(known, tags);
	snprintf(resource, sizeof resource, "target/%s", target ? target : "");
	if (rc == 0)
		rc = ask_who(c, resource, actions, known, &rows, &more, &e);
	if (rc)
		api_answer_err(c, rc, &e);
	else
		api_answer(c, 200, json_pack("{s:s, s:o, s:b}", "target", target, "reach", rows, "more", more));
}
