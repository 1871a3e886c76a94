/* Ids are kept as SHA-256 of (who, id), so a row has one size whatever a caller sends. Rows live in chained buckets,
 * all of one who in the same: a walk along it tells both whether the id was seen and how many there are. Which bucket
 * that is nobody can aim at, since a secret goes into it. A bucket drops its expired rows whenever it is looked at;
 * when the table is full, each check also sweeps a few others, in turn. */
#include "server/replay.h"

#include "base/secret.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define BUCKETS 8192u
#define SWEEP 32u /* buckets a check: the work under the lock is the same however full the table is */

struct row {
	struct row *next;
	int64_t expires_ms;
	uint64_t who;
	unsigned char hash[32];
};

struct replay {
	pthread_mutex_t lock;
	unsigned char secret[32];
	size_t count, max, share;
	size_t hand; /* the bucket to be swept next */
	struct row *buckets[BUCKETS];
};

struct replay *replay_new(size_t max, size_t share)
{
	struct replay *r = calloc(1, sizeof *r);
	if (r) {
		r->max = max;
		r->share = share;
		secret_random(r->secret, sizeof r->secret);
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

static uint64_t hash_of(const struct replay *r, const void *who, size_t who_len, const char *jti, unsigned char out[32])
{
	unsigned char parts[64], salted[64], name[32];
	uint64_t n;
	secret_sha256(who, who_len, parts);
	memcpy(salted, r->secret, 32);
	memcpy(salted + 32, parts, 32);
	secret_sha256(salted, sizeof salted, name);
	secret_sha256(jti, strlen(jti), parts + 32);
	secret_sha256(parts, sizeof parts, out);
	memcpy(&n, name, sizeof n);
	return n;
}

static void sweep(struct replay *r, int64_t now_ms)
{
	for (size_t i = 0; i < SWEEP; i++) {
		drop_expired(r, &r->buckets[r->hand], now_ms);
		r->hand = (r->hand + 1) % BUCKETS;
	}
}

static enum replay_result check_locked(struct replay *r, uint64_t who, const unsigned char hash[32], int64_t expires_ms,
				       int64_t now_ms)
{
	struct row **bucket = &r->buckets[who % BUCKETS];
	size_t mine = 0;
	drop_expired(r, bucket, now_ms);
	for (const struct row *row = *bucket; row; row = row->next) {
		if (memcmp(row->hash, hash, 32) == 0)
			return REPLAY_SEEN;
		mine += row->who == who;
	}
	if (r->count >= r->max)
		sweep(r, now_ms);
	struct row *row = r->count < r->max && mine < r->share ? calloc(1, sizeof *row) : NULL;
	if (!row)
		return REPLAY_FULL;
	memcpy(row->hash, hash, 32);
	row->who = who;
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
	uint64_t name = hash_of(r, who, who_len, jti, hash);
	pthread_mutex_lock(&r->lock);
	enum replay_result result = check_locked(r, name, hash, expires_ms, now_ms);
	pthread_mutex_unlock(&r->lock);
	return result;
}
