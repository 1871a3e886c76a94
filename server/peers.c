/* Questions carry a number that only their asker knows; an answer carries it back. Whoever is asked keeps the numbers
 * of the last questions with their answers: a repetition of one that is being worked on is ignored, that of a finished
 * one gets the same answer again. What is told without waiting for an answer has no number.
 *
 * A question says when it was sent and how long somebody waits from then on. A node that was stopped for a while reads
 * what nobody waits for any more: such a question is not done, its asker has been told that it failed. */
#include "server/peers.h"

#include "base/clock.h"
#include "base/json.h"
#include "base/limits.h"
#include "base/list.h"
#include "base/log.h"
#include "base/secret.h"
#include "server/pool.h"
#include "server/server.h"
#include "server/session_record.h"
#include "server/store.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define ID_TEXT 25
#define REPEAT_MS 400 /* a question without an answer */
#define HEARD 1024u   /* questions that are remembered */
#define STALE_MS \
	3000 /* a question that was on its way for so long is not done; clocks of nodes may differ by as much */
#define SILENT_MS 5000 /* a node that did not answer is not waited for again, unless it is heard */
#define WAITERS 2u     /* for one node that has not answered them for a second */

struct peers_ask {
	struct list node;
	struct peers *peers;
	char id[ID_TEXT];
	const char *op;
	json_t *nodes, *body;
	json_t *answers; /* node → answer */
	int64_t begun_ms, limit_ms;
};

struct heard {
	char id[ID_TEXT]; /* "": free */
	json_t *answer;   /* NULL: it is being worked on */
};

struct peers {
	struct server *server;
	const struct peers_op *ops;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool muted;
	struct list asks;
	struct heard heard[HEARD]; /* a ring */
	size_t heard_n;
	json_t *silent; /* node → until when (mono) it is not waited for */
};

/* ---- messages ---- */

static void publish(struct peers *p, json_t *message)
{
	struct err e;
	if (message && store_publish_blocking(p->server->store, PEERS_CHANNEL, message, &e) != 0)
		log_debug("another node could not be told: %s", e.text);
	json_decref(message);
}

/* id "": no answer is wanted. */
static void publish_question(struct peers *p, const char *node, const char *op, const char *id, int64_t wait_ms,
			     const json_t *body)
{
	publish(p, json_pack("{s:s, s:s, s:s, s:s, s:I, s:I, s:O}", "to", node, "from", p->server->node, "id", id, "op",
			     op, "sent_ms", (json_int_t)clock_wall_ms(), "wait_ms", (json_int_t)wait_ms, "body", body));
}

static void publish_answer(struct peers *p, const char *node, const char *id, json_t *answer)
{
	publish(p, json_pack("{s:s, s:s, s:s, s:O}", "to", node, "from", p->server->node, "re", id, "answer", answer));
}

/* ---- being asked ---- */

struct job {
	struct peers *peers;
	const struct peers_op *op;
	char id[ID_TEXT], from[LIMIT_ID + 1];
	int64_t until_ms; /* mono: nobody waits for longer; 0: nobody waits anyway */
	json_t *body;
};

static struct heard *find_heard(struct peers *p, const char *id)
{
	for (size_t i = 0; *id && i < HEARD; i++)
		if (strcmp(p->heard[i].id, id) == 0)
			return &p->heard[i];
	return NULL;
}

static void work(void *arg)
{
	struct job *j = arg;
	struct peers *p = j->peers;
	bool late = j->until_ms && clock_mono_ms() >= j->until_ms; /* it has waited its turn for too long */
	json_auto_t *answer = late ? NULL : j->op->answer_blocking(p->server, j->body);
	pthread_mutex_lock(&p->lock);
	struct heard *h = find_heard(p, j->id);
	if (answer && h)
		h->answer = json_incref(answer);
	else if (h)
		h->id[0] = '\0'; /* a repetition may fare better */
	pthread_mutex_unlock(&p->lock);
	if (answer && *j->id)
		publish_answer(p, j->from, j->id, answer);
}

/* The answer to a question that was answered before, told again. */
static void repeat(void *arg)
{
	struct job *j = arg;
	publish_answer(j->peers, j->from, j->id, j->body);
}

static void job_free(void *arg)
{
	struct job *j = arg;
	json_decref(j->body);
	free(j);
}

/* Attaches ask no other node, so nobody waits there for somebody who waits for him. */
static bool submit(struct peers *p, void (*run)(void *), const struct job *values, json_t *body)
{
	struct job *j = malloc(sizeof *j);
	if (!j)
		return false;
	*j = *values;
	j->body = json_incref(body);
	struct pool_job job = { .run_blocking = run, .done = job_free, .arg = j, .reactor = -1, .lane = POOL_ATTACHES };
	if (pool_submit_anythread(p->server->pool, &job) == 0)
		return true;
	job_free(j);
	return false;
}

