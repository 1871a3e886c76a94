#include "events.h"
#include "scripts.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>

#define LOOK_MS 1000 /* so often the subscriber looks whether the server is still the right one, and there */
#define BACKOFF_MIN_MS 20
#define BACKOFF_MAX_MS 1000

struct publishing {
	struct errand errand;
	const struct redis_options *o;
	const char *channel, *message;
	size_t len;
};

static int run_publish(struct errand *e, struct conn *c)
{
	struct publishing *p = (struct publishing *)e;
	struct command text = { 0 };
	redisReply *reply = NULL;
	command_append(&text, p->channel, strlen(p->channel));
	command_append(&text, " ", 1);
	command_append(&text, p->message, p->len);
	command_begin(conn_out(c), 3);
	command_text(conn_out(c), "PUBLISH");
	command_format(conn_out(c), CHANNEL_EVENTS, p->o->prefix, p->o->database);
	command_bytes(conn_out(c), text.bytes, text.used);
	conn_out(c)->failed = conn_out(c)->failed || text.failed;
	command_free(&text);
	e->told = true; /* whether it was is not known before the answer, and it is told once */
	int rc = errand_ask(e, c, "PUBLISH", &reply);
	freeReplyObject(reply);
	return rc;
}

int events_publish(struct pool *p, const struct redis_options *o, const struct tunnel_call *call, const char *channel,
		   const char *message, size_t len)
{
	struct publishing one = {
		.errand.run = run_publish, .o = o, .channel = channel, .message = message, .len = len
	};
	return pool_run(p, &one.errand, call);
}

struct events {
	struct dial dial;
	const struct redis_options *o;
	struct master *master;
	pthread_mutex_t lock; /* guards has_thread */
	pthread_t thread;
	bool has_thread;
	tunnel_event_fn *event;
	void *arg;
	/* the thread's own */
	struct conn *conn;
	uint64_t generation;
	int64_t heard_ms, asked_ms; /* when something came; when a sign of life was last asked for */
	bool told;                  /* the log was told that the connection is lost */
};

int events_new(const struct dial *dial, const struct redis_options *o, struct master *m, struct events **out_events,
	       struct words w)
{
	struct events *v = calloc(1, sizeof *v);
	if (!v)
		return words_set(w, TUNNEL_UNAVAILABLE, "out of memory");
	v->dial = *dial;
	v->o = o;
	v->master = m;
	pthread_mutex_init(&v->lock, NULL);
	*out_events = v;
	return 0;
}

static int64_t now(const struct events *v)
{
	return v->dial.host->mono_ms(v->dial.host->ctx);
}

/* Waits that long, or until the connection has something; false when it is time to end. */
static bool wait_for_news(struct events *v, int64_t ms)
{
	struct pollfd fds[2] = { { .fd = v->dial.stop_fd, .events = POLLIN },
				 { .fd = v->conn ? conn_fd(v->conn) : -1, .events = POLLIN } };
	poll(fds, 2, (int)ms);
	return !fds[0].revents;
}

/* "channel message" to the subscriber. What is not in this form is nobody's. */
static void hand_on(struct events *v, const redisReply *message)
{
	char channel[NAME_MAX_LEN + 1];
	const char *blank = memchr(message->str, ' ', message->len);
	size_t n = blank ? (size_t)(blank - message->str) : 0;
	if (n == 0 || n > NAME_MAX_LEN || memchr(message->str, '\0', n))
		return;
	memcpy(channel, message->str, n);
	channel[n] = '\0';
	v->event(v->arg, channel, blank + 1, message->len - n - 1);
}

static int hear_one(struct events *v, struct words w)
{
	redisReply *reply = NULL;
	int rc = conn_hear(v->conn, now(v) + v->o->answer_ms, &reply, w);
	if (rc != 0)
		return rc;
	v->heard_ms = now(v);
	const redisReply *kind = reply_text(reply, 0), *message = reply_text(reply, 2);
	if (reply->type == REDIS_REPLY_ERROR)
		rc = reply_words(reply, "SUBSCRIBE", w);
	else if (kind && message && strcmp(kind->str, "message") == 0)
		hand_on(v, message);
	freeReplyObject(reply);
	return rc;
}

