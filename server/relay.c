/* A session's two legs meet in a pair. Each leg owns the queue of what is to be sent to it: text signals and bytes of
 * its peer in one order, so that no byte of an epoch can overtake the `paired` that begins it. Everything of a pair is
 * guarded by the pair's own lock, which is held for a few pointer moves, never during a write. A thread that changes
 * something for a leg of another reactor posts a kick, at most one at a time; the leg's own reactor then looks at what
 * is to be done.
 *
 * The gate: bytes of an end count only after its `ready` for the current epoch; a new epoch throws away what waits from
 * the one before. Back-pressure: an end whose peer has LIMIT_RELAY_QUEUE waiting is not read until it is down to a
 * quarter. A peer that takes nothing for STALL_MS is closed with 4012, so nobody waits for ever. */
#include "server/relay.h"

#include "base/certain.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/text.h"
#include "server/leg.h"
#include "server/metrics.h"
#include "server/reactor.h"
#include "server/reactor_internal.h"
#include "server/relay_events.h"
#include "server/server.h"

#include <jansson.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define BUCKETS 4096u
#define LOW_WATER (LIMIT_RELAY_QUEUE / 4)
#define STALL_MS 15000
#define NOTICES 3u           /* kinds of ends that can be foreseen */
#define NOTICE_MOVED_MS 2000 /* an end that moved by less is the same one: two clocks were read to tell it */

struct pair {
	struct list node; /* guarded by the relay's lock */
	pthread_mutex_t lock;
	char session[LIMIT_ID + 1];
	struct leg *legs[2];
	size_t users;       /* legs that point here, also replaced ones */
	uint64_t epoch;     /* the last one begun */
	int64_t generation; /* of the legs that are in; only grows */
	bool paired;        /* it has not ended */
	bool forgotten;     /* goes with its last leg */
	int64_t last_bytes_ms, detached_ms;
	uint64_t bytes[2]; /* by sender's role */
};

struct leg {
	struct relay *relay;
	struct pair *pair;
	enum leg_role role;
	wsconn_id id;
	int reactor;
	const struct leg_transport *ops;
	void *transport;
	/* guarded by the pair's lock */
	bool in; /* this leg has its role's place */
	uint64_t ready_epoch;
	struct conn_queue out;
	bool paused;
	bool kick_posted;
	unsigned close_code;
	char close_reason[120];
	int64_t progress_ms; /* when something was last taken from out, or it was empty */
	struct {
		unsigned code;
		int64_t at_ms;
	} told[NOTICES];
};

struct relay {
	struct server *server;
	pthread_mutex_t lock; /* of the table; taken before a pair's */
	struct list buckets[BUCKETS];
	bool draining;
};

/* ---- the table ---- */

static struct list *bucket_of(struct relay *relay, const char *session)
{
	return &relay->buckets[relay_events_key(session) % BUCKETS];
}

/* Table lock held. */
static struct pair *pair_find(struct relay *relay, const char *session)
{
	struct list *bucket = bucket_of(relay, session);
	LIST_EACH(node, bucket)
	{
		struct pair *p = LIST_ENTRY(node, struct pair, node);
		if (strcmp(p->session, session) == 0)
			return p;
	}
	return NULL;
}

static struct pair *pair_get(struct relay *relay, const char *session)
{
	struct pair *p = pair_find(relay, session);
	if (p)
		return p;
	p = certain_zeroed(sizeof *p);
	pthread_mutex_init(&p->lock, NULL);
	snprintf(p->session, sizeof p->session, "%s", session);
	p->detached_ms = clock_mono_ms();
	list_append(bucket_of(relay, session), &p->node);
	return p;
}

static void pair_free(struct pair *p)
{
	list_remove(&p->node);
	pthread_mutex_destroy(&p->lock);
	free(p);
}

int relay_new(struct server *server, struct relay **out_relay, struct err *e)
{
	struct relay *relay = calloc(1, sizeof *relay);
	if (!relay)
		return err_set(e, ERR_NOMEM, "out of memory");
	relay->server = server;
	pthread_mutex_init(&relay->lock, NULL);
	for (size_t i = 0; i < BUCKETS; i++)
		list_init(&relay->buckets[i]);
	*out_relay = relay;
	return 0;
}

