/* The store calls on a thread of its own that must not wait, so a message only starts a job. One job reads all policies
 * and revocations again, whatever changed; so while one is waiting to begin, further messages need none. */
#include "server/events.h"

#include "base/json.h"
#include "base/log.h"
#include "server/peers.h"
#include "server/policies.h"
#include "server/pool.h"
#include "server/revocations.h"
#include "server/server.h"
#include "server/sessions.h"
#include "server/store.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct events {
	struct server *server;
	pthread_mutex_t lock;
	bool muted, waiting;
};

static void reload(void *arg)
{
	struct events *v = arg;
	struct err e = { 0 };
	pthread_mutex_lock(&v->lock);
	v->waiting = false;
	pthread_mutex_unlock(&v->lock);
	if (policies_reload_blocking(v->server->policies, &e) != 0)
		log_error("policies changed on another node: %s; the old ones stay in use", e.text);
	bool changed;
	if (revocations_reload_blocking(v->server->revocations, &changed, &e) != 0)
		log_error("something was revoked on another node: %s", e.text);
	sessions_rejudge_blocking(v->server);
}

/* This node's own messages come back to it; it has acted on them already. */
static bool is_own(const struct events *v, const char *message, size_t len)
{
	json_t *json = NULL;
	if (json_parse(message, len, &json, NULL) != 0)
		return false;
	const char *node = json_string_value(json_object_get(json, "node"));
	bool own = node && strcmp(node, v->server->node) == 0;
	json_decref(json);
	return own;
}

static void on_event(void *arg, const char *channel, const char *message, size_t len)
{
	struct events *v = arg;
	if (strcmp(channel, PEERS_CHANNEL) == 0) {
		peers_on_event_anythread(v->server->peers, message, len);
		return;
	}
	bool ours = strcmp(channel, POLICIES_CHANNEL) == 0 || strcmp(channel, REVOCATIONS_CHANNEL) == 0;
	if (!ours || is_own(v, message, len))
		return;
	struct pool_job job = { .run_blocking = reload, .arg = v, .reactor = -1, .lane = POOL_ATTACHES, .must = true };
	pthread_mutex_lock(&v->lock);
	if (!v->muted && !v->waiting)
		v->waiting = pool_submit_anythread(v->server->pool, &job) == 0;
	pthread_mutex_unlock(&v->lock);
}

int events_open_blocking(struct server *server, struct events **out_events, struct err *e)
{
	struct events *v = calloc(1, sizeof *v);
	if (!v)
		return err_set(e, ERR_NOMEM, "out of memory");
	v->server = server;
	pthread_mutex_init(&v->lock, NULL);
	/* Kept also on failure: the store may have taken the address. */
	*out_events = v;
	return store_subscribe_blocking(server->store, on_event, v, e);
}

void events_mute(struct events *events)
{
	pthread_mutex_lock(&events->lock);
	events->muted = true;
	pthread_mutex_unlock(&events->lock);
}

void events_free(struct events **events)
{
	struct events *v = *events;
	if (!v)
		return;
	pthread_mutex_destroy(&v->lock);
	free(v);
	*events = NULL;
}
