/* Between sessions and the agents that run them. An offer may be lost with the connection it was sent on; so its token,
 * of which the record has only the hash, is kept beside the live row until the agent says that it runs the session. An
 * agent that comes back without the session is offered it again, with the same token: one that has both offers after
 * all takes the second for a repetition. One that runs only an earlier generation, or comes without a session that has
 * never been up, has never taken the offer; when its token is forgotten (this process is not the one that offered it),
 * it gets a new one. The one before stays good: its worker may be about to start with it, or run, and not be told of
 * yet. */
#include "base/clock.h"
#include "base/log.h"
#include "base/secret.h"
#include "server/control.h"
#include "server/server.h"
#include "server/session_home.h"
#include "server/session_record.h"
#include "server/session_state.h"

#include <stdlib.h>
#include <string.h>

bool session_send_offer(struct server *server, const json_t *record, const char *token)
{
	json_auto_t *offer = json_pack(
		"{s:s, s:s, s:I, s:s, s:s, s:s, s:s, s:s, s:O, s:I, s:I}", "type", "offer", "session",
		record_text(record, "id"), "generation", (json_int_t)record_generation(record), "kind",
		record_text(record, "kind"), "relay_url", record_text(record, "relay_url"), "token", token,
		"client_pin", record_text(record, "client_pin"), "principal", record_text(record, "principal"), "grant",
		json_object_get(record, "grant"), "expires_at_ms", (json_int_t)record_int(record, "expires_ms"),
		"detach_grace_s", (json_int_t)((server->settings->detach_grace_ms + 999) / 1000));
	if (offer && server->settings->session_lease_ms)
		json_object_set_new(offer, "lease_s",
				    json_integer((json_int_t)((server->settings->session_lease_ms + 999) / 1000)));
	return offer && control_send_anythread(server->control, record_text(record, "target"), offer);
}

void session_send_grant(struct server *server, const char *target, const char *session, json_t *grant)
{
	json_auto_t *message = json_pack("{s:s, s:s, s:O}", "type", "grant", "session", session, "grant", grant);
	if (message)
		control_send_anythread(server->control, target, message);
}

void session_send_terminate(struct server *server, const char *target, const char *session, unsigned code,
			    const char *text)
{
	json_auto_t *message = json_pack("{s:s, s:s, s:i, s:s}", "type", "terminate", "session", session, "code",
					 (int)code, "text", text);
	if (message)
		control_send_anythread(server->control, target, message);
}

struct agent_view {
	const json_t *running;
	int64_t mono_ms;
	bool runs;
	bool older;    /* it runs an earlier generation alone */
	bool accepted; /* it has once said that it runs the session */
};

/* The newest generation of a session that the agent runs; 0: none. */
static int64_t generation_in(const json_t *running, const char *id)
{
	int64_t newest = 0;
	for (size_t i = 0; i < json_array_size(running); i++) {
		const json_t *one = json_array_get(running, i);
		if (strcmp(record_text(one, "id"), id) == 0 && record_int(one, "generation") > newest)
			newest = record_int(one, "generation");
	}
	return newest;
}

static void mark_agent_view(struct session_live *row, void *arg)
{
	struct agent_view *view = arg;
	int64_t generation = generation_in(view->running, row->id);
	view->runs = generation >= row->generation;
	view->older = generation && !view->runs;
	row->accepted |= view->runs;
	view->accepted = row->accepted;
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
	session_send_terminate(server, target, id, theirs ? record_end_code(doc) : 4404,
			       theirs ? record_end_text(doc) : "no such session of this target");
}

struct new_token {
	struct server *server;
	int64_t generation;
	const char *token;
};

static int change_target_token(void *arg, json_t *doc, struct err *e)
{
	const struct new_token *new = arg;
	char hash[SESSION_TOKEN_HASH];
	if (record_ended(doc) || record_generation(doc) != new->generation)
		return err_set(e, ERR_CONFLICT, "the session changed");
	int rc = session_home_check(new->server, doc, e);
	if (rc)
		return rc;
	record_hash_token(new->token, hash);
	record_offer_token(doc, hash);
	return 0;
}

/* false: the offer cannot be repeated. */
static bool find_token(struct server *server, const json_t *doc, bool never_taken, char token[SECRET_TOKEN_TEXT])
{
	struct sessions *s = server->sessions;
	const char *id = record_text(doc, "id");
	struct new_token new = { server, record_generation(doc), token };
	struct err e;
	if (session_table_token(s->live, id, token))
		return true;
	if (!never_taken)
		return false;
	secret_token(token);
	if (record_change_blocking(server, id, change_target_token, &new, NULL, &e)) {
		log_with(LOG_LEVEL_WARN, FIELDS({ "session", id }, { "error", e.text }),
			 "the session could not be offered again");
		return false;
	}
	session_table_keep_token(s->live, id, token);
	return true;
}

static bool is_starting(const json_t *doc)
{
	return strcmp(record_text(doc, "state"), "starting") == 0;
}

/* The grant of a session that it runs, the offer of one that it does not. */
static void tell_agent(struct server *server, const char *target, const char *id, const struct agent_view *view)
{
	json_auto_t *doc = NULL;
	char token[SECRET_TOKEN_TEXT];
	struct err e;
	pthread_mutex_t *lock = session_judging(server->sessions, id);
	pthread_mutex_lock(lock);
	int rc = record_get_blocking(server, id, &doc, NULL, &e);
	if (rc == 0 && !record_ended(doc)) {
		if (view->runs)
			session_send_grant(server, target, id, json_object_get(doc, "grant"));
		else if (find_token(server, doc, view->older || (!view->accepted && is_starting(doc)), token))
			session_send_offer(server, doc, token);
	}
	pthread_mutex_unlock(lock);
	secret_wipe(token, sizeof token);
}

void session_tell_agent_blocking(struct server *server, const char *target, const char *session)
{
	json_auto_t *doc = NULL;
	struct err e;
	if (record_get_blocking(server, session, &doc, NULL, &e))
		return;
	const struct agent_view view = { .runs = !is_starting(doc) };
	tell_agent(server, target, session, &view);
}

void sessions_on_agent_blocking(struct server *server, const char *target, const json_t *running)
{
	struct sessions *s = server->sessions;
	struct agent_view view = { .running = running, .mono_ms = clock_mono_ms() };
	size_t n;
	struct session_live *rows = session_table_copy(s->live, target, &n);
	for (size_t i = 0; i < n; i++) {
		view.runs = view.older = view.accepted = false;
		session_table_change(s->live, rows[i].id, mark_agent_view, &view);
		if (rows[i].end_code == 0)
			tell_agent(server, target, rows[i].id, &view);
		else if (view.runs || view.older) /* it was away when it was told */
			session_send_terminate(server, target, rows[i].id, rows[i].end_code, rows[i].end_text);
	}
	for (size_t i = 0; i < json_array_size(running); i++) {
		const char *id = record_text(json_array_get(running, i), "id");
		struct session_live row;
		if (!session_table_get(s->live, id, &row) || strcmp(row.target, target) != 0 || row.end_code)
			answer_stray(server, target, id);
	}
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

struct acceptance {
	const char *target;
	int64_t generation;
};

static void mark_accepted(struct session_live *row, void *arg)
{
	const struct acceptance *a = arg;
	if (strcmp(row->target, a->target) != 0 || row->generation != a->generation)
		return;
	row->accepted = true;
	row->missing_mono_ms = 0;
}

void sessions_on_accepted_anythread(struct sessions *s, const char *session, int64_t generation, const char *target)
{
	struct acceptance a = { target, generation };
	session_table_change(s->live, session, mark_accepted, &a);
}
