/* Live sessions are judged again when policies or revocations change. Whoever is forbidden is cut at once; the records
 * of all ends are written when all are judged. A provider may have to be asked, and it may hang: so first comes what
 * can be said without, for every session; one that did not answer is asked no more in that round; and nobody holds the
 * lock of judging while he asks. */
#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"
#include "server/auth.h"
#include "server/pool.h"
#include "server/server.h"
#include "server/session_ends.h"
#include "server/session_home.h"
#include "server/session_judge.h"
#include "server/session_record.h"

#include <stdlib.h>
#include <string.h>

/* Beside 0 and errors: allowed as far as can be said without its provider. */
#define NOT_ASKED 1

struct round {
	struct server *server;
	bool asking;       /* else providers are not */
	json_t *providers; /* name → false, of those that did not answer; NULL: one session alone is judged */
	struct session_verdict *denied;
	size_t denied_n, failed_n;
	struct err failure; /* the last one */
};

struct grant_change {
	struct server *server;
	json_t *grant;
};

static int change_grant(void *arg, json_t *doc, struct err *e)
{
	const struct grant_change *c = arg;
	if (record_ended(doc) || json_equal(json_object_get(doc, "grant"), c->grant))
		return 1;
	int rc = session_home_check(c->server, doc, e);
	if (rc == 0)
		json_object_set(doc, "grant", c->grant);
	return rc;
}

pthread_mutex_t *session_judging(struct sessions *s, const char *id)
{
	return &s->judging[session_table_hash(id) % SESSION_SETTLERS];
}

static void set_unsure(struct session_live *row, void *arg)
{
	row->grant_unsure = *(const bool *)arg;
}

/* told: the grant that the agent was offered; NULL: it has the record's. The agent hears of it before it is recorded:
 * it may allow less. */
static int tell_grant(struct server *server, const json_t *doc, const json_t *told, json_t *grant, struct err *e)
{
	struct session_table *live = server->sessions->live;
	struct session_live row = { .grant_unsure = false };
	const char *id = record_text(doc, "id");
	const json_t *recorded = json_object_get(doc, "grant");
	bool unsure = !json_equal(grant, recorded);
	session_table_get(live, id, &row);
	/* told is what it was offered: a judgement since then has told it what it recorded. */
	if (row.grant_unsure || unsure || (told && !json_equal(grant, told)))
		session_send_grant(server, record_text(doc, "target"), id, grant);
	session_table_change(live, id, set_unsure, &unsure);
	struct grant_change change = { server, grant };
	int rc = unsure ? record_change_blocking(server, id, change_grant, &change, NULL, e) : 0;
	unsure = rc != 0;
	session_table_change(live, id, set_unsure, &unsure);
	return rc;
}

void session_judgement_begin(struct sessions *s, const char *id, struct session_judgement *out)
{
	*out = (struct session_judgement){ .number = atomic_fetch_add(&s->judgements, 1) + 1 };
	session_table_get(s->live, id, &out->row);
}

static void note_judged(struct session_live *row, void *arg)
{
	row->judged = *(const int64_t *)arg;
}

bool session_judgement_counts(struct server *server, const struct session_judgement *j, const json_t *doc)
{
	json_auto_t *now = NULL;
	struct session_live row = { .judged = 0 };
	const char *id = record_text(doc, "id");
	int64_t number = j->number;
	struct err e;
	session_table_get(server->sessions->live, id, &row);
	if (row.judged > number || strcmp(row.client_address, j->row.client_address) != 0 ||
	    record_get_blocking(server, id, &now, NULL, &e) != 0 || !json_equal(now, doc))
		return false;
	session_table_change(server->sessions->live, id, note_judged, &number);
	return true;
}

static void note_client(struct session_live *row, void *arg)
{
	snprintf(row->client_address, sizeof row->client_address, "%s", (const char *)arg);
}

/* One without a row is that of a start that was cut short and is repeated: else the sweep would take it in, later. */
static bool place(struct sessions *s, const json_t *doc, const char *remote_address)
{
	const char *id = record_text(doc, "id");
	void *at = (void *)(uintptr_t)remote_address;
	bool ours = strcmp(record_text(doc, "node"), s->server->node) == 0;
	return session_table_change(s->live, id, note_client, at) ||
	       (ours && session_adopt(s, doc, clock_mono_ms()) && session_table_change(s->live, id, note_client, at));
}

