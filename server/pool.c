/* The workers of a lane take tasks from its queue, oldest first. Tasks of a serial key form a chain of their own: the
 * first of them stands in its lane's queue, the others wait in the chain, and a worker that has finished one puts the
 * next at the end of that one's lane. So a key never holds more than one worker, and a slow key does not hold up the
 * others. Chains live in a small hash table while they have tasks. A waiting task counts against its lane's limit
 * wherever it waits. */
#include "server/pool.h"

#include "base/certain.h"
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

struct lane {
	struct pool *pool;
	pthread_cond_t work;
	struct list queue;
	size_t queued;
	pthread_t threads[LIMIT_WORKERS];
	size_t thread_count;
};

struct pool {
	pthread_mutex_t lock;
	struct lane lanes[POOL_LANES];
	struct list chains[CHAIN_BUCKETS];
	size_t limit;
	size_t unfinished; /* tasks that wait or run */
	bool stopping;
	struct reactors *reactors;
};

static void task_finish(struct pool *pool, struct task *t)
{
	if (t->job.done && (t->job.reactor < 0 ||
			    reactors_post_anythread(pool->reactors, t->job.reactor, t->job.done, t->job.arg) != 0))
		t->job.done(t->job.arg);
	free(t);
}

/* Lock held. */
static void enqueue(struct pool *pool, struct list *node)
{
	struct lane *lane = &pool->lanes[LIST_ENTRY(node, struct task, node)->job.lane];
	list_append(&lane->queue, node);
	pthread_cond_signal(&lane->work);
}

/* Lock held. Lets the chain's next task into its queue, or ends the chain. */
static void chain_advance(struct pool *pool, struct chain *c)
{
	if (list_empty(&c->waiting)) {
		list_remove(&c->node);
		free(c);
		return;
	}
	struct list *next = c->waiting.next;
	list_remove(next);
	enqueue(pool, next);
}

/* Lock held. */
static void wake_all(struct pool *pool)
{
	for (size_t i = 0; i < POOL_LANES; i++)
		pthread_cond_broadcast(&pool->lanes[i].work);
}

/* Lock held; gives it up while the task runs. */
static void work_off(struct lane *lane, struct task *t)
{
	struct pool *pool = lane->pool;
	struct chain *chain = t->chain;
	list_remove(&t->node);
	lane->queued--;
	pthread_mutex_unlock(&pool->lock);
	t->job.run_blocking(t->job.arg);
	task_finish(pool, t);
	pthread_mutex_lock(&pool->lock);
	if (chain)
		chain_advance(pool, chain);
	/* Until the last task is finished a chain may still bring work to any lane. */
	if (--pool->unfinished == 0 && pool->stopping)
		wake_all(pool);
}

static void *worker_main(void *arg)
{
	struct lane *lane = arg;
	struct pool *pool = lane->pool;
	pthread_mutex_lock(&pool->lock);
	for (;;) {
		while (list_empty(&lane->queue) && !(pool->stopping && pool->unfinished == 0))
			pthread_cond_wait(&lane->work, &pool->lock);
		if (list_empty(&lane->queue))
			break;
		work_off(lane, LIST_ENTRY(lane->queue.next, struct task, node));
	}
	pthread_mutex_unlock(&pool->lock);
	return NULL;
}

static int lane_start(struct lane *lane, size_t workers, struct err *e)
{
	while (lane->thread_count < workers) {
		int rc = pthread_create(&lane->threads[lane->thread_count], NULL, worker_main, lane);
		if (rc != 0)
			return err_set_errno(e, ERR_UNAVAILABLE, rc, "worker thread");
		lane->thread_count++;
	}
	return 0;
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
	for (size_t i = 0; i < CHAIN_BUCKETS; i++)
		list_init(&pool->chains[i]);
	pool->limit = queue_limit;
	pool->reactors = reactors;
	for (size_t i = 0; i < POOL_LANES; i++) {
		pool->lanes[i].pool = pool;
		pthread_cond_init(&pool->lanes[i].work, NULL);
		list_init(&pool->lanes[i].queue);
	}
	int rc = 0;
	for (size_t i = 0; rc == 0 && i < POOL_LANES; i++)
		rc = lane_start(&pool->lanes[i], workers, e);
	if (rc != 0)
		pool_stop(&pool);
	else
		*out_pool = pool;
	return rc;
}

void pool_stop(struct pool **out_pool)
{
	struct pool *pool = *out_pool;
	if (!pool)
		return;
	*out_pool = NULL;
	pthread_mutex_lock(&pool->lock);
	pool->stopping = true;
	wake_all(pool);
	pthread_mutex_unlock(&pool->lock);
	for (size_t i = 0; i < POOL_LANES; i++) {
		for (size_t k = 0; k < pool->lanes[i].thread_count; k++)
			pthread_join(pool->lanes[i].threads[k], NULL);
		pthread_cond_destroy(&pool->lanes[i].work);
	}
	pthread_mutex_destroy(&pool->lock);
	free(pool);
}

/* Lock held. The chain of a key, made when it has none; *out_fresh says so. */
static struct chain *chain_of(struct pool *pool, uint64_t key, bool must, bool *out_fresh)
{
	struct list *bucket = &pool->chains[(key ^ key >> 8 ^ key >> 32) % CHAIN_BUCKETS];
	*out_fresh = false;
	LIST_EACH(node, bucket)
	{
		struct chain *c = LIST_ENTRY(node, struct chain, node);
		if (c->key == key)
			return c;
	}
	struct chain *c = must ? certain_zeroed(sizeof *c) : calloc(1, sizeof *c);
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
	struct lane *lane = &pool->lanes[job->lane];
	struct task *t = job->must ? certain_zeroed(sizeof *t) : calloc(1, sizeof *t);
	int rc = ERR_LIMIT;
	if (!t)
		return ERR_LIMIT;
	t->job = *job;
	list_init(&t->node);
	pthread_mutex_lock(&pool->lock);
	if (lane->queued < pool->limit || job->must) {
		bool fresh = true;
		t->chain = serial ? chain_of(pool, key, job->must, &fresh) : NULL;
		if (!serial || t->chain) {
			if (fresh)
				enqueue(pool, &t->node);
			else
				list_append(&t->chain->waiting, &t->node);
			lane->queued++;
			pool->unfinished++;
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
	size_t n = 0;
	pthread_mutex_lock(&pool->lock);
	for (size_t i = 0; i < POOL_LANES; i++)
		n += pool->lanes[i].queued;
	pthread_mutex_unlock(&pool->lock);
	return n;
}
