/* A session's end is the delicate part: many may want it at once (client, operator, sweep, policy, agent), the store
 * may be away, the process may die in the middle, and still the record changes once, the audit log gets one reason, and
 * nobody stays connected.
 *
 * So an end goes: mark the live row (first reason wins), cut both legs and tell the agent at once, then compare-and-set
 * the record to "ended" and "unfinished", append to the audit log, clear "unfinished". Whatever fails is tried again by
 * the sweep: from the row while this process lives, from the "unfinished" index after a crash. Starts and resumptions
 * owe their audit records in the same way, and each is there once: "owed_seq" says from where on to look for it. */
#include "server/sessions.h"

#include "base/clock.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/text.h"
#include "server/audit.h"
#include "server/control.h"
#include "server/metrics.h"
#include "server/nodes.h"
#include "server/server.h"
#include "server/session_home.h"
#include "server/session_record.h"
#include "server/session_state.h"
#include "server/sshca.h"
#include "server/store.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

int sessions_new(struct server *server, struct sessions **out_sessions, struct err *e)
{
	struct sessions *s = calloc(1, sizeof *s);
	if (!s)
		return err_set(e, ERR_NOMEM, "out of memory");
	s->server = server;
	pthread_mutex_init(&s->lock, NULL);
	pthread_condattr_t attr;
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&s->wake, &attr);
	pthread_mutex_init(&s->watch_lock, NULL);
	list_init(&s->watches);
	pthread_condattr_destroy(&attr);
	for (size_t i = 0; i < SESSION_SETTLERS; i++) {
		pthread_mutex_init(&s->settling[i], NULL);
		pthread_mutex_init(&s->judging[i], NULL);
	}
	s->live = session_table_new();
	s->proofs = replay_new(LIMIT_REPLAY, LIMIT_REPLAY_SHARE);
	if (!s->live || !s->proofs) {
		sessions_stop(&s);
		return err_set(e, ERR_NOMEM, "out of memory");
	}
	*out_sessions = s;
	return 0;
}

void sessions_halt(struct sessions *s)
{
	pthread_mutex_lock(&s->lock);
	s->stop = true;
	pthread_cond_signal(&s->wake);
	pthread_mutex_unlock(&s->lock);
	if (s->sweeping)
		pthread_join(s->sweeper, NULL);
	s->sweeping = false;
}

void sessions_stop(struct sessions **sessions)
{
	struct sessions *s = *sessions;
	if (!s)
		return;
	sessions_halt(s);
	session_table_free(&s->live);
	replay_free(&s->proofs);
	for (size_t i = 0; i < SESSION_SETTLERS; i++) {
		pthread_mutex_destroy(&s->settling[i]);
		pthread_mutex_destroy(&s->judging[i]);
	}
	pthread_cond_destroy(&s->wake);
	pthread_mutex_destroy(&s->watch_lock);
	pthread_mutex_destroy(&s->lock);
	free(s);
	*sessions = NULL;
}

void session_row_times(struct session_live *row, const json_t *record)
{
	int64_t renewed_ms = record_int(record, "renewed_ms");
	row->expires_ms = record_int(record, "expires_ms");
	row->lifetime_ms = row->expires_ms - (renewed_ms ? renewed_ms : record_int(record, "created_ms"));
	row->by_identity = record_by_identity(record);
}

void session_row_follow(struct session_live *row, const json_t *record)
{
	if (row->end_code || row->generation != record_generation(record))
		return;
	session_row_times(row, record);
	snprintf(row->credential, sizeof row->credential, "%s", record_text(record, "credential"));
}

bool session_adopt(struct sessions *s, const json_t *record, int64_t mono_ms)
{
	struct session_live row = { .generation = record_generation(record),
				    .here_mono_ms = mono_ms,
				    .active_mono_ms = mono_ms,
				    .sampled_mono_ms = mono_ms,
				    .paired = strcmp(record_text(record, "state"), "active") == 0 };
	session_row_times(&row, record);
	snprintf(row.id, sizeof row.id, "%s", record_text(record, "id"));
	snprintf(row.target, sizeof row.target, "%s", record_text(record, "target"));
	snprintf(row.principal, sizeof row.principal, "%s", record_text(record, "principal"));
	snprintf(row.credential, sizeof row.credential, "%s", record_text(record, "credential"));
	return session_table_add(s->live, &row);
}

size_t sessions_count_anythread(struct sessions *s, const char *target)
{
	return session_table_count(s->live, target);
}

