/* A signature is found by hash and forgotten by time, so each row stands in a chain and in a heap whose top is the next
 * to go. Who holds a secret can make signatures at will: a random number in the hash keeps them from aiming at one
 * chain, and only what was verified gets here, so that strangers take no room. What a key id holds is counted in a
 * table of hashes; two key ids of the same hash share one share. */
#include "used.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>

#define CHAINS 65536u
#define HOLDERS 8192u

struct row {
	struct row *next;
	int64_t until_ms;
	unsigned holder, chain;
	unsigned char signature[32];
};

struct used {
	pthread_mutex_t lock;
	unsigned char secret[32];
	size_t n, room, max, share;
	struct row **heap; /* the earliest at 0; the children of i at 2i+1 and 2i+2 */
	size_t held[HOLDERS];
	struct row *chains[CHAINS];
};

struct used *used_new(const struct tunnel_host *host, size_t max, size_t share)
{
	struct used *u = calloc(1, sizeof *u);
	if (!u)
		return NULL;
	u->max = max;
	u->share = share;
	host->random(host->ctx, u->secret, sizeof u->secret);
	pthread_mutex_init(&u->lock, NULL);
	return u;
}

void used_free(struct used **used)
{
	struct used *u = *used;
	if (!u)
		return;
	for (size_t i = 0; i < u->n; i++)
		free(u->heap[i]);
	free(u->heap);
	pthread_mutex_destroy(&u->lock);
	free(u);
	*used = NULL;
}

/* -1: no memory. */
static int hash(const struct used *u, const void *text, size_t n, unsigned *out)
{
	unsigned char mixed[32 + 256], digest[32];
	memcpy(mixed, u->secret, 32);
	memcpy(mixed + 32, text, n);
	if (EVP_Digest(mixed, 32 + n, digest, NULL, EVP_sha256(), NULL) != 1)
		return -1;
	*out = (unsigned)digest[0] | (unsigned)digest[1] << 8 | (unsigned)digest[2] << 16;
	return 0;
}

static void swap(struct row **a, struct row **b)
{
	struct row *kept = *a;
	*a = *b;
	*b = kept;
}

static void heap_push(struct used *u, struct row *row)
{
	size_t i = u->n++;
	u->heap[i] = row;
	for (; i && u->heap[(i - 1) / 2]->until_ms > u->heap[i]->until_ms; i = (i - 1) / 2)
		swap(&u->heap[i], &u->heap[(i - 1) / 2]);
}

static struct row *heap_pop(struct used *u)
{
	struct row *top = u->heap[0];
	u->heap[0] = u->heap[--u->n];
	for (size_t i = 0;;) {
		size_t least = i;
		for (size_t child = 2 * i + 1; child <= 2 * i + 2 && child < u->n; child++)
			if (u->heap[child]->until_ms < u->heap[least]->until_ms)
				least = child;
		if (least == i)
			return top;
		swap(&u->heap[i], &u->heap[least]);
		i = least;
	}
}

static void forget_old(struct used *u, int64_t now_ms)
{
	while (u->n && u->heap[0]->until_ms < now_ms - USED_LONGER_MS) {
		struct row *old = heap_pop(u), **at = &u->chains[old->chain];
		while (*at != old)
			at = &(*at)->next;
		*at = old->next;
		u->held[old->holder]--;
		free(old);
	}
}

static int grow_heap(struct used *u)
{
	size_t room = u->room ? u->room * 2 : 64;
	struct row **more = u->n < u->room ? u->heap : realloc(u->heap, room * sizeof(struct row *));
	if (!more)
		return -1;
	u->room = u->n < u->room ? u->room : room;
	u->heap = more;
	return 0;
}

static enum used_result take_locked(struct used *u, const struct row *wanted)
{
	for (const struct row *row = u->chains[wanted->chain]; row; row = row->next)
		if (memcmp(row->signature, wanted->signature, 32) == 0)
			return USED_BEFORE;
	if (u->n >= u->max || u->held[wanted->holder] >= u->share || grow_heap(u) != 0)
		return USED_FULL;
	struct row *row = malloc(sizeof *row);
	if (!row)
		return USED_FULL;
	*row = *wanted;
	row->next = u->chains[row->chain];
	u->chains[row->chain] = row;
	u->held[row->holder]++;
	heap_push(u, row);
	return USED_NEW;
}

enum used_result used_take(struct used *u, const char *key_id, const unsigned char signature[32], int64_t until_ms,
			   int64_t now_ms)
{
	struct row wanted = { .until_ms = until_ms };
	size_t n = strlen(key_id);
	if (hash(u, key_id, n < 256 ? n : 256, &wanted.holder) != 0 || hash(u, signature, 32, &wanted.chain) != 0)
		return USED_FULL;
	wanted.holder %= HOLDERS;
	wanted.chain %= CHAINS;
	memcpy(wanted.signature, signature, 32);
	pthread_mutex_lock(&u->lock);
	forget_old(u, now_ms);
	enum used_result result = take_locked(u, &wanted);
	pthread_mutex_unlock(&u->lock);
	return result;
}
