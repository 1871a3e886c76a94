/* The one thread that writes. Changes queue up; the writer opens a transaction, then takes all that wait by then, runs
 * them, commits once (one fsync for all), and only then answers each. While it waits for the database's write lock
 * nothing is taken yet, so a caller whose deadline passes can take its change back and knows that it did not happen.
 *
 * A change belongs to the queue until it is answered. A caller that gives up on a change that was already taken marks
 * it abandoned, and the writer frees it: nobody ever waits longer than the deadline for a slow disk. */
#include "sqlite_store.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct writer {
	const struct tunnel_host *host;
	sqlite3 *db;
	struct changer *changer;
	sqlite3_stmt *begin, *commit, *rollback;
	int64_t purge_ms, next_purge_ms;
	pthread_t thread;
	bool has_thread;

	pthread_mutex_t lock; /* guards what follows */
	pthread_cond_t work, answered;
	struct change *first, **last;
	size_t waiting, waiting_bytes;
	bool stop;
	bool failing; /* writer thread only: the last transaction failed. Told in the log when it begins and ends */
};

struct change *change_new(enum change_kind kind, const char *place, const char *key, const char *value,
			  size_t value_len)
{
	struct change *c = calloc(1, sizeof *c);
	if (!c)
		return NULL;
	c->kind = kind;
	c->value_len = value_len;
	c->place = place ? strdup(place) : NULL;
	c->key = key ? strdup(key) : NULL;
	c->value = value ? malloc(value_len + 1) : NULL;
	if ((place && !c->place) || (key && !c->key) || (value && !c->value)) {
		change_free(c);
		return NULL;
	}
	if (value) {
		memcpy(c->value, value, value_len);
		c->value[value_len] = '\0';
	}
	return c;
}

struct change *change_new_append(const char *log, const struct tunnel_record *records, size_t n)
{
	size_t bytes = 0;
	for (size_t i = 0; i < n; i++)
		bytes += records[i].len;
	struct change *c = change_new(CHANGE_APPEND, log, NULL, NULL, 0);
	if (!c)
		return NULL;
	c->value = malloc(bytes + 1);
	c->record_len = calloc(n, sizeof *c->record_len);
	if (!c->value || !c->record_len) {
		change_free(c);
		return NULL;
	}
	for (size_t i = 0; i < n; i++) {
		memcpy(c->value + c->value_len, records[i].text, records[i].len);
		c->value_len += records[i].len;
		c->record_len[c->record_count++] = records[i].len;
	}
	return c;
}

bool change_add_index(struct change *c, const char *name, const char *value)
{
	size_t i = c->index_count++;
	c->index_name[i] = strdup(name);
	c->index_value[i] = strdup(value);
	return c->index_name[i] && c->index_value[i];
}

void change_free(struct change *c)
{
	if (!c)
		return;
	for (size_t i = 0; i < c->index_count; i++) {
		free(c->index_name[i]);
		free(c->index_value[i]);
	}
	free(c->place);
	free(c->key);
	free(c->value);
	free(c->record_len);
	free(c);
}

static int step_and_reset(sqlite3_stmt *s)
{
	sqlite3_step(s);
	return sqlite3_reset(s);
}

/* Under the lock: up to a batch of the queue, marked as taken. */
static struct change *take_batch(struct writer *w)
{
	struct change *head = w->first, **tail = &head;
	for (size_t n = 0; *tail && n < BATCH_MAX; n++) {
		(*tail)->state = CHANGE_TAKEN;
		w->waiting--;
		w->waiting_bytes -= (*tail)->value_len;
		tail = &(*tail)->next;
	}
	w->first = *tail;
	if (!w->first)
		w->last = &w->first;
	*tail = NULL;
	return head;
}

static void answer_all(struct writer *w, struct change *batch)
{
	pthread_mutex_lock(&w->lock);
	while (batch) {
		struct change *c = batch;
		batch = c->next;
		c->next = NULL;
		if (c->state == CHANGE_ABANDONED)
			change_free(c);
		else
			c->state = CHANGE_ANSWERED;
	}
	pthread_cond_broadcast(&w->answered);
	pthread_mutex_unlock(&w->lock);
}