/* A place for one more: the oldest one that is answered goes. NULL: all are being worked on. */
static struct heard *make_place(struct peers *p)
{
	for (size_t i = 0; i < HEARD; i++) {
		struct heard *h = &p->heard[p->heard_n++ % HEARD];
		if (*h->id && !h->answer)
			continue;
		json_decref(h->answer);
		*h = (struct heard){ .id = "" };
		return h;
	}
	return NULL;
}

/* false: it is a newer node's, or nobody waits for it any more. */
static bool read_question(struct peers *p, const json_t *message, const char *op, struct job *out)
{
	int64_t age_ms = clock_wall_ms() - record_int(message, "sent_ms");
	*out = (struct job){ .peers = p };
	snprintf(out->id, sizeof out->id, "%s", record_text(message, "id"));
	snprintf(out->from, sizeof out->from, "%s", record_text(message, "from"));
	for (const struct peers_op *o = p->ops; o->name && !out->op; o++)
		if (strcmp(o->name, op) == 0)
			out->op = o;
	if (*out->id)
		out->until_ms = clock_mono_ms() + record_int(message, "wait_ms");
	if (*out->id && age_ms > STALE_MS) {
		log_warn("a question of node %s (%s) is not done: it was sent %lld ms ago, by that node's clock",
			 out->from, op, (long long)age_ms);
		return false;
	}
	return out->op && json_object_get(message, "body");
}

static void on_question(struct peers *p, const json_t *message, const char *op)
{
	struct job j;
	struct heard *place = NULL;
	json_t *body = json_object_get(message, "body");
	if (!read_question(p, message, op, &j))
		return;
	pthread_mutex_lock(&p->lock);
	struct heard *h = find_heard(p, j.id);
	if (p->muted)
		;
	else if (!*j.id)
		submit(p, work, &j, body);
	else if (h && h->answer)
		submit(p, repeat, &j, h->answer);
	else if (!h && (place = make_place(p)) && submit(p, work, &j, body))
		memcpy(place->id, j.id, sizeof place->id);
	pthread_mutex_unlock(&p->lock);
}

static void on_answer(struct peers *p, const json_t *message, const char *id)
{
	pthread_mutex_lock(&p->lock);
	LIST_EACH(at, &p->asks)
	{
		struct peers_ask *a = LIST_ENTRY(at, struct peers_ask, node);
		if (strcmp(a->id, id) == 0)
			json_object_set(a->answers, record_text(message, "from"), json_object_get(message, "answer"));
	}
	pthread_cond_broadcast(&p->changed);
	pthread_mutex_unlock(&p->lock);
}

void peers_on_event_anythread(struct peers *p, const char *text, size_t len)
{
	json_auto_t *message = NULL;
	struct err e;
	if (json_parse(text, len, &message, &e) != 0)
		return;
	pthread_mutex_lock(&p->lock);
	json_object_del(p->silent, record_text(message, "from"));
	pthread_mutex_unlock(&p->lock);
	if (strcmp(record_text(message, "to"), p->server->node) != 0)
		return;
	if (*record_text(message, "re"))
		on_answer(p, message, record_text(message, "re"));
	else
		on_question(p, message, record_text(message, "op"));
}

/* ---- asking ---- */

/* Lock held. false: the time is over. */
static bool wait_until(struct peers *p, int64_t mono_ms)
{
	int64_t left = mono_ms - clock_mono_ms();
	struct timespec until;
	if (left <= 0)
		return false;
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_nsec += left % 1000 * 1000000;
	until.tv_sec += left / 1000 + until.tv_nsec / 1000000000;
	until.tv_nsec %= 1000000000;
	pthread_cond_timedwait(&p->changed, &p->lock, &until);
	return true;
}

static bool is_answered(const struct peers_ask *a)
{
	return json_object_size(a->answers) >= json_array_size(a->nodes);
}

/* Lock not held. Those that have not answered. */
static void question_all(struct peers_ask *a)
{
	struct peers *p = a->peers;
	json_auto_t *missing = json_array();
	pthread_mutex_lock(&p->lock);
	for (size_t i = 0; i < json_array_size(a->nodes); i++)
		if (!json_object_get(a->answers, json_string_value(json_array_get(a->nodes, i))))
			json_array_append(missing, json_array_get(a->nodes, i));
	pthread_mutex_unlock(&p->lock);
	int64_t left_ms = a->begun_ms + a->limit_ms - clock_mono_ms();
	for (size_t i = 0; i < json_array_size(missing); i++)
		publish_question(p, json_string_value(json_array_get(missing, i)), a->op, a->id, left_ms, a->body);
}

