/* Set-associative: the hash picks a set of a few entries, and the one that expires first makes room. The hash is
 * SHA-256, so nobody can aim at a set without having valid tokens to spend. */
#include "cache.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct entry {
	struct cache_key key;
	struct verdict verdict; /* subject NULL: empty */
};

struct cache {
	pthread_mutex_t lock;
	struct entry entries[CACHE_SETS][CACHE_WAYS];
};

struct cache *cache_new(void)
{
	struct cache *cache = calloc(1, sizeof *cache);
	if (cache)
		pthread_mutex_init(&cache->lock, NULL);
	return cache;
}

void cache_free(struct cache **cache)
{
	struct cache *c = *cache;
	if (!c)
		return;
	for (size_t i = 0; i < CACHE_SETS * CACHE_WAYS; i++)
		verdict_clear(&c->entries[i / CACHE_WAYS][i % CACHE_WAYS].verdict);
	pthread_mutex_destroy(&c->lock);
	free(c);
	*cache = NULL;
}

static struct entry *set_of(struct cache *cache, const struct cache_key *key)
{
	return cache->entries[key->hash[0] % CACHE_SETS];
}

static struct entry *find(struct cache *cache, const struct cache_key *key)
{
	struct entry *set = set_of(cache, key);
	for (size_t i = 0; i < CACHE_WAYS; i++)
		if (set[i].verdict.subject && set[i].key.generation == key->generation &&
		    memcmp(set[i].key.hash, key->hash, sizeof key->hash) == 0)
			return &set[i];
	return NULL;
}

int cache_use(struct cache *cache, const struct cache_key *key, int (*use)(void *arg, const struct verdict *verdict),
	      void *arg)
{
	pthread_mutex_lock(&cache->lock);
	struct entry *e = find(cache, key);
	int rc = e ? use(arg, &e->verdict) : -1;
	pthread_mutex_unlock(&cache->lock);
	return rc;
}

void cache_put(struct cache *cache, const struct cache_key *key, struct verdict *verdict)
{
	pthread_mutex_lock(&cache->lock);
	struct entry *set = set_of(cache, key), *to = find(cache, key);
	for (size_t i = 0; !to && i < CACHE_WAYS; i++)
		if (!set[i].verdict.subject || set[i].key.generation != key->generation)
			to = &set[i];
	if (!to) {
		to = &set[0];
		for (size_t i = 1; i < CACHE_WAYS; i++)
			if (set[i].verdict.expires_ms < to->verdict.expires_ms)
				to = &set[i];
	}
	verdict_clear(&to->verdict);
	to->key = *key;
	to->verdict = *verdict;
	memset(verdict, 0, sizeof *verdict);
	pthread_mutex_unlock(&cache->lock);
}
