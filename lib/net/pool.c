/* libuv starts its threads with the first work that it is given, and ends the program by SIGABRT, without a word, when
 * one of them cannot be started. So as many are started here before, all at once, and ended: their stacks stay with
 * the C library, which has them ready for those of libuv. */
#include "net/pool.h"

#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>

/* As libuv has it: UV_THREADPOOL_SIZE, or 4, with stacks of up to 8 MiB. */
#define THREADS 4
#define THREADS_MOST 1024
#define STACK (8u << 20)

static atomic_bool ready;

static void *wait_for_all(void *arg)
{
	sem_t *all = arg;
	while (sem_wait(all) != 0)
		;
	return NULL;
}

static size_t threads_wanted(void)
{
	const char *said = getenv("UV_THREADPOOL_SIZE");
	int n = said ? atoi(said) : THREADS;
	return n < 1 ? 1 : n > THREADS_MOST ? THREADS_MOST : (size_t)n;
}

/* 0, or an errno. */
static int try_threads(pthread_t *threads, size_t wanted)
{
	size_t n = 0;
	sem_t all;
	pthread_attr_t with;
	sem_init(&all, 0, 0);
	int rc = pthread_attr_init(&with);
	if (rc == 0) {
		pthread_attr_setstacksize(&with, STACK);
		while (rc == 0 && n < wanted)
			if ((rc = pthread_create(&threads[n], &with, wait_for_all, &all)) == 0)
				n++;
		pthread_attr_destroy(&with);
	}
	for (size_t i = 0; i < n; i++)
		sem_post(&all);
	while (n > 0)
		pthread_join(threads[--n], NULL);
	sem_destroy(&all);
	return rc;
}

int net_pool_ready(struct err *e)
{
	if (atomic_load_explicit(&ready, memory_order_relaxed))
		return 0;
	size_t wanted = threads_wanted();
	pthread_t *threads = calloc(wanted, sizeof *threads);
	if (!threads)
		return err_set(e, ERR_NOMEM, "out of memory");
	int rc = try_threads(threads, wanted);
	free(threads);
	if (rc != 0)
		return err_set_errno(e, ERR_LIMIT, rc, "cannot start threads");
	atomic_store_explicit(&ready, true, memory_order_relaxed);
	return 0;
}