struct peers_ask *peers_begin_blocking(struct peers *p, const json_t *nodes, const char *op, const json_t *body,
				       int64_t limit_ms)
{
	struct peers_ask *a = calloc(1, sizeof *a);
	if (!a)
		return NULL;
	*a = (struct peers_ask){ .peers = p,
				 .op = op,
				 .nodes = json_deep_copy(nodes),
				 .body = json_deep_copy(body),
				 .answers = json_object(),
				 .begun_ms = clock_mono_ms(),
				 .limit_ms = limit_ms };
	secret_random_id(a->id, ID_TEXT - 1);
	pthread_mutex_lock(&p->lock);
	list_append(&p->asks, &a->node);
	pthread_mutex_unlock(&p->lock);
	question_all(a);
	return a;
}

json_t *peers_finish_blocking(struct peers_ask *a)
{
	struct peers *p = a->peers;
	const int64_t end = a->begun_ms + a->limit_ms;
	pthread_mutex_lock(&p->lock);
	while (!p->muted && !is_answered(a)) {
		int64_t again = clock_mono_ms() + REPEAT_MS;
		while (!p->muted && !is_answered(a) && wait_until(p, again < end ? again : end))
			;
		if (p->muted || is_answered(a) || clock_mono_ms() >= end)
			break;
		pthread_mutex_unlock(&p->lock);
		question_all(a);
		pthread_mutex_lock(&p->lock);
	}
	list_remove(&a->node);
	pthread_mutex_unlock(&p->lock);
	json_t *answers = a->answers;
	json_decref(a->nodes);
	json_decref(a->body);
	free(a);
	return answers;
}

/* Has it left the last one without an answer, or does it leave those who wait now? Then no more workers wait for it. */
static bool is_silent(struct peers *p, const char *node)
{
	const int64_t now = clock_mono_ms();
	size_t waiting = 0;
	pthread_mutex_lock(&p->lock);
	bool silent = json_integer_value(json_object_get(p->silent, node)) > now;
	LIST_EACH(at, &p->asks)
	{
		const struct peers_ask *a = LIST_ENTRY(at, struct peers_ask, node);
		const char *first = json_string_value(json_array_get(a->nodes, 0));
		waiting += json_array_size(a->nodes) == 1 && strcmp(first, node) == 0 && now - a->begun_ms > 1000;
	}
	pthread_mutex_unlock(&p->lock);
	return silent || waiting >= WAITERS;
}

static void note_silent(struct peers *p, const char *node)
{
	pthread_mutex_lock(&p->lock);
	json_object_set_new(p->silent, node, json_integer(clock_mono_ms() + SILENT_MS));
	pthread_mutex_unlock(&p->lock);
}

int peers_ask_blocking(struct peers *p, const char *node, const char *op, const json_t *body, int64_t limit_ms,
		       json_t **out_answer, struct err *e)
{
	*out_answer = NULL;
	if (is_silent(p, node))
		return err_set(e, ERR_UNAVAILABLE, "node %.64s does not answer, try again", node);
	json_auto_t *nodes = json_pack("[s]", node);
	struct peers_ask *ask = nodes ? peers_begin_blocking(p, nodes, op, body, limit_ms) : NULL;
	json_auto_t *answers = ask ? peers_finish_blocking(ask) : NULL;
	*out_answer = json_incref(json_object_get(answers, node));
	if (*out_answer)
		return 0;
	note_silent(p, node);
	return err_set(e, ERR_UNAVAILABLE, "node %.64s did not answer in time, try again", node);
}

void peers_tell_blocking(struct peers *p, const char *node, const char *op, const json_t *body)
{
	publish_question(p, node, op, "", 0, body);
}

/* ---- start and stop ---- */

int peers_new(struct server *server, const struct peers_op *ops, struct peers **out_peers, struct err *e)
{
	struct peers *p = calloc(1, sizeof *p);
	if (!p)
		return err_set(e, ERR_NOMEM, "out of memory");
	p->server = server;
	p->ops = ops;
	p->silent = json_object();
	list_init(&p->asks);
	pthread_mutex_init(&p->lock, NULL);
	pthread_condattr_t attr;
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&p->changed, &attr);
	pthread_condattr_destroy(&attr);
	*out_peers = p;
	return 0;
}

void peers_mute(struct peers *p)
{
	pthread_mutex_lock(&p->lock);
	p->muted = true;
	pthread_cond_broadcast(&p->changed);
	pthread_mutex_unlock(&p->lock);
}

void peers_free(struct peers **peers)
{
	struct peers *p = *peers;
	if (!p)
		return;
	for (size_t i = 0; i < HEARD; i++)
		json_decref(p->heard[i].answer);
	json_decref(p->silent);
	pthread_cond_destroy(&p->changed);
	pthread_mutex_destroy(&p->lock);
	free(p);
	*peers = NULL;
}
