/* What nobody reports: time running out. Each second a pass over the live table ends sessions that expired, that nobody
 * came back to, that were idle, or that their agent lost; and repeats ends and judgements that could not be made. Now
 * and then the store is looked through for what a crash, of this process or of another node, left behind. */
#include "base/clock.h"
#include "base/limits.h"
#include "base/log.h"
#include "server/audit.h"
#include "server/control.h"
#include "server/metrics.h"
#include "server/nodes.h"
#include "server/policies.h"
#include "server/revocations.h"
#include "server/server.h"
#include "server/session_home.h"
#include "server/session_record.h"
#include "server/session_state.h"
#include "server/store.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#define AGENT_GRACE_MS 10000 /* for an agent that is connected and does not (yet) run a session */
#define SCAN_MS 60000
#define ROWS_MS 10000          /* a session that another node has ended moves no byte for longer */
#define NEWS_MS 5000           /* where there are others who may have changed something */
#define FOREIGN_GRACE_MS 60000 /* another node's expired session is that node's business for so long */
/* Two ends that have nothing to say still ping each 10 s. A PING or PONG is a frame of 20 bytes, in a TLS 1.3 record
 * of 42 (5 of header, 1 of type, 16 of tag). When both ends ask and both answer that is 4 records, 168 bytes, each 10
 * s: 1176 in the at most 7 times that fall into a minute. Less than this in a minute is silence. */
#define IDLE_WINDOW_MS 60000
#define IDLE_BYTES 2048u

static void note_failure(const char *id, int rc, const struct err *e)
{
	if (rc && rc != ERR_CONFLICT && rc != ERR_NOT_FOUND)
		log_with(LOG_LEVEL_ERROR, FIELDS({ "session", id }, { "error", e->text }),
			 "the session's end could not be written, trying again");
}

static void end_by_server(struct server *server, const char *id, unsigned code, const char *text)
{
	struct err e;
	note_failure(id, sessions_end_blocking(server, id, code, text, "server", &e), &e);
}

/* Ends that follow from what this node alone sees. One that was stopped, or cut off, for a while may have lost the
 * session: so the store is to say first that it has not. */
static void end_own(struct server *server, const char *id, unsigned code, const char *text)
{
	if (session_home_look_blocking(server, id) == SESSION_HERE)
		end_by_server(server, id, code, text);
}

static void end_again(struct server *server, const struct session_live *row)
{
	struct err e;
	note_failure(row->id, session_end_again_blocking(server, row, &e), &e);
}

static void expire(struct server *server, const char *id, int64_t expires_ms, const char *text)
{
	struct err e;
	note_failure(id, session_expire_blocking(server, id, expires_ms, text, &e), &e);
}

/* Here nothing goes on behind its time, whether the store can be asked or not. */
static void expire_own(struct server *server, const struct session_live *row)
{
	if (session_home_look_blocking(server, row->id) != SESSION_LEFT)
		expire(server, row->id, row->expires_ms, record_expiry_text(row->by_identity));
}

struct sample {
	uint64_t bytes;
	int64_t mono_ms;
};

static void take_sample(struct session_live *row, void *arg)
{
	const struct sample *sample = arg;
	if (sample->bytes < row->sampled_bytes) /* the relay forgot and began anew */
		row->sampled_bytes = 0;
	if (sample->bytes - row->sampled_bytes > IDLE_BYTES)
		row->active_mono_ms = sample->mono_ms;
	else if (sample->mono_ms - row->sampled_mono_ms < IDLE_WINDOW_MS)
		return;
	row->sampled_bytes = sample->bytes;
	row->sampled_mono_ms = sample->mono_ms;
}

/* How long it has been idle. */
static int64_t idle_ms(struct sessions *s, const struct session_live *row, const struct relay_info *info,
		       int64_t mono_ms)
{
	struct sample sample = { .bytes = info->bytes_up + info->bytes_down, .mono_ms = mono_ms };
	struct session_live now;
	session_table_change(s->live, row->id, take_sample, &sample);
	return session_table_get(s->live, row->id, &now) ? mono_ms - now.active_mono_ms : 0;
}

/* An end that left_ms from now closes a time of limit_ms. */
static void foresee(struct server *server, const char *id, int64_t limit_ms, int64_t left_ms, int64_t wall_ms,
		    unsigned code, const char *reason)
{
	int64_t warn_ms = server->settings->session_warn_ms;
	if (warn_ms > limit_ms / 2)
		warn_ms = limit_ms / 2;
	const struct relay_notice notice = { .code = code, .at_ms = wall_ms + left_ms, .reason = reason };
	if (left_ms <= warn_ms)
		relay_notice_anythread(server->relay, id, &notice);
}

