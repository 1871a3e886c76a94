/* The audit log: append-only, each record carries the hash of the one before (per node). Blocking: workers only. */
#ifndef SERVER_AUDIT_H
#define SERVER_AUDIT_H

#include "base/err.h"

#include <jansson.h>
#include <stdbool.h>
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
/* The log is known up to here: what is appended from now on has a higher number. Any thread. */
uint64_t audit_seq_anythread(struct audit *audit);
/* Is there such an event of that session from a sequence number on? */
int audit_has_blocking(struct audit *audit, uint64_t from, const char *event, const char *session, bool *out_has,
		       struct err *e);
/* Records from a sequence number on, at most limit; *out_records is an array of {seq, …record}. */
int audit_read_blocking(struct audit *audit, uint64_t from, uint32_t limit, json_t **out_records, uint64_t *out_next,
			struct err *e);

#endif
