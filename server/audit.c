/* The audit log. All nodes append to one log of the store; each node's records form a chain of hashes of their own, so
 * no node waits for another. A mutex makes "hash over the last ones, append, become the last ones" one step. Who holds
 * it writes what all who wait for it want written, so that many share one writing to the disk.
 *
 * Where the chain ends is kept in a document per node, {hash, seq, clean}: up to sequence number seq the log is
 * accounted for. It is written every few records and at close, so that opening reads only what came behind it, and
 * nothing at all after a clean close. When an append ends without an answer (a timeout), the record may be there, or
 * come yet, or never. A store lets what it left unanswered take effect before it answers a later change, or not at all:
 * so the document is written once more, and when that is answered the same reading finds out.
 *
 * What has happened and cannot be taken back (audit_note_blocking) goes through a queue that is written from its front
 * before anything else is appended. So while a record of it waits nothing can be appended, and what may not be done
 * without its record, the start of a session above all, is not done. */
#include "server/audit.h"

#include "base/audit_chain.h"
#include "base/clock.h"
#include "base/limits.h"
#include "base/log.h"
#include "server/audit_queue.h"
#include "server/metrics.h"
#include "server/server.h"
#include "server/store.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HEADS "audit_heads"
/* Records, and time, between two writings of the head's document: what a crash makes the next start read. */
#define HEAD_EVERY 64u
#define HEAD_EVERY_MS 30000

/* A record that somebody waits for. Who is first in the chain writes it, and says how it went. */
struct ticket {
	struct ticket *next;
	json_t *record;
	bool is_done; /* this and what follows: with the tickets' mutex */
	int rc;
	struct err why;
};

struct audit {
	struct store *store;
	char *node;
	pthread_mutex_t chain;
	char head[AUDIT_HASH_TEXT]; /* hash of this node's last record */
	uint64_t seq;               /* the log is accounted for up to here */
	_Atomic uint64_t seen;      /* the log has at least so many records, of all nodes */
	bool unsure;                /* an append ended without an answer */
	/* The queue's first tried_count records may have been written, up to one of them, with these hashes. */
	char tried[STORE_RECORDS_MAX][AUDIT_HASH_TEXT];
	size_t tried_count;
	struct audit_queue *queue;
	pthread_mutex_t tickets_lock;
	pthread_cond_t served; /* tickets are done, or somebody else may serve them */
	bool serving;          /* somebody does; with the tickets' mutex */
	struct ticket *first, **last;
	atomic_bool failing;     /* the last writing failed: the keeper tries again, nobody else */
	bool stops;              /* whether sessions wait for the log, as the settings say */
	struct metrics *metrics; /* may be NULL */
	unsigned since_saved;
	int64_t saved_ms;
};

/* --- the head's document --- */

static int save_head(struct audit *a, bool clean, struct err *e)
{
	json_t *doc = json_pack("{s:s, s:I, s:b}", "hash", a->head, "seq", (json_int_t)a->seq, "clean", clean);
	if (!doc)
		return err_set(e, ERR_NOMEM, "out of memory");
	int rc = store_put_blocking(a->store, HEADS, a->node, doc, TUNNEL_VERSION_ANY, 0, NULL, NULL, e);
	json_decref(doc);
	if (rc == 0) {
		a->since_saved = 0;
		a->saved_ms = clock_mono_ms();
	}
	return rc;
}

static int load_head(struct audit *a, bool *out_clean, struct err *e)
{
	json_t *doc = NULL;
	uint64_t version;
	*out_clean = false;
	memcpy(a->head, audit_first_prev, sizeof a->head);
	a->seq = 0;
	int rc = store_get_blocking(a->store, HEADS, a->node, &doc, &version, e);
	if (rc == ERR_NOT_FOUND)
		return 0;
	if (rc != 0)
		return rc;
	const char *hash = json_string_value(json_object_get(doc, "hash"));
	json_int_t seq = json_integer_value(json_object_get(doc, "seq"));
	if (hash && strlen(hash) == AUDIT_HASH_TEXT - 1 && seq >= 0) {
		memcpy(a->head, hash, sizeof a->head);
		a->seq = (uint64_t)seq;
		atomic_store(&a->seen, a->seq);
		*out_clean = json_is_true(json_object_get(doc, "clean"));
	} /* else as if there were none: the log itself says it all */
	json_decref(doc);
	return 0;
}

/* --- the log's tail --- */

static void saw(struct audit *a, uint64_t seq)
{
	uint64_t seen = atomic_load(&a->seen);
	while (seen < seq && !atomic_compare_exchange_weak(&a->seen, &seen, seq))
		;
}

