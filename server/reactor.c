/* A reactor is a thread with a libuv loop of ours, on which an lws context runs as a guest. Everything that comes from
 * outside arrives as a post: a function and its argument in a locked list, with one uv_async to wake the loop. All
 * contexts are created before the first loop runs (lws registers OpenSSL indexes then, without a lock). */
#include "server/reactor.h"

#include "base/certain.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/notify.h"
#include "server/direct.h"
#include "server/metrics.h"
#include "server/pool.h"
#include "server/reactor_internal.h"
#include "server/server.h"
#include "server/tls_check.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static _Thread_local struct reactor *current;

struct reactor *reactor_current(void)
{
	return current;
}

static void run_posts(struct reactor *r)
{
	pthread_mutex_lock(&r->lock);
	struct post *p = r->first;
	r->first = r->last = NULL;
	pthread_mutex_unlock(&r->lock);
	while (p) {
		struct post *next = p->next;
		p->fn(p->arg);
		free(p);
		p = next;
	}
}

static void on_wake(uv_async_t *handle)
{
	struct reactor *r = handle->data;
	run_posts(r);
	if (r->quit)
		uv_stop(&r->loop);
	else if (r->lws_touched) /* a poke costs two system calls, and most posts are for legs that lws does not have */
		conn_poke(r);
	r->lws_touched = false;
}

/* The last of the reactors to turn after a third of the watchdog's time tells systemd. So one that hangs keeps the word
 * from being said, whichever it is. */
static void tell_watchdog(struct reactor *r, int64_t now_ms)
{
	struct reactors *all = r->all;
	int64_t told_ms = atomic_load(&all->watchdog_told_ms), every_ms = notify_watchdog_ms();
	atomic_store(&r->turned, true);
	if (every_ms == 0 || now_ms - told_ms < every_ms)
		return;
	for (size_t i = 0; i < all->count; i++)
		if (!atomic_load(&all->at[i].turned))
			return;
	if (!atomic_compare_exchange_strong(&all->watchdog_told_ms, &told_ms, now_ms))
		return; /* another one does */
	for (size_t i = 0; i < all->count; i++)
		atomic_store(&all->at[i].turned, false);
	notify_send("WATCHDOG=1");
}

static void observe(struct reactor *r, int64_t now_us)
{
	char labels[32];
	int64_t late_us = now_us - r->ticked_us - REACTOR_TICK_MS * 1000;
	snprintf(labels, sizeof labels, "reactor=\"%d\"", r->index);
	if (r->ticked_us)
		metrics_observe_us(r->server->metrics, FAMILY_REACTOR_DELAY, labels, late_us > 0 ? late_us : 0);
	r->ticked_us = now_us;
	if (r->index == 0 && r->server->pool)
		metrics_set(r->server->metrics, METRIC_POOL_QUEUED, (int64_t)pool_queued_anythread(r->server->pool));
}

static void on_tick(uv_timer_t *handle)
{
	int64_t now_ms = clock_mono_ms();
	observe(handle->data, clock_mono_us());
	conn_tick(handle->data, now_ms);
	tell_watchdog(handle->data, now_ms);
}

int reactors_post_anythread(struct reactors *all, int reactor, void (*fn)(void *arg), void *arg)
{
	struct reactor *r = &all->at[reactor];
	/* A lost post would leave a request without an answer and its memory without an owner. */
	struct post *p = certain_malloc(sizeof *p);
	*p = (struct post){ NULL, fn, arg };
	pthread_mutex_lock(&r->lock);
	bool closed = r->closed;
	if (!closed) {
		if (r->last)
			r->last->next = p;
		else
			r->first = p;
		r->last = p;
		/* Inside the lock: the loop is closed only after "closed" was set under it. */
		uv_async_send(&r->wake);
	}
	pthread_mutex_unlock(&r->lock);
	if (closed)
		free(p);
	return closed ? ERR_CLOSED : 0;
}

static void close_handle(uv_handle_t *handle, void *arg)
{
	(void)arg;
	if (!uv_is_closing(handle))
		uv_close(handle, NULL);
}

static void run_down(uv_loop_t *loop)
{
	for (int turns = 0; turns < 100 && uv_run(loop, UV_RUN_NOWAIT) != 0; turns++)
		;
}

