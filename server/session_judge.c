/* Starting needs tunnel:StartSession on the target and tunnel:OpenSsh or tunnel:OpenTcp for each endpoint; one refusal
 * refuses the whole request. Later judgements are about a session that runs: it goes on while its owner may still start
 * it or may resume it, with those endpoints that are still allowed. */
#include "server/session_judge.h"

#include "base/clock.h"
#include "base/limits.h"
#include "base/text.h"
#include "server/endpoint_text.h"
#include "server/policies.h"
#include "server/revocations.h"
#include "server/server.h"
#include "server/session_record.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define RESOURCE_TEXT (sizeof "session/" + 64)

static json_t *context_of(const struct session_ask *ask)
{
	json_t *context = json_pack("{s:s}", "tunnel:Kind", ask->kind);
	const char *key;
	const json_t *value;
	if (ask->login && *ask->login)
		json_object_set_new(context, "tunnel:Login", json_string(ask->login));
	for (void *at = json_object_iter((json_t *)(uintptr_t)ask->tags); at;
	     at = json_object_iter_next((json_t *)(uintptr_t)ask->tags, at)) {
		key = json_object_iter_key(at);
		value = json_object_iter_value(at);
		char name[sizeof "target:Tag/" + LIMIT_TAG_TEXT];
		snprintf(name, sizeof name, "target:Tag/%s", key);
		json_object_set_new(context, name, json_string(json_string_value(value)));
	}
	return context;
}

/* What is asked about an entry of allow. */
static int ask_about(const char *entry, json_t *context, struct policies_question *q, struct err *e)
{
	struct endpoint_parts at;
	int rc = endpoint_text_read(entry, &at, e);
	if (rc)
		return rc;
	static const char *const actions[] = { [ENDPOINT_TCP] = "tunnel:OpenTcp",
					       [ENDPOINT_ANY] = "tunnel:OpenTcp",
					       [ENDPOINT_UNIX] = "tunnel:OpenUnix",
					       [ENDPOINT_LISTEN] = "tunnel:AcceptTcp" };
	q->action = actions[at.kind];
	q->any_endpoint = at.kind == ENDPOINT_ANY;
	if (at.kind == ENDPOINT_TCP || at.kind == ENDPOINT_LISTEN) {
		json_object_set_new(context, "tunnel:Host", json_string(at.host));
		json_object_set_new(context, "tunnel:Port", json_integer(at.port));
	} else if (at.kind == ENDPOINT_UNIX) {
		json_object_set_new(context, "tunnel:Path", json_string(at.path));
	}
	return 0;
}

/* One endpoint: allow[i] of a tcp session, or (entry NULL) the login of an ssh one. */
static int judge_endpoint(struct server *server, const struct session_ask *ask, const char *resource, const char *entry,
			  enum policies_how how, struct policy_decision *out, struct err *e)
{
	json_auto_t *context = context_of(ask);
	struct policies_question q = { .id = ask->id,
				       .remote_address = ask->remote_address,
				       .action = "tunnel:OpenSsh",
				       .resource = resource,
				       .extra = context };
	int rc = entry ? ask_about(entry, context, &q, e) : 0;
	if (rc)
		return rc;
	rc = policies_ask_blocking(server, &q, how, out, e);
	return rc ? err_wrap(e, entry ? "endpoint %s" : "login %s", entry ? entry : ask->login) : 0;
}

int session_judge_start_blocking(struct server *server, const struct session_ask *ask, struct err *e)
{
	char resource[RESOURCE_TEXT];
	snprintf(resource, sizeof resource, "target/%s", ask->target);
	json_auto_t *context = context_of(ask);
	int rc = policies_require_blocking(server, ask->id, ask->remote_address, "tunnel:StartSession", resource,
					   context, e);
	if (rc)
		return rc;
	if (strcmp(ask->kind, "ssh") == 0)
		return judge_endpoint(server, ask, resource, NULL, POLICIES_REQUIRE, NULL, e);
	for (size_t i = 0; rc == 0 && i < json_array_size(ask->allow); i++)
		rc = judge_endpoint(server, ask, resource, json_string_value(json_array_get(ask->allow, i)),
				    POLICIES_REQUIRE, NULL, e);
	return rc;
}

int session_may_start_blocking(struct server *server, const struct session_ask *ask, struct err *e)
{
	char resource[RESOURCE_TEXT];
	snprintf(resource, sizeof resource, "target/%s", ask->target);
	json_auto_t *context = context_of(ask);
	return policies_allows_blocking(server, ask->id, ask->remote_address, "tunnel:StartSession", resource, context,
					e);
}