void relay_free(struct relay **out_relay)
{
	struct relay *relay = *out_relay;
	if (!relay)
		return;
	for (size_t i = 0; i < BUCKETS; i++)
		LIST_EACH_SAFE(node, after, &relay->buckets[i])
	pair_free(LIST_ENTRY(node, struct pair, node));
	pthread_mutex_destroy(&relay->lock);
	free(relay);
	*out_relay = NULL;
}

/* ---- telling a leg; pair lock held ---- */

struct kick {
	struct server *server;
	wsconn_id id;
};

static void kick_posted(void *arg)
{
	struct kick *k = arg;
	legconn_kick(k->server, k->id);
	free(k);
}

/* A kick goes by post even to a leg of this very reactor: then no transport is entered from inside another one. */
static void kick(struct leg *leg)
{
	if (leg->kick_posted)
		return;
	struct kick *k = certain_malloc(sizeof *k);
	*k = (struct kick){ leg->relay->server, leg->id };
	leg->kick_posted = reactors_post_anythread(leg->relay->server->reactors, leg->reactor, kick_posted, k) == 0;
	if (!leg->kick_posted)
		free(k);
}

/* What was put into a leg's queue is written soon: at once on its own reactor, else by a kick. */
static void announce(struct leg *leg)
{
	struct reactor *here = reactor_current();
	if (here && here->index == leg->reactor)
		leg->ops->want_write(leg->transport);
	else
		kick(leg);
}

static void push_text(struct leg *leg, const char *text)
{
	if (!leg->out.first)
		leg->progress_ms = clock_mono_ms();
	if (text && conn_queue_add(&leg->out, false, text, strlen(text)))
		announce(leg);
}

static void push_epoch(struct leg *leg, uint64_t epoch)
{
	char text[64];
	snprintf(text, sizeof text, "{\"type\":\"paired\",\"epoch\":%llu}", (unsigned long long)epoch);
	conn_queue_clear(&leg->out, true);
	push_text(leg, text);
}

/* May the bytes of this leg be read? Unpaired ones go nowhere and cost nothing. */
static bool may_read(const struct leg *leg)
{
	const struct leg *peer = leg->pair->legs[!leg->role];
	return !leg->pair->paired || !peer || peer->out.bytes <= LOW_WATER;
}

static void check_resume(struct leg *leg)
{
	if (leg && leg->paused && may_read(leg))
		kick(leg);
}

/* relay_url: where the leg's end shall go instead; NULL: it is not said. */
static void begin_close_for(struct leg *leg, unsigned code, const char *reason, const char *relay_url)
{
	if (leg->close_code)
		return;
	leg->close_code = code;
	text_print(leg->close_reason, sizeof leg->close_reason, "%s", reason);
	conn_queue_clear(&leg->out, true);
	char *text = leg_closing_text(code, reason, relay_url);
	push_text(leg, text);
	free(text);
	announce(leg);
}

static void begin_close(struct leg *leg, unsigned code, const char *reason)
{
	begin_close_for(leg, code, reason, NULL);
}

/* The leg leaves its place; an epoch that it was part of is over. */
static void leave(struct leg *leg)
{
	struct pair *p = leg->pair;
	struct leg *peer = p->legs[!leg->role];
	leg->in = false;
	p->legs[leg->role] = NULL;
	if (!p->detached_ms) /* the grace is not longer for an end that comes and goes alone */
		p->detached_ms = clock_mono_ms();
	if (p->paired) {
		p->paired = false;
		conn_queue_clear(&peer->out, true);
	}
	check_resume(peer);
}

/* ---- attach and detach ---- */

static void pair_up(struct relay *relay, struct pair *p)
{
	p->paired = true;
	p->epoch++;
	p->detached_ms = 0;
	push_epoch(p->legs[0], p->epoch);
	push_epoch(p->legs[1], p->epoch);
	relay_event_paired(relay->server, p->session, p->generation, p->epoch);
}

static void push_attached(struct leg *leg)
{
	json_t *json = json_pack("{s:s,s:s}", "type", "attached", "node", leg->relay->server->node);
	char *text = json ? json_dumps(json, JSON_COMPACT) : NULL;
	push_text(leg, text);
	free(text);
	json_decref(json);
}

/* A newer leg, or a newer client, has this one's place. */
static void replace(struct leg *old, const char *text)
{
	leave(old);
	begin_close(old, 4001, text);
	relay_event_detached(old->relay->server, old->pair->session, old->role, "replaced");
}

