/* The ends of many sessions. Cutting needs no store and is done for all first. Writing is three durable changes a
 * session, which the store can make together for several writers: so the caller shares the work with a few jobs. */
#include "server/session_ends.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"
#include "server/pool.h"
#include "server/server.h"
#include "server/session_gone.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#define WRITE_MS 3000   /* a caller waits no longer */
#define CONFIRM_MS 5000 /* an agent that is connected has so long to say that a session is gone */

/* ---- writing ---- */

struct writing {
	struct server *server;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	size_t next, written, users; /* users: the caller and the jobs that may still look */
	size_t n;
	struct session_verdict verdicts[];
};

static void release(struct writing *w)
{
	bool last = --w->users == 0;
	pthread_mutex_unlock(&w->lock);
	if (!last)
		return;
	pthread_cond_destroy(&w->changed);
	pthread_mutex_destroy(&w->lock);
	free(w);
}

/* Until nothing is left to begin, or the time is over. Lock held at begin and end. */
static void write_some(struct writing *w, int64_t until_ms)
{
	while (w->next < w->n && clock_mono_ms() < until_ms) {
		const struct session_verdict *v = &w->verdicts[w->next++];
		struct err e;
		pthread_mutex_unlock(&w->lock);
		int rc = sessions_end_blocking(w->server, v->session, v->code, v->text, v->by, &e);
		if (rc && rc != ERR_CONFLICT && rc != ERR_NOT_FOUND)
			log_with(LOG_LEVEL_ERROR, FIELDS({ "session", v->session }, { "error", e.text }),
				 "the session's end could not be written, trying again");
		pthread_mutex_lock(&w->lock);
		w->written++;
	}
	pthread_cond_broadcast(&w->changed);
}

static void write_job(void *arg)
{
	struct writing *w = arg;
	pthread_mutex_lock(&w->lock);
	write_some(w, INT64_MAX);
	release(w);
}

static bool add_job(struct writing *w)
{
	const struct pool_job job = { .run_blocking = write_job, .arg = w, .reactor = -1, .lane = POOL_EVENTS };
	pthread_mutex_lock(&w->lock);
	w->users++;
	pthread_mutex_unlock(&w->lock);
	if (pool_submit_anythread(w->server->pool, &job) == 0)
		return true;
	pthread_mutex_lock(&w->lock);
	w->users--; /* the caller is another one */
	pthread_mutex_unlock(&w->lock);
	return false;
}

/* The others of the lane are for what else legs and agents say. */
static size_t job_count(const struct server *server)
{
	return (size_t)server->settings->workers / 2;
}

void session_write_ends_blocking(struct server *server, const struct session_verdict *verdicts, size_t n)
{
	struct writing *w = n ? calloc(1, sizeof *w + n * sizeof *verdicts) : NULL;
	if (!w)
		return; /* they are cut; the sweep writes them */
	int64_t until_ms = clock_mono_ms() + WRITE_MS;
	struct timespec until;
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += WRITE_MS / 1000;
	*w = (struct writing){ .server = server, .n = n, .users = 1 };
	memcpy(w->verdicts, verdicts, n * sizeof *verdicts);
	pthread_mutex_init(&w->lock, NULL);
	pthread_condattr_t attr;
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&w->changed, &attr);
	pthread_condattr_destroy(&attr);
	for (size_t i = 0; i + 1 < n && i < job_count(server) && add_job(w); i++)
		;
	pthread_mutex_lock(&w->lock);
	write_some(w, until_ms);
	while (w->written < w->n && pthread_cond_timedwait(&w->changed, &w->lock, &until) == 0)
		;
	release(w);
}

/* ---- revoking ---- */

static bool is_about(const struct session_revocation *what, const struct session_live *row)
{
	return what->principal    ? strcmp(row->principal, what->principal) == 0
	       : what->credential ? strcmp(row->credential, what->credential) == 0
				  : strcmp(row->id, what->session) == 0;
}