/* away_ms: how long the target has been away from a client that is here; 0: it is not. */
static void foresee_ends(struct sessions *s, const struct session_live *row, int64_t away_ms, int64_t idle_since_ms,
			 int64_t wall_ms)
{
	const struct settings *set = s->server->settings;
	foresee(s->server, row->id, row->lifetime_ms, row->expires_ms - wall_ms, wall_ms, 4004,
		row->by_identity ? "the credential that the session is bound to expires"
				 : "the session reaches its maximum duration");
	if (set->session_idle_ms)
		foresee(s->server, row->id, set->session_idle_ms, set->session_idle_ms - idle_since_ms, wall_ms, 4005,
			"the session is idle");
	if (away_ms)
		foresee(s->server, row->id, set->detach_grace_ms, set->detach_grace_ms - away_ms, wall_ms, 4006,
			"the target is away");
}

static void sweep_one(struct sessions *s, const struct session_live *row, int64_t mono_ms, int64_t wall_ms)
{
	struct server *server = s->server;
	const struct settings *set = server->settings;
	struct relay_info info = { 0 };
	bool here = relay_info_anythread(server->relay, row->id, &info);
	int64_t away_since_ms = here ? info.detached_mono_ms : row->here_mono_ms;
	int64_t away_ms = away_since_ms ? mono_ms - away_since_ms : 0, idle_since_ms = idle_ms(s, row, &info, mono_ms);
	bool warn = info.client && set->session_warn_ms > 0;
	if (row->end_code)
		end_again(server, row);
	else if (row->expires_ms <= wall_ms)
		expire_own(server, row);
	else if (row->missing_mono_ms && mono_ms - row->missing_mono_ms >= AGENT_GRACE_MS)
		end_own(server, row->id, 4013, "the target's agent no longer runs the session");
	else if (away_ms >= set->detach_grace_ms)
		end_own(server, row->id, 4006, "nobody came back within the detach grace");
	else if (set->session_idle_ms && idle_since_ms >= set->session_idle_ms)
		end_own(server, row->id, 4005, "the session was idle too long");
	else if (warn)
		foresee_ends(s, row, info.target ? 0 : away_ms, idle_since_ms, wall_ms);
}

/* ---- the store ---- */

static int collect(void *arg, const char *key, json_t *doc, uint64_t version)
{
	(void)key, (void)version;
	json_array_append(arg, doc);
	return 0;
}

static int scan_all(struct sessions *s, const char *index, const char *value, json_t *found, struct err *e)
{
	char cursor[TUNNEL_CURSOR_MAX] = "";
	do {
		int rc = store_scan_blocking(s->server->store, SESSION_COLLECTION, index, value, LIMIT_SCAN_PAGE,
					     cursor, collect, found, e);
		if (rc)
			return rc;
	} while (*cursor);
	return 0;
}

/* A node's URL leads to it alone. So what was to be found under ours is of this node, whatever it was called then: by
 * default it has the name of its host. */
static bool is_ours(const struct sessions *s, const json_t *doc)
{
	return strcmp(record_text(doc, "node"), s->server->node) == 0 ||
	       strcmp(record_text(doc, "relay_url"), s->server->public_url) == 0;
}

static int change_home(void *arg, json_t *doc, struct err *e)
{
	const struct sessions *s = arg;
	(void)e;
	/* It may have moved since it was found. */
	return record_ended(doc) || !is_ours(s, doc) || !session_home_set(s->server, doc);
}

static void adopt(struct sessions *s, const json_t *doc, int64_t mono_ms)
{
	const char *id = record_text(doc, "id");
	json_auto_t *now = NULL;
	struct err e;
	int rc = record_change_blocking(s->server, id, change_home, s, &now, &e);
	if (rc)
		log_with(LOG_LEVEL_ERROR, FIELDS({ "session", id }, { "error", e.text }),
			 "a session of this node could not be taken in, trying again");
	else if (!record_ended(now) && is_ours(s, now) && session_adopt(s, now, mono_ms))
		atomic_store(&s->rejudge_owed, true); /* while it had no row nobody judged it */
}

/* A session that the table lacks: of this node, so it was running when the process died; of another one, so it is only
 * looked after when it has long expired. */
static void take_in(struct sessions *s, const json_t *doc, int64_t mono_ms, int64_t wall_ms)
{
	struct session_live row;
	const char *id = record_text(doc, "id");
	if (session_table_get(s->live, id, &row))
		return;
	if (is_ours(s, doc))
		adopt(s, doc, mono_ms);
	else if (record_int(doc, "expires_ms") + FOREIGN_GRACE_MS < wall_ms)
		expire(s->server, id, record_int(doc, "expires_ms"), record_expiry_text(record_by_identity(doc)));
}

