/* /v1/revocations. What is revoked is in force on this node, and its sessions here are cut, before anything waits for
 * the store; the answer comes when nothing of them lives anywhere. A store that is away delays the record, not the
 * revocation, and the answer says so. */
#include "base/clock.h"
#include "base/json.h"
#include "base/text.h"
#include "server/api_call.h"
#include "server/audit.h"
#include "server/policies.h"
#include "server/revocations.h"
#include "server/server.h"
#include "server/session_judge.h"
#include "server/session_peers.h"
#include "server/session_record.h"
#include "server/session_state.h"

#include <string.h>

#define FOR_MOST_S (10 * 365 * 24 * 3600LL)
#define RESOURCE_TEXT (sizeof "credential/" + TUNNEL_CREDENTIAL_MAX)

struct ask {
	struct api_call *call;
	const char *principal, *credential, *session, *reason;
	int64_t for_s;
	const char *kind, *value;  /* of the one that is given */
	json_t *record;            /* the session's */
	char target[LIMIT_ID + 1]; /* of the session; "": it lives elsewhere, or nowhere */
};

static int read_ask(struct ask *a, json_t *body, struct err *e)
{
	const struct json_field fields[] = {
		{ "principal", JSON_FIELD_STRING, false, 1, TUNNEL_SUBJECT_MAX - 1, &a->principal },
		{ "credential", JSON_FIELD_STRING, false, 1, TUNNEL_CREDENTIAL_MAX - 1, &a->credential },
		{ "session", JSON_FIELD_STRING, false, 1, LIMIT_ID, &a->session },
		{ "reason", JSON_FIELD_STRING, false, 0, LIMIT_REASON, &a->reason },
		{ "for_s", JSON_FIELD_INT, false, 1, FOR_MOST_S, &a->for_s },
		{ .name = NULL },
	};
	int rc = json_read(body, "body", true, fields, e);
	if (rc)
		return rc;
	if (!!a->principal + !!a->credential + !!a->session != 1)
		return err_set(e, ERR_INVALID, "body: give one of principal, credential, session");
	if (a->session && a->for_s)
		return err_set(e, ERR_INVALID, "body.for_s: a session ends for good; for principals and credentials");
	a->kind = a->principal ? "principal" : a->credential ? "credential" : "session";
	a->value = a->principal ? a->principal : a->credential ? a->credential : a->session;
	return 0;
}

/* Whoever did that could not lift it again. */
static int refuse_own(const struct ask *a, struct err *e)
{
	const struct identity *id = &a->call->id;
	if (a->principal && strcmp(a->principal, id->subject) == 0)
		return err_set(e, ERR_CONFLICT,
			       "this would revoke yourself, and you could not undo it: revoke the credential, or let "
			       "another operator do it");
	if (a->credential && strcmp(a->credential, id->credential) == 0)
		return err_set(e, ERR_CONFLICT,
			       "this would revoke the credential of this very call: use another one for it");
	return 0;
}

static bool may(struct ask *a)
{
	char resource[RESOURCE_TEXT];
	json_auto_t *context = a->record ? session_context(a->record) : NULL;
	snprintf(resource, sizeof resource, "%s/%s", a->kind, a->value);
	return api_require(a->call, "tunnel:Revoke", resource, context);
}

static json_t *audit_fields(const struct ask *a, int64_t expires_ms)
{
	const struct api_call *c = a->call;
	json_t *fields = json_pack("{s:s, s:s, s:s, s:s, s:s?}", a->kind, a->value, "by", c->id.subject, "provider",
				   c->id.provider, "reason", a->reason ? a->reason : "", "remote_address",
				   c->request->remote_address);
	if (fields && !a->session)
		json_object_set_new(fields, "expires_at", record_time(expires_ms));
	return fields;
}

static int enforce(const struct ask *a, int64_t expires_ms, char id[REVOCATION_ID_TEXT], struct err *e)
{
	const struct revocation what = { .principal = a->principal,
					 .credential = a->credential,
					 .reason = a->reason,
					 .by = a->call->id.subject,
					 .expires_ms = expires_ms };
	return revocations_enforce_anythread(a->call->server->revocations, &what, id, e);
}

static struct session_revocation sessions_of(const struct ask *a, char text[SESSION_END_TEXT])
{
	const bool said = a->reason && *a->reason;
	text_print(text, SESSION_END_TEXT, "%s was revoked by %.64s%s%.120s", a->session ? "the session" : a->kind,
		   a->call->id.subject, said ? ": " : "", said ? a->reason : "");
	return (struct session_revocation){ .principal = a->principal,
					    .credential = a->credential,
					    .session = a->session,
					    .target = a->target,
					    .text = text,
					    .by = a->call->id.subject };
}

/* In force first: so a session that starts meanwhile is refused by it. Then cut here, and only then comes what waits
 * for the store, through which the other nodes are asked, too. */
