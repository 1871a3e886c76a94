/* Ids are kept as SHA-256 of (who, id), so a row has one size whatever a caller sends. Rows live in chained buckets; a
 * bucket drops its expired rows whenever it is looked at, and when the table is full all of them are swept once. */
#include "server/replay.h"

#include "base/secret.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define BUCKETS 8192u

struct row {
	struct row *next;
	int64_t expires_ms;
	unsigned char hash[32];
};

struct replay {
	pthread_mutex_t lock;
	size_t count, max;
	struct row *buckets[BUCKETS];
};

struct replay *replay_new(size_t max)
{
	struct replay *r = calloc(1, sizeof *r);
	if (r) {
		r->max = max;
		pthread_mutex_init(&r->lock, NULL);
	}
	return r;
}

static void drop_expired(struct replay *r, struct row **at, int64_t now_ms)
{
	while (*at) {
		struct row *row = *at;
		if (row->expires_ms > now_ms) {
			at = &row->next;
			continue;
		}
		*at = row->next;
		r->count--;
		free(row);
	}
}

void replay_free(struct replay **replay)
{
	struct replay *r = *replay;
	if (!r)
		return;
	for (size_t i = 0; i < BUCKETS; i++)
		drop_expired(r, &r->buckets[i], INT64_MAX);
	pthread_mutex_destroy(&r->lock);
	free(r);
	*replay = NULL;
}

static void hash_of(const void *who, size_t who_len, const char *jti, unsigned char out[32])
{
	unsigned char parts[64];
	secret_sha256(who, who_len, parts);
	secret_sha256(jti, strlen(jti), parts + 32);
	secret_sha256(parts, sizeof parts, out);
}

static enum replay_result check_locked(struct replay *r, const unsigned char hash[32], int64_t expires_ms,
				       int64_t now_ms)
{
	struct row **bucket = &r->buckets[(hash[0] | (unsigned)hash[1] << 8) % BUCKETS];
	drop_expired(r, bucket, now_ms);
	for (const struct row *row = *bucket; row; row = row->next)
		if (memcmp(row->hash, hash, 32) == 0)
			return REPLAY_SEEN;
	for (size_t i = 0; r->count >= r->max && i < BUCKETS; i++)
		drop_expired(r, &r->buckets[i], now_ms);
	struct row *row = r->count < r->max ? calloc(1, sizeof *row) : NULL;
	if (!row)
		return REPLAY_FULL;
	memcpy(row->hash, hash, 32);
	row->expires_ms = expires_ms;
	row->next = *bucket;
	*bucket = row;
	r->count++;
	return REPLAY_NEW;
}

enum replay_result replay_check(struct replay *r, const void *who, size_t who_len, const char *jti, int64_t expires_ms,
				int64_t now_ms)
{
	unsigned char hash[32];
	hash_of(who, who_len, jti, hash);
	pthread_mutex_lock(&r->lock);
	enum replay_result result = check_locked(r, hash, expires_ms, now_ms);
	pthread_mutex_unlock(&r->lock);
	return result;
}