static void renew(struct pair *p, int64_t generation)
{
	if (generation <= p->generation)
		return;
	p->generation = generation;
	for (int role = 0; role < 2; role++)
		if (p->legs[role])
			replace(p->legs[role], RELAY_RESUMED_TEXT);
	p->detached_ms = clock_mono_ms(); /* its ends may take their time again */
}

/* Gives the leg its role's place. Pair lock held. */
static void enter(struct leg *leg, const char *remote_address)
{
	struct relay *relay = leg->relay;
	struct pair *p = leg->pair;
	struct leg *old = p->legs[leg->role], *peer = p->legs[!leg->role];
	if (old)
		replace(old, "a newer connection took this one's place");
	leg->in = true;
	p->legs[leg->role] = leg;
	p->forgotten = false; /* it has come back; else who hears of this leg has it forgotten again */
	push_attached(leg);
	relay_event_attached(relay->server, p->session, leg->role, p->generation, remote_address);
	if (relay->draining)
		begin_close(leg, 4002, "the relay is going away");
	else if (peer && !peer->close_code)
		pair_up(relay, p);
}

struct leg *leg_attach(struct relay *relay, const struct leg_init *init)
{
	struct leg *leg = calloc(1, sizeof *leg);
	if (!leg)
		return NULL;
	leg->relay = relay;
	leg->role = init->role;
	leg->id = init->id;
	leg->reactor = conn_reactor_of(init->id);
	leg->ops = init->ops;
	leg->transport = init->transport;
	leg->progress_ms = clock_mono_ms();
	pthread_mutex_lock(&relay->lock);
	struct pair *p = pair_get(relay, init->session);
	pthread_mutex_lock(&p->lock);
	leg->pair = p;
	p->users++;
	renew(p, init->generation);
	if (init->generation < p->generation) /* resumed between its judgement and here */
		begin_close(leg, 4001, RELAY_RESUMED_TEXT);
	else
		enter(leg, init->remote_address);
	bool in = leg->in;
	pthread_mutex_unlock(&p->lock);
	pthread_mutex_unlock(&relay->lock);
	metrics_add(relay->server->metrics, in ? METRIC_LEGS_ATTACHED : METRIC_LEGS_REFUSED, 1);
	metrics_add(relay->server->metrics, METRIC_LEGS_OPEN, 1);
	return leg;
}

void leg_detach(struct leg **out_leg, unsigned code, const char *why)
{
	struct leg *leg = *out_leg;
	if (!leg)
		return;
	*out_leg = NULL;
	struct relay *relay = leg->relay;
	struct pair *p = leg->pair;
	pthread_mutex_lock(&relay->lock); /* the pair may go, too */
	pthread_mutex_lock(&p->lock);
	if (leg->in) {
		bool was_paired = p->paired;
		struct leg *peer = p->legs[!leg->role];
		leave(leg);
		if (was_paired && !peer->close_code) /* `closing` is a leg's last message */
			push_text(peer, "{\"type\":\"unpaired\"}");
		if (code == 1000 && leg->role == LEG_CLIENT && !leg->close_code)
			relay_event_bye(relay->server, p->session, p->generation);
		relay_event_detached(relay->server, p->session, leg->role, leg->close_code ? leg->close_reason : why);
	}
	conn_queue_clear(&leg->out, false);
	bool last = --p->users == 0 && p->forgotten;
	pthread_mutex_unlock(&p->lock);
	if (last)
		pair_free(p);
	pthread_mutex_unlock(&relay->lock);
	metrics_add(relay->server->metrics, METRIC_LEGS_OPEN, -1);
	free(leg);
}

/* ---- what a leg sends ---- */

void leg_on_bytes(struct leg *leg, const void *data, size_t len)
{
	struct pair *p = leg->pair;
	bool pause = false;
	pthread_mutex_lock(&p->lock);
	struct leg *peer = p->legs[!leg->role];
	if (leg->in && p->paired && !leg->close_code && leg->ready_epoch == p->epoch && !peer->close_code) {
		bool was_empty = !peer->out.first;
		if (conn_queue_add(&peer->out, true, data, len)) {
			p->last_bytes_ms = clock_mono_ms();
			p->bytes[leg->role] += len;
			metrics_add(leg->relay->server->metrics,
				    leg->role == LEG_CLIENT ? METRIC_RELAY_TO_TARGET : METRIC_RELAY_TO_CLIENT,
				    (int64_t)len);
			if (was_empty) {
				peer->progress_ms = p->last_bytes_ms;
				announce(peer);
			}
		} else {
			/* A byte that is missing breaks the stream; the ends start anew. */
			begin_close(leg, 4010, "out of memory");
		}
		if (peer->out.bytes >= LIMIT_RELAY_QUEUE && !leg->paused)
			leg->paused = pause = true;
	}
	pthread_mutex_unlock(&p->lock);
	if (pause) {
		metrics_add(leg->relay->server->metrics, METRIC_RELAY_PAUSES, 1);
		leg->ops->pause(leg->transport);
	}
}

