/* Judging a real request: the caller's facts become condition keys, the policies decide, then the provider that named
 * the caller has its say. A Deny of a policy is final; the provider may veto what a policy allows, and allow what no
 * policy speaks of. */
#include "server/policies.h"

#include "base/clock.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/text.h"
#include "server/audit.h"
#include "server/metrics.h"
#include "server/policy_set.h"
#include "server/server.h"

#include <stdio.h>
#include <string.h>

struct question {
	struct server *server;
	const struct identity *id;
	const char *remote_address, *action, *resource;
	json_t *context;
	bool any_endpoint; /* it is asked for all there are */
};

/* --- context --- */

static int set_claims(json_t *context, json_t *claims)
{
	const char *name;
	json_t *value;
	int rc = 0;
	json_object_foreach(claims, name, value)
	{
		char key[LIMIT_POLICY_TEXT + 1];
		int n = snprintf(key, sizeof key, "tunnel:Claim/%s", name);
		/* A name that no policy could write is left out; the key is then missing. */
		if (n > 0 && (size_t)n < sizeof key)
			rc |= json_object_set(context, key, value);
	}
	return rc;
}

static void clear_claims(json_t *context)
{
	const char *key;
	json_t *value;
	void *after;
	json_object_foreach_safe(context, after, key, value)
	{
		if (strncmp(key, "tunnel:Claim/", 13) == 0)
			json_object_del(context, key);
	}
}

/* What the server knows itself goes over what the caller brings. NULL: out of memory. */
static json_t *make_context(const struct identity *id, const char *remote_address, const json_t *extra)
{
	char now[CLOCK_TEXT_LEN];
	json_t *context = extra ? json_deep_copy(extra) : json_object();
	if (!context)
		return NULL;
	clear_claims(context);
	int rc = json_object_set_new(context, "tunnel:CurrentTime", json_string(clock_text(clock_wall_ms(), now)));
	rc |= json_object_set_new(context, "tunnel:Subject", json_string(id->subject));
	rc |= json_object_set_new(context, "tunnel:Provider", json_string(id->provider));
	rc |= json_object_set_new(context, "tunnel:Group", json_deep_copy(id->groups));
	if (remote_address)
		rc |= json_object_set_new(context, "tunnel:SourceIp", json_string(remote_address));
	else
		json_object_del(context, "tunnel:SourceIp");
	json_t *claims = json_deep_copy(id->claims);
	rc |= claims ? set_claims(context, claims) : -1;
	json_decref(claims);
	if (rc == 0)
		return context;
	json_decref(context);
	return NULL;
}

/* --- words --- */

static int refuse(const struct question *q, struct err *e, const char *fmt, ...) PRINTF_LIKE(3, 4);
static int refuse(const struct question *q, struct err *e, const char *fmt, ...)
{
	char why[sizeof e->text];
	va_list ap;
	va_start(ap, fmt);
	text_vprint(why, sizeof why, fmt, ap);
	va_end(ap);
	return err_set(e, ERR_DENIED, "%.64s may not %s on %.80s: %s", q->id->subject, q->action, q->resource, why);
}

/* --- judgement --- */

/* 0, ERR_DENIED, ERR_UNAVAILABLE. */
static int ask_provider(const struct question *q, bool policy_allows, struct err *e)
{
	struct err why = { 0 };
	int say = q->server->auth
			  ? auth_authorize_blocking(q->server->auth, q->id, q->action, q->resource, q->context, &why)
			  : 0;
	if (say > 0 || (say == 0 && policy_allows))
		return 0;
	if (say == 0)
		return refuse(q, e, "no statement allows it");
	if (why.code == ERR_UNAVAILABLE || why.code == ERR_TIMEOUT)
		return err_set(e, ERR_UNAVAILABLE, "provider %s cannot say whether %.64s may %s: %s", q->id->provider,
			       q->id->subject, q->action, why.text);
	return refuse(q, e, "provider %s says no%s%s", q->id->provider, why.text[0] ? ": " : "", why.text);
}