/* On the reactor's thread, or on the creator's while it never ran. */
static void loop_end(struct reactor *r)
{
	direct_stop(r);
	conn_lws_free(r);
	uv_close((uv_handle_t *)&r->wake, NULL);
	uv_close((uv_handle_t *)&r->tick, NULL);
	/* lws closes its connections and handles over a few turns of the loop, and with some versions it must be asked
	 * a second time to free what is left. */
	run_down(&r->loop);
	conn_lws_free(r);
	run_down(&r->loop);
	if (uv_loop_close(&r->loop) != 0) {
		uv_walk(&r->loop, close_handle, NULL);
		uv_run(&r->loop, UV_RUN_DEFAULT);
		uv_loop_close(&r->loop);
	}
	direct_free(r);
}

static void *reactor_main(void *arg)
{
	struct reactor *r = arg;
	char name[16];
	current = r;
	snprintf(name, sizeof name, "reactor-%d", r->index);
	pthread_setname_np(pthread_self(), name);
	uv_run(&r->loop, UV_RUN_DEFAULT);
	pthread_mutex_lock(&r->lock);
	r->closed = true;
	pthread_mutex_unlock(&r->lock);
	run_posts(r); /* so that every one of them runs */
	loop_end(r);
	return NULL;
}

/* direct: NULL when libwebsockets is to carry everything. */
static int reactor_init(struct reactor *r, struct reactors *all, int index, struct direct_tls *direct, struct err *e)
{
	const struct settings *s = all->server->settings;
	r->server = all->server;
	r->all = all;
	r->index = index;
	for (size_t i = 0; i < REACTOR_BUCKETS; i++)
		list_init(&r->conns[i]);
	pthread_mutex_init(&r->lock, NULL);
	if (uv_loop_init(&r->loop) != 0)
		return err_set(e, ERR_UNAVAILABLE, "reactor %d: no event loop", index);
	uv_async_init(&r->loop, &r->wake, on_wake);
	uv_timer_init(&r->loop, &r->tick);
	r->wake.data = r->tick.data = r;
	uv_timer_start(&r->tick, on_tick, REACTOR_TICK_MS, REACTOR_TICK_MS);
	int rc = conn_lws_new(r, s->tls_certificate, s->tls_key, e);
	if (rc == 0 && direct)
		rc = direct_new(r, direct, e);
	if (rc != 0) {
		loop_end(r);
		pthread_mutex_destroy(&r->lock);
	}
	return rc;
}

static int listen_everywhere(struct reactors *all, struct err *e)
{
	const struct settings *s = all->server->settings;
	int rc = acceptor_listen(all->acceptor, "listen", s->listen, LISTENER_PUBLIC, &all->port, e);
	if (rc == 0 && s->admin_listen[0])
		rc = acceptor_listen(all->acceptor, "admin.listen", s->admin_listen, LISTENER_ADMIN, &all->admin_port,
				     e);
	return rc;
}

static int direct_settings(const struct settings *s, struct direct_tls **out_tls, struct err *e)
{
	return s->direct_transport ? direct_tls_new(s->tls_certificate, s->tls_key, out_tls, e) : 0;
}

int reactors_new(struct server *server, size_t count, struct reactors **out_reactors, struct err *e)
{
	if (count == 0) {
		long cores = sysconf(_SC_NPROCESSORS_ONLN);
		count = cores > 0 ? (size_t)cores : 1;
	}
	if (count > LIMIT_REACTORS)
		count = LIMIT_REACTORS;
	struct reactors *all = calloc(1, sizeof *all + count * sizeof all->at[0]);
	if (!all)
		return err_set(e, ERR_NOMEM, "out of memory");
	all->server = server;
	struct direct_tls *direct = NULL;
	int rc = tls_check_files(server->settings->tls_certificate, server->settings->tls_key, e);
	if (rc == 0)
		rc = direct_settings(server->settings, &direct, e);
	for (size_t i = 0; i < count && rc == 0; i++) {
		rc = reactor_init(&all->at[i], all, (int)i, direct, e);
		if (rc == 0)
			all->count++;
	}
	direct_tls_unref_anythread(&direct);
	if (rc == 0)
		rc = acceptor_new(all, &all->acceptor, e);
	if (rc == 0)
		rc = listen_everywhere(all, e);
	if (rc != 0) {
		reactors_stop(&all);
		return rc;
	}
	*out_reactors = all;
	return 0;
}

