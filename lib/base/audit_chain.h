/* The audit log's chain of hashes: what a record must carry, and whether records are a whole chain. Pure: records in,
 * verdict out; fed page by page. The server makes chains, the CLI checks them. */
#ifndef BASE_AUDIT_CHAIN_H
#define BASE_AUDIT_CHAIN_H

#include "base/err.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#define AUDIT_HASH_TEXT 65 /* SHA-256 in hex, with NUL */

/* prev of a node's first record. */
extern const char audit_first_prev[AUDIT_HASH_TEXT];

/* The hash a record must carry: SHA-256 over its compact JSON with sorted keys, without "hash" and "seq". 0, ERR_NOMEM.
 */
int audit_record_hash(const json_t *record, char out[AUDIT_HASH_TEXT], struct err *e);

struct audit_check {
	json_t *nodes;        /* node → {"records", "first", "last", "hash"}: how many, numbers, its last hash */
	uint64_t first, next; /* the first sequence number; the one that must come next; 0: none seen */
	uint64_t records;     /* how many were good */
	uint64_t repeated;    /* how many of those that were good came a second time */
	bool from_start;      /* the first record seen was number 1: each node's first must be a first one */
	char (*seen)[AUDIT_HASH_TEXT]; /* hashes of the last ones, where repetitions are allowed */
};
void audit_check_init(struct audit_check *c);
/* Records that come again, word for word and not from more than a thousand back, are counted and otherwise passed over:
 * an exporter that was killed may repeat its last ones. 0, ERR_NOMEM. */
int audit_check_allow_repeats(struct audit_check *c, struct err *e);
void audit_check_free(struct audit_check *c);
/* An array of {seq, …record} as GET /v1/audit and an export give it, continuing the ones before. Whoever starts in the
 * middle takes each node's first record there on trust. ERR_INVALID names the record and what is wrong with it: missing
 * ones, changed ones, ones that do not follow their predecessor. */
int audit_check_records(struct audit_check *c, const json_t *records, struct err *e);

#endif
