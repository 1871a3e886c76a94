#include "store_rules.h"

#include <signal.h>
#include <time.h>

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

bool thread_start(pthread_t *out_thread, void *(*fn)(void *arg), void *arg)
{
	sigset_t all, old;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	bool started = pthread_create(out_thread, NULL, fn, arg) == 0;
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return started;
}