static void revoke(struct ask *a)
{
	struct api_call *c = a->call;
	struct err e;
	char id[REVOCATION_ID_TEXT], text[SESSION_END_TEXT];
	json_t *revocation = NULL;
	int64_t expires_ms = a->for_s ? clock_wall_ms() + a->for_s * 1000 : 0;
	int rc = a->session ? 0 : enforce(a, expires_ms, id, &e);
	if (rc) {
		api_answer_err(c, rc, &e);
		return;
	}
	const struct session_revocation what = sessions_of(a, text);
	struct revoking *here = sessions_revoke_begin_anythread(c->server, &what);
	audit_note_blocking(c->server->audit, "revocation.put", audit_fields(a, expires_ms));
	struct revoking_everywhere *revoking = session_peers_revoke_begin_blocking(c->server, &what, &here);
	rc = a->session ? 0 : revocations_record_blocking(c->server->revocations, id, &revocation, &e);
	json_t *answer = session_peers_revoke_finish_blocking(&revoking, rc == 0 && !a->session);
	if (rc == 0 && !answer)
		rc = err_set(&e, ERR_NOMEM, "out of memory");
	if (rc) {
		json_decref(revocation);
		json_decref(answer);
		api_answer_err(c, rc, &e);
		return;
	}
	json_object_set_new(answer, "revocation", revocation ? revocation : json_null());
	api_answer(c, 200, answer);
}

/* Its record cannot be read; but who may revoke its owner, and so all his sessions, may revoke this one of them. */
static bool may_by_row(struct ask *a)
{
	char resource[RESOURCE_TEXT];
	struct session_live row;
	struct api_call *c = a->call;
	struct err e;
	if (!session_table_get(c->server->sessions->live, a->session, &row) || row.end_code)
		return false;
	snprintf(resource, sizeof resource, "principal/%s", row.principal);
	snprintf(a->target, sizeof a->target, "%s", row.target);
	return policies_allows_blocking(c->server, &c->id, c->request->remote_address, "tunnel:Revoke", resource, NULL,
					&e) == 0;
}

/* The session, if it lives. 404 and 409 only for those who may know. */
static bool find_session(struct ask *a)
{
	struct err e;
	int rc = record_get_blocking(a->call->server, a->session, &a->record, NULL, &e);
	if (rc && rc != ERR_NOT_FOUND) {
		bool known = may_by_row(a);
		if (!known)
			api_answer_err(a->call, rc, &e);
		return known;
	}
	if (!may(a))
		return false;
	snprintf(a->target, sizeof a->target, "%s", record_text(a->record, "target"));
	if (rc == 0 && record_ended(a->record))
		rc = err_set(&e, ERR_CONFLICT, "session %s had ended: %s", a->session, record_end_text(a->record));
	if (rc)
		api_answer_err(a->call, rc, &e);
	return rc == 0;
}

void api_revocations_post(struct api_call *c)
{
	struct ask a = { .call = c };
	struct err e;
	json_auto_t *query = api_query(c, (const char *const[]){ NULL });
	json_auto_t *body = query ? api_body(c) : NULL;
	if (!body)
		return;
	int rc = read_ask(&a, body, &e);
	if (rc)
		api_answer_err(c, rc, &e);
	else if (a.session ? find_session(&a) : may(&a)) {
		rc = refuse_own(&a, &e);
		if (rc)
			api_answer_err(c, rc, &e);
		else
			revoke(&a);
	}
	json_decref(a.record);
}

/* 0, ERR_DENIED, or errors: may the caller see and lift it? */
static int may_see(struct api_call *c, const json_t *one, struct err *e)
{
	char resource[RESOURCE_TEXT];
	const char *kind = record_text(one, "kind");
	snprintf(resource, sizeof resource, "%s/%s", kind, record_text(one, kind));
	return policies_allows_blocking(c->server, &c->id, c->request->remote_address, "tunnel:Revoke", resource, NULL,
					e);
}

void api_revocations_list(struct api_call *c)
{
	struct err e;
	json_auto_t *query = api_query(c, (const char *const[]){ NULL });
	if (!query)
		return;
	json_auto_t *all = revocations_list(c->server->revocations);
	json_auto_t *seen = json_array();
	for (size_t i = 0; i < json_array_size(all); i++) {
		int rc = may_see(c, json_array_get(all, i), &e);
		if (rc && rc != ERR_DENIED) {
			api_answer_err(c, rc, &e);
			return;
		}
		if (rc == 0)
			json_array_append(seen, json_array_get(all, i));
	}
	api_answer(c, 200, json_pack("{s:O}", "revocations", seen));
}

void api_revocations_delete(struct api_call *c)
{
	struct ask a = { .call = c, .kind = "principal", .value = c->param };
	struct err e;
	bool changed;
	json_auto_t *query = api_query(c, (const char *const[]){ NULL });
	if (!query)
		return;
	json_auto_t *one = revocations_get(c->server->revocations, c->param);
	if (!one && revocations_reload_blocking(c->server->revocations, &changed, &e) == 0)
		one = revocations_get(c->server->revocations, c->param); /* another node may have made it just now */
	if (one) {
		a.kind = record_text(one, "kind");
		a.value = record_text(one, a.kind);
	}
	if (!may(&a))
		return;
	int rc = one ? audit_append_blocking(c->server->audit, "revocation.delete", audit_fields(&a, 0), &e)
		     : err_set(&e, ERR_NOT_FOUND, "no revocation '%s'", c->param);
	if (rc == 0)
		rc = revocations_del_blocking(c->server->revocations, c->param, &e);
	if (rc)
		api_answer_err(c, rc, &e);
	else
		api_answer_nothing(c);
}