/* 0 and the epoch of a `ready`; 1 for a type that is not known; negative when it is malformed. */
static int parse_ready(const char *text, size_t len, int64_t *out_epoch)
{
	json_t *json = NULL;
	const char *type = "";
	const struct json_field envelope[] = { { "type", JSON_FIELD_STRING, true, 1, 64, &type },
					       { NULL, JSON_FIELD_STRING, false, 0, 0, NULL } };
	const struct json_field ready[] = { { "epoch", JSON_FIELD_INT, true, 1, INT64_MAX, out_epoch },
					    { NULL, JSON_FIELD_STRING, false, 0, 0, NULL } };
	int rc = json_parse(text, len, &json, NULL);
	if (rc == 0)
		rc = json_read(json, "message", false, envelope, NULL);
	if (rc == 0)
		rc = strcmp(type, "ready") == 0 ? json_read(json, "message", false, ready, NULL) : 1;
	json_decref(json);
	return rc;
}

void leg_on_text(struct leg *leg, const char *text, size_t len)
{
	int64_t epoch = 0;
	int rc = parse_ready(text, len, &epoch);
	struct pair *p = leg->pair;
	pthread_mutex_lock(&p->lock);
	if (rc < 0)
		begin_close(leg, 4008, "malformed message");
	else if (rc == 0 && (uint64_t)epoch > p->epoch)
		begin_close(leg, 4008, "ready for an epoch that has not begun");
	else if (rc == 0 && p->paired && leg->in && (uint64_t)epoch == p->epoch)
		leg->ready_epoch = p->epoch;
	pthread_mutex_unlock(&p->lock);
}

/* ---- what is sent to a leg ---- */

struct conn_msg *leg_next(struct leg *leg, bool *out_more, unsigned *out_code, const char **out_reason)
{
	struct pair *p = leg->pair;
	*out_code = 0;
	pthread_mutex_lock(&p->lock);
	struct conn_msg *m = conn_queue_take(&leg->out);
	*out_more = leg->out.first || leg->close_code;
	if (m) {
		leg->progress_ms = clock_mono_ms();
		if (leg->in)
			check_resume(p->legs[!leg->role]);
	} else if (leg->close_code) {
		*out_code = leg->close_code;
		*out_reason = leg->close_reason;
	}
	pthread_mutex_unlock(&p->lock);
	return m;
}

void leg_kick(struct leg *leg)
{
	struct pair *p = leg->pair;
	pthread_mutex_lock(&p->lock);
	leg->kick_posted = false;
	bool resume = leg->paused && may_read(leg);
	if (resume)
		leg->paused = false;
	bool write = leg->out.first || leg->close_code;
	pthread_mutex_unlock(&p->lock);
	if (resume)
		leg->ops->resume(leg->transport);
	if (write)
		leg->ops->want_write(leg->transport);
}

bool leg_tick(struct leg *leg, int64_t now_mono_ms)
{
	struct pair *p = leg->pair;
	pthread_mutex_lock(&p->lock);
	if (leg->out.first && now_mono_ms - leg->progress_ms > STALL_MS)
		begin_close(leg, 4012, "this leg did not read in time");
	bool closing = leg->close_code != 0;
	pthread_mutex_unlock(&p->lock);
	return closing;
}

/* ---- for the sessions ---- */

/* Table lock held. */
static void pair_end(struct pair *p, unsigned code, const char *reason, const char *relay_url)
{
	pthread_mutex_lock(&p->lock);
	for (int role = 0; role < 2; role++)
		if (p->legs[role])
			begin_close_for(p->legs[role], code, reason, relay_url);
	pthread_mutex_unlock(&p->lock);
}