int session_judge_forwarding_blocking(struct server *server, const struct session_ask *ask, bool *out, struct err *e)
{
	char resource[RESOURCE_TEXT];
	snprintf(resource, sizeof resource, "target/%s", ask->target);
	json_auto_t *context = context_of(ask);
	const struct policies_question q = { .id = ask->id,
					     .remote_address = ask->remote_address,
					     .action = "tunnel:OpenTcp",
					     .resource = resource,
					     .extra = context,
					     .any_endpoint = true };
	bool ssh = strcmp(ask->kind, "ssh") == 0;
	int rc = ssh ? policies_ask_blocking(server, &q, POLICIES_ALLOWS, NULL, e) : ERR_DENIED;
	*out = rc == 0;
	return rc == ERR_DENIED ? 0 : rc;
}

/* The entries of allow, each in the grant's list of its kind. */
static void grant_entries(const json_t *allow, json_t *grant)
{
	static const char *const lists[] = {
		[ENDPOINT_TCP] = "tcp", [ENDPOINT_ANY] = "tcp", [ENDPOINT_UNIX] = "unix", [ENDPOINT_LISTEN] = "listen"
	};
	for (size_t i = 0; i < json_array_size(allow); i++) {
		json_t *entry = json_array_get(allow, i);
		char place[LIMIT_LINK_HOST + 16];
		struct endpoint_parts at;
		struct err e;
		if (endpoint_text_read(json_string_value(entry), &at, &e) != 0)
			continue;
		json_t *list = json_object_get(grant, lists[at.kind]);
		if (at.kind == ENDPOINT_LISTEN)
			text_host_port(at.host, at.port, place, sizeof place);
		if (at.kind == ENDPOINT_TCP || at.kind == ENDPOINT_ANY)
			json_array_append(list, entry);
		else
			json_array_append_new(list, json_string(at.kind == ENDPOINT_UNIX ? at.path : place));
	}
}

json_t *session_grant(const json_t *record, const json_t *allow, bool ssh_forwarding)
{
	int ssh = strcmp(record_text(record, "kind"), "ssh") == 0;
	json_t *logins = json_array();
	if (ssh)
		json_array_append_new(logins, json_string(record_text(record, "login")));
	json_t *grant =
		json_pack("{s:b, s:o, s:b, s:[], s:[], s:[], s:i}", "ssh", ssh, "logins", logins, "ssh_forwarding",
			  ssh_forwarding, "tcp", "unix", "listen", "max_streams", (int)LIMIT_LINK_STREAMS);
	if (!ssh)
		grant_entries(allow, grant);
	record_date_grant(record, grant);
	return grant;
}

json_t *session_context(const json_t *record)
{
	const struct session_ask ask = { .tags = json_object_get(record, "tags"),
					 .kind = record_text(record, "kind"),
					 .login = record_text(record, "login") };
	json_t *context = context_of(&ask);
	json_object_set_new(context, "session:Principal", json_string(record_text(record, "principal")));
	json_object_set_new(context, "session:Target", json_string(record_text(record, "target")));
	return context;
}

/* May it go on at all? The right to resume is asked of the session, the right to start of the target. Either is enough,
 * but a statement that denies resuming means it. */
static int judge_going_on(struct server *server, const struct session_ask *ask, const json_t *record,
			  const char *resource, struct err *e)
{
	char own[RESOURCE_TEXT];
	snprintf(own, sizeof own, "session/%s", record_text(record, "id"));
	json_auto_t *on_session = session_context(record);
	json_auto_t *on_target = context_of(ask);
	int rc = policies_denies_anythread(server, ask->id, ask->remote_address, "tunnel:ResumeSession", own,
					   on_session, e);
	if (rc)
		return rc;
	rc = policies_allows_blocking(server, ask->id, ask->remote_address, "tunnel:ResumeSession", own, on_session, e);
	if (rc != ERR_DENIED)
		return rc;
	return policies_allows_blocking(server, ask->id, ask->remote_address, "tunnel:StartSession", resource,
					on_target, e);
}

/* Leaves in *kept the endpoints that are still allowed. */
static int judge_allow(struct server *server, const struct session_ask *ask, const char *resource,
		       enum policies_how how, json_t *kept, struct err *e)
{
	int rc = 0;
	for (size_t i = 0; i < json_array_size(ask->allow); i++) {
		json_t *endpoint = json_array_get(ask->allow, i);
		rc = judge_endpoint(server, ask, resource, json_string_value(endpoint), how, NULL, e);
		if (rc == 0)
			json_array_append(kept, endpoint);
		else if (rc != ERR_DENIED)
			return rc;
	}
	return json_array_size(kept) ? 0 : rc;
}

