/* /v1/sessions. Whoever started a session always sees it and may end it; others need policy. */
#include "base/clock.h"
#include "base/json.h"
#include "base/text.h"
#include "server/api_call.h"
#include "server/policies.h"
#include "server/server.h"
#include "server/session_home.h"
#include "server/session_judge.h"
#include "server/session_peers.h"
#include "server/session_record.h"
#include "server/session_renew.h"
#include "server/session_start.h"
#include "server/session_state.h"

#include <string.h>

/* Of StartSession and of a resumption. */
static void answer_started(struct api_call *c, int rc, int status, struct session_started *started, const struct err *e)
{
	if (rc == 0)
		api_answer(c, status, json_incref(started->answer));
	else if (rc == ERR_CONFLICT && started->offline)
		api_answer_problem(c, 409, "target-offline", json_incref(started->offline), "%s", e->text);
	else if (rc == ERR_CLOSED)
		api_answer_problem(c, 410, "session-ended", json_pack("{s:O?}", "end", started->ended), "%s", e->text);
	else
		api_answer_err(c, rc, e);
	session_started_free(started);
}

void api_sessions_post(struct api_call *c)
{
	if (atomic_load(&c->server->draining)) {
		api_answer_problem(c, 503, "busy", NULL, "this node is draining and starts no sessions");
		return;
	}
	json_auto_t *query = api_query(c, (const char *const[]){ NULL });
	json_auto_t *body = query ? api_body(c) : NULL;
	if (!body)
		return;
	struct session_started started;
	struct err e;
	const struct session_caller caller = { .id = &c->id, .remote_address = c->request->remote_address };
	int rc = session_start_blocking(c->server, &caller, body, &started, &e);
	answer_started(c, rc, 201, &started, &e);
}

void api_sessions_resume(struct api_call *c)
{
	if (atomic_load(&c->server->draining)) {
		api_answer_problem(c, 503, "busy", NULL, "this node is draining, ask again");
		return;
	}
	json_auto_t *query = api_query(c, (const char *const[]){ NULL });
	json_auto_t *body = query ? api_body(c) : NULL;
	if (!body)
		return;
	struct session_started started;
	struct err e;
	const struct session_caller caller = { .id = &c->id, .remote_address = c->request->remote_address };
	int rc = session_resume_blocking(c->server, &caller, c->param, body, &started, &e);
	answer_started(c, rc, 200, &started, &e);
}

void api_sessions_renew(struct api_call *c)
{
	json_auto_t *query = api_query(c, (const char *const[]){ NULL });
	json_auto_t *record = NULL;
	json_auto_t *end = NULL;
	struct err e;
	if (!query)
		return;
	const struct session_caller caller = { .id = &c->id, .remote_address = c->request->remote_address };
	int rc = session_renew_blocking(c->server, &caller, c->param, &record, &end, &e);
	if (rc == ERR_CLOSED)
		api_answer_problem(c, 410, "session-ended", json_pack("{s:O?}", "end", end), "%s", e.text);
	else if (rc)
		api_answer_err(c, rc, &e);
	else
		api_answer(c, 200, json_pack("{s:o}", "session", record_view(c->server, record)));
}

static int may_see(struct api_call *c, const json_t *doc, struct err *e)
{
	char resource[sizeof "session/" + LIMIT_ID];
	if (record_is_of(doc, &c->id))
		return 0;
	json_auto_t *context = session_context(doc);
	snprintf(resource, sizeof resource, "session/%s", record_text(doc, "id"));
	return policies_allows_blocking(c->server, &c->id, c->request->remote_address, "tunnel:DescribeSessions",
					resource, context, e);
}

static int pick_session(struct api_call *c, void *arg, const json_t *doc, json_t **out_view, struct err *e)
{
	static const char *const filters[] = { "state", "principal", "target" };
	const json_t *query = arg;
	for (size_t i = 0; i < sizeof filters / sizeof *filters; i++) {
		const char *wanted = json_string_value(json_object_get(query, filters[i]));
		if (wanted && strcmp(wanted, record_text(doc, filters[i])) != 0)
			return 0;
	}
	int rc = may_see(c, doc, e);
	if (rc == 0)
		*out_view = record_view(c->server, doc);
	return rc == ERR_DENIED ? 0 : rc;
}

