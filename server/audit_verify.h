/* Is a chain of audit records whole? Pure: records in, verdict out; fed page by page. */
#ifndef SERVER_AUDIT_VERIFY_H
#define SERVER_AUDIT_VERIFY_H

#include "base/err.h"

#include <jansson.h>
#include <stdint.h>

#define AUDIT_HASH_TEXT 65 /* SHA-256 in hex, with NUL */

/* prev of a node's first record. */
extern const char audit_first_prev[AUDIT_HASH_TEXT];

/* The hash a record must carry: SHA-256 over its compact JSON with sorted keys, without "hash" and "seq". 0, ERR_NOMEM.
 */
int audit_record_hash(const json_t *record, char out[AUDIT_HASH_TEXT], struct err *e);

struct audit_check {
	json_t *heads;    /* node → hash of its last record */
	uint64_t next;    /* the sequence number that must come next; 0: none seen */
	uint64_t records; /* how many were good */
	int from_start;   /* the first record seen was number 1: each node's first must be a first one */
};
void audit_check_init(struct audit_check *c);
void audit_check_free(struct audit_check *c);
/* An array of {seq, …record} as audit_read_blocking and GET /v1/audit give it, continuing the ones before. Whoever
 * starts in the middle takes each node's first record there on trust. ERR_INVALID names the record and what is wrong
 * with it: missing ones, changed ones, ones that do not follow their predecessor. */
int audit_check_records(struct audit_check *c, const json_t *records, struct err *e);

#endif
