/* The pool alone: limits, serial order, done exactly once. Jobs are held at a gate, so nothing depends on time. */
#include "server/pool.h"
#include "server/reactor.h"
#include "support/case.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

#define JOBS 200

struct gate {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool open;
	int entered;
};
static struct gate gate = { PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, false, 0 };
static atomic_int runs, dones, running, overlaps;
static int order[JOBS], order_len;

/* No reactor here: what is posted comes back as closed, and done runs on the worker. */
int reactors_post_anythread(struct reactors *r, int reactor, void (*fn)(void *arg), void *arg)
{
	(void)r, (void)reactor, (void)fn, (void)arg;
	return ERR_CLOSED;
}

static void wait_gate(void *arg)
{
	(void)arg;
	pthread_mutex_lock(&gate.lock);
	gate.entered++;
	pthread_cond_broadcast(&gate.changed);
	while (!gate.open)
		pthread_cond_wait(&gate.changed, &gate.lock);
	pthread_mutex_unlock(&gate.lock);
}

static void gate_wait_entered(int n)
{
	pthread_mutex_lock(&gate.lock);
	while (gate.entered < n)
		pthread_cond_wait(&gate.changed, &gate.lock);
	pthread_mutex_unlock(&gate.lock);
}

static void gate_set(bool open)
{
	pthread_mutex_lock(&gate.lock);
	gate.open = open;
	gate.entered = 0;
	pthread_cond_broadcast(&gate.changed);
	pthread_mutex_unlock(&gate.lock);
}

static void count_run(void *arg)
{
	(void)arg;
	runs++;
}

static void count_done(void *arg)
{
	(void)arg;
	dones++;
}

static void serial_run(void *arg)
{
	if (atomic_fetch_add(&running, 1) != 0)
		overlaps++;
	order[order_len++] = (int)(intptr_t)arg;
	atomic_fetch_sub(&running, 1);
}

static struct pool *start(size_t workers, size_t limit)
{
	struct pool *pool = NULL;
	struct err e = { 0 };
	runs = dones = running = overlaps = 0;
	order_len = 0;
	gate_set(false);
	assert_int_equal(pool_start(workers, limit, NULL, &pool, &e), 0);
	return pool;
}

static void test_a_full_queue_refuses(void **state)
{
	(void)state;
	struct pool *pool = start(1, 2);
	struct pool_job hold = { .run_blocking = wait_gate, .done = count_done, .reactor = -1 };
	struct pool_job job = { .run_blocking = count_run, .done = count_done, .reactor = 0 };
	assert_int_equal(pool_submit_anythread(pool, &hold), 0);
	gate_wait_entered(1);
	assert_int_equal(pool_submit_anythread(pool, &job), 0);
	assert_int_equal(pool_submit_serial_anythread(pool, 7, &job), 0);
	assert_int_equal(pool_queued_anythread(pool), 2);
	assert_int_equal(pool_submit_anythread(pool, &job), ERR_LIMIT);
	assert_int_equal(pool_submit_serial_anythread(pool, 7, &job), ERR_LIMIT);
	job.must = true;
	assert_int_equal(pool_submit_anythread(pool, &job), 0);
	gate_set(true);
	pool_stop(&pool);
	assert_int_equal(runs, 3);
	assert_int_equal(dones, 4);
}

static void test_serial_jobs_keep_their_order(void **state)
{
	(void)state;
	struct pool *pool = start(4, JOBS + 1);
	for (int i = 0; i < JOBS; i++) {
		struct pool_job job = {
			.run_blocking = serial_run, .done = count_done, .arg = (void *)(intptr_t)i, .reactor = -1
		};
		assert_int_equal(pool_submit_serial_anythread(pool, 42, &job), 0);
	}
	pool_stop(&pool);
	assert_int_equal(order_len, JOBS);
	assert_int_equal(dones, JOBS);
	assert_int_equal(overlaps, 0);
	for (int i = 0; i < JOBS; i++)
		assert_int_equal(order[i], i);
}

static void test_a_slow_key_holds_up_no_other(void **state)
{
	(void)state;
	struct pool *pool = start(2, 64);
	struct pool_job hold = { .run_blocking = wait_gate, .done = count_done, .reactor = -1 };
	struct pool_job job = { .run_blocking = count_run, .done = count_done, .reactor = -1 };
	for (int i = 0; i < 10; i++)
		assert_int_equal(pool_submit_serial_anythread(pool, 1, &hold), 0);
	gate_wait_entered(1);
	for (int i = 0; i < 10; i++)
		assert_int_equal(pool_submit_serial_anythread(pool, 2, &job), 0);
	/* Key 1 holds one of the two workers only, so the other key gets through while the gate is shut. */
	while (runs < 10)
		sched_yield();
	gate_set(true);
	pool_stop(&pool);
	assert_int_equal(dones, 20);
}

static void test_a_lane_holds_up_no_other(void **state)
{
	(void)state;
	struct pool *pool = start(1, 1);
	struct pool_job hold = { .run_blocking = wait_gate, .done = count_done, .reactor = -1, .lane = POOL_CALLS };
	struct pool_job call = { .run_blocking = count_run, .done = count_done, .reactor = -1, .lane = POOL_CALLS };
	struct pool_job event = { .run_blocking = count_run, .done = count_done, .reactor = -1, .lane = POOL_EVENTS };
	assert_int_equal(pool_submit_anythread(pool, &hold), 0);
	gate_wait_entered(1);
	assert_int_equal(pool_submit_anythread(pool, &call), 0);
	assert_int_equal(pool_submit_anythread(pool, &call), ERR_LIMIT);
	/* The calls' worker and queue are taken. */
	for (int i = 1; i <= 10; i++) {
		assert_int_equal(pool_submit_anythread(pool, &event), 0);
		while (runs < i)
			sched_yield();
	}
	gate_set(true);
	pool_stop(&pool);
	assert_int_equal(dones, 12);
}

/* Also those that come to a lane when its workers have nothing left to do. */
static void test_a_key_keeps_its_order_across_lanes(void **state)
{
	(void)state;
	struct pool *pool = start(2, JOBS + 1);
	struct pool_job hold = { .run_blocking = wait_gate, .done = count_done, .reactor = -1, .lane = POOL_CALLS };
	assert_int_equal(pool_submit_serial_anythread(pool, 42, &hold), 0);
	for (int i = 0; i < JOBS; i++) {
		struct pool_job job = { .run_blocking = serial_run,
					.done = count_done,
					.arg = (void *)(intptr_t)i,
					.reactor = -1,
					.lane = i % 3 ? POOL_EVENTS : POOL_ATTACHES };
		assert_int_equal(pool_submit_serial_anythread(pool, 42, &job), 0);
	}
	gate_wait_entered(1);
	gate_set(true);
	pool_stop(&pool);
	assert_int_equal(dones, JOBS + 1);
	assert_int_equal(overlaps, 0);
	for (int i = 0; i < JOBS; i++)
		assert_int_equal(order[i], i);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_full_queue_refuses),
		cmocka_unit_test(test_serial_jobs_keep_their_order),
		cmocka_unit_test(test_a_slow_key_holds_up_no_other),
		cmocka_unit_test(test_a_lane_holds_up_no_other),
		cmocka_unit_test(test_a_key_keeps_its_order_across_lanes),
	};
	return RUN_CASES(tests);
}
