/* Workers take tasks from one queue, oldest first. Tasks of a serial key form a chain of their own: the first of them
 * stands in the queue, the others wait in the chain, and a worker that has finished one puts the next at the queue's
 * end. So a key never holds more than one worker, and a slow key does not hold up the others. Chains live in a small
 * hash table while they have tasks. A waiting task counts against the limit wherever it waits. */
#include "server/pool.h"

#include "base/limits.h"
#include "base/list.h"
#include "server/reactor.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define CHAIN_BUCKETS 256u

struct task {
	struct list node;
	struct pool_job job;
	struct chain *chain; /* NULL: runs beside anything */
};

struct chain {
	struct list node; /* in its bucket */
	uint64_t key;
	struct list waiting;
};

struct pool {
	pthread_mutex_t lock;
	pthread_cond_t work;
	struct list queue;
	struct list chains[CHAIN_BUCKETS];
	size_t queued, limit;
	bool stopping;
	struct reactors *reactors;
	pthread_t threads[LIMIT_WORKERS];
	size_t thread_count;
};

static void task_finish(struct pool *pool, struct task *t)
{
	if (t->job.done && (t->job.reactor < 0 ||
			    reactors_post_anythread(pool->reactors, t->job.reactor, t->job.done, t->job.arg) != 0))
		t->job.done(t->job.arg);
	free(t);
}

/* Lock held. Lets the chain's next task into the queue, or ends the chain. */
static void chain_advance(struct pool *pool, struct chain *c)
{
	if (list_empty(&c->waiting)) {
		list_remove(&c->node);
		free(c);
		return;
	}
	struct list *next = c->waiting.next;
	list_remove(next);
	list_append(&pool->queue, next);
	pthread_cond_signal(&pool->work);
}

static void *worker_main(void *arg)
{
	struct pool *pool = arg;
	pthread_mutex_lock(&pool->lock);
	for (;;) {
		while (list_empty(&pool->queue) && !pool->stopping)
			pthread_cond_wait(&pool->work, &pool->lock);
		if (list_empty(&pool->queue))
			break;
		struct task *t = LIST_ENTRY(pool->queue.next, struct task, node);
		struct chain *chain = t->chain;
		list_remove(&t->node);
		pool->queued--;
		pthread_mutex_unlock(&pool->lock);
		t->job.run_blocking(t->job.arg);
		task_finish(pool, t);
		pthread_mutex_lock(&pool->lock);
		if (chain)
			chain_advance(pool, chain);
	}
	/* A chain's next task may have come while the others already left; its own worker sees to it. */
	pthread_mutex_unlock(&pool->lock);
	return NULL;
}

int pool_start(size_t workers, size_t queue_limit, struct reactors *reactors, struct pool **out_pool, struct err *e)
{
	if (workers < 1 || workers > LIMIT_WORKERS)
		return err_set(e, ERR_INVALID, "workers: %zu is out of range; allowed: 1 to %u", workers,
			       LIMIT_WORKERS);
	struct pool *pool = calloc(1, sizeof *pool);
	if (!pool)
		return err_set(e, ERR_NOMEM, "out of memory");
	pthread_mutex_init(&pool->lock, NULL);
	pthread_cond_init(&pool->work, NULL);
	list_init(&pool->queue);
	for (size_t i = 0; i < CHAIN_BUCKETS; i++)
		list_init(&pool->chains[i]);
	pool->limit = queue_limit;
	pool->reactors = reactors;
	for (size_t i = 0; i < workers; i++) {
		int rc = pthread_create(&pool->threads[i], NULL, worker_main, pool);
		if (rc != 0) {
			pool_stop(&pool);
			return err_set_errno(e, ERR_UNAVAILABLE, rc, "worker thread");
		}
		pool->thread_count++;
	}
	*out_pool = pool;
	return 0;
}

void pool_stop(struct pool **out_pool)
{
	struct pool *pool = *out_pool;
	if (!pool)
		return;
	*out_pool = NULL;
	pthread_mutex_lock(&pool->lock);
	pool->stopping = true;
	pthread_cond_broadcast(&pool->work);
	pthread_mutex_unlock(&pool->lock);
	for (size_t i = 0; i < pool->thread_count; i++)
		pthread_join(pool->threads[i], NULL);
	pthread_cond_destroy(&pool->work);
	pthread_mutex_destroy(&pool->lock);
	free(pool);
}

/* Lock held. The chain of a key, made when it has none; *out_fresh says so. */
static struct chain *chain_of(struct pool *pool, uint64_t key, bool *out_fresh)
{
	struct list *bucket = &pool->chains[(key ^ key >> 8 ^ key >> 32) % CHAIN_BUCKETS];
	*out_fresh = false;
	LIST_EACH(node, bucket)
	{
		struct chain *c = LIST_ENTRY(node, struct chain, node);
		if (c->key == key)
			return c;
	}
	struct chain *c = calloc(1, sizeof *c);
	if (c) {
		c->key = key;
		list_init(&c->waiting);
		list_append(bucket, &c->node);
		*out_fresh = true;
	}
	return c;
}

static int submit(struct pool *pool, bool serial, uint64_t key, const struct pool_job *job)
{
	struct task *t = calloc(1, sizeof *t);
	int rc = ERR_LIMIT;
	if (!t)
		return ERR_LIMIT;
	t->job = *job;
	list_init(&t->node);
	pthread_mutex_lock(&pool->lock);
	if (pool->queued < pool->limit || job->must) {
		bool fresh = true;
		t->chain = serial ? chain_of(pool, key, &fresh) : NULL;
		if (!serial || t->chain) {
			list_append(fresh ? &pool->queue : &t->chain->waiting, &t->node);
			pool->queued++;
			if (fresh)
				pthread_cond_signal(&pool->work);
			rc = 0;
		}
	}
	pthread_mutex_unlock(&pool->lock);
	if (rc != 0)
		free(t);
	return rc;
}

int pool_submit_anythread(struct pool *pool, const struct pool_job *job)
{
	return submit(pool, false, 0, job);
}

int pool_submit_serial_anythread(struct pool *pool, uint64_t key, const struct pool_job *job)
{
	return submit(pool, true, key, job);
}

size_t pool_queued_anythread(struct pool *pool)
{
	pthread_mutex_lock(&pool->lock);
	size_t n = pool->queued;
	pthread_mutex_unlock(&pool->lock);
	return n;
}
