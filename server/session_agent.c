/* Between sessions and the agents that run them. An offer may be lost with the connection it was sent on; so its token,
 * of which the record has only the hash, is kept beside the live row until the agent says that it runs the session. An
 * agent that comes back without the session is offered it again, with the same token: one that has both offers after
 * all takes the second for a repetition. */
#include "base/clock.h"
#include "base/secret.h"
#include "server/control.h"
#include "server/server.h"
#include "server/session_record.h"
#include "server/session_state.h"

#include <stdlib.h>
#include <string.h>

bool session_send_offer(struct server *server, const json_t *record, const char *token)
{
	json_auto_t *offer = json_pack(
		"{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:O, s:I}", "type", "offer", "session", record_text(record, "id"),
		"kind", record_text(record, "kind"), "relay_url", record_text(record, "relay_url"), "token", token,
		"client_pin", record_text(record, "client_pin"), "principal", record_text(record, "principal"), "grant",
		json_object_get(record, "grant"), "expires_at_ms", (json_int_t)record_int(record, "expires_ms"));
	return offer && control_send_anythread(server->control, record_text(record, "target"), offer);
}

void session_send_grant(struct server *server, const char *target, const char *session, json_t *grant)
{
	json_auto_t *message = json_pack("{s:s, s:s, s:O}", "type", "grant", "session", session, "grant", grant);
	if (message)
		control_send_anythread(server->control, target, message);
}

struct agent_view {
	const json_t *running;
	int64_t mono_ms;
	bool runs;
};

static void mark_agent_view(struct session_live *row, void *arg)
{
	struct agent_view *view = arg;
	view->runs = false;
	for (size_t i = 0; i < json_array_size(view->running); i++)
		view->runs |= strcmp(json_string_value(json_array_get(view->running, i)), row->id) == 0;
	row->accepted |= view->runs;
	row->missing_mono_ms = view->runs ? 0 : view->mono_ms;
}

/* Ids the agent runs and this node does not know as live: ended, unknown, somebody else's, or another node's. */
static void answer_stray(struct server *server, const char *target, const char *id)
{
	json_auto_t *doc = NULL;
	struct err e;
	int rc = record_get_blocking(server, id, &doc, NULL, &e);
	if (rc && rc != ERR_NOT_FOUND)
		return; /* not known now; the agent asks again with its next hello */
	bool theirs = rc == 0 && strcmp(record_text(doc, "target"), target) == 0;
	if (theirs && !record_ended(doc))
		return;
	json_auto_t *message = json_pack("{s:s, s:s, s:i, s:s}", "type", "terminate", "session", id, "code",
					 theirs ? (int)record_end_code(doc) : 4404, "text",
					 theirs ? record_end_text(doc) : "no such session of this target");
	if (message)
		control_send_anythread(server->control, target, message);
}

void sessions_on_agent_blocking(struct server *server, const char *target, const json_t *running)
{
	struct sessions *s = server->sessions;
	char token[SECRET_TOKEN_TEXT];
	struct agent_view view = { .running = running, .mono_ms = clock_mono_ms() };
	size_t n;
	struct session_live *rows = session_table_copy(s->live, target, &n);
	for (size_t i = 0; i < n; i++) {
		json_auto_t *doc = NULL;
		struct err e;
		view.runs = false;
		session_table_change(s->live, rows[i].id, mark_agent_view, &view);
		if (rows[i].end_code || record_get_blocking(server, rows[i].id, &doc, NULL, &e) || record_ended(doc))
			continue;
		if (view.runs)
			session_send_grant(server, target, rows[i].id, json_object_get(doc, "grant"));
		else if (session_table_token(s->live, rows[i].id, token))
			session_send_offer(server, doc, token);
	}
	for (size_t i = 0; i < json_array_size(running); i++) {
		const char *id = json_string_value(json_array_get(running, i));
		struct session_live row;
		if (!session_table_get(s->live, id, &row) || strcmp(row.target, target) != 0 || row.end_code)
			answer_stray(server, target, id);
	}
	secret_wipe(token, sizeof token);
	free(rows);
}

static void forget_missing(struct session_live *row, void *arg)
{
	(void)arg;
	row->missing_mono_ms = 0;
}

void sessions_on_agent_gone_anythread(struct sessions *s, const char *target)
{
	size_t n;
	struct session_live *rows = session_table_copy(s->live, target, &n);
	for (size_t i = 0; i < n; i++)
		session_table_change(s->live, rows[i].id, forget_missing, NULL);
	free(rows);
}

static void mark_accepted(struct session_live *row, void *arg)
{
	if (strcmp(row->target, arg) != 0)
		return;
	row->accepted = true;
	row->missing_mono_ms = 0;
}

void sessions_on_accepted_anythread(struct sessions *s, const char *session, const char *target)
{
	session_table_change(s->live, session, mark_accepted, (void *)(uintptr_t)target);
}