int reactors_start(struct reactors *all, struct err *e)
{
	for (size_t i = 0; i < all->count; i++) {
		int rc = pthread_create(&all->at[i].thread, NULL, reactor_main, &all->at[i]);
		if (rc != 0)
			return err_set_errno(e, ERR_UNAVAILABLE, rc, "reactor thread");
		all->at[i].running = true;
	}
	return acceptor_start(all->acceptor, e);
}

size_t reactors_count(const struct reactors *r)
{
	return r->count;
}

uint16_t reactors_port(const struct reactors *r)
{
	return r->port;
}

uint16_t reactors_admin_port(const struct reactors *r)
{
	return r->admin_port;
}

size_t reactors_connections_anythread(const struct reactors *r)
{
	return atomic_load(&r->connections);
}

struct adoption {
	struct reactor *reactor;
	struct accepted socket;
};

static void adopt_posted(void *arg)
{
	struct adoption *a = arg;
	if (a->reactor->quit || a->reactor->closed)
		accepted_drop(a->reactor->server, &a->socket);
	else if (a->reactor->direct)
		direct_adopt(a->reactor, &a->socket);
	else
		conn_lws_adopt(a->reactor, &a->socket);
	free(a);
}

void reactor_adopt_anythread(struct reactors *all, size_t reactor, struct accepted *socket)
{
	struct adoption *a = calloc(1, sizeof *a);
	if (a) {
		a->reactor = &all->at[reactor];
		a->socket = *socket;
		if (reactors_post_anythread(all, (int)reactor, adopt_posted, a) == 0)
			return;
	}
	free(a);
	accepted_drop(all->server, socket);
}

struct reload {
	struct reactor *reactor;
	char *certificate, *key;
	struct direct_tls *direct; /* may be NULL */
};

static void reload_free(struct reload *l)
{
	if (!l)
		return;
	direct_tls_unref_anythread(&l->direct);
	free(l->certificate);
	free(l->key);
	free(l);
}

static void reload_posted(void *arg)
{
	struct reload *l = arg;
	if (!l->reactor->quit && !l->reactor->closed) {
		conn_lws_reload(l->reactor, l->certificate, l->key);
		if (l->direct)
			direct_reload(l->reactor, l->direct);
		l->direct = NULL;
	}
	reload_free(l);
}

static bool post_reload(struct reactor *r, const struct settings *s, struct direct_tls *direct)
{
	struct reload *l = calloc(1, sizeof *l);
	if (!l)
		return false;
	*l = (struct reload){ r, strdup(s->tls_certificate), strdup(s->tls_key),
			      direct ? direct_tls_ref_anythread(direct) : NULL };
	if (l->certificate && l->key && reactors_post_anythread(r->all, r->index, reload_posted, l) == 0)
		return true;
	reload_free(l);
	return false;
}

int reactors_reload_tls(struct reactors *all, struct err *e)
{
	const struct settings *s = all->server->settings;
	struct direct_tls *direct = NULL;
	int rc = tls_check_files(s->tls_certificate, s->tls_key, e);
	if (rc == 0)
		rc = direct_settings(s, &direct, e);
	for (size_t i = 0; i < all->count && rc == 0; i++)
		if (!post_reload(&all->at[i], s, direct))
			rc = err_set(e, ERR_UNAVAILABLE, "reactor %zu did not take the new certificate", i);
	direct_tls_unref_anythread(&direct);
	return rc;
}

void reactors_stop_listening(struct reactors *all)
{
	acceptor_stop(&all->acceptor);
}

static void quit_posted(void *arg)
{
	struct reactor *r = arg;
	r->quit = true;
}

void reactors_halt(struct reactors *all)
{
	acceptor_stop(&all->acceptor);
	for (size_t i = 0; i < all->count; i++) {
		struct reactor *r = &all->at[i];
		if (r->running) {
			(void)reactors_post_anythread(all, (int)i, quit_posted, r);
			pthread_join(r->thread, NULL);
			r->running = false;
		} else if (!r->closed) {
			r->closed = true;
			loop_end(r);
		}
	}
}

void reactors_stop(struct reactors **reactors)
{
	struct reactors *all = *reactors;
	if (!all)
		return;
	reactors_halt(all);
	for (size_t i = 0; i < all->count; i++)
		pthread_mutex_destroy(&all->at[i].lock);
	free(all);
	*reactors = NULL;
}