json_t *sessions_loads_anythread(struct sessions *s, size_t most)
{
	size_t n;
	struct session_live *rows = session_table_copy(s->live, NULL, &n);
	json_t *loads = json_object();
	for (size_t i = 0; i < n; i++) {
		json_t *load = json_object_get(loads, rows[i].target);
		if (load)
			json_integer_set(load, json_integer_value(load) + 1);
		else if (json_object_size(loads) < most)
			json_object_set_new(loads, rows[i].target, json_integer(1));
	}
	free(rows);
	return loads;
}

/* ---- ends ---- */

struct ending {
	unsigned code;
	char text[SESSION_END_TEXT], by[SESSION_END_BY];
	int64_t generation; /* whose end asks for it; 0: not an end */
	const char *start;  /* target_token of the start that is taken back; NULL: none is */
	int64_t expired_ms; /* the time that is over; 0: it does not end for that */
	bool stale;         /* a newer client has the session, or is getting it; or it was renewed */
	bool known, mine;   /* there is a row; this call carries the end out */
	bool was_cut;       /* legs and agent have been told just now */
	char target[LIMIT_ID + 1];
};

static struct ending ending_of(unsigned code, const char *text, const char *by)
{
	struct ending end = { .code = code };
	text_print(end.text, sizeof end.text, "%s", text);
	text_print(end.by, sizeof end.by, "%s", by);
	return end;
}

static bool is_for_good(const struct ending *end)
{
	return !end->expired_ms && !end->generation;
}

static void claim_end(struct session_live *row, void *arg)
{
	struct ending *end = arg;
	bool renewed = end->expired_ms && end->expired_ms < row->expires_ms;
	bool held = end->generation && row->resuming && end->generation == row->generation;
	end->known = true;
	end->stale = renewed || held || (end->generation && end->generation < row->generation);
	if (held)
		row->held_code = end->code;
	if (end->stale)
		return;
	end->mine = !row->end_busy;
	end->was_cut = row->was_cut;
	row->was_cut = false;
	/* What ends it in any case counts before what another node may know better: that it was renewed, or resumed. */
	bool for_good = !row->end_expired_ms && !row->end_generation;
	if (row->end_code == 0 || (!for_good && is_for_good(end))) {
		row->end_code = end->code;
		row->end_expired_ms = end->expired_ms;
		row->end_generation = end->generation;
		memcpy(row->end_text, end->text, sizeof row->end_text);
		memcpy(row->end_by, end->by, sizeof row->end_by);
	}
	row->end_busy = true;
	end->code = row->end_code;
	end->expired_ms = row->end_expired_ms;
	end->generation = row->end_generation;
	memcpy(end->text, row->end_text, sizeof end->text);
	memcpy(end->by, row->end_by, sizeof end->by);
	memcpy(end->target, row->target, sizeof end->target);
}

static void release_end(struct session_live *row, void *arg)
{
	(void)arg;
	row->end_busy = false;
}

/* It was renewed, or resumed, where this node did not see it. */
static void take_back_end(struct session_live *row, void *arg)
{
	if (!row->end_expired_ms && !row->end_generation)
		return;
	row->end_code = 0;
	row->end_expired_ms = row->end_generation = 0;
	session_row_follow(row, arg);
}

static void cut(struct server *server, const char *id, const char *target, unsigned code, const char *text)
{
	relay_end_anythread(server->relay, id, code, text);
	session_send_terminate(server, target, id, code, text);
}

static void release_cut(struct session_live *row, void *arg)
{
	row->was_cut = true;
	release_end(row, arg);
}

bool session_cut_anythread(struct server *server, const struct session_verdict *v)
{
	struct ending end = ending_of(v->code, v->text, v->by);
	session_table_change(server->sessions->live, v->session, claim_end, &end);
	if (end.known && end.mine) { /* else whoever carries it out has just done so, or does now */
		cut(server, v->session, end.target, end.code, end.text);
		session_table_change(server->sessions->live, v->session, release_cut, NULL);
	} else if (end.known) { /* who waits for the agent's answer may have come too late for the one to him */
		session_send_terminate(server, end.target, v->session, end.code, end.text);
	}
	return end.known;
}

struct end_change {
	struct server *server;
	const struct ending *end;
	bool had_ended, stale;
};