/* ERR_CONFLICT: it is no more what it was when it was looked at. */
static int move_client(struct server *server, const json_t *doc, const char *remote_address, struct err *e)
{
	json_auto_t *grant = NULL;
	struct session_judgement j;
	const char *id = record_text(doc, "id");
	pthread_mutex_t *lock = session_judging(server->sessions, id);
	session_judgement_begin(server->sessions, id, &j);
	int rc = session_judge_again_blocking(server, doc, NULL, remote_address, &grant, e);
	if (rc || strcmp(j.row.client_address, remote_address) == 0)
		return rc;
	pthread_mutex_lock(lock);
	rc = session_judgement_counts(server, &j, doc) ? tell_grant(server, doc, NULL, grant, e) : ERR_CONFLICT;
	if (rc == 0 && !place(server->sessions, doc, remote_address))
		rc = err_set(e, ERR_UNAVAILABLE, "session %s leaves this node at this moment", id);
	pthread_mutex_unlock(lock);
	if (rc && rc != ERR_CONFLICT) /* the client, and what its agent may, stay where they were */
		atomic_store(&server->sessions->rejudge_owed, true);
	return rc;
}

int session_move_client_blocking(struct server *server, const json_t *record, const char *remote_address, struct err *e)
{
	const char *id = record_text(record, "id");
	int rc = move_client(server, record, remote_address, e);
	for (int i = 1; rc == ERR_CONFLICT && i < SESSION_JUDGE_TRIES; i++) {
		json_auto_t *doc = NULL;
		rc = record_get_blocking(server, id, &doc, NULL, e);
		if (rc == 0 && record_ended(doc))
			return err_set(e, ERR_UNAVAILABLE, "session %s ends at this moment", id);
		rc = rc ? rc : move_client(server, doc, remote_address, e);
	}
	return rc == ERR_CONFLICT ? err_set(e, ERR_UNAVAILABLE, "session %s changes all the time", id) : rc;
}

/* What it takes to judge a session: 1 and nothing is to be judged, since it has ended; 0; errors. */
static int look_up(struct round *r, const char *id, struct session_judgement *j, json_t **out_doc, struct err *e)
{
	session_judgement_begin(r->server->sessions, id, j);
	int rc = record_get_blocking(r->server, id, out_doc, NULL, e);
	if (rc)
		return rc == ERR_NOT_FOUND ? 1 : rc;
	return record_ended(*out_doc) || j->row.end_code;
}

/* A renewal that the store did not answer may have been made. Resumptions do not take the lock: what is about another
 * generation is not news. */
static void follow_record(struct session_live *row, void *arg)
{
	session_row_follow(row, arg);
}

static const char *address_of(const struct session_live *row)
{
	return *row->client_address ? row->client_address : NULL;
}

/* NOT_ASKED: for all that can be said without its provider it may go on. 0: it has none to be asked. No lock is taken,
 * so a judgement that hangs in a provider holds this one up no more. */
static int judge_unasked(struct round *r, const char *id, struct err *e)
{
	json_auto_t *doc = NULL;
	struct session_judgement j;
	int rc = look_up(r, id, &j, &doc, e);
	if (rc)
		return rc < 0 ? rc : 0;
	if (!auth_is_asked_anythread(r->server->auth, record_text(doc, "provider")))
		return 0;
	rc = session_judge_denials_anythread(r->server, doc, address_of(&j.row), e);
	return rc ? rc : NOT_ASKED;
}

/* Asks its provider, unless that one has not answered in this round. */
static int ask(struct round *r, const json_t *doc, const char *remote_address, json_t **out_grant, struct err *e)
{
	const char *provider = record_text(doc, "provider");
	bool asks = r->providers && auth_is_asked_anythread(r->server->auth, provider);
	if (asks && json_is_false(json_object_get(r->providers, provider)))
		return err_set(e, ERR_UNAVAILABLE, "provider %s does not answer", provider);
	int rc = session_judge_again_blocking(r->server, doc, NULL, remote_address, out_grant, e);
	if (asks && rc == ERR_UNAVAILABLE)
		json_object_set_new(r->providers, provider, json_false());
	return rc;
}

/* ERR_CONFLICT as for move_client. */
static int judge_once(struct round *r, const char *id, const json_t *told, struct err *e)
{
	json_auto_t *doc = NULL;
	json_auto_t *grant = NULL;
	struct session_judgement j;
	pthread_mutex_t *lock = session_judging(r->server->sessions, id);
	int rc = look_up(r, id, &j, &doc, e);
	if (rc > 0 && told) /* between its start's judgement and the offer */
		return err_set(e, ERR_DENIED, "the session has ended: %.180s",
			       j.row.end_code ? j.row.end_text : record_end_text(doc));
	if (rc)
		return rc < 0 ? rc : 0;
	rc = ask(r, doc, address_of(&j.row), &grant, e);
	if (rc && rc != ERR_DENIED)
		return rc;
	pthread_mutex_lock(lock);
	if (!session_judgement_counts(r->server, &j, doc))
		rc = ERR_CONFLICT;
	else
		session_table_change(r->server->sessions->live, id, follow_record, doc);
	if (rc == 0)
		rc = tell_grant(r->server, doc, told, grant, e);
	pthread_mutex_unlock(lock);
	return rc;
}