/* A node that lives pays what it owes; for those that are gone one does, so that each record is there once. */
static bool is_to_pay(const struct sessions *s, const json_t *doc)
{
	struct nodes *nodes = s->server->nodes;
	return is_ours(s, doc) || (nodes_is_first(nodes) && !nodes_lives(nodes, record_text(doc, "node")));
}

/* starting: this is the process's start, so whoever was at work on an unfinished record is gone. */
static void settle(struct sessions *s, const json_t *doc, bool starting, int64_t wall_ms)
{
	struct session_live row;
	struct err e;
	const char *id = record_text(doc, "id");
	bool ours = is_ours(s, doc);
	int64_t since_ms = record_ended(doc) ? record_int(doc, "ended_ms") : record_int(doc, "created_ms");
	bool resumed = json_object_get(doc, "resume_owed") != NULL;
	bool at_once = ours && (starting || (resumed && !record_ended(doc)));
	if (!at_once &&
	    (!is_to_pay(s, doc) || session_table_get(s->live, id, &row) || since_ms + FOREIGN_GRACE_MS > wall_ms))
		return;
	int rc = !record_ended(doc) && !resumed /* nobody ever got its tokens */
			 ? session_take_back_blocking(s->server, doc,
						      "the server stopped while the session was starting", &e)
			 : session_settle_blocking(s->server, id, false, NULL, &e);
	if (rc && rc != ERR_CONFLICT && rc != ERR_NOT_FOUND)
		log_with(LOG_LEVEL_ERROR, FIELDS({ "session", id }, { "error", e.text }),
			 "an audit record of a session is still owed");
}

static int scan_live(struct sessions *s, const char *index, const char *value, json_t *found, int64_t mono_ms,
		     int64_t wall_ms, struct err *e)
{
	int rc = scan_all(s, index, value, found, e);
	for (size_t k = 0; rc == 0 && k < json_array_size(found); k++)
		if (!record_ended(json_array_get(found, k)) && record_is_settled(json_array_get(found, k)))
			take_in(s, json_array_get(found, k), mono_ms, wall_ms);
	return rc;
}

/* Nobody can find it to end it, and no policy is about it any more. */
static void end_lost(struct server *server, const struct session_live *row)
{
	static const char text[] = "the store has lost the session";
	log_with(LOG_LEVEL_ERROR, FIELDS({ "session", row->id }), "the store has lost a session; it is ended");
	audit_note_blocking(server->audit, "session.end",
			    json_pack("{s:s, s:s, s:s, s:i, s:s, s:s}", "session", row->id, "principal", row->principal,
				      "target", row->target, "code", 4404, "reason", text, "by", "server"));
	end_by_server(server, row->id, 4404, text);
}

/* A row whose record has ended, or has another node by now, and the message about it was lost; or whose record is lost.
 * found: the records of this node. */
static void check_rows(struct sessions *s, const json_t *found)
{
	size_t n;
	struct session_live *rows = session_table_copy(s->live, NULL, &n);
	json_auto_t *known = json_object();
	for (size_t k = 0; k < json_array_size(found); k++)
		json_object_set_new(known, record_text(json_array_get(found, k), "id"), json_true());
	for (size_t i = 0; i < n; i++) {
		json_auto_t *doc = NULL;
		struct err e;
		if (json_object_get(known, rows[i].id))
			continue;
		int rc = record_get_blocking(s->server, rows[i].id, &doc, NULL, &e);
		if (rc == ERR_NOT_FOUND)
			end_lost(s->server, &rows[i]);
		else if (rc == 0 && record_ended(doc))
			end_by_server(s->server, rows[i].id, record_end_code(doc), record_end_text(doc));
		else if (rc == 0 && !is_ours(s, doc))
			session_home_release_blocking(s->server, rows[i].target);
	}
	free(rows);
}

/* What is owed, and this node's sessions. Those of all nodes are looked through at the start, since it may have had
 * another name, and by one of the nodes, for what a node that is gone has left behind. */
static int scan_store(struct sessions *s, bool starting, int64_t mono_ms, int64_t wall_ms, struct err *e)
{
	json_auto_t *owed = json_array();
	json_auto_t *ours = json_array();
	int rc = scan_all(s, "unfinished", "yes", owed, e);
	for (size_t k = 0; rc == 0 && k < json_array_size(owed); k++)
		settle(s, json_array_get(owed, k), starting, wall_ms);
	if (rc == 0)
		rc = scan_live(s, "node", s->server->node, ours, mono_ms, wall_ms, e);
	static const char *const states[] = { "starting", "active" };
	for (size_t i = 0; rc == 0 && i < 2 && (starting || nodes_is_first(s->server->nodes)); i++) {
		json_auto_t *all = json_array();
		rc = scan_live(s, "state", states[i], all, mono_ms, wall_ms, e);
	}
	return rc;
}