static int change_to_ended(void *arg, json_t *doc, struct err *e)
{
	struct end_change *c = arg;
	c->had_ended = record_ended(doc);
	c->stale = (c->end->generation && c->end->generation < record_generation(doc)) ||
		   (c->end->start && strcmp(c->end->start, record_text(doc, "target_token")) != 0) ||
		   (c->end->expired_ms && c->end->expired_ms < record_int(doc, "expires_ms"));
	if (c->had_ended || c->stale)
		return 1;
	json_t *end = json_pack("{s:i, s:s, s:s}", "code", (int)c->end->code, "text", c->end->text, "by", c->end->by);
	if (!end)
		return err_set(e, ERR_NOMEM, "out of memory");
	json_object_set_new(doc, "end", end);
	if (c->end->start)
		json_object_set_new(doc, "unanswered", json_true());
	struct relay_info info = { 0 };
	relay_info_anythread(c->server->relay, record_text(doc, "id"), &info);
	/* A start that is still owed to the log is told together with the end. */
	if (json_is_true(json_object_get(doc, "unfinished")) && !json_object_get(doc, "resume_owed"))
		json_object_set_new(doc, "start_owed", json_true());
	json_object_set_new(doc, "state", json_string("ended"));
	json_object_set_new(doc, "ended_ms", json_integer(clock_wall_ms()));
	json_object_set_new(doc, "ended_on", json_string(c->server->node));
	record_owe(c->server, doc);
	json_object_set_new(doc, "bytes_up", json_integer((json_int_t)info.bytes_up));
	json_object_set_new(doc, "bytes_down", json_integer((json_int_t)info.bytes_down));
	return 0;
}

static int audit_start(struct server *server, const json_t *record, struct err *e)
{
	json_t *fields = json_object();
	static const char *const copied[] = { "principal", "provider", "credential", "target", "kind",
					      "login",     "allow",    "reason",     "grant",  "remote_address" };
	json_object_set_new(fields, "session", json_string(record_text(record, "id")));
	for (size_t i = 0; i < sizeof copied / sizeof *copied; i++) {
		json_t *value = json_object_get(record, copied[i]);
		if (value && !json_is_null(value))
			json_object_set(fields, copied[i], value);
	}
	if (strcmp(record_text(record, "kind"), "ssh") == 0)
		json_object_set_new(fields, "ssh_serial",
				    json_sprintf("%" PRIu64, sshca_serial(record_text(record, "id"))));
	json_object_set_new(fields, "expires_at", record_time(record_int(record, "expires_ms")));
	return audit_announce_blocking(server->audit, "session.start", fields, e);
}

static int audit_end(struct server *server, const json_t *record, struct err *e)
{
	json_t *fields = json_pack(
		"{s:s, s:s, s:s, s:i, s:s, s:s, s:I, s:I, s:I}", "session", record_text(record, "id"), "principal",
		record_text(record, "principal"), "target", record_text(record, "target"), "code",
		(int)record_end_code(record), "reason", record_end_text(record), "by",
		record_text(json_object_get(record, "end"), "by"), "duration_ms",
		(json_int_t)(record_int(record, "ended_ms") - record_int(record, "created_ms")), "bytes_up",
		(json_int_t)record_int(record, "bytes_up"), "bytes_down", (json_int_t)record_int(record, "bytes_down"));
	return audit_append_blocking(server->audit, "session.end", fields, e);
}

struct paid {
	bool ended;
	const char *start; /* target_token of the start that was paid for; NULL: none was */
	bool again;        /* another start has taken that one's place, and is in no log */
};

static int change_to_settled(void *arg, json_t *doc, struct err *e)
{
	(void)e;
	struct paid *paid = arg;
	bool unfinished = json_is_true(json_object_get(doc, "unfinished"));
	paid->again = unfinished && paid->start && strcmp(paid->start, record_text(doc, "target_token")) != 0;
	if (!unfinished || paid->again)
		return 1;
	if (record_ended(doc) != paid->ended) { /* its end came in between and owes more; who wrote that pays */
		json_object_del(doc, "start_owed");
		json_object_del(doc, "resume_owed");
		return 0;
	}
	json_object_del(doc, "unfinished");
	json_object_del(doc, "owed_seq");
	json_object_del(doc, "start_owed");
	json_object_del(doc, "resume_owed");
	return 0;
}

static int audit_resume(struct server *server, const json_t *record, struct err *e)
{
	json_t *fields = json_pack("{s:s, s:s, s:s, s:s}", "session", record_text(record, "id"), "principal",
				   record_text(record, "principal"), "provider", record_text(record, "provider"),
				   "target", record_text(record, "target"));
	if (fields)
		json_object_update(fields, json_object_get(record, "resume_owed"));
	return audit_announce_blocking(server->audit, "session.resume", fields, e);
}

