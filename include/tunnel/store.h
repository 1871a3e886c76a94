/* Session stores: opaque JSON documents with compare-and-set and expiry, logs that only grow, and events. A store knows
 * nothing of sessions. Read plugin.h first.
 *
 * What put, del, append or append_many answered TUNNEL_OK is durable: it is there after the process, and as far as the
 * operator configured the store, the machine, dies. What they answered TUNNEL_TIMEOUT or TUNNEL_UNAVAILABLE takes
 * effect before any change is answered that was asked for later (and is then seen by every read asked for after that),
 * or never: the host writes something to learn what became of it. A store behind a network keeps to this by one ordered
 * connection for changes, or by a number that the other side checks and that grows with each new connection.
 * Collection, index, log and channel names are [a-z][a-z0-9_]*, at most 64 bytes; keys are 1 to 256 bytes of printable
 * ASCII without blanks; values are JSON texts of at most 1 MiB. Others: TUNNEL_INVALID. */
#ifndef TUNNEL_STORE_H
#define TUNNEL_STORE_H

#include <tunnel/plugin.h>

#ifdef __cplusplus
extern "C" {
#endif

#define TUNNEL_VERSION_ANY UINT64_MAX              /* no comparison */
#define TUNNEL_VERSION_NONE 0u                     /* the document must not exist */
#define TUNNEL_CURSOR_MAX 512                      /* bytes with NUL */
#define TUNNEL_RECORDS_MAX 256                     /* records of one append_many */
#define TUNNEL_RECORDS_BYTES_MAX (4 * 1024 * 1024) /* of them together */

struct tunnel_index {
	const char *name;
	const char *value; /* compared as bytes; 1 to 256 */
};

struct tunnel_put {
	size_t size;
	const char *collection, *key;
	const char *value;
	size_t value_len;
	uint64_t expect_version; /* TUNNEL_VERSION_ANY, TUNNEL_VERSION_NONE, or the version it must have now */
	int64_t expires_ms;      /* Unix ms from which it no longer exists; 0: never; below: TUNNEL_INVALID */
	const struct tunnel_index *indexes; /* replace the document's earlier ones; several may have one name */
	size_t index_count;                 /* at most 8 */
};

struct tunnel_record {
	const char *text; /* JSON */
	size_t len;       /* at most 1 MiB */
};

struct tunnel_row {
	size_t size;
	const char *key;
	const char *value;
	size_t value_len;
	uint64_t version;   /* documents: 1 for a new one, grows by one a put. Logs: the sequence number */
	int64_t expires_ms; /* documents */
};

/* Called once a row, before the operation returns, on its thread. The row is valid during the call. Not 0 stops the
 * walk (the operation still returns TUNNEL_OK). It must not call the store. */
typedef int tunnel_row_fn(void *arg, const struct tunnel_row *row);

struct tunnel_scan {
	size_t size;
	const char *collection;
	const char *index, *index_value; /* both or neither: only documents that carry this entry */
	const char *prefix;              /* NULL: all keys; not together with index */
	const char *cursor;              /* NULL or "": from the start; else what the last page gave */
	uint32_t limit;                  /* rows of this page, 1 to 1000 */
};

/* A message of publish, on a thread of the plugin or on that of a publish. Must return soon and must not call the
 * store. */
typedef void tunnel_event_fn(void *arg, const char *channel, const char *message, size_t len);

struct tunnel_store_ops {
	size_t size;
	/* TUNNEL_OK after calling row once; TUNNEL_NOT_FOUND (also for an expired document). */
	int (*get)(void *instance, const struct tunnel_call *call, const char *collection, const char *key,
		   tunnel_row_fn *row, void *arg);
	/* TUNNEL_OK and the new version; TUNNEL_CONFLICT when the present version is not the expected one (an expired
	 * document does not exist). out_version may be NULL. */
	int (*put)(void *instance, const struct tunnel_call *call, const struct tunnel_put *put, uint64_t *out_version);
	/* TUNNEL_OK; TUNNEL_NOT_FOUND; TUNNEL_CONFLICT. expect_version TUNNEL_VERSION_NONE is TUNNEL_INVALID. */
	int (*del)(void *instance, const struct tunnel_call *call, const char *collection, const char *key,
		   uint64_t expect_version);
	/* Rows in key order, by bytes (documents that exist during the whole walk come exactly once). out_cursor has
	 * TUNNEL_CURSOR_MAX bytes; "" when there is no further page. */
	int (*scan)(void *instance, const struct tunnel_call *call, const struct tunnel_scan *scan, tunnel_row_fn *row,
		    void *arg, char *out_cursor);
	/* Adds a record (JSON text) to a log; *out_seq grows from 1 without gaps within a log, in the order of answers.
	 */
	int (*append)(void *instance, const struct tunnel_call *call, const char *log, const char *record, size_t len,
		      uint64_t *out_seq);
	/* Records with sequence >= from, at most limit (1 to 1000), in order; none of a log that nobody wrote.
	 * row->key is "". */
	int (*read)(void *instance, const struct tunnel_call *call, const char *log, uint64_t from, uint32_t limit,
		    tunnel_row_fn *row, void *arg);
	/* Tells every subscriber of every node that shares the store, also this one. At most once; may be lost. A
	 * message is any text, also an empty one; 256 KiB must fit. */
	int (*publish)(void *instance, const struct tunnel_call *call, const char *channel, const char *message,
		       size_t len);
	/* Once per instance, at any time; again: TUNNEL_INVALID. The callback may come from then until close returns,
	 * one at a time. */
	int (*subscribe)(void *instance, const struct tunnel_call *call, tunnel_event_fn *event, void *arg);
	/* TUNNEL_OK when the store can serve reads and writes now. */
	int (*health)(void *instance, const struct tunnel_call *call);
	/* Since 1.1. Adds 1 to TUNNEL_RECORDS_MAX records to a log, in their order and with nothing between them: all
	 * or none. *out_first_seq is the first one's number. NULL: the host appends one by one. */
	int (*append_many)(void *instance, const struct tunnel_call *call, const char *log,
			   const struct tunnel_record *records, size_t n, uint64_t *out_first_seq);
};

#ifdef __cplusplus
}
#endif
#endif