static void fail_all(struct writer *w, struct change *batch, int result, const char *text)
{
	for (struct change *c = batch; c; c = c->next) {
		c->result = result;
		snprintf(c->text, sizeof c->text, "%s", text);
	}
	answer_all(w, batch);
}

static void note_state(struct writer *w, bool failing, const char *text)
{
	if (failing && !w->failing)
		w->host->log(w->host->ctx, TUNNEL_LOG_ERROR, text);
	else if (!failing && w->failing)
		w->host->log(w->host->ctx, TUNNEL_LOG_INFO, "writes work again");
	w->failing = failing;
	if (failing)
		w->host->count(w->host->ctx, "failed_batches", 1);
}

/* The transaction is open. The batch is answered when this returns. */
static void run_batch(struct writer *w, struct change *batch)
{
	char text[160] = "";
	struct words words = { text, sizeof text };
	int rc = SQLITE_OK, result = 0;
	for (struct change *c = batch; c; c = c->next) {
		if (c->deadline_ms && w->host->mono_ms(w->host->ctx) >= c->deadline_ms) {
			c->result = TUNNEL_TIMEOUT;
			snprintf(c->text, sizeof c->text, "the deadline passed before it was written");
			continue;
		}
		changer_run(w->changer, c, w->host->wall_ms(w->host->ctx));
		if (sqlite3_get_autocommit(w->db)) { /* rolled back as a whole: nothing of the batch is there */
			result = TUNNEL_UNAVAILABLE;
			snprintf(text, sizeof text, "%s", c->text);
			break;
		}
	}
	if (result == 0) {
		rc = step_and_reset(w->commit);
		result = rc == SQLITE_OK ? 0 : words_sqlite(words, w->db, rc, "commit");
	}
	if (result != 0) {
		if (!sqlite3_get_autocommit(w->db))
			step_and_reset(w->rollback);
		changer_forget(w->changer);
		note_state(w, true, text);
		fail_all(w, batch, result, text);
		return;
	}
	note_state(w, false, NULL);
	answer_all(w, batch);
}

static void purge(struct writer *w)
{
	bool more = false;
	w->next_purge_ms = w->host->mono_ms(w->host->ctx) + w->purge_ms;
	if (step_and_reset(w->begin) != SQLITE_OK)
		return;
	more = changer_purge(w->changer, w->host->wall_ms(w->host->ctx));
	if (sqlite3_get_autocommit(w->db) || step_and_reset(w->commit) == SQLITE_OK) {
		if (more) /* the rest follows, with callers' changes in between */
			w->next_purge_ms = 0;
		return;
	}
	step_and_reset(w->rollback);
}

static void serve(struct writer *w)
{
	char text[160];
	struct words words = { text, sizeof text };
	int rc = step_and_reset(w->begin);
	int result = rc == SQLITE_OK ? 0 : words_sqlite(words, w->db, rc, "begin");
	pthread_mutex_lock(&w->lock);
	struct change *batch = take_batch(w);
	pthread_mutex_unlock(&w->lock);
	if (result != 0) {
		note_state(w, true, text);
		fail_all(w, batch, result, text);
	} else if (batch)
		run_batch(w, batch);
	else
		step_and_reset(w->rollback); /* everybody gave up meanwhile */
}

static void *writer_main(void *arg)
{
	struct writer *w = arg;
	for (;;) {
		pthread_mutex_lock(&w->lock);
		int64_t until_purge = w->next_purge_ms - w->host->mono_ms(w->host->ctx);
		while (!w->first && !w->stop && until_purge > 0) {
			wait_on(&w->work, &w->lock, until_purge);
			until_purge = w->next_purge_ms - w->host->mono_ms(w->host->ctx);
		}
		bool work = w->first != NULL, stop = w->stop;
		pthread_mutex_unlock(&w->lock);
		if (work)
			serve(w);
		else if (stop)
			return NULL;
		if (until_purge <= 0 && !stop)
			purge(w);
	}
}

