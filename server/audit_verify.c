#include "server/audit_verify.h"

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

void audit_check_free(struct audit_check *c)
{
	json_decref(c->heads);
	memset(c, 0, sizeof *c);
}

static const char *text_at(const json_t *record, const char *key)
{
	const char *text = json_string_value(json_object_get(record, key));
	return text ? text : "";
}

static int check_seq(struct audit_check *c, const json_t *record, uint64_t *out_seq, struct err *e)
{
	const json_t *number = json_object_get(record, "seq");
	if (!json_is_integer(number) || json_integer_value(number) < 1)
		return err_set(e, ERR_INVALID, "record behind %" PRIu64 ": it has no sequence number",
			       c->next ? c->next - 1 : 0);
	uint64_t seq = (uint64_t)json_integer_value(number);
	if (c->next && seq < c->next)
		return err_set(e, ERR_INVALID, "record %" PRIu64 ": comes behind record %" PRIu64, seq, c->next - 1);
	if (c->next && seq > c->next)
		return err_set(e, ERR_INVALID, "record %" PRIu64 ": missing, as is all before record %" PRIu64, c->next,
			       seq);
	if (!c->next)
		c->from_start = seq == 1;
	*out_seq = seq;
	return 0;
}

static int check_chain(struct audit_check *c, const json_t *record, uint64_t seq, struct err *e)
{
	char hash[AUDIT_HASH_TEXT];
	int rc = audit_record_hash(record, hash, e);
	if (rc != 0)
		return rc;
	if (strcmp(hash, text_at(record, "hash")) != 0)
		return err_set(e, ERR_INVALID, "record %" PRIu64 ": was changed: its content does not have its hash",
			       seq);
	const char *node = text_at(record, "node"), *prev = text_at(record, "prev");
	const char *head = json_string_value(json_object_get(c->heads, node));
	if (!head && !c->from_start)
		head = prev;
	if (strcmp(prev, head ? head : audit_first_prev) != 0)
		return err_set(e, ERR_INVALID,
			       "record %" PRIu64
			       ": does not follow the record of node %.64s before it: one was removed, "
			       "added or exchanged",
			       seq, node);
	if (json_object_set_new(c->heads, node, json_string(hash)) != 0)
		return err_set(e, ERR_NOMEM, "out of memory");
	return 0;
}

int audit_check_records(struct audit_check *c, const json_t *records, struct err *e)
{
	if (!json_is_array(records))
		return err_set(e, ERR_INVALID, "records: expected array");
	if (!c->heads && !(c->heads = json_object()))
		return err_set(e, ERR_NOMEM, "out of memory");
	for (size_t i = 0; i < json_array_size(records); i++) {
		const json_t *record = json_array_get(records, i);
		uint64_t seq = 0;
		int rc = check_seq(c, record, &seq, e);
		if (rc == 0)
			rc = check_chain(c, record, seq, e);
		if (rc != 0)
			return rc;
		c->next = seq + 1;
		c->records++;
	}
	return 0;
}
