/* A session that is bound to its caller's credential goes on under a fresh one. Nothing else of it changes: no token,
 * no leg, no generation.
 *
 * Everything that times the session is told, in this order: the audit log (while that cannot be written nothing is
 * renewed), the live row, so that a sweep of this moment ends nothing, the record, and the agent by a new grant. The
 * lock of judging is held all the while, and the judgement counts: a grant by older policies or with the older time
 * cannot come behind it. A credential that would end the session no later than it ends now changes nothing, so a
 * repetition does no harm. */
#include "server/session_renew.h"

#include "base/clock.h"
#include "base/log.h"
#include "server/audit.h"
#include "server/server.h"
#include "server/session_home.h"
#include "server/session_judge.h"
#include "server/session_peers.h"
#include "server/session_record.h"
#include "server/session_state.h"

#include <string.h>

struct renewal {
	struct server *server;
	const struct identity *id;
	const char *remote_address, *session;
	struct session_judgement judgement;
	json_t *doc;   /* as it was looked at, then as it was changed */
	json_t *grant; /* what it may from here on */
	json_t *fresh; /* as it is to be */
};

static int find(struct renewal *r, struct err *e)
{
	json_decref(r->doc);
	r->doc = NULL;
	int rc = record_get_blocking(r->server, r->session, &r->doc, NULL, e);
	/* Whoever did not start it does not learn whether it exists. */
	if (rc == 0 && !record_is_of(r->doc, r->id))
		rc = err_set(e, ERR_NOT_FOUND, "no session '%s'", r->session);
	return rc;
}

static int check_state(struct renewal *r, json_t **out_end, struct err *e)
{
	struct attach_decision d = { .close_code = 0 };
	session_check_alive_blocking(r->server, r->doc, &d);
	if (d.close_code) {
		*out_end = json_pack("{s:i, s:s}", "code", (int)d.close_code, "text", d.text);
		return err_set(e, ERR_CLOSED, "the session has ended: %.200s", d.text);
	}
	if (strcmp(record_text(r->doc, "node"), r->server->node) != 0 &&
	    !session_home_claim_blocking(r->server, r->doc))
		return err_set(e, ERR_UNAVAILABLE, "the session is changing its node, try again");
	return 0;
}

static int judge_from(struct renewal *r, const char *remote_address, struct err *e)
{
	json_decref(r->grant);
	r->grant = NULL;
	int rc = session_judge_again_blocking(r->server, r->doc, r->id, remote_address, &r->grant, e);
	if (rc == ERR_DENIED)
		session_audit_refusal(r->server, r->doc, r->id, remote_address, e->text);
	else if (rc)
		return err_set(e, ERR_UNAVAILABLE, "policy could not be asked, try again");
	return rc;
}

/* As the caller is now, since that is who the session is of from here on. He must be allowed to from where he calls;
 * what the session may is about where its client is. */
static int judge(struct renewal *r, struct err *e)
{
	const char *client = r->judgement.row.client_address;
	session_judgement_begin(r->server->sessions, r->session, &r->judgement);
	int rc = judge_from(r, r->remote_address, e);
	return rc == 0 && *client && strcmp(client, r->remote_address) != 0 ? judge_from(r, client, e) : rc;
}

static int audit(struct renewal *r, struct err *e)
{
	json_t *fields = json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:o, s:o}", "session", r->session, "principal",
				   r->id->subject, "provider", r->id->provider, "credential", r->id->credential,
				   "target", record_text(r->doc, "target"), "remote_address", r->remote_address,
				   "expired_at", record_time(record_int(r->doc, "expires_ms")), "expires_at",
				   record_time(record_int(r->fresh, "expires_ms")));
	return audit_append_blocking(r->server->audit, "session.renew", fields, e);
}

/* After its record in the log. */
static void audit_failure(struct renewal *r, const char *text)
{
	audit_note_blocking(r->server->audit, "session.renew_failed",
			    json_pack("{s:s, s:s, s:s, s:s, s:s}", "session", r->session, "principal", r->id->subject,
				      "credential", r->id->credential, "target", record_text(r->doc, "target"), "text",
				      text));
}

struct row_change {
	const json_t *record;
	bool unsure;       /* whether that is what the record says now, and the agent should know */
	unsigned end_code; /* it ends already */
};

static void change_row(struct session_live *row, void *arg)
{
	struct row_change *c = arg;
	c->end_code = row->end_code;
	if (row->end_code)
		return;
	session_row_times(row, c->record);
	snprintf(row->credential, sizeof row->credential, "%s", record_text(c->record, "credential"));
	row->grant_unsure |= c->unsure;
}

static int tell_row(struct renewal *r, const json_t *record, bool unsure, struct err *e)
{
	struct row_change c = { .record = record, .unsure = unsure };
	if (!session_table_change(r->server->sessions->live, r->session, change_row, &c))
		return err_set(e, ERR_UNAVAILABLE, "session %s ends or is being taken in, try again", r->session);
	return c.end_code ? err_set(e, ERR_CONFLICT, "session %s ends at this moment", r->session) : 0;
}