static void verdict_of(struct session_verdict *v, const char *session, const char *target,
		       const struct session_revocation *what)
{
	*v = (struct session_verdict){ .code = 4007 };
	snprintf(v->session, sizeof v->session, "%s", session);
	snprintf(v->target, sizeof v->target, "%s", target);
	text_print(v->text, sizeof v->text, "%s", what->text);
	text_print(v->by, sizeof v->by, "%s", what->by);
}

static struct session_verdict *judge_all(struct server *server, const struct session_revocation *what, size_t *out_n)
{
	size_t rows_n = 0;
	struct session_live *rows = session_table_copy(server->sessions->live, NULL, &rows_n);
	bool copied = rows || session_table_count(server->sessions->live, NULL) == 0;
	struct session_verdict *verdicts = copied ? calloc(rows_n + 1, sizeof *verdicts) : NULL;
	*out_n = 0;
	for (size_t i = 0; verdicts && i < rows_n; i++)
		if (is_about(what, &rows[i]))
			verdict_of(&verdicts[(*out_n)++], rows[i].id, rows[i].target, what);
	/* One that starts at this moment, or is another node's, has no row here. */
	if (verdicts && what->session && *out_n == 0)
		verdict_of(&verdicts[(*out_n)++], what->session, what->target, what);
	free(rows);
	return verdicts;
}

struct revoking {
	struct server *server;
	int64_t begun_ms;
	size_t n;
	struct session_verdict *verdicts;
	bool *by_record; /* which of them have no row here */
	struct gone_watch *watch;
};

void sessions_revoke_free(struct revoking **revoking)
{
	struct revoking *r = *revoking;
	if (!r)
		return;
	gone_watch_free(&r->watch);
	free(r->by_record);
	free(r->verdicts);
	free(r);
	*revoking = NULL;
}

struct revoking *sessions_revoke_begin_anythread(struct server *server, const struct session_revocation *what)
{
	struct revoking *r = calloc(1, sizeof *r);
	if (!r)
		return NULL;
	r->server = server;
	r->begun_ms = clock_mono_ms();
	r->verdicts = judge_all(server, what, &r->n);
	r->by_record = calloc(r->n + 1, sizeof *r->by_record);
	r->watch = r->verdicts ? gone_watch_new(server, r->verdicts, r->n) : NULL;
	if (!r->watch || !r->by_record) {
		sessions_revoke_free(&r);
		return NULL;
	}
	for (size_t i = 0; i < r->n; i++)
		r->by_record[i] = !session_cut_anythread(server, &r->verdicts[i]);
	gone_watch_look_anythread(r->watch);
	return r;
}

int64_t sessions_revoke_begun_ms(const struct revoking *r)
{
	return r->begun_ms;
}

static void end_by_records(struct revoking *r)
{
	struct err e;
	for (size_t i = 0; i < r->n; i++) {
		const struct session_verdict *v = &r->verdicts[i];
		if (r->by_record[i])
			sessions_end_blocking(r->server, v->session, v->code, v->text, v->by, &e);
	}
}

json_t *sessions_revoke_finish_blocking(struct revoking **revoking)
{
	struct revoking *r = *revoking;
	json_t *unreached = NULL, *unconfirmed = NULL;
	if (!r)
		return NULL;
	end_by_records(r);
	gone_watch_wait_blocking(r->watch, CONFIRM_MS);
	int64_t gone_ms = gone_watch_result(r->watch, &unreached, &unconfirmed);
	int64_t took_ms = gone_ms > r->begun_ms ? gone_ms - r->begun_ms : 0;
	session_write_ends_blocking(r->server, r->verdicts, r->n);
	json_t *out = json_pack("{s:I, s:o, s:o, s:I}", "sessions", (json_int_t)r->n, "unreached", unreached,
				"unconfirmed", unconfirmed, "took_ms", (json_int_t)took_ms);
	sessions_revoke_free(revoking);
	return out;
}