/* Until nothing is left of what was read: many messages may come in one piece. */
static int hear_all(struct events *v, struct words w)
{
	int rc;
	do {
		rc = hear_one(v, w);
	} while (rc == 0 && conn_has_more(v->conn));
	return rc;
}

static int say_ping(struct events *v, struct words w)
{
	v->asked_ms = now(v);
	command_begin(conn_out(v->conn), 1);
	command_text(conn_out(v->conn), "PING");
	return conn_flush(v->conn, now(v) + v->o->answer_ms, w);
}

static int listen_blocking(struct events *v, struct words w)
{
	struct where where;
	int rc = master_where(v->master, now(v) + LOOK_MS, &where, w);
	if (rc == 0)
		rc = conn_open(&v->dial, &where.server, 0, &v->conn, w);
	if (rc != 0)
		return rc;
	v->generation = where.generation;
	v->heard_ms = v->asked_ms = now(v);
	command_begin(conn_out(v->conn), 2);
	command_text(conn_out(v->conn), "SUBSCRIBE");
	command_format(conn_out(v->conn), CHANNEL_EVENTS, v->o->prefix, v->o->database);
	rc = conn_flush(v->conn, now(v) + v->o->answer_ms, w);
	return rc == 0 ? hear_all(v, w) : rc;
}

/* One turn of a connection that stands. */
static int stay(struct events *v, struct words w)
{
	if (master_generation(v->master) != v->generation)
		return words_set(w, TUNNEL_UNAVAILABLE, "changes go to another server now");
	if (v->asked_ms > v->heard_ms && now(v) - v->asked_ms > v->o->answer_ms)
		return words_set(w, TUNNEL_TIMEOUT, "no answer in time");
	if (now(v) - v->heard_ms >= LOOK_MS && v->asked_ms <= v->heard_ms)
		return say_ping(v, w);
	return conn_has_more(v->conn) || !conn_is_quiet(v->conn) ? hear_all(v, w) : 0;
}

static void tell(struct events *v, enum tunnel_log_level level, const char *what, const char *why)
{
	char text[400];
	snprintf(text, sizeof text, "%s%s", what, why);
	v->dial.host->log(v->dial.host->ctx, level, text);
}

static void *events_main(void *arg)
{
	struct events *v = arg;
	char why[256] = "";
	struct words w = { why, sizeof why };
	int64_t wait_ms = 0, backoff_ms = BACKOFF_MIN_MS;
	while (wait_for_news(v, wait_ms)) {
		bool stood = v->conn != NULL;
		int rc = stood ? stay(v, w) : listen_blocking(v, w);
		wait_ms = LOOK_MS;
		if (rc == 0 && !stood) {
			backoff_ms = BACKOFF_MIN_MS;
			if (v->told)
				tell(v, TUNNEL_LOG_INFO, "messages of other nodes are heard again", "");
			v->told = false;
		} else if (rc != 0) {
			conn_close(&v->conn);
			if (!v->told)
				tell(v, TUNNEL_LOG_WARN, "messages of other nodes are not heard for now: ", why);
			v->told = true;
			wait_ms = stood ? 0 : backoff_ms;
			backoff_ms = backoff_ms * 2 < BACKOFF_MAX_MS ? backoff_ms * 2 : BACKOFF_MAX_MS;
		}
	}
	conn_close(&v->conn);
	return NULL;
}

int events_subscribe(struct events *v, const struct tunnel_call *call, tunnel_event_fn *event, void *arg)
{
	struct words w = words_of(call);
	int rc = TUNNEL_OK;
	if (!event)
		return words_set(w, TUNNEL_INVALID, "subscribe without a callback");
	pthread_mutex_lock(&v->lock);
	if (v->has_thread) {
		rc = words_set(w, TUNNEL_INVALID, "there is a subscriber already; allowed: one an instance");
	} else {
		v->event = event;
		v->arg = arg;
		v->has_thread = thread_start(&v->thread, events_main, v);
		if (!v->has_thread)
			rc = words_set(w, TUNNEL_UNAVAILABLE, "cannot start a thread");
	}
	pthread_mutex_unlock(&v->lock);
	return rc;
}

void events_free(struct events **events)
{
	struct events *v = *events;
	if (!v)
		return;
	if (v->has_thread)
		pthread_join(v->thread, NULL);
	pthread_mutex_destroy(&v->lock);
	free(v);
	*events = NULL;
}