static int see_record(void *arg, const char *key, json_t *record, uint64_t seq)
{
	(void)key;
	struct audit *a = arg;
	const char *node = json_string_value(json_object_get(record, "node"));
	const char *hash = json_string_value(json_object_get(record, "hash"));
	if (node && strcmp(node, a->node) == 0 && hash && strlen(hash) == AUDIT_HASH_TEXT - 1)
		memcpy(a->head, hash, sizeof a->head);
	a->seq = seq;
	saw(a, seq);
	return 0;
}

/* Reads what came behind a->seq. */
static int catch_up(struct audit *a, struct err *e)
{
	uint64_t before;
	do {
		before = a->seq;
		int rc = store_read_blocking(a->store, AUDIT_LOG, a->seq + 1, LIMIT_SCAN_PAGE, see_record, a, e);
		if (rc != 0)
			return err_wrap(e, "finding the end of node %s's audit chain", a->node);
	} while (a->seq - before >= LIMIT_SCAN_PAGE);
	a->unsure = false;
	return 0;
}

/* With a->chain held. Afterwards nothing is on its way any more, and head and seq are those of the log. */
static int make_sure(struct audit *a, struct err *e)
{
	if (!a->unsure)
		return 0;
	int rc = save_head(a, false, e);
	return rc ? rc : catch_up(a, e);
}

/* --- append --- */

static int check_fields(const char *event, const json_t *fields, struct err *e)
{
	static const char *const ours[] = { "seq", "at", "node", "event", "prev", "hash" };
	if (!json_is_object(fields)) /* most likely text that is not UTF-8; a record without it would say nothing */
		return err_set(e, ERR_INVALID, "audit %s: its fields are no JSON object", event);
	for (size_t i = 0; i < sizeof ours / sizeof *ours; i++)
		if (json_object_get(fields, ours[i]))
			return err_set(e, ERR_INVALID, "audit %s: field \"%s\" belongs to the log", event, ours[i]);
	return 0;
}

/* What a record has from the moment that it tells of. */
static int begin(const struct audit *a, const char *event, json_t *record, struct err *e)
{
	char now[CLOCK_TEXT_LEN];
	int rc = check_fields(event, record, e);
	if (rc != 0)
		return rc;
	int bad = json_object_set_new(record, "at", json_string(clock_text(clock_wall_ms(), now)));
	bad |= json_object_set_new(record, "node", json_string(a->node));
	bad |= json_object_set_new(record, "event", json_string(event));
	return bad ? err_set(e, ERR_NOMEM, "out of memory") : 0;
}

/* What it has from its place in the chain. */
static int complete(json_t *record, const char *prev, char hash[AUDIT_HASH_TEXT], struct err *e)
{
	if (json_object_set_new(record, "prev", json_string(prev)) != 0)
		return err_set(e, ERR_NOMEM, "out of memory");
	int rc = audit_record_hash(record, hash, e);
	if (rc == 0 && json_object_set_new(record, "hash", json_string(hash)) != 0)
		rc = err_set(e, ERR_NOMEM, "out of memory");
	return rc;
}

/* With a->chain held, and sure. Writes the first *out_n of n records. On an error *out_n says how many may have been,
 * in their order. hashes are those of the *out_n. */
static int write_locked(struct audit *a, json_t **records, size_t n, char (*hashes)[AUDIT_HASH_TEXT], size_t *out_n,
			struct err *e)
{
	uint64_t first = 0;
	size_t tried = 0;
	int rc = 0;
	*out_n = 0;
	while (tried < n && (rc = complete(records[tried], tried ? hashes[tried - 1] : a->head, hashes[tried], e)) == 0)
		tried++;
	if (!tried)
		return rc;
	rc = store_append_blocking(a->store, AUDIT_LOG, records, tried, out_n, &first, e);
	if (rc != 0) {
		a->unsure = true;
		*out_n = tried;
		return rc;
	}
	memcpy(a->head, hashes[*out_n - 1], sizeof a->head);
	a->seq = first + *out_n - 1;
	saw(a, a->seq);
	a->since_saved += (unsigned)*out_n;
	if (a->metrics)
		metrics_add(a->metrics, METRIC_AUDIT_RECORDS, (int64_t)*out_n);
	return 0;
}

static void tell_waiting(struct audit *a)
{
	if (a->metrics)
		metrics_set(a->metrics, METRIC_AUDIT_WAITING, (int64_t)audit_queue_count(a->queue));
}