static struct session_ask ask_of(const json_t *record, const struct identity *id, const char *remote_address)
{
	return (struct session_ask){ .id = id,
				     .remote_address =
					     remote_address ? remote_address : record_text(record, "remote_address"),
				     .target = record_text(record, "target"),
				     .tags = json_object_get(record, "tags"),
				     .kind = record_text(record, "kind"),
				     .login = record_text(record, "login"),
				     .allow = json_object_get(record, "allow") };
}

static int judge_endpoints(struct server *server, const struct session_ask *ask, const char *resource,
			   enum policies_how how, json_t *kept, struct err *e)
{
	return strcmp(ask->kind, "ssh") == 0 ? judge_endpoint(server, ask, resource, NULL, how, NULL, e)
					     : judge_allow(server, ask, resource, how, kept, e);
}

static int judge_again_as(struct server *server, const json_t *record, const struct identity *id,
			  const char *remote_address, json_t **out_grant, struct err *e)
{
	struct session_ask ask = ask_of(record, id, remote_address);
	char resource[RESOURCE_TEXT];
	snprintf(resource, sizeof resource, "target/%s", ask.target);
	json_auto_t *kept = json_array();
	bool forwarding = false;
	int rc = revocations_check_anythread(server->revocations, id->subject, id->credential, e);
	if (rc == 0)
		rc = judge_going_on(server, &ask, record, resource, e);
	if (rc == 0)
		rc = judge_endpoints(server, &ask, resource, POLICIES_ALLOWS, kept, e);
	if (rc == 0)
		rc = session_judge_forwarding_blocking(server, &ask, &forwarding, e);
	if (rc == 0)
		*out_grant = session_grant(record, kept, forwarding);
	return rc;
}

int session_judge_again_blocking(struct server *server, const json_t *record, const struct identity *caller,
				 const char *remote_address, json_t **out_grant, struct err *e)
{
	struct identity id;
	if (caller)
		return judge_again_as(server, record, caller, remote_address, out_grant, e);
	int rc = record_identity(record, &id, e);
	if (rc)
		return rc;
	rc = judge_again_as(server, record, &id, remote_address, out_grant, e);
	identity_free(&id);
	return rc;
}

int session_judge_denials_anythread(struct server *server, const json_t *record, const char *remote_address,
				    struct err *e)
{
	struct identity id;
	char own[RESOURCE_TEXT], resource[RESOURCE_TEXT];
	int rc = revocations_check_anythread(server->revocations, record_text(record, "principal"),
					     record_text(record, "credential"), e);
	if (rc || record_identity(record, &id, e))
		return rc;
	struct session_ask ask = ask_of(record, &id, remote_address);
	snprintf(own, sizeof own, "session/%s", record_text(record, "id"));
	snprintf(resource, sizeof resource, "target/%s", ask.target);
	json_auto_t *context = session_context(record);
	json_auto_t *kept = json_array();
	rc = policies_denies_anythread(server, &id, ask.remote_address, "tunnel:ResumeSession", own, context, e);
	if (rc == 0)
		rc = judge_endpoints(server, &ask, resource, POLICIES_DENIES, kept, e);
	identity_free(&id);
	return rc == ERR_DENIED ? rc : 0;
}

void session_denied_by_anythread(struct server *server, const json_t *record, const struct identity *caller,
				 const char *remote_address, struct policy_decision *out)
{
	struct identity own_id = { .subject = "" };
	struct err e;
	char own[RESOURCE_TEXT], target[RESOURCE_TEXT];
	*out = (struct policy_decision){ .effect = POLICY_NO_MATCH };
	if (!caller && record_identity(record, &own_id, &e))
		return;
	struct session_ask ask = ask_of(record, caller ? caller : &own_id, remote_address);
	snprintf(own, sizeof own, "session/%s", record_text(record, "id"));
	snprintf(target, sizeof target, "target/%s", ask.target);
	json_auto_t *context = session_context(record);
	int rc = policies_denying_anythread(server, ask.id, ask.remote_address, "tunnel:ResumeSession", own, context,
					    out, &e);
	if (rc == 0)
		rc = policies_denying_anythread(server, ask.id, ask.remote_address, "tunnel:StartSession", target,
						context, out, &e);
	if (rc == 0 && strcmp(ask.kind, "ssh") == 0)
		rc = judge_endpoint(server, &ask, target, NULL, POLICIES_DENIES, out, &e);
	for (size_t i = 0; rc == 0 && i < json_array_size(ask.allow); i++)
		rc = judge_endpoint(server, &ask, target, json_string_value(json_array_get(ask.allow, i)),
				    POLICIES_DENIES, out, &e);
	identity_free(&own_id);
}
