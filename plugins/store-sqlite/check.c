/* The rules of tunnel/store.h for names, keys and values, and the small helpers that every part uses. */
#include "sqlite_store.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

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

int words_sqlite(struct words w, sqlite3 *db, int sqlite_code, const char *doing)
{
	const char *why = db ? sqlite3_errmsg(db) : sqlite3_errstr(sqlite_code);
	switch (sqlite_code & 0xff) {
	case SQLITE_INTERRUPT:
		return words_set(w, TUNNEL_TIMEOUT, "%s: took longer than the deadline", doing);
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
		return words_set(w, TUNNEL_UNAVAILABLE, "%s: another program holds the database (%s)", doing, why);
	case SQLITE_FULL:
		return words_set(w, TUNNEL_UNAVAILABLE, "%s: the disk is full (%s)", doing, why);
	case SQLITE_NOTADB:
		return words_set(w, TUNNEL_CONFIG, "%s: not an SQLite database", doing);
	case SQLITE_MISUSE:
	case SQLITE_ERROR:
	case SQLITE_CONSTRAINT:
	case SQLITE_MISMATCH:
	case SQLITE_RANGE:
		return words_set(w, TUNNEL_INTERNAL, "%s: %s", doing, why);
	default:
		return words_set(w, TUNNEL_UNAVAILABLE, "%s: %s (code %d)", doing, why,
				 db ? sqlite3_extended_errcode(db) : sqlite_code);
	}
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

int64_t time_left(const struct tunnel_host *host, int64_t deadline_ms, int64_t most)
{
	if (deadline_ms == 0)
		return most;
	int64_t left = deadline_ms - host->mono_ms(host->ctx);
	return left < 0 ? 0 : left < most ? left : most;
}

void cond_init_monotonic(pthread_cond_t *cond)
{
	pthread_condattr_t attr;
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(cond, &attr);
	pthread_condattr_destroy(&attr);
}

bool wait_on(pthread_cond_t *cond, pthread_mutex_t *lock, int64_t ms)
{
	struct timespec until;
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += ms / 1000;
	until.tv_nsec += ms % 1000 * 1000000;
	if (until.tv_nsec >= 1000000000) {
		until.tv_sec++;
		until.tv_nsec -= 1000000000;
	}
	return pthread_cond_timedwait(cond, lock, &until) == 0;
}