/* The next to be written: the oldest, and when none is left, how many found no room. New references. */
static size_t next_waiting(struct audit *a, json_t *out_records[STORE_RECORDS_MAX])
{
	struct err e;
	size_t n = audit_queue_peek(a->queue, out_records, STORE_RECORDS_MAX);
	json_t *lost = n ? NULL : audit_queue_take_lost(a->queue);
	if (!lost)
		return n;
	if (begin(a, "audit.lost", lost, &e) == 0)
		audit_queue_push(a->queue, lost);
	else
		json_decref(lost);
	return audit_queue_peek(a->queue, out_records, STORE_RECORDS_MAX);
}

/* With a->chain held, and sure: the head says which of those that were tried are there. */
static void settle_tried(struct audit *a)
{
	for (size_t i = 0; i < a->tried_count; i++)
		if (strcmp(a->head, a->tried[i]) == 0)
			audit_queue_pop(a->queue, i + 1);
	a->tried_count = 0;
}

/* With a->chain held. 0: nothing waits any more. */
static int drain_locked(struct audit *a, struct err *e)
{
	json_t *batch[STORE_RECORDS_MAX];
	size_t n;
	int rc = make_sure(a, e);
	if (rc == 0)
		settle_tried(a);
	while (rc == 0 && (n = next_waiting(a, batch)) > 0) {
		rc = write_locked(a, batch, n, a->tried, &a->tried_count, e);
		for (size_t i = 0; i < n; i++)
			json_decref(batch[i]);
		if (rc == 0) {
			audit_queue_pop(a->queue, a->tried_count);
			a->tried_count = 0;
		}
	}
	bool was = atomic_exchange(&a->failing, rc != 0);
	if (was && rc == 0)
		log_info("the audit log can be written again");
	tell_waiting(a);
	return rc;
}

static void save_now_and_then(struct audit *a)
{
	struct err e = { 0 };
	if (a->since_saved < HEAD_EVERY && clock_mono_ms() - a->saved_ms < HEAD_EVERY_MS)
		return;
	if (save_head(a, false, &e) != 0)
		log_warn("audit log: noting its end: %s", e.text);
}

static struct ticket *take_tickets(struct audit *a)
{
	pthread_mutex_lock(&a->tickets_lock);
	struct ticket *all = a->first;
	a->first = NULL;
	a->last = &a->first;
	pthread_mutex_unlock(&a->tickets_lock);
	return all;
}

/* Marks the first n; returns the one behind them. */
static struct ticket *finish(struct audit *a, struct ticket *t, size_t n, int rc, const struct err *why)
{
	pthread_mutex_lock(&a->tickets_lock);
	while (t && n--) {
		struct ticket *next = t->next; /* before its owner may look */
		t->rc = rc;
		if (rc != 0)
			t->why = *why;
		t->is_done = true;
		t = next;
	}
	pthread_cond_broadcast(&a->served);
	pthread_mutex_unlock(&a->tickets_lock);
	return t;
}

/* With a->chain held: all that were handed in, behind what waits. When one cannot be written none behind it is tried:
 * what became of that one must be found out first. */
static void serve_tickets(struct audit *a)
{
	char hashes[STORE_RECORDS_MAX][AUDIT_HASH_TEXT];
	json_t *batch[STORE_RECORDS_MAX];
	struct err why = { 0 };
	struct ticket *todo = take_tickets(a);
	int rc = drain_locked(a, &why);
	while (rc == 0 && todo) {
		size_t n = 0, written;
		for (struct ticket *t = todo; t && n < STORE_RECORDS_MAX; t = t->next)
			batch[n++] = t->record;
		rc = write_locked(a, batch, n, hashes, &written, &why);
		if (rc == 0)
			todo = finish(a, todo, written, 0, NULL);
	}
	finish(a, todo, SIZE_MAX, rc, &why);
	if (rc == 0)
		save_now_and_then(a);
}

/* Until all n are done: by whoever serves now or, when nobody does, by the caller. Who is done does not wait for the
 * chain, which is held while the next ones are written. They are handed in together, so the last is done last. */
static void have_served(struct audit *a, struct ticket *t, size_t n)
{
	struct ticket *end = &t[n - 1];
	pthread_mutex_lock(&a->tickets_lock);
	for (size_t i = 0; i < n; i++) {
		*a->last = &t[i];
		a->last = &t[i].next;
	}
	while (!end->is_done && a->serving)
		pthread_cond_wait(&a->served, &a->tickets_lock);
	if (!end->is_done) {
		a->serving = true;
		pthread_mutex_unlock(&a->tickets_lock);
		pthread_mutex_lock(&a->chain);
		serve_tickets(a);
		pthread_mutex_unlock(&a->chain);
		pthread_mutex_lock(&a->tickets_lock);
		a->serving = false;
		pthread_cond_broadcast(&a->served);
	}
	pthread_mutex_unlock(&a->tickets_lock);
}

