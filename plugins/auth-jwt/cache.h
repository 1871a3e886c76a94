/* Verdicts on tokens that were verified, so that a client's next request costs a hash and not a signature. Bounded;
 * any thread. */
#ifndef AUTH_JWT_CACHE_H
#define AUTH_JWT_CACHE_H

#include "claims.h"

#include <stdint.h>

#define CACHE_SETS 256u /* with CACHE_WAYS: 1024 tokens, at most about 10 MiB */
#define CACHE_WAYS 4u

struct cache;
struct cache_key {
	unsigned char hash[32]; /* SHA-256 of the whole token */
	uint64_t generation;    /* of the keys it was verified with: other keys, other cache */
};

struct cache *cache_new(void);
void cache_free(struct cache **cache);
/* On a hit calls use with the lock held, and returns its result; -1: not there. */
int cache_use(struct cache *cache, const struct cache_key *key, int (*use)(void *arg, const struct verdict *verdict),
	      void *arg);
/* Takes the verdict over, whatever happens. */
void cache_put(struct cache *cache, const struct cache_key *key, struct verdict *verdict);

#endif