int writer_start(const struct tunnel_host *host, sqlite3 *db, int64_t purge_ms, struct writer **out_writer,
		 struct words words)
{
	struct writer *w = calloc(1, sizeof *w);
	if (!w) {
		sqlite3_close_v2(db);
		return words_set(words, TUNNEL_UNAVAILABLE, "out of memory");
	}
	w->host = host;
	w->db = db;
	w->purge_ms = purge_ms;
	w->last = &w->first;
	pthread_mutex_init(&w->lock, NULL);
	cond_init_monotonic(&w->work);
	cond_init_monotonic(&w->answered);
	int rc = changer_new(db, &w->changer, words);
	static const char *const texts[] = { "BEGIN IMMEDIATE", "COMMIT", "ROLLBACK" };
	sqlite3_stmt **const places[] = { &w->begin, &w->commit, &w->rollback };
	for (size_t i = 0; rc == 0 && i < 3; i++) {
		int code = sqlite3_prepare_v3(db, texts[i], -1, SQLITE_PREPARE_PERSISTENT, places[i], NULL);
		rc = code == SQLITE_OK ? 0 : words_sqlite(words, db, code, "prepare");
	}
	if (rc == 0) {
		w->has_thread = thread_start(&w->thread, writer_main, w);
		if (!w->has_thread)
			rc = words_set(words, TUNNEL_UNAVAILABLE, "cannot start a thread");
	}
	if (rc != 0)
		writer_stop(&w);
	else
		*out_writer = w;
	return rc;
}

void writer_stop(struct writer **writer)
{
	struct writer *w = *writer;
	if (!w)
		return;
	if (w->has_thread) {
		pthread_mutex_lock(&w->lock);
		w->stop = true;
		pthread_cond_signal(&w->work);
		pthread_mutex_unlock(&w->lock);
		pthread_join(w->thread, NULL);
	}
	changer_free(&w->changer);
	sqlite3_finalize(w->begin);
	sqlite3_finalize(w->commit);
	sqlite3_finalize(w->rollback);
	sqlite3_close_v2(w->db);
	pthread_mutex_destroy(&w->lock);
	pthread_cond_destroy(&w->work);
	pthread_cond_destroy(&w->answered);
	free(w);
	*writer = NULL;
}

/* Under the lock. */
static void unlink_change(struct writer *w, struct change *c)
{
	struct change **at = &w->first;
	while (*at != c)
		at = &(*at)->next;
	*at = c->next;
	if (w->last == &c->next)
		w->last = at;
	w->waiting--;
	w->waiting_bytes -= c->value_len;
}

int writer_submit(struct writer *w, const struct tunnel_call *call, struct change *c, uint64_t *out_number)
{
	struct words words = words_of(call);
	c->deadline_ms = call->deadline_ms;
	pthread_mutex_lock(&w->lock);
	if (w->waiting == QUEUE_MAX || w->waiting_bytes + c->value_len > QUEUE_BYTES_MAX) {
		pthread_mutex_unlock(&w->lock);
		change_free(c);
		return words_set(words, TUNNEL_UNAVAILABLE, "too many changes wait for the disk");
	}
	*w->last = c;
	w->last = &c->next;
	w->waiting++;
	w->waiting_bytes += c->value_len;
	pthread_cond_signal(&w->work);
	while (c->state != CHANGE_ANSWERED) {
		int64_t left = time_left(w->host, c->deadline_ms, 60000);
		if (left == 0)
			break;
		wait_on(&w->answered, &w->lock, left);
	}
	int rc;
	if (c->state == CHANGE_ANSWERED) {
		rc = c->result;
		if (rc == TUNNEL_OK && out_number)
			*out_number = c->number;
		if (c->text[0])
			words_set(words, rc, "%s", c->text);
	} else if (c->state == CHANGE_QUEUED) {
		unlink_change(w, c);
		rc = words_set(words, TUNNEL_TIMEOUT,
			       "the deadline passed while the database was held by another "
			       "program; nothing was written");
	} else {
		c->state = CHANGE_ABANDONED;
		c = NULL;
		rc = words_set(words, TUNNEL_TIMEOUT,
			       "the disk did not answer before the deadline; whether it was "
			       "written is unknown");
	}
	pthread_mutex_unlock(&w->lock);
	change_free(c);
	return rc;
}
