#include "server/audit_keeper.h"

#include "server/audit.h"
#include "server/audit_export.h"
#include "server/server.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <time.h>

struct audit_keeper {
	struct server *server;
	struct audit_export *export;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	bool stop;
	pthread_t thread;
};

static void *keeper_main(void *arg)
{
	struct audit_keeper *k = arg;
	bool more = false;
	pthread_mutex_lock(&k->lock);
	while (!k->stop) {
		struct timespec until;
		clock_gettime(CLOCK_MONOTONIC, &until);
		until.tv_sec += more ? 0 : 1;
		pthread_cond_timedwait(&k->wake, &k->lock, &until);
		if (k->stop)
			break;
		pthread_mutex_unlock(&k->lock);
		audit_flush_blocking(k->server->audit);
		more = audit_export_run_blocking(k->export);
		pthread_mutex_lock(&k->lock);
	}
	pthread_mutex_unlock(&k->lock);
	audit_flush_blocking(k->server->audit);
	while (audit_export_run_blocking(k->export))
		; /* the stop has a bound of its own */
	return NULL;
}

static void release(struct audit_keeper *k)
{
	audit_export_close(&k->export);
	pthread_cond_destroy(&k->wake);
	pthread_mutex_destroy(&k->lock);
	free(k);
}

int audit_keeper_start_blocking(struct server *server, struct audit_keeper **out_keeper, struct err *e)
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
	int rc = audit_export_open_blocking(server, &k->export, e);
	int errnum = rc ? 0 : pthread_create(&k->thread, NULL, keeper_main, k);
	if (errnum)
		rc = err_set_errno(e, ERR_INTERNAL, errnum, "the audit log's thread could not start");
	if (rc)
		release(k);
	else
		*out_keeper = k;
	return rc;
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
