#include "base/audit_chain.h"

#include "base/secret.h"
#include "base/text.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char audit_first_prev[AUDIT_HASH_TEXT] = "0000000000000000000000000000000000000000000000000000000000000000";

int audit_record_hash(const json_t *record, char out[AUDIT_HASH_TEXT], struct err *e)
{
	unsigned char digest[32];
	json_t *bare = json_copy((json_t *)(uintptr_t)record);
	char *text = NULL;
	if (bare) {
		json_object_del(bare, "hash");
		json_object_del(bare, "seq");
		/* 17 digits tell every double apart, whichever version of the library prints them */
		text = json_dumps(bare, JSON_COMPACT | JSON_SORT_KEYS | JSON_REAL_PRECISION(17));
	}
	json_decref(bare);
	if (!text)
		return err_set(e, ERR_NOMEM, "out of memory");
	secret_sha256(text, strlen(text), digest);
	text_hex(digest, sizeof digest, out);
	free(text);
	return 0;
}

void audit_check_init(struct audit_check *c)
{
	memset(c, 0, sizeof *c);
}

#define REPEATS 1024u /* more than an exporter's batch */

int audit_check_allow_repeats(struct audit_check *c, struct err *e)
{
	c->seen = calloc(REPEATS, sizeof *c->seen);
	return c->seen ? 0 : err_set(e, ERR_NOMEM, "out of memory");
}

void audit_check_free(struct audit_check *c)
{
	json_decref(c->nodes);
	free(c->seen);
	memset(c, 0, sizeof *c);
}

static const char *text_at(const json_t *record, const char *key)
{
	const char *text = json_string_value(json_object_get(record, key));
	return text ? text : "";
}

static int check_content(const json_t *record, uint64_t seq, char hash[AUDIT_HASH_TEXT], struct err *e)
{
	int rc = audit_record_hash(record, hash, e);
	if (rc == 0 && strcmp(hash, text_at(record, "hash")) != 0)
		rc = err_set(e, ERR_INVALID, "record %" PRIu64 ": was changed: its content does not have its hash",
			     seq);
	return rc;
}

static bool is_repeated(const struct audit_check *c, uint64_t seq, const char *hash)
{
	return c->seen && c->next && seq < c->next && seq >= c->first && c->next - seq <= REPEATS &&
	       strcmp(c->seen[seq % REPEATS], hash) == 0;
}

static int check_seq(struct audit_check *c, uint64_t seq, struct err *e)
{
	if (c->next && seq < c->next)
		return err_set(e, ERR_INVALID, "record %" PRIu64 ": comes behind record %" PRIu64, seq, c->next - 1);
	if (c->next && seq > c->next)
		return err_set(e, ERR_INVALID, "record %" PRIu64 ": missing, as is all before record %" PRIu64, c->next,
			       seq);
	return 0;
}

static int note_node(struct audit_check *c, const json_t *node, const char *name, uint64_t seq, const char *hash,
		     struct err *e)
{
	json_int_t first = node ? json_integer_value(json_object_get(node, "first")) : (json_int_t)seq;
	json_int_t records = node ? json_integer_value(json_object_get(node, "records")) : 0;
	json_t *now = json_pack("{s:I, s:I, s:I, s:s}", "records", records + 1, "first", first, "last", (json_int_t)seq,
				"hash", hash);
	return json_object_set_new(c->nodes, name, now) == 0 ? 0 : err_set(e, ERR_NOMEM, "out of memory");
}

static int check_chain(struct audit_check *c, const json_t *record, uint64_t seq, const char *hash, struct err *e)
{
	const char *name = text_at(record, "node"), *prev = text_at(record, "prev"), *expected = audit_first_prev;
	const json_t *node = json_object_get(c->nodes, name);
	if (node)
		expected = text_at(node, "hash");
	else if (!c->from_start)
		expected = prev;
	if (strcmp(prev, expected) != 0)
		return err_set(e, ERR_INVALID,
			       "record %" PRIu64
			       ": does not follow the record of node %.64s before it: one was removed, "
			       "added or exchanged",
			       seq, name);
	return note_node(c, node, name, seq, hash, e);
}

static int check_one(struct audit_check *c, const json_t *record, struct err *e)
{
	char hash[AUDIT_HASH_TEXT];
	const json_t *number = json_object_get(record, "seq");
	if (!json_is_integer(number) || json_integer_value(number) < 1)
		return err_set(e, ERR_INVALID, "record behind %" PRIu64 ": it has no sequence number",
			       c->next ? c->next - 1 : 0);
	uint64_t seq = (uint64_t)json_integer_value(number);
	bool repetition = is_repeated(c, seq, text_at(record, "hash"));
	int rc = repetition ? 0 : check_seq(c, seq, e);
	if (rc == 0)
		rc = check_content(record, seq, hash, e);
	if (rc != 0 || repetition) {
		c->repeated += rc == 0;
		return rc;
	}
	if (!c->next) {
		c->from_start = seq == 1;
		c->first = seq;
	}
	rc = check_chain(c, record, seq, hash, e);
	if (rc != 0)
		return rc;
	if (c->seen)
		memcpy(c->seen[seq % REPEATS], hash, AUDIT_HASH_TEXT);
	c->next = seq + 1;
	c->records++;
	return 0;
}

int audit_check_records(struct audit_check *c, const json_t *records, struct err *e)
{
	int rc = 0;
	if (!json_is_array(records))
		return err_set(e, ERR_INVALID, "records: expected array");
	if (!c->nodes && !(c->nodes = json_object()))
		return err_set(e, ERR_NOMEM, "out of memory");
	for (size_t i = 0; rc == 0 && i < json_array_size(records); i++)
		rc = check_one(c, json_array_get(records, i), e);
	return rc;
}