static bool check_state(struct api_call *c, const json_t *query)
{
	const char *state = json_string_value(json_object_get(query, "state"));
	if (!state || strcmp(state, "starting") == 0 || strcmp(state, "active") == 0 || strcmp(state, "ended") == 0)
		return true;
	api_answer_problem(c, 400, "invalid-request", NULL,
			   "state: '%.32s' is unknown; allowed: starting, active, ended", state);
	return false;
}

void api_sessions_list(struct api_call *c)
{
	json_auto_t *query =
		api_query(c, (const char *const[]){ "state", "principal", "target", "limit", "cursor", NULL });
	if (!query || !check_state(c, query))
		return;
	struct api_list list = {
		.name = "sessions", .collection = SESSION_COLLECTION, .pick = pick_session, .arg = query
	};
	static const char *const indexes[] = { "target", "principal", "state" }; /* the most telling first */
	for (size_t i = 0; i < sizeof indexes / sizeof *indexes && !list.index; i++) {
		const char *value = json_string_value(json_object_get(query, indexes[i]));
		if (value && *value && strlen(value) <= LIMIT_SUBJECT) {
			list.index = indexes[i];
			list.value = value;
		}
	}
	api_answer_list(c, &list, query);
}

void api_sessions_get(struct api_call *c)
{
	json_auto_t *query = api_query(c, (const char *const[]){ NULL });
	json_auto_t *doc = NULL;
	struct err e;
	if (!query)
		return;
	int rc = record_get_blocking(c->server, c->param, &doc, NULL, &e);
	if (rc == 0) {
		rc = may_see(c, doc, &e);
		/* Whoever may not see it does not learn that it exists. */
		if (rc == ERR_DENIED)
			rc = err_set(&e, ERR_NOT_FOUND, "no session '%s'", c->param);
	}
	if (rc)
		api_answer_err(c, rc, &e);
	else
		api_answer(c, 200, record_view(c->server, doc));
}

/* ---- with the session's own token ---- */

static void answer_refusal(struct api_call *c, const struct attach_decision *d, const json_t *record)
{
	static const struct {
		unsigned close_code;
		int status;
		const char *code;
	} rows[] = {
		{ 4401, 401, "unauthenticated" }, { 4402, 401, "clock" }, { 4403, 403, "forbidden" },
		{ 4404, 404, "not-found" },       { 4503, 503, "busy" },  { 4010, 503, "busy" },
	};
	if (d->wait_s) {
		api_answer_wait(c, d->wait_s, d->text);
		return;
	}
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
		if (rows[i].close_code == d->close_code) {
			json_t *now = d->close_code == 4402 ? json_pack("{s:I}", "now_ms", (json_int_t)clock_wall_ms())
							    : NULL;
			api_answer_problem(c, rows[i].status, rows[i].code, now, "%s", d->text);
			return;
		}
	(void)record;
	api_answer_problem(c, 410, "session-ended",
			   json_pack("{s:{s:i, s:s}}", "end", "code", (int)d->close_code, "text", d->text), "%s",
			   d->text);
}

/* The record, when token and proof are good and the session lives; else the problem is answered. */
static json_t *prove(struct api_call *c, struct attach_decision *out)
{
	json_t *record = NULL;
	const char *token = api_bearer(c->request), *dpop = api_header(c->request, "dpop");
	if (!token || !dpop) {
		api_answer_problem(c, 401, "unauthenticated", NULL,
				   "this call needs 'Authorization: Bearer <session token>' and a DPoP proof; %s is "
				   "missing",
				   token ? "the proof" : "the token");
		return NULL;
	}
	const struct session_proof proof = { .session = c->param,
					     .token = token,
					     .dpop = dpop,
					     .method = c->request->method,
					     .path = c->request->path,
					     .host = api_header(c->request, "host"),
					     .remote_address = c->request->remote_address };
	session_prove_blocking(c->server, &proof, out, &record);
	c->out->known = record != NULL;
	if (!out->close_code)
		return record;
	answer_refusal(c, out, record);
	json_decref(record);
	return NULL;
}