/* ERR_DENIED when a statement denies it. */
static int evaluate(const struct question *q, struct policy_decision *out, struct err *e)
{
	const struct policy_request request = { .subject = q->id->subject,
						.groups = q->id->groups,
						.action = q->action,
						.resource = q->resource,
						.context = q->context };
	if (q->any_endpoint)
		policies_evaluate_any_endpoint_anythread(q->server->policies, &request, out);
	else
		policies_evaluate_anythread(q->server->policies, &request, out);
	if (out->effect == POLICY_DENY)
		return refuse(q, e, "denied by statement %s of policy %s", out->statement, out->policy);
	return 0;
}

static int judge(const struct question *q, struct policy_decision *out, struct err *e)
{
	int rc = evaluate(q, out, e);
	return rc ? rc : ask_provider(q, out->effect == POLICY_ALLOW, e);
}

/* A request may name anything, and a text may have been cut inside a character: the record gets what is UTF-8 of it,
 * from the start. */
static json_t *plain(const char *text)
{
	size_t n = text ? strnlen(text, 1024) : 0;
	while (n && !text_is_utf8(text, n))
		n--;
	return text ? json_stringn(text, n) : json_null();
}

/* A refusal stands even when it cannot be written down. */
static void record(const struct question *q, const struct policy_decision *d, const char *text)
{
	bool by_policy = d->effect == POLICY_DENY;
	if (q->server->metrics)
		metrics_add(q->server->metrics, METRIC_POLICY_DENIED, 1);
	if (!q->server->audit)
		return;
	json_t *fields =
		json_pack("{s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "action", q->action, "resource",
			  plain(q->resource), "subject", plain(q->id->subject), "provider", plain(q->id->provider),
			  "remote_address", plain(q->remote_address), "policy", plain(by_policy ? d->policy : NULL),
			  "statement", plain(by_policy ? d->statement : NULL), "text", plain(text));
	audit_note_blocking(q->server->audit, "denied", fields);
}

int policies_ask_blocking(struct server *server, const struct policies_question *asked, enum policies_how how,
			  struct policy_decision *out_decision, struct err *e)
{
	struct err own = { 0 };
	struct policy_decision decision = { .effect = POLICY_NO_MATCH };
	struct question q = { .server = server,
			      .id = asked->id,
			      .remote_address = asked->remote_address,
			      .action = asked->action,
			      .resource = asked->resource,
			      .any_endpoint = asked->any_endpoint,
			      .context = make_context(asked->id, asked->remote_address, asked->extra) };
	if (!q.context)
		return err_set(e, ERR_UNAVAILABLE, "out of memory");
	e = e ? e : &own;
	int rc = how == POLICIES_DENIES ? evaluate(&q, &decision, e) : judge(&q, &decision, e);
	if (rc == ERR_DENIED && how == POLICIES_REQUIRE)
		record(&q, &decision, e->text);
	json_decref(q.context);
	if (out_decision)
		*out_decision = decision;
	return rc;
}

int policies_require_blocking(struct server *server, const struct identity *id, const char *remote_address,
			      const char *action, const char *resource, const json_t *extra, struct err *e)
{
	const struct policies_question q = { id, remote_address, action, resource, extra, false };
	return policies_ask_blocking(server, &q, POLICIES_REQUIRE, NULL, e);
}

int policies_allows_blocking(struct server *server, const struct identity *id, const char *remote_address,
			     const char *action, const char *resource, const json_t *extra, struct err *e)
{
	const struct policies_question q = { id, remote_address, action, resource, extra, false };
	return policies_ask_blocking(server, &q, POLICIES_ALLOWS, NULL, e);
}

int policies_denying_anythread(struct server *server, const struct identity *id, const char *remote_address,
			       const char *action, const char *resource, const json_t *extra,
			       struct policy_decision *out, struct err *e)
{
	const struct policies_question q = { id, remote_address, action, resource, extra, false };
	return policies_ask_blocking(server, &q, POLICIES_DENIES, out, e);
}

int policies_denies_anythread(struct server *server, const struct identity *id, const char *remote_address,
			      const char *action, const char *resource, const json_t *extra, struct err *e)
{
	return policies_denying_anythread(server, id, remote_address, action, resource, extra, NULL, e);
}