int session_load_blocking(struct sessions *s, int64_t mono_ms, int64_t wall_ms, struct err *e)
{
	int rc = scan_store(s, true, mono_ms, wall_ms, e);
	s->scanned_mono_ms = mono_ms;
	s->turned_wall_ms = wall_ms;
	atomic_store(&s->rejudge_owed,
		     true); /* policies may have changed, and somebody been revoked, while nobody ran */
	return rc ? err_wrap(e, "sessions could not be loaded") : 0;
}

static void look_after_rows(struct sessions *s, int64_t mono_ms)
{
	json_auto_t *ours = json_array();
	struct err e;
	if (mono_ms - s->rows_mono_ms < ROWS_MS)
		return;
	s->rows_mono_ms = mono_ms;
	if (scan_all(s, "node", s->server->node, ours, &e) == 0)
		check_rows(s, ours);
}

/* Once, until it can be looked up again: a store may be away for long. */
static void tell_blind(bool *blind, int rc, const char *what, const struct err *e)
{
	if (rc && !*blind)
		log_warn("the store could not be looked through for %s: %s", what, e->text);
	*blind = rc != 0;
}

/* Other nodes tell what they have changed; their messages may be lost. */
static void look_for_news(struct sessions *s, int64_t mono_ms)
{
	struct server *server = s->server;
	json_auto_t *others = nodes_others(server->nodes);
	struct err e;
	bool revoked = false, changed = false;
	if (mono_ms - s->looked_mono_ms < (json_array_size(others) ? NEWS_MS : SCAN_MS))
		return;
	s->looked_mono_ms = mono_ms;
	int rc = revocations_reload_blocking(server->revocations, &revoked, &e);
	tell_blind(&s->blind_revocations, rc, "revocations", &e);
	rc = policies_look_blocking(server->policies, &changed, &e);
	tell_blind(&s->blind_policies, rc, "policies", &e);
	if (revoked || changed)
		atomic_store(&s->rejudge_owed, true);
	look_after_rows(s, mono_ms);
}

/* A time that a policy names has come, or a clock that was set back has gone behind it again. */
static void look_for_turns(struct sessions *s, int64_t wall_ms)
{
	int64_t last_ms = s->turned_wall_ms;
	s->turned_wall_ms = wall_ms;
	bool back = wall_ms < last_ms;
	if (policies_turn_anythread(s->server->policies, back ? wall_ms : last_ms, back ? last_ms : wall_ms))
		atomic_store(&s->rejudge_owed, true);
}

void session_sweep_blocking(struct sessions *s, int64_t mono_ms, int64_t wall_ms)
{
	size_t n;
	struct session_live *rows = session_table_copy(s->live, NULL, &n);
	int64_t active = 0;
	for (size_t i = 0; i < n; i++) {
		sweep_one(s, &rows[i], mono_ms, wall_ms);
		active += rows[i].paired;
	}
	free(rows);
	metrics_set(s->server->metrics, METRIC_SESSIONS_ACTIVE, active);
	metrics_set(s->server->metrics, METRIC_SESSIONS_STARTING, (int64_t)n - active);
	metrics_set(s->server->metrics, METRIC_SESSIONS_LIVE, (int64_t)session_table_count(s->live, NULL));
	control_sweep_blocking(s->server->control);
	session_home_sweep_blocking(s->server, mono_ms);
	look_for_news(s, mono_ms);
	look_for_turns(s, wall_ms);
	session_rejudge_owed_anythread(s->server);
	if (mono_ms - s->scanned_mono_ms < SCAN_MS)
		return;
	struct err e;
	s->scanned_mono_ms = mono_ms;
	int rc = scan_store(s, false, mono_ms, wall_ms, &e);
	tell_blind(&s->blind_scan, rc, "sessions that were left behind", &e);
}

static void *sweep_thread(void *arg)
{
	struct sessions *s = arg;
	pthread_mutex_lock(&s->lock);
	while (!s->stop) {
		struct timespec until;
		clock_gettime(CLOCK_MONOTONIC, &until);
		until.tv_sec++;
		pthread_cond_timedwait(&s->wake, &s->lock, &until);
		if (s->stop)
			break;
		pthread_mutex_unlock(&s->lock);
		session_sweep_blocking(s, clock_mono_ms(), clock_wall_ms());
		pthread_mutex_lock(&s->lock);
	}
	pthread_mutex_unlock(&s->lock);
	return NULL;
}

int sessions_start(struct sessions *s, struct err *e)
{
	int rc = session_load_blocking(s, clock_mono_ms(), clock_wall_ms(), e);
	if (rc)
		return rc;
	int errnum = pthread_create(&s->sweeper, NULL, sweep_thread, s);
	if (errnum)
		return err_set_errno(e, ERR_INTERNAL, errnum, "the sweep's thread could not start");
	s->sweeping = true;
	return 0;
}