/* t: a ticket for each entry. */
static int append(struct audit *audit, struct audit_entry *entries, struct ticket *t, size_t n, struct err *e)
{
	int rc = 0;
	for (size_t i = 0; rc == 0 && i < n; i++) {
		t[i] = (struct ticket){ .record = entries[i].fields };
		rc = begin(audit, entries[i].event, entries[i].fields, e);
	}
	if (rc == 0 && n)
		have_served(audit, t, n);
	for (size_t i = 0; i < n; i++) {
		if (rc == 0 && t[i].rc != 0) /* the first one's: those behind it were not tried */
			rc = err_set(e, t[i].rc, "audit %s: %s", entries[i].event, t[i].why.text);
		json_decref(entries[i].fields);
		entries[i].fields = NULL;
	}
	return rc;
}

int audit_append_blocking(struct audit *audit, const char *event, json_t *fields, struct err *e)
{
	struct audit_entry one = { event, fields };
	struct ticket t;
	return append(audit, &one, &t, 1, e);
}

int audit_append_many_blocking(struct audit *audit, struct audit_entry *entries, size_t n, struct err *e)
{
	struct ticket t[AUDIT_TOGETHER];
	return append(audit, entries, t, n, e);
}

static void tell_record(const json_t *record, const char *what, const char *why)
{
	char *text = json_dumps(record, JSON_COMPACT);
	log_with(LOG_LEVEL_ERROR, FIELDS({ "record", text }, { "error", why }), "%s", what);
	free(text);
}

/* Puts it behind what waits, and writes that when the store answers. ERR_LIMIT: there was no room. */
static int note(struct audit *a, json_t *record, struct err *e)
{
	json_auto_t *kept = json_incref(record);
	struct err why = { 0 };
	if (!audit_queue_push(a->queue, record)) {
		if (a->metrics)
			metrics_add(a->metrics, METRIC_AUDIT_LOST, 1);
		return err_set(e, ERR_LIMIT, "too many audit records wait to be written");
	}
	int rc = ERR_UNAVAILABLE;
	if (!atomic_load(&a->failing)) {
		pthread_mutex_lock(&a->chain);
		if (!atomic_load(&a->failing)) /* somebody may have waited for the store meanwhile, in vain */
			rc = drain_locked(a, &why);
		if (rc == 0)
			save_now_and_then(a);
		pthread_mutex_unlock(&a->chain);
	}
	if (rc != 0) /* it is only in memory: so that a crash does not take it away without a trace */
		tell_record(kept, "an audit record waits to be written", why.text[0] ? why.text : NULL);
	tell_waiting(a);
	return 0;
}

void audit_note_blocking(struct audit *audit, const char *event, json_t *fields)
{
	struct err e;
	int rc = begin(audit, event, fields, &e);
	if (rc == 0)
		rc = note(audit, json_incref(fields), &e);
	if (rc != 0)
		tell_record(fields, "an audit record is in this log alone", e.text);
	json_decref(fields);
}

int audit_announce_blocking(struct audit *audit, const char *event, json_t *fields, struct err *e)
{
	if (audit->stops)
		return audit_append_blocking(audit, event, fields, e);
	int rc = begin(audit, event, fields, e);
	if (rc == 0)
		return note(audit, fields, e);
	json_decref(fields);
	return rc;
}

void audit_flush_blocking(struct audit *audit)
{
	struct err e;
	if (!audit_queue_count(audit->queue))
		return;
	pthread_mutex_lock(&audit->chain);
	if (drain_locked(audit, &e) == 0)
		save_now_and_then(audit);
	pthread_mutex_unlock(&audit->chain);
}

size_t audit_waiting_anythread(struct audit *audit, bool *out_stops)
{
	*out_stops = audit->stops;
	return audit_queue_count(audit->queue);
}

/* --- open and close --- */

static void release(struct audit *a)
{
	audit_queue_free(&a->queue);
	pthread_mutex_destroy(&a->chain);
	pthread_mutex_destroy(&a->tickets_lock);
	pthread_cond_destroy(&a->served);
	free(a->node);
	free(a);
}