/* Starts with one key may follow each other, and the log may have one whose caller was told that it failed. One that
 * comes from somewhere else, by another credential, or to another target, has a record of its own. */
static json_t *start_in_log(const json_t *doc)
{
	static const char *const told[] = { "target", "credential", "remote_address" };
	json_t *fields = json_object();
	for (size_t i = 0; i < sizeof told / sizeof *told; i++) {
		json_t *value = json_object_get(doc, told[i]);
		json_object_set_new(fields, told[i], value ? json_incref(value) : json_null());
	}
	return fields;
}

/* A debt that may have been paid by somebody who died, or got no answer, before he could say so is looked for first.
 * fields: what its record has beside the session; stolen, may be NULL. */
static int pay_one(struct server *server, const json_t *doc, bool fresh, const char *event, json_t *fields,
		   int (*append)(struct server *server, const json_t *record, struct err *e), struct err *e)
{
	bool there = false;
	uint64_t from = (uint64_t)record_int(doc, "owed_seq") + 1;
	json_auto_t *sought = fields ? fields : json_object();
	json_object_set(sought, "session", json_object_get(doc, "id"));
	int rc = fresh ? 0 : audit_has_blocking(server->audit, from, event, sought, &there, e);
	return rc || there ? rc : append(server, doc, e);
}

static int pay_once(struct server *server, const char *id, bool fresh, bool *out_again, json_t **out_doc, struct err *e)
{
	json_auto_t *doc = NULL;
	*out_again = false;
	int rc = record_get_blocking(server, id, &doc, NULL, e);
	if (rc)
		return rc;
	if (!json_is_true(json_object_get(doc, "unfinished"))) {
		*out_doc = json_incref(doc);
		return 0;
	}
	bool ended = record_ended(doc), resumed = json_object_get(doc, "resume_owed") != NULL;
	bool started = json_is_true(json_object_get(doc, "start_owed")) || (!ended && !resumed);
	fresh &= started + resumed + ended == 1; /* several: the older one was somebody else's */
	if (started)
		rc = pay_one(server, doc, fresh, "session.start", start_in_log(doc), audit_start, e);
	if (rc == 0 && resumed)
		rc = pay_one(server, doc, fresh, "session.resume", NULL, audit_resume, e);
	if (rc == 0 && ended)
		rc = pay_one(server, doc, fresh, "session.end", NULL, audit_end, e);
	struct paid paid = { .ended = ended, .start = started ? record_text(doc, "target_token") : NULL };
	if (rc == 0)
		rc = record_change_blocking(server, id, change_to_settled, &paid, out_doc, e);
	*out_again = paid.again;
	return rc;
}

static int pay(struct server *server, const char *id, bool fresh, json_t **out_doc, struct err *e)
{
	json_t *doc = NULL;
	bool again = false;
	int rc;
	do {
		json_decref(doc);
		doc = NULL;
		rc = pay_once(server, id, fresh && !again, &again, &doc, e);
	} while (rc == 0 && again);
	if (rc == 0 && out_doc)
		*out_doc = json_incref(doc);
	json_decref(doc);
	return rc;
}

int session_settle_blocking(struct server *server, const char *id, bool fresh, json_t **out_doc, struct err *e)
{
	pthread_mutex_t *lock = &server->sessions->settling[session_table_hash(id) % SESSION_SETTLERS];
	pthread_mutex_lock(lock);
	int rc = pay(server, id, fresh, out_doc, e);
	pthread_mutex_unlock(lock);
	return rc;
}

static const char *stale_text(const struct ending *end)
{
	return end->start ? "it was started anew" : end->expired_ms ? "it was renewed" : RELAY_RESUMED_TEXT;
}

/* Who has just written it pays; what he leaves behind the sweep does. Two nodes that look whether it is paid, at one
 * time, both find that it is not. */
static bool is_paid_elsewhere(struct server *server, const json_t *doc)
{
	const char *node = record_text(doc, "ended_on");
	return strcmp(node, server->node) != 0 && nodes_lives(server->nodes, node);
}

