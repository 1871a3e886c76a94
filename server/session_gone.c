/* Agents' answers are marked, on whatever thread they come in, in every watch that waits for them. Whoever waits looks
 * at all that is left now and then: a thousand answers that woke him each would keep everybody busy with that. */
#include "server/session_gone.h"

#include "base/clock.h"
#include "server/control.h"
#include "server/server.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LOOK_MS 20

struct awaited {
	const struct session_verdict *verdict;
	int64_t confirmed_ms; /* mono; by its agent; 0: not yet */
	bool unreached;       /* its agent was not connected when it was looked at last */
	bool loud;            /* a leg was in when it was looked at last */
	bool gone;
};

struct gone_watch {
	struct list node; /* in sessions->watches, under its lock */
	struct server *server;
	int64_t gone_ms; /* mono; when the last of those that are gone was; when the time was over */
	size_t n;
	struct awaited at[]; /* by id */
};

static int compare(const void *a, const void *b)
{
	return strcmp(((const struct awaited *)a)->verdict->session, ((const struct awaited *)b)->verdict->session);
}

struct gone_watch *gone_watch_new(struct server *server, const struct session_verdict *verdicts, size_t n)
{
	struct sessions *s = server->sessions;
	struct gone_watch *w = calloc(1, sizeof *w + n * sizeof w->at[0]);
	if (!w)
		return NULL;
	w->server = server;
	w->n = n;
	for (size_t i = 0; i < n; i++)
		w->at[i].verdict = &verdicts[i];
	qsort(w->at, n, sizeof w->at[0], compare);
	pthread_mutex_lock(&s->watch_lock);
	list_append(&s->watches, &w->node);
	pthread_mutex_unlock(&s->watch_lock);
	return w;
}

void gone_watch_free(struct gone_watch **watch)
{
	struct gone_watch *w = *watch;
	if (!w)
		return;
	pthread_mutex_lock(&w->server->sessions->watch_lock);
	list_remove(&w->node);
	pthread_mutex_unlock(&w->server->sessions->watch_lock);
	free(w);
	*watch = NULL;
}

void sessions_on_terminated_anythread(struct sessions *s, const char *session, const char *target)
{
	struct session_verdict wanted = { .code = 0 };
	snprintf(wanted.session, sizeof wanted.session, "%s", session);
	const struct awaited key = { .verdict = &wanted };
	pthread_mutex_lock(&s->watch_lock);
	LIST_EACH(node, &s->watches)
	{
		struct gone_watch *w = LIST_ENTRY(node, struct gone_watch, node);
		struct awaited *one = bsearch(&key, w->at, w->n, sizeof w->at[0], compare);
		if (one && strcmp(one->verdict->target, target) == 0)
			one->confirmed_ms = clock_mono_ms();
	}
	pthread_mutex_unlock(&s->watch_lock);
}

/* Is a leg in that was let in at the last moment? */
static bool is_quiet(struct server *server, const struct session_verdict *v)
{
	struct relay_info info = { 0 };
	if (!relay_info_anythread(server->relay, v->session, &info) || !info.flows)
		return true;
	relay_end_anythread(server->relay, v->session, v->code, v->text);
	return false;
}

static int64_t confirmed_at(struct gone_watch *w, size_t i)
{
	pthread_mutex_lock(&w->server->sessions->watch_lock);
	int64_t confirmed_ms = w->at[i].confirmed_ms;
	pthread_mutex_unlock(&w->server->sessions->watch_lock);
	return confirmed_ms;
}

static void look_at(struct gone_watch *w, size_t i)
{
	struct awaited *one = &w->at[i];
	int64_t confirmed_ms = confirmed_at(w, i);
	one->unreached = !confirmed_ms && !control_is_connected_anythread(w->server->control, one->verdict->target);
	if (!confirmed_ms && !one->unreached)
		return;
	bool was_loud = one->loud;
	one->loud = !is_quiet(w->server, one->verdict);
	one->gone = !one->loud;
	int64_t since_ms = confirmed_ms && !was_loud ? confirmed_ms : clock_mono_ms();
	if (one->gone && since_ms > w->gone_ms)
		w->gone_ms = since_ms;
}

size_t gone_watch_look_anythread(struct gone_watch *w)
{
	size_t left = 0;
	for (size_t i = 0; i < w->n; i++) {
		if (!w->at[i].gone)
			look_at(w, i);
		left += !w->at[i].gone;
	}
	return left;
}

void gone_watch_wait_blocking(struct gone_watch *w, int64_t limit_ms)
{
	int64_t until_ms = clock_mono_ms() + limit_ms;
	while (gone_watch_look_anythread(w) > 0) {
		int64_t now_ms = clock_mono_ms();
		if (now_ms >= until_ms) {
			w->gone_ms = now_ms;
			return;
		}
		poll(NULL, 0, LOOK_MS);
	}
}

static void add_once(json_t *array, const char *text)
{
	for (size_t i = 0; i < json_array_size(array); i++)
		if (strcmp(json_string_value(json_array_get(array, i)), text) == 0)
			return;
	json_array_append_new(array, json_string(text));
}

int64_t gone_watch_result(const struct gone_watch *w, json_t **out_unreached, json_t **out_unconfirmed)
{
	*out_unreached = json_array();
	*out_unconfirmed = json_array();
	for (size_t i = 0; i < w->n; i++) {
		const struct awaited *one = &w->at[i];
		if (one->unreached)
			add_once(*out_unreached, one->verdict->target);
		else if (!one->gone)
			json_array_append_new(*out_unconfirmed, json_string(one->verdict->session));
	}
	return w->gone_ms;
}
