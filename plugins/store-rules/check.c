#include "store_rules.h"

#include <stdarg.h>
#include <stdio.h>

int words_set(struct words w, int code, const char *fmt, ...)
{
	if (w.text && w.size) {
		va_list ap;
		va_start(ap, fmt);
		vsnprintf(w.text, w.size, fmt, ap);
		va_end(ap);
	}
	return code;
}

struct words words_of(const struct tunnel_call *call)
{
	return (struct words){ call->err, call->err_len };
}

int check_name(struct words w, const char *what, const char *name)
{
	size_t n = name ? strlen(name) : 0;
	if (n == 0 || n > NAME_MAX_LEN || name[0] < 'a' || name[0] > 'z' ||
	    strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_") != n)
		return words_set(w, TUNNEL_INVALID,
				 "%s name of %zu bytes; allowed: a-z, then a-z, 0-9 and _, at most %u", what, n,
				 NAME_MAX_LEN);
	return 0;
}

static int check_key_characters(struct words w, const char *what, const char *key, size_t least)
{
	size_t n = key ? strlen(key) : 0;
	bool good = n >= least && n <= KEY_MAX_LEN;
	for (size_t i = 0; good && i < n; i++)
		good = key[i] > ' ' && key[i] < 0x7f;
	if (!good)
		return words_set(w, TUNNEL_INVALID,
				 "%s of %zu bytes; allowed: %zu to %u printable ASCII without blanks", what, n, least,
				 KEY_MAX_LEN);
	return 0;
}

int check_key(struct words w, const char *key)
{
	return check_key_characters(w, "key", key, 1);
}

int check_value(struct words w, const char *what, const char *value, size_t len)
{
	if (!value || len == 0 || len > VALUE_MAX_LEN)
		return words_set(w, TUNNEL_INVALID, "%s of %zu bytes; allowed: a JSON text of 1 to %u", what, len,
				 VALUE_MAX_LEN);
	if (!is_json(value, len))
		return words_set(w, TUNNEL_INVALID, "%s: not a JSON text", what);
	return 0;
}

int check_records(struct words w, const struct tunnel_record *records, size_t n)
{
	size_t bytes = 0;
	if (!records || n < 1 || n > TUNNEL_RECORDS_MAX)
		return words_set(w, TUNNEL_INVALID, "%zu records; allowed: 1 to %d", n, TUNNEL_RECORDS_MAX);
	for (size_t i = 0; i < n; i++) {
		int rc = check_value(w, "record", records[i].text, records[i].len);
		if (rc != 0)
			return rc;
		bytes += records[i].len;
	}
	if (bytes > TUNNEL_RECORDS_BYTES_MAX)
		return words_set(w, TUNNEL_INVALID, "records of %zu bytes together; allowed: at most %d", bytes,
				 TUNNEL_RECORDS_BYTES_MAX);
	return 0;
}

int check_indexes(struct words w, const struct tunnel_index *indexes, size_t count)
{
	if (count > INDEXES_MAX || (count && !indexes))
		return words_set(w, TUNNEL_INVALID, "%zu indexes; allowed: at most %u", count, INDEXES_MAX);
	for (size_t i = 0; i < count; i++) {
		size_t n = indexes[i].value ? strlen(indexes[i].value) : 0;
		int rc = check_name(w, "index", indexes[i].name);
		if (rc != 0)
			return rc;
		if (n == 0 || n > KEY_MAX_LEN)
			return words_set(w, TUNNEL_INVALID, "value of index %s: %zu bytes; allowed: 1 to %u",
					 indexes[i].name, n, KEY_MAX_LEN);
	}
	return 0;
}

int check_document(struct words w, const char *collection, const char *key)
{
	int rc = check_name(w, "collection", collection);
	return rc == 0 ? check_key(w, key) : rc;
}

int check_put(struct words w, const struct tunnel_put *put)
{
	int rc = check_document(w, put->collection, put->key);
	if (rc == 0)
		rc = check_value(w, "value", put->value, put->value_len);
	if (rc == 0)
		rc = check_indexes(w, put->indexes, put->index_count);
	if (rc == 0 && put->expires_ms < 0)
		rc = words_set(w, TUNNEL_INVALID, "expires_ms is negative; allowed: 0 (never) or Unix milliseconds");
	return rc;
}

int check_del(struct words w, const char *collection, const char *key, uint64_t expect_version)
{
	int rc = check_document(w, collection, key);
	if (rc == 0 && expect_version == TUNNEL_VERSION_NONE)
		rc = words_set(w, TUNNEL_INVALID, "del of a document that must not exist");
	return rc;
}

static int check_limit(struct words w, uint32_t limit)
{
	if (limit < 1 || limit > PAGE_MAX)
		return words_set(w, TUNNEL_INVALID, "limit is %u; allowed: 1 to %u", limit, PAGE_MAX);
	return 0;
}

int check_scan(struct words w, const struct tunnel_scan *scan)
{
	int rc = check_name(w, "collection", scan->collection);
	if (rc == 0)
		rc = check_limit(w, scan->limit);
	if (rc == 0 && !scan->index != !scan->index_value)
		rc = words_set(w, TUNNEL_INVALID, "index and index_value go together");
	if (rc == 0 && scan->index && scan->prefix)
		rc = words_set(w, TUNNEL_INVALID, "index and prefix do not go together");
	if (rc == 0 && scan->index)
		rc = check_indexes(w, &(struct tunnel_index){ scan->index, scan->index_value }, 1);
	return rc;
}

int check_read(struct words w, const char *log, uint32_t limit)
{
	int rc = check_name(w, "log", log);
	return rc == 0 ? check_limit(w, limit) : rc;
}

int check_message(struct words w, const char *channel, const char *message, size_t len)
{
	int rc = check_name(w, "channel", channel);
	if (rc == 0 && ((len && !message) || len > VALUE_MAX_LEN))
		rc = words_set(w, TUNNEL_INVALID, "message of %zu bytes; allowed: at most %u", len, VALUE_MAX_LEN);
	return rc;
}