static int judge_record(struct round *r, const char *id, const json_t *told, struct err *e)
{
	int rc = ERR_CONFLICT;
	for (int i = 0; i < SESSION_JUDGE_TRIES && rc == ERR_CONFLICT; i++)
		rc = judge_once(r, id, told, e);
	return rc == ERR_CONFLICT ? err_set(e, ERR_UNAVAILABLE, "session %s changes all the time", id) : rc;
}

/* ERR_DENIED: it may not go on. *out, which the caller has zeroed, says why, and it is cut. */
static int judge(struct round *r, const char *id, const json_t *told, struct session_verdict *out, struct err *e)
{
	int rc = r->asking ? 0 : judge_unasked(r, id, e);
	if (rc == 0)
		rc = judge_record(r, id, told, e);
	if (rc == ERR_DENIED) {
		snprintf(out->session, sizeof out->session, "%s", id);
		out->code = 4007;
		text_print(out->text, sizeof out->text, "policy no longer allows the session: %.200s", e->text);
		snprintf(out->by, sizeof out->by, "policy");
		session_cut_anythread(r->server, out);
	}
	return rc;
}

int session_judge_started_blocking(struct server *server, const char *id, const char *target, const json_t *offered,
				   struct err *e)
{
	struct round r = { .server = server, .asking = true };
	struct session_verdict denied = { .code = 0 };
	int rc = judge(&r, id, offered, &denied, e);
	if (rc == ERR_DENIED) {
		session_write_ends_blocking(server, &denied, 1);
		/* It may have ended, and its agent been told so, before the offer reached it. */
		session_send_terminate(server, target, id, denied.code, denied.text);
	} else if (rc) {
		atomic_store(&server->sessions->rejudge_owed, true);
	}
	return rc == ERR_DENIED ? rc : 0;
}

/* True: it is still to be judged. */
static bool judge_one(struct round *r, const char *id)
{
	struct err e;
	int rc = judge(r, id, NULL, &r->denied[r->denied_n], &e);
	if (rc == ERR_DENIED) {
		r->denied_n++;
	} else if (rc < 0) {
		r->failed_n++;
		r->failure = e;
	}
	return rc == NOT_ASKED;
}

static void judge_rows(struct round *r, struct session_live *rows, size_t n)
{
	size_t left = 0;
	for (size_t i = 0; i < n; i++)
		if (rows[i].end_code == 0 && judge_one(r, rows[i].id))
			rows[left++] = rows[i];
	r->asking = true;
	for (size_t i = 0; i < left; i++)
		judge_one(r, rows[i].id);
}

void sessions_rejudge_blocking(struct server *server)
{
	struct sessions *s = server->sessions;
	size_t n;
	atomic_store(&s->rejudge_owed,
		     false); /* before: what is owed from here on may be about a row that is not seen */
	struct session_live *rows = session_table_copy(s->live, NULL, &n);
	bool copied = rows || session_table_count(s->live, NULL) == 0;
	struct round r = { .server = server, .providers = json_object(), .denied = calloc(n + 1, sizeof *r.denied) };
	if (r.denied && copied)
		judge_rows(&r, rows, n);
	else
		r.failed_n = n + 1;
	if (r.failed_n) {
		atomic_store(&s->rejudge_owed, true);
		log_error("%zu of %zu sessions could not be judged by the new policies, trying again: %s", r.failed_n,
			  n, r.denied ? r.failure.text : "out of memory");
	}
	session_write_ends_blocking(server, r.denied, r.denied_n);
	json_decref(r.providers);
	free(r.denied);
	free(rows);
}

static void rejudge_job(void *arg)
{
	sessions_rejudge_blocking(arg);
}

void session_rejudge_owed_anythread(struct server *server)
{
	const struct pool_job job = {
		.run_blocking = rejudge_job, .arg = server, .reactor = -1, .lane = POOL_ATTACHES
	};
	atomic_bool *owed = &server->sessions->rejudge_owed;
	if (atomic_exchange(owed, false) && pool_submit_anythread(server->pool, &job) != 0)
		atomic_store(owed, true);
}