int audit_open_blocking(struct server *server, struct audit **out_audit, struct err *e)
{
	bool clean = false;
	struct audit *a = calloc(1, sizeof *a);
	if (!a)
		return err_set(e, ERR_NOMEM, "out of memory");
	pthread_mutex_init(&a->chain, NULL);
	pthread_mutex_init(&a->tickets_lock, NULL);
	pthread_cond_init(&a->served, NULL);
	a->last = &a->first;
	a->store = server->store;
	a->metrics = server->metrics;
	a->stops = !server->settings || server->settings->audit_on_failure == AUDIT_STOP;
	a->node = strdup(server->node);
	a->queue = audit_queue_new();
	int rc = a->node && a->queue ? load_head(a, &clean, e) : err_set(e, ERR_NOMEM, "out of memory");
	if (rc == 0 && !clean)
		rc = catch_up(a, e);
	/* Not clean from here until close, whatever happens. */
	if (rc == 0)
		rc = save_head(a, false, e);
	if (rc == 0) {
		*out_audit = a;
		return 0;
	}
	err_wrap(e, "audit log");
	release(a);
	return rc;
}

void audit_close(struct audit **audit)
{
	struct audit *a = *audit;
	struct err e = { 0 };
	*audit = NULL;
	if (!a)
		return;
	audit_flush_blocking(a);
	if (audit_queue_count(a->queue))
		log_error("audit log: %zu records could not be written; they are in this log alone",
			  audit_queue_count(a->queue));
	if (!a->unsure && save_head(a, true, &e) != 0)
		log_warn("audit log: noting its end: %s; the next start reads more of it", e.text);
	release(a);
}

/* --- read --- */

uint64_t audit_seq_anythread(struct audit *audit)
{
	pthread_mutex_lock(&audit->chain);
	uint64_t seq = audit->seq;
	pthread_mutex_unlock(&audit->chain);
	return seq;
}

struct store *audit_store(struct audit *audit)
{
	return audit->store;
}

static int count_row(void *arg, const char *key, json_t *record, uint64_t seq)
{
	(void)key, (void)record, (void)seq;
	++*(unsigned *)arg;
	return 0;
}

static int has_record(struct audit *audit, uint64_t seq, bool *out_has, struct err *e)
{
	unsigned n = 0;
	int rc = store_read_blocking(audit->store, AUDIT_LOG, seq, 1, count_row, &n, e);
	*out_has = n > 0;
	return rc ? err_wrap(e, "finding the end of the audit log") : 0;
}

/* A store does not say how long a log is. Its numbers have no gaps, so from what was last known on the end is found by
 * steps that double, and then halve. */
int audit_end_blocking(struct audit *audit, uint64_t *out_seq, struct err *e)
{
	uint64_t seq = atomic_load(&audit->seen), step = 1;
	bool has = true;
	int rc = has_record(audit, seq + step, &has, e);
	while (rc == 0 && has) {
		seq += step;
		step *= 2;
		rc = has_record(audit, seq + step, &has, e);
	}
	while (rc == 0 && (step /= 2) > 0) {
		rc = has_record(audit, seq + step, &has, e);
		seq += rc == 0 && has ? step : 0;
	}
	if (rc != 0)
		return rc;
	saw(audit, seq);
	*out_seq = seq;
	return 0;
}

struct sought {
	const char *event;
	json_t *fields;
	uint64_t last, n;
	bool found;
};

static bool has_fields(const json_t *record, json_t *fields)
{
	const char *key;
	json_t *value;
	json_object_foreach(fields, key, value)
	{
		const json_t *there = json_object_get(record, key);
		if (there ? !json_equal(there, value) : !json_is_null(value))
			return false;
	}
	return true;
}

static int seek(void *arg, const char *key, json_t *record, uint64_t seq)
{
	(void)key;
	struct sought *s = arg;
	const char *event = json_string_value(json_object_get(record, "event"));
	s->found = event && strcmp(event, s->event) == 0 && has_fields(record, s->fields);
	s->last = seq;
	s->n++;
	return s->found;
}

int audit_has_blocking(struct audit *audit, uint64_t from, const char *event, const json_t *fields, bool *out_has,
		       struct err *e)
{
	struct sought s = { .event = event, .fields = (json_t *)(uintptr_t)fields, .last = from ? from - 1 : 0 };
	pthread_mutex_lock(&audit->chain);
	int rc = make_sure(audit, e);
	pthread_mutex_unlock(&audit->chain);
	if (rc != 0)
		return err_wrap(e, "looking for %s in the audit log", event);
	do {
		s.n = 0;
		rc = store_read_blocking(audit->store, AUDIT_LOG, s.last + 1, LIMIT_SCAN_PAGE, seek, &s, e);
		if (rc != 0)
			return err_wrap(e, "looking for %s in the audit log", event);
	} while (!s.found && s.n >= LIMIT_SCAN_PAGE);
	*out_has = s.found;
	return 0;
}
