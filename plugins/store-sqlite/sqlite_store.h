/* The SQLite store's own parts: schema, writer, change, reader, events. */
#ifndef SQLITE_STORE_H
#define SQLITE_STORE_H

#include "store_rules.h"

#include <sqlite3.h>

#define QUEUE_MAX 4096u                      /* changes waiting for the writer */
#define QUEUE_BYTES_MAX (64u * 1024 * 1024)  /* their documents together */
#define BATCH_MAX 256u                       /* changes a transaction */
#define EVENTS_MAX 4096u                     /* messages waiting for the subscriber; further ones are dropped */
#define EVENTS_BYTES_MAX (16u * 1024 * 1024) /* of them together */
#define VIEWS_MAX 256u                       /* collections that get a view */
#define PURGE_ROWS 500u                      /* expired documents removed in one transaction */

/* words.c: turns the database's last error into a result: INTERRUPT is TIMEOUT, a mistake of ours INTERNAL, else
 * UNAVAILABLE. */
int words_sqlite(struct words w, sqlite3 *db, int sqlite_code, const char *doing);

/* schema.c */
struct database_options {
	const char *path;
	int busy_ms;
};
/* Locks, creates or checks the file, brings its schema up to date. */
int database_prepare(const struct database_options *o, int *out_lock_fd, sqlite3 **out_db, struct words w);
/* One more connection to a prepared file. */
int database_connect(const struct database_options *o, bool read_only, sqlite3 **out_db, struct words w);

/* One change on its way through the writer. */
enum change_kind { CHANGE_PUT, CHANGE_DEL, CHANGE_APPEND, CHANGE_PROBE };
struct change {
	struct change *next;
	enum change_kind kind;
	int64_t deadline_ms;
	char *place, *key, *value; /* place: collection or log. All copies: the caller may have left */
	size_t value_len;
	size_t *record_len; /* append: value is records one behind the other */
	size_t record_count;
	uint64_t expect_version;
	int64_t expires_ms;
	size_t index_count;
	char *index_name[INDEXES_MAX], *index_value[INDEXES_MAX];
	/* the answer */
	int result;
	uint64_t number; /* version, or sequence of the first record */
	char text[160];
	enum { CHANGE_QUEUED, CHANGE_TAKEN, CHANGE_ANSWERED, CHANGE_ABANDONED } state;
};

/* change.c: the statements behind a change, on the writer's connection. */
struct changer;
int changer_new(sqlite3 *db, struct changer **out_changer, struct words w);
void changer_free(struct changer **changer);
/* Runs one change inside the open transaction. Sets result, number, text. */
void changer_run(struct changer *c, struct change *change, int64_t now_ms);
/* After a rollback: forget what was known of it. */
void changer_forget(struct changer *c);
/* Removes some expired documents; true when there may be more. */
bool changer_purge(struct changer *c, int64_t now_ms);

/* writer.c */
struct writer;
/* Takes the connection over, also on failure. */
int writer_start(const struct tunnel_host *host, sqlite3 *db, int64_t purge_ms, struct writer **out_writer,
		 struct words w);
void writer_stop(struct writer **writer);
/* Hands the change over and waits for its answer or the call's deadline. Frees the change. */
int writer_submit(struct writer *writer, const struct tunnel_call *call, struct change *change, uint64_t *out_number);
struct change *change_new(enum change_kind kind, const char *place, const char *key, const char *value,
			  size_t value_len);
struct change *change_new_append(const char *log, const struct tunnel_record *records, size_t n);
bool change_add_index(struct change *c, const char *name, const char *value);
void change_free(struct change *c);

/* reader.c */
struct readers;
int readers_new(const struct tunnel_host *host, const struct database_options *o, size_t count,
		struct readers **out_readers, struct words w);
void readers_free(struct readers **readers);
int readers_get(struct readers *r, const struct tunnel_call *call, const char *collection, const char *key,
		tunnel_row_fn *row, void *arg);
int readers_scan(struct readers *r, const struct tunnel_call *call, const struct tunnel_scan *scan, tunnel_row_fn *row,
		 void *arg, char *out_cursor);
int readers_read(struct readers *r, const struct tunnel_call *call, const char *log, uint64_t from, uint32_t limit,
		 tunnel_row_fn *row, void *arg);

/* events.c */
struct events;
int events_new(const struct tunnel_host *host, struct events **out_events, struct words w);
void events_free(struct events **events);
int events_publish(struct events *v, const struct tunnel_call *call, const char *channel, const char *message,
		   size_t len);
int events_subscribe(struct events *v, const struct tunnel_call *call, tunnel_event_fn *event, void *arg);

#endif