/* Record and audit. 0 also when only the audit record is still owed: the store knows, the sweep pays. */
static int write_end(struct server *server, const char *id, const struct ending *end, bool *out_settled,
		     json_t **out_doc, struct err *e)
{
	struct end_change change = { .server = server, .end = end };
	int rc = record_change_blocking(server, id, change_to_ended, &change, out_doc, e);
	if (rc)
		return rc;
	if (change.stale)
		return err_set(e, ERR_CONFLICT, "session %s: %s", id, stale_text(end));
	struct err why;
	if (!change.had_ended || !is_paid_elsewhere(server, *out_doc))
		rc = session_settle_blocking(server, id, !change.had_ended, NULL, &why);
	*out_settled = rc == 0;
	if (rc)
		log_with(LOG_LEVEL_ERROR, FIELDS({ "session", id }, { "error", why.text }),
			 "the audit record of a session's end could not be written; trying again");
	if (change.had_ended)
		return err_set(e, ERR_CONFLICT, "session %s had ended: %s", id, record_end_text(*out_doc));
	return 0;
}

static int end_it(struct server *server, const char *session, struct ending end, struct err *e)
{
	struct sessions *s = server->sessions;
	session_table_change(s->live, session, claim_end, &end);
	if (end.stale)
		return err_set(e, ERR_CONFLICT, "session %s: %s", session, stale_text(&end));
	if (end.known && !end.mine)
		return err_set(e, ERR_CONFLICT, "session %s is being ended: %s", session, end.text);
	if (end.known && !end.was_cut)
		cut(server, session, end.target, end.code, end.text);
	json_auto_t *doc = NULL;
	bool settled = false;
	int rc = write_end(server, session, &end, &settled, &doc, e);
	if (rc == 0) {
		metrics_add(server->metrics, METRIC_SESSIONS_ENDED, 1);
		log_with(LOG_LEVEL_INFO, FIELDS({ "session", session }, { "reason", end.text }, { "by", end.by }),
			 "session ended");
	}
	if (!end.known && doc && record_ended(doc))
		cut(server, session, record_text(doc, "target"), record_end_code(doc), record_end_text(doc));
	if (doc && record_ended(doc))
		session_tell_ended_blocking(server, doc);
	if (doc && !record_ended(doc))
		session_table_change(s->live, session, take_back_end, doc);
	if (rc == ERR_NOT_FOUND || settled) {
		session_table_remove(s->live, session);
		relay_forget_anythread(server->relay, session);
	} else {
		session_table_change(s->live, session, release_end, NULL);
	}
	return rc;
}

int sessions_end_generation_blocking(struct server *server, const char *session, int64_t generation,
				     unsigned close_code, const char *text, const char *by, struct err *e)
{
	struct ending end = ending_of(close_code, text, by);
	end.generation = generation;
	return end_it(server, session, end, e);
}

int session_expire_blocking(struct server *server, const char *id, int64_t expires_ms, const char *text, struct err *e)
{
	struct ending end = ending_of(4004, text, "server");
	end.expired_ms = expires_ms;
	return end_it(server, id, end, e);
}

int session_end_again_blocking(struct server *server, const struct session_live *row, struct err *e)
{
	struct ending end = ending_of(row->end_code, row->end_text, row->end_by);
	end.expired_ms = row->end_expired_ms;
	end.generation = row->end_generation;
	return end_it(server, row->id, end, e);
}

int sessions_end_blocking(struct server *server, const char *session, unsigned close_code, const char *text,
			  const char *by, struct err *e)
{
	return sessions_end_generation_blocking(server, session, 0, close_code, text, by, e);
}

int session_take_back_blocking(struct server *server, const json_t *doc, const char *text, struct err *e)
{
	const char *id = record_text(doc, "id");
	json_auto_t *now = NULL;
	bool settled = false;
	struct ending end = ending_of(4013, text, "server");
	end.start = record_text(doc, "target_token");
	int rc = write_end(server, id, &end, &settled, &now, e);
	if (rc)
		return rc;
	/* An agent that came back in between may have been offered it. */
	cut(server, id, record_text(doc, "target"), end.code, end.text);
	session_table_remove(server->sessions->live, id);
	relay_forget_anythread(server->relay, id);
	return 0;
}

static int collect_live(void *arg, const char *key, json_t *doc, uint64_t version)
{
	(void)version;
	if (!record_ended(doc))
		json_array_append_new(arg, json_string(key));
	return 0;
}

