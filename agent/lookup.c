/* A lookup that hangs keeps one of libuv's four threads, which the session's way back to its relay needs as well. So
 * those who ask for one name share its lookup, few names are looked up at once, and the others wait for their turn.
 * They are ordinary work for libuv: of its own lookups it runs two at once, and those are the session's.
 * Nothing is kept: a stream goes where its name points now, and has nothing but the address to be judged by.
 *
 * A lookup cannot be stopped. One that nobody waits for any more goes on, and is there for whoever asks next. */
#include "agent/lookup.h"

#include "base/limits.h"
#include "base/list.h"
#include "net/pool.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define AT_ONCE 2u /* names that are looked up: half of libuv's threads */

struct name {
	struct list node;
	uv_work_t work;
	int status; /* of getaddrinfo, with list */
	struct addrinfo *list;
	uv_loop_t *loop;
	char host[LIMIT_LINK_HOST + 1];
	struct list askers;
	bool begun;
};

struct lookup {
	struct list node;
	struct name *name;
	lookup_done *done;
	void *user;
};

static _Thread_local struct list names; /* oldest first */
static _Thread_local unsigned running;

static struct name *find(const uv_loop_t *loop, const char *host)
{
	LIST_EACH(node, &names)
	{
		struct name *n = LIST_ENTRY(node, struct name, node);
		if (n->loop == loop && strcasecmp(n->host, host) == 0)
			return n;
	}
	return NULL;
}

static struct name *add(uv_loop_t *loop, const char *host)
{
	struct name *n = calloc(1, sizeof *n);
	if (!n)
		return NULL;
	n->loop = loop;
	n->work.data = n;
	strcpy(n->host, host);
	list_init(&n->askers);
	list_append(&names, &n->node);
	return n;
}

static void drop(struct name *n)
{
	list_remove(&n->node);
	free(n);
}

static void tell(struct name *n, int status, const struct addrinfo *list)
{
	while (!list_empty(&n->askers)) {
		struct lookup *l = LIST_ENTRY(n->askers.next, struct lookup, node);
		lookup_done *done = l->done;
		void *user = l->user;
		lookup_cancel(&l);
		done(user, status, list);
	}
}

static void run_next(void);

static void look_up_blocking(uv_work_t *work)
{
	struct name *n = work->data;
	const struct addrinfo hints = { .ai_socktype = SOCK_STREAM };
	n->status = getaddrinfo(n->host, NULL, &hints, &n->list);
}

static void on_looked_up(uv_work_t *work, int not_run)
{
	struct name *n = work->data;
	(void)not_run; /* nobody cancels it */
	running--;
	list_remove(&n->node); /* who asks from here on asks anew */
	tell(n, n->status, n->list);
	if (n->list)
		freeaddrinfo(n->list);
	free(n);
	run_next();
}

static void run(struct name *n)
{
	n->begun = true;
	running++;
	uv_queue_work(n->loop, &n->work, look_up_blocking, on_looked_up); /* fails without a function alone */
}

static struct name *first_waiting(void)
{
	LIST_EACH(node, &names)
	{
		struct name *n = LIST_ENTRY(node, struct name, node);
		if (!n->begun)
			return n;
	}
	return NULL;
}

static void run_next(void)
{
	struct name *n;
	while (running < AT_ONCE && (n = first_waiting()) != NULL)
		run(n);
}

int lookup_start(uv_loop_t *loop, const char *host, lookup_done *done, void *user, struct lookup **out_lookup,
		 struct err *e)
{
	if (!names.next)
		list_init(&names);
	if (strlen(host) > LIMIT_LINK_HOST)
		return err_set(e, ERR_INVALID, "the host name is too long");
	int rc = net_pool_ready(e);
	if (rc != 0)
		return rc;
	struct name *n = find(loop, host);
	struct lookup *l = calloc(1, sizeof *l);
	if (l && !n)
		n = add(loop, host);
	if (!l || !n) {
		free(l);
		return err_set(e, ERR_NOMEM, "out of memory");
	}
	l->name = n, l->done = done, l->user = user;
	list_append(&n->askers, &l->node);
	run_next();
	*out_lookup = l;
	return 0;
}

void lookup_cancel(struct lookup **lookup)
{
	struct lookup *l = *lookup;
	*lookup = NULL;
	if (!l)
		return;
	list_remove(&l->node);
	if (!l->name->begun && list_empty(&l->name->askers))
		drop(l->name);
	free(l);
}