static int change_to_renewed(void *arg, json_t *doc, struct err *e)
{
	struct renewal *r = arg;
	if (record_ended(doc))
		return err_set(e, ERR_CONFLICT, "session %s ends at this moment", r->session);
	int rc = session_home_check(r->server, doc, e);
	if (rc)
		return rc;
	json_object_set(doc, "grant", json_object_get(r->fresh, "grant"));
	record_take_identity(doc, r->id);
	json_object_set_new(doc, "renewed_ms", json_integer(record_int(r->fresh, "renewed_ms")));
	return 0;
}

/* One that was not answered may have been made: so it is asked for again. When that fails, too, the row is as it was,
 * until a judgement can read what the record says. */
static int change_record(struct renewal *r, json_t **out_now, struct err *e)
{
	struct err why;
	int rc = record_change_blocking(r->server, r->session, change_to_renewed, r, out_now, e);
	if (rc == ERR_TIMEOUT || rc == ERR_UNAVAILABLE)
		rc = record_change_blocking(r->server, r->session, change_to_renewed, r, out_now, e);
	if (rc) {
		tell_row(r, r->doc, true, &why);
		atomic_store(&r->server->sessions->rejudge_owed, true);
	}
	return rc;
}

static int write_all(struct renewal *r, struct err *e)
{
	json_t *now = NULL;
	int rc = tell_row(r, r->doc, false, e); /* changes nothing: is there one, and does it go on? */
	if (rc)
		return rc;
	rc = audit(r, e);
	if (rc)
		return err_set(e, ERR_UNAVAILABLE, "the renewal could not be recorded, try again");
	rc = tell_row(r, r->fresh, false, e);
	if (rc == 0)
		rc = change_record(r, &now, e);
	if (rc) {
		audit_failure(r, e->text);
		return rc;
	}
	json_decref(r->doc);
	r->doc = now;
	session_send_grant(r->server, record_text(now, "target"), r->session, json_object_get(now, "grant"));
	return 0;
}

/* With the lock of judging held. */
static int renew(struct renewal *r, struct err *e)
{
	r->fresh = json_deep_copy(r->doc);
	if (!r->fresh)
		return err_set(e, ERR_NOMEM, "out of memory");
	json_object_set(r->fresh, "grant", r->grant);
	json_object_set_new(r->fresh, "renewed_ms", json_integer(clock_wall_ms()));
	record_take_identity(r->fresh, r->id);
	int rc = write_all(r, e);
	if (rc == 0)
		log_with(LOG_LEVEL_INFO, FIELDS({ "session", r->session }, { "principal", r->id->subject }),
			 "session renewed");
	return rc;
}

/* *out_stale: it has changed since it was looked at, and nothing was done. */
static int judge_and_renew(struct renewal *r, bool *out_stale, json_t **out_end, struct err *e)
{
	pthread_mutex_t *lock = session_judging(r->server->sessions, r->session);
	int rc = check_state(r, out_end, e);
	if (rc == 0)
		rc = judge(r, e);
	*out_stale = false;
	if (rc || !record_is_bound(r->doc) || record_end_under(r->doc, r->id) <= record_int(r->doc, "expires_ms"))
		return rc;
	pthread_mutex_lock(lock);
	*out_stale = !session_judgement_counts(r->server, &r->judgement, r->doc);
	rc = *out_stale ? 0 : renew(r, e);
	pthread_mutex_unlock(lock);
	return rc;
}

static int renew_here(struct renewal *r, json_t **out_record, json_t **out_end, struct err *e)
{
	bool stale;
	int rc = judge_and_renew(r, &stale, out_end, e);
	for (int i = 1; stale && rc == 0 && i < SESSION_JUDGE_TRIES; i++) {
		rc = find(r, e);
		rc = rc ? rc : judge_and_renew(r, &stale, out_end, e);
	}
	if (rc == 0 && stale)
		rc = err_set(e, ERR_UNAVAILABLE, "session %s changes all the time, try again", r->session);
	if (rc == 0 && r->fresh) /* who revoked the fresh credential before the row had it did not find the session */
		rc = session_judge_started_blocking(r->server, r->session, record_text(r->doc, "target"),
						    json_object_get(r->doc, "grant"), e);
	if (rc == 0)
		*out_record = json_incref(r->doc);
	return rc;
}

int session_renew_blocking(struct server *server, const struct session_caller *caller, const char *session,
			   json_t **out_record, json_t **out_end, struct err *e)
{
	struct renewal r = { .server = server,
			     .id = caller->id,
			     .remote_address = caller->remote_address ? caller->remote_address : "",
			     .session = session };
	const char *node;
	int rc = find(&r, e);
	if (rc == 0 && !caller->sent_on && session_peers_is_theirs(server, r.doc, &node))
		rc = session_peers_renew_blocking(server, node, caller, session, out_record, out_end, e);
	else if (rc == 0)
		rc = renew_here(&r, out_record, out_end, e);
	json_decref(r.fresh);
	json_decref(r.grant);
	json_decref(r.doc);
	return rc;
}
