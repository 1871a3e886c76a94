#include "server/audit_keeper.h"

#include "server/audit.h"
#include "server/server.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <time.h>

struct audit_keeper {
	struct server *server;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	bool stop;
	pthread_t thread;
};

static void *keeper_main(void *arg)
{
	struct audit_keeper *k = arg;
	pthread_mutex_lock(&k->lock);
	while (!k->stop) {
		struct timespec until;
		clock_gettime(CLOCK_MONOTONIC, &until);
		until.tv_sec++;
		pthread_cond_timedwait(&k->wake, &k->lock, &until);
		if (k->stop)
			break;
		pthread_mutex_unlock(&k->lock);
		audit_flush_blocking(k->server->audit);
		pthread_mutex_lock(&k->lock);
	}
	pthread_mutex_unlock(&k->lock);
	return NULL;
}

static void release(struct audit_keeper *k)
{
	pthread_cond_destroy(&k->wake);
	pthread_mutex_destroy(&k->lock);
	free(k);
}

int audit_keeper_start(struct server *server, struct audit_keeper **out_keeper, struct err *e)
{
	pthread_condattr_t attr;
	struct audit_keeper *k = calloc(1, sizeof *k);
	if (!k)
		return err_set(e, ERR_NOMEM, "out of memory");
	k->server = server;
	pthread_mutex_init(&k->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&k->wake, &attr);
	pthread_condattr_destroy(&attr);
	int errnum = pthread_create(&k->thread, NULL, keeper_main, k);
	if (errnum) {
		release(k);
		return err_set_errno(e, ERR_INTERNAL, errnum, "the audit log's thread could not start");
	}
	*out_keeper = k;
	return 0;
}

void audit_keeper_stop(struct audit_keeper **keeper)
{
	struct audit_keeper *k = *keeper;
	*keeper = NULL;
	if (!k)
		return;
	pthread_mutex_lock(&k->lock);
	k->stop = true;
	pthread_cond_signal(&k->wake);
	pthread_mutex_unlock(&k->lock);
	pthread_join(k->thread, NULL);
	release(k);
}
