/* Publish and subscribe within this process, which is all that a store of one node needs. A thread of its own delivers,
 * so publish never waits for the subscriber; beyond the ceiling messages are dropped and counted, as the contract
 * allows. */
#include "sqlite_store.h"

#include <stdlib.h>
#include <string.h>

struct message {
	struct message *next;
	char channel[NAME_MAX_LEN + 1];
	size_t len;
	char text[];
};

struct events {
	const struct tunnel_host *host;
	pthread_t thread;
	bool has_thread;
	tunnel_event_fn *event;
	void *arg;
	pthread_mutex_t lock; /* guards what follows */
	pthread_cond_t work;
	struct message *first, **last;
	size_t count, bytes;
	bool subscribed, stop;
};

int events_new(const struct tunnel_host *host, struct events **out_events, struct words w)
{
	struct events *v = calloc(1, sizeof *v);
	if (!v)
		return words_set(w, TUNNEL_UNAVAILABLE, "out of memory");
	v->host = host;
	v->last = &v->first;
	pthread_mutex_init(&v->lock, NULL);
	pthread_cond_init(&v->work, NULL);
	*out_events = v;
	return 0;
}

static void *events_main(void *arg)
{
	struct events *v = arg;
	pthread_mutex_lock(&v->lock);
	for (;;) {
		while (!v->first && !v->stop)
			pthread_cond_wait(&v->work, &v->lock);
		if (v->stop)
			break;
		struct message *m = v->first;
		v->first = m->next;
		if (!v->first)
			v->last = &v->first;
		v->count--;
		v->bytes -= m->len;
		pthread_mutex_unlock(&v->lock);
		v->event(v->arg, m->channel, m->text, m->len);
		free(m);
		pthread_mutex_lock(&v->lock);
	}
	pthread_mutex_unlock(&v->lock);
	return NULL;
}

void events_free(struct events **events)
{
	struct events *v = *events;
	if (!v)
		return;
	if (v->has_thread) {
		pthread_mutex_lock(&v->lock);
		v->stop = true;
		pthread_cond_signal(&v->work);
		pthread_mutex_unlock(&v->lock);
		pthread_join(v->thread, NULL);
	}
	while (v->first) {
		struct message *m = v->first;
		v->first = m->next;
		free(m);
	}
	pthread_mutex_destroy(&v->lock);
	pthread_cond_destroy(&v->work);
	free(v);
	*events = NULL;
}

int events_publish(struct events *v, const struct tunnel_call *call, const char *channel, const char *message,
		   size_t len)
{
	struct message *m = malloc(sizeof *m + len + 1);
	if (!m)
		return words_set(words_of(call), TUNNEL_UNAVAILABLE, "out of memory");
	m->next = NULL;
	m->len = len;
	memcpy(m->channel, channel, strlen(channel) + 1);
	if (len)
		memcpy(m->text, message, len);
	m->text[len] = '\0';
	pthread_mutex_lock(&v->lock);
	bool keep = v->subscribed && v->count < EVENTS_MAX && v->bytes + len <= EVENTS_BYTES_MAX;
	bool dropped = v->subscribed && !keep;
	if (keep) {
		*v->last = m;
		v->last = &m->next;
		v->count++;
		v->bytes += len;
		pthread_cond_signal(&v->work);
	}
	pthread_mutex_unlock(&v->lock);
	if (!keep)
		free(m);
	if (dropped)
		v->host->count(v->host->ctx, "events_dropped", 1);
	return TUNNEL_OK;
}

int events_subscribe(struct events *v, const struct tunnel_call *call, tunnel_event_fn *event, void *arg)
{
	struct words w = words_of(call);
	if (!event)
		return words_set(w, TUNNEL_INVALID, "subscribe without a callback");
	pthread_mutex_lock(&v->lock);
	int rc = TUNNEL_OK;
	if (v->subscribed) {
		rc = words_set(w, TUNNEL_INVALID, "there is a subscriber already; allowed: one an instance");
	} else {
		v->event = event;
		v->arg = arg;
		v->has_thread = v->subscribed = thread_start(&v->thread, events_main, v);
		if (!v->subscribed)
			rc = words_set(w, TUNNEL_UNAVAILABLE, "cannot start a thread");
	}
	pthread_mutex_unlock(&v->lock);
	return rc;
}
