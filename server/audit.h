/* The audit log: append-only, each record carries the hash of the one before (per node). Blocking: workers only. */
#ifndef SERVER_AUDIT_H
#define SERVER_AUDIT_H

#include "base/err.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct server;
struct audit;

int audit_open_blocking(struct server *server, struct audit **out_audit, struct err *e);
void audit_close(struct audit **audit);
/* event: "session.start", "session.attach", "session.end", "stream.open", "denied", "policy.put", "target.enrolled" …
 * Changes of policies and targets are told before they are made: once made they could not be told any more when the log
 * fails, since the caller's repetition finds nothing to change. One that fails then has its record all the same.
 * fields: an object, stolen, whatever the outcome; NULL (making it failed) is ERR_INVALID. Adds at, node, event, prev
 * and hash; those names and seq are not for callers (ERR_INVALID). 0 when durable. */
int audit_append_blocking(struct audit *audit, const char *event, json_t *fields, struct err *e);
/* The same for 1 to AUDIT_TOGETHER at once, in their order: written to the disk together they cost little more than
 * one. On an error some of the first ones may be there. */
#define AUDIT_TOGETHER 64u
struct audit_entry {
	const char *event;
	json_t *fields; /* stolen, whatever the outcome; then NULL */
};
int audit_append_many_blocking(struct audit *audit, struct audit_entry *entries, size_t n, struct err *e);
/* The same for the start of a session and its like, which audit.on_failure decides about: "stop": it may only be done
 * when 0 is returned, and then the record is durable. "continue": 0 also when it waits as one of audit_note_blocking.
 */
int audit_announce_blocking(struct audit *audit, const char *event, json_t *fields, struct err *e);
/* For what has happened and cannot be taken back: legs and agents that came and went, what was refused. The record
 * waits in memory when the store does not take it, and until it was written nothing is appended: so with "stop" no
 * session starts. Waiting records are bounded; one that finds no room is told to the server's own log, and counted in
 * an "audit.lost" when the store is back. So is what still waits when the server stops. fields are stolen. */
void audit_note_blocking(struct audit *audit, const char *event, json_t *fields);
/* Tries again to write what waits. */
void audit_flush_blocking(struct audit *audit);
/* How many wait; *out_stops: and that no session starts until they are written. */
size_t audit_waiting_anythread(struct audit *audit, bool *out_stops);
/* The log is known up to here: what is appended from now on has a higher number. Any thread. */
uint64_t audit_seq_anythread(struct audit *audit);
/* Is there such an event with these fields (null: without that one) from a sequence number on? */
int audit_has_blocking(struct audit *audit, uint64_t from, const char *event, const json_t *fields, bool *out_has,
		       struct err *e);
/* Of the log's last record, whichever node wrote it; 0: there is none. */
int audit_end_blocking(struct audit *audit, uint64_t *out_seq, struct err *e);
/* Records from a sequence number on, at most limit; *out_records is an array of {seq, …record}. */
int audit_read_blocking(struct audit *audit, uint64_t from, uint32_t limit, json_t **out_records, uint64_t *out_next,
			struct err *e);

/* What somebody looks for in it; a member that is not set (NULL, 0, false) lets every record pass. */
struct audit_query {
	uint64_t from;   /* forward, from this sequence number on; or, backward: */
	uint64_t before; /* the newest ones below this number; UINT64_MAX: of all */
	bool backward;
	uint32_t limit;        /* records that match, 1 to LIMIT_SCAN_PAGE */
	const char *session;   /* of this session */
	const char *principal; /* of, by, or refused to this person */
	const char *target;    /* of or to this target */
	const char *event;     /* its name; "*" stands for any run: "session.*" */
	bool has_since, has_until;
	int64_t since_ms, until_ms; /* at that time or later; before that time. Wall clock, may be before 1970 */
};
struct audit_found {
	json_t *records;      /* {seq, …record}, in order, whichever way they were looked for. New reference */
	uint64_t next_from;   /* whoever wants those that come behind goes on here */
	uint64_t next_before; /* backward: whoever wants older ones goes on here; 0: there are none */
	bool at_end;          /* forward: all there is was looked at */
};
/* Looks at a bounded number of records a call, and gives no more text than a client takes: so it may find fewer than
 * limit, or none, though there are more; next_from and at_end, or next_before, tell. Looking for since_ms backward it
 * goes on until all of a thousand records are more than a day older, since clocks of nodes differ. */
int audit_search_blocking(struct audit *audit, const struct audit_query *query, struct audit_found *out, struct err *e);

/* Inside of the log: its name in the store. */
#define AUDIT_LOG "audit"
struct store;
struct store *audit_store(struct audit *audit);

#endif