void api_sessions_attach(struct api_call *c)
{
	struct attach_decision d;
	json_auto_t *query = api_query(c, (const char *const[]){ NULL });
	if (!query)
		return;
	if (atomic_load(&c->server->draining)) {
		api_answer_problem(c, 503, "busy", NULL, "this node is draining, ask again");
		return;
	}
	json_auto_t *record = prove(c, &d);
	if (!record)
		return;
	if (d.role == LEG_CLIENT)
		session_judge_attach_blocking(c->server, record, NULL, c->request->remote_address, &d);
	if (d.close_code) {
		answer_refusal(c, &d, record);
		return;
	}
	bool here = strcmp(record_text(record, "node"), c->server->node) == 0 ||
		    session_home_claim_blocking(c->server, record);
	api_answer(c, 200,
		   json_pack("{s:s}", "relay_url", here ? c->server->public_url : record_text(record, "relay_url")));
}

/* generation: of the token that asks for it; 0: an identity does. record NULL: it is ended from here, and its node
 * hears of it: calls with a token run where attaches do, and wait for no other node. */
static void end(struct api_call *c, const json_t *record, int64_t generation, unsigned code, const char *text,
		const char *by)
{
	struct err e;
	int rc = record ? session_peers_end_blocking(c->server, record, generation, code, text, by, &e)
			: sessions_end_generation_blocking(c->server, c->param, generation, code, text, by, &e);
	json_auto_t *doc = NULL;
	struct err why;
	if (rc == 0)
		api_answer_nothing(c);
	else if (rc == ERR_CONFLICT && record_get_blocking(c->server, c->param, &doc, NULL, &why) == 0 &&
		 record_ended(doc))
		api_answer_problem(c, 410, "session-ended", json_pack("{s:o}", "end", record_end_view(doc)), "%s",
				   e.text);
	else
		api_answer_err(c, rc, &e);
}

static void delete_by_token(struct api_call *c)
{
	struct attach_decision d;
	json_auto_t *record = prove(c, &d);
	if (!record)
		return;
	if (d.role == LEG_CLIENT)
		end(c, NULL, d.generation, 4000, "the session was ended by its client", "client");
	else
		api_answer_problem(c, 403, "forbidden", NULL, "only the client's token may end a session here");
}

static void delete_by_identity(struct api_call *c)
{
	char resource[sizeof "session/" + LIMIT_ID], text[sizeof c->id.subject + 32];
	json_auto_t *doc = NULL;
	struct err e;
	int rc = record_get_blocking(c->server, c->param, &doc, NULL, &e);
	if (rc && rc != ERR_NOT_FOUND) {
		api_answer_err(c, rc, &e);
		return;
	}
	bool own = rc == 0 && record_is_of(doc, &c->id);
	json_auto_t *context = doc ? session_context(doc) : NULL;
	snprintf(resource, sizeof resource, "session/%s", c->param);
	if (!own && !api_require(c, "tunnel:TerminateSession", resource, context))
		return;
	if (rc) {
		api_answer_err(c, rc, &e);
		return;
	}
	text_print(text, sizeof text, own ? "ended by its owner %s" : "ended by operator %s", c->id.subject);
	end(c, doc, 0, own ? 4000 : 4003, text, c->id.subject);
}

void api_sessions_delete(struct api_call *c)
{
	json_auto_t *query = api_query(c, (const char *const[]){ NULL });
	if (!query)
		return;
	if (api_header(c->request, "dpop"))
		delete_by_token(c);
	else if (api_identify(c))
		delete_by_identity(c);
}