int sessions_end_target_blocking(struct server *server, const char *target, unsigned close_code, const char *text,
				 const char *by, struct err *e)
{
	size_t n;
	struct session_live *rows = session_table_copy(server->sessions->live, target, &n);
	struct err why;
	int failed = 0;
	for (size_t i = 0; i < n; i++)
		sessions_end_blocking(server, rows[i].id, close_code, text, by, &why);
	free(rows);
	char cursor[TUNNEL_CURSOR_MAX] = "";
	do {
		json_auto_t *ids = json_array();
		int rc = store_scan_blocking(server->store, SESSION_COLLECTION, "target", target, LIMIT_SCAN_PAGE,
					     cursor, collect_live, ids, e);
		if (rc)
			return rc;
		for (size_t i = 0; i < json_array_size(ids); i++) {
			const char *id = json_string_value(json_array_get(ids, i));
			rc = sessions_end_blocking(server, id, close_code, text, by, &why);
			if (rc && rc != ERR_CONFLICT && rc != ERR_NOT_FOUND && !failed)
				failed = err_set(e, rc, "session %s: %s", id, why.text);
		}
	} while (*cursor);
	return failed;
}

/* ---- what the relay tells ---- */

static void audit_leg(struct server *server, const char *event, const char *session, enum leg_role role,
		      int64_t generation, const char *key, const char *value)
{
	struct session_live row = { .target = "" };
	session_table_get(server->sessions->live, session, &row);
	json_t *fields = json_pack("{s:s, s:s, s:s, s:s}", "session", session, "target", row.target, "role",
				   role == LEG_CLIENT ? "client" : "target", key, value ? value : "");
	if (fields && generation)
		json_object_set_new(fields, "generation", json_integer(generation));
	audit_note_blocking(server->audit, event, fields);
}

static void end_legs(struct server *server, const char *session, unsigned code, const char *text)
{
	relay_end_anythread(server->relay, session, code, text);
	relay_forget_anythread(server->relay, session);
}

void sessions_on_attached_blocking(struct server *server, const char *session, enum leg_role role, int64_t generation,
				   const char *remote_address)
{
	struct session_live row;
	audit_leg(server, "session.attach", session, role, generation, "remote_address", remote_address);
	/* Ended between the decision and the relay's taking the leg in: nobody else would close it. */
	bool live = session_table_get(server->sessions->live, session, &row);
	if (live && row.end_code == 0)
		return;
	struct err e;
	json_auto_t *doc = NULL;
	int rc = live ? 0 : record_get_blocking(server, session, &doc, NULL, &e);
	if (live)
		relay_end_anythread(server->relay, session, row.end_code, row.end_text);
	else if (rc)
		end_legs(server, session, rc == ERR_NOT_FOUND ? 4404 : 4503, "the session could not be looked up");
	else if (record_ended(doc))
		end_legs(server, session, record_end_code(doc), record_end_text(doc));
	else if (strcmp(record_text(doc, "node"), server->node) != 0)
		session_home_send_legs(server, doc);
}

void sessions_on_detached_blocking(struct server *server, const char *session, enum leg_role role, const char *why)
{
	audit_leg(server, "session.detach", session, role, 0, "reason", why);
}

static int change_to_active(void *arg, json_t *doc, struct err *e)
{
	(void)arg, (void)e;
	if (strcmp(record_text(doc, "state"), "starting") != 0)
		return 1;
	json_object_set_new(doc, "state", json_string("active"));
	return 0;
}

static void mark_paired(struct session_live *row, void *arg)
{
	(void)arg;
	row->paired = true;
}

/* Its agent runs it, even if that word of it is still on its way. */
static void mark_accepted(struct session_live *row, void *arg)
{
	const int64_t *generation = arg;
	if (row->generation == *generation)
		row->accepted = true;
}

void sessions_on_paired_blocking(struct server *server, const char *session, int64_t generation, uint64_t epoch)
{
	struct session_live row;
	struct err e;
	(void)epoch;
	session_table_change(server->sessions->live, session, mark_accepted, &generation);
	if (!session_table_get(server->sessions->live, session, &row) || row.paired)
		return;
	if (record_change_blocking(server, session, change_to_active, NULL, NULL, &e))
		log_with(LOG_LEVEL_ERROR, FIELDS({ "session", session }, { "error", e.text }),
			 "the session is paired but its record could not say so");
	else
		session_table_change(server->sessions->live, session, mark_paired, NULL);
}

void sessions_on_client_bye_blocking(struct server *server, const char *session, int64_t generation)
{
	struct err e;
	int rc = sessions_end_generation_blocking(server, session, generation, 4000,
						  "the session was ended by its client", "client", &e);
	if (rc && rc != ERR_CONFLICT && rc != ERR_NOT_FOUND)
		log_with(LOG_LEVEL_ERROR, FIELDS({ "session", session }, { "error", e.text }),
			 "the session's end could not be written, trying again");
}