void relay_renew_anythread(struct relay *relay, const char *session, int64_t generation)
{
	pthread_mutex_lock(&relay->lock);
	/* Also while no leg is here: one that was let in before may be on its way. */
	struct pair *p = pair_get(relay, session);
	pthread_mutex_lock(&p->lock);
	renew(p, generation);
	pthread_mutex_unlock(&p->lock);
	pthread_mutex_unlock(&relay->lock);
}

void relay_end_anythread(struct relay *relay, const char *session, unsigned close_code, const char *reason)
{
	pthread_mutex_lock(&relay->lock);
	struct pair *p = pair_find(relay, session);
	if (p)
		pair_end(p, close_code, reason, NULL);
	pthread_mutex_unlock(&relay->lock);
}

void relay_move_anythread(struct relay *relay, const char *session, const char *relay_url)
{
	pthread_mutex_lock(&relay->lock);
	struct pair *p = pair_find(relay, session);
	if (p)
		pair_end(p, 4009, "the session lives on another node now", relay_url);
	pthread_mutex_unlock(&relay->lock);
}

/* Notes it, too. */
static bool is_news(struct leg *leg, const struct relay_notice *notice)
{
	size_t i = 0;
	while (i < NOTICES - 1 && leg->told[i].code && leg->told[i].code != notice->code)
		i++;
	int64_t moved_ms = notice->at_ms - leg->told[i].at_ms;
	if (leg->told[i].code == notice->code && moved_ms < NOTICE_MOVED_MS && moved_ms > -NOTICE_MOVED_MS)
		return false;
	leg->told[i].code = notice->code;
	leg->told[i].at_ms = notice->at_ms;
	return true;
}

static bool is_in(const struct leg *leg)
{
	return leg && !leg->close_code;
}

static void push_notice(struct leg *leg, const struct relay_notice *notice)
{
	json_t *json = json_pack("{s:s,s:i,s:I,s:s}", "type", "notice", "code", (int)notice->code, "at_ms",
				 (json_int_t)notice->at_ms, "reason", notice->reason);
	char *text = json ? json_dumps(json, JSON_COMPACT) : NULL;
	push_text(leg, text);
	free(text);
	json_decref(json);
}

void relay_notice_anythread(struct relay *relay, const char *session, const struct relay_notice *notice)
{
	pthread_mutex_lock(&relay->lock);
	struct pair *p = pair_find(relay, session);
	if (p) {
		pthread_mutex_lock(&p->lock);
		struct leg *client = p->legs[LEG_CLIENT];
		if (client && !client->close_code && is_news(client, notice))
			push_notice(client, notice);
		pthread_mutex_unlock(&p->lock);
	}
	pthread_mutex_unlock(&relay->lock);
}

bool relay_info_anythread(struct relay *relay, const char *session, struct relay_info *out)
{
	pthread_mutex_lock(&relay->lock);
	struct pair *p = pair_find(relay, session);
	if (p) {
		pthread_mutex_lock(&p->lock);
		*out = (struct relay_info){ .client = p->legs[LEG_CLIENT] != NULL,
					    .target = p->legs[LEG_TARGET] != NULL,
					    .flows = is_in(p->legs[LEG_CLIENT]) || is_in(p->legs[LEG_TARGET]),
					    .last_bytes_mono_ms = p->last_bytes_ms,
					    .detached_mono_ms = p->detached_ms,
					    .bytes_up = p->bytes[LEG_CLIENT],
					    .bytes_down = p->bytes[LEG_TARGET] };
		pthread_mutex_unlock(&p->lock);
	}
	pthread_mutex_unlock(&relay->lock);
	return p != NULL;
}

void relay_forget_anythread(struct relay *relay, const char *session)
{
	pthread_mutex_lock(&relay->lock);
	struct pair *p = pair_find(relay, session);
	if (p) {
		pthread_mutex_lock(&p->lock);
		bool empty = p->users == 0;
		p->forgotten = true;
		pthread_mutex_unlock(&p->lock);
		if (empty)
			pair_free(p);
	}
	pthread_mutex_unlock(&relay->lock);
}

void relay_drain_anythread(struct relay *relay)
{
	pthread_mutex_lock(&relay->lock);
	relay->draining = true;
	for (size_t i = 0; i < BUCKETS; i++)
		LIST_EACH(node, &relay->buckets[i])
	pair_end(LIST_ENTRY(node, struct pair, node), 4002, "the relay is going away", NULL);
	pthread_mutex_unlock(&relay->lock);
}
