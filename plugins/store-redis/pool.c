#include "pool.h"

#include <stdlib.h>

struct place {
	struct conn *conn;
	uint64_t generation; /* of the server that it leads to */
	bool lent;
};

struct pool {
	struct dial dial;
	struct master *master;
	int64_t answer_ms;
	size_t count;
	struct place *at;
	pthread_mutex_t lock; /* guards who is lent */
	pthread_cond_t returned;
};

int pool_new(const struct dial *dial, struct master *m, size_t connections, int64_t answer_ms, struct pool **out_pool,
	     struct words w)
{
	struct pool *p = calloc(1, sizeof *p);
	if (p)
		p->at = calloc(connections, sizeof *p->at);
	if (!p || !p->at) {
		free(p);
		return words_set(w, TUNNEL_UNAVAILABLE, "out of memory");
	}
	p->dial = *dial;
	p->master = m;
	p->answer_ms = answer_ms;
	p->count = connections;
	pthread_mutex_init(&p->lock, NULL);
	cond_init_monotonic(&p->returned);
	*out_pool = p;
	return 0;
}

void pool_free(struct pool **pool)
{
	struct pool *p = *pool;
	if (!p)
		return;
	for (size_t i = 0; i < p->count; i++)
		conn_close(&p->at[i].conn);
	pthread_mutex_destroy(&p->lock);
	pthread_cond_destroy(&p->returned);
	free(p->at);
	free(p);
	*pool = NULL;
}

/* One that is connected, if there is one. */
static struct place *find_idle(struct pool *p)
{
	struct place *found = NULL;
	for (size_t i = 0; i < p->count; i++)
		if (!p->at[i].lent && (!found || (!found->conn && p->at[i].conn)))
			found = &p->at[i];
	return found;
}

static struct place *borrow(struct pool *p, const struct tunnel_call *call)
{
	struct place *one;
	pthread_mutex_lock(&p->lock);
	while (!(one = find_idle(p))) {
		int64_t left = time_left(p->dial.host, call->deadline_ms, 60000);
		if (left == 0)
			break;
		wait_on(&p->returned, &p->lock, left);
	}
	if (one)
		one->lent = true;
	pthread_mutex_unlock(&p->lock);
	return one;
}

static void give_back(struct pool *p, struct place *one)
{
	pthread_mutex_lock(&p->lock);
	one->lent = false;
	pthread_cond_signal(&p->returned);
	pthread_mutex_unlock(&p->lock);
}

/* A connection to the server of now; out_old: it was there before. */
static int make_ready(struct pool *p, struct place *one, const struct tunnel_call *call, bool *out_old, struct words w)
{
	struct where where;
	int rc = master_where(p->master, call->deadline_ms, &where, w);
	if (rc == 0 && time_left(p->dial.host, call->deadline_ms, 1) == 0)
		rc = words_set(w, TUNNEL_TIMEOUT, "the deadline has passed");
	if (rc != 0)
		return rc;
	if (one->conn && (one->generation != where.generation || !conn_is_quiet(one->conn)))
		conn_close(&one->conn);
	*out_old = one->conn != NULL;
	one->generation = where.generation;
	return one->conn ? 0 : conn_open(&p->dial, &where.server, call->deadline_ms, &one->conn, w);
}

int pool_run(struct pool *p, struct errand *e, const struct tunnel_call *call)
{
	bool old = true;
	int rc = TUNNEL_UNAVAILABLE;
	e->call = call;
	e->w = words_of(call);
	e->host = p->dial.host;
	e->answer_ms = p->answer_ms;
	struct place *one = borrow(p, call);
	if (!one)
		return words_set(e->w, TUNNEL_TIMEOUT, "the deadline passed while all connections were busy");
	for (bool again = true; again;) {
		e->poisoned = false;
		rc = make_ready(p, one, call, &old, e->w);
		if (rc == 0)
			rc = e->run(e, one->conn);
		again = e->poisoned && old && !e->told && rc == TUNNEL_UNAVAILABLE;
		if (e->poisoned)
			conn_close(&one->conn);
	}
	give_back(p, one);
	return rc;
}

static int64_t until(const struct errand *e)
{
	int64_t until_ms = e->host->mono_ms(e->host->ctx) + e->answer_ms;
	return e->call->deadline_ms && e->call->deadline_ms < until_ms ? e->call->deadline_ms : until_ms;
}

int errand_hear(struct errand *e, struct conn *c, const char *doing, redisReply **out_reply)
{
	redisReply *reply = NULL;
	int rc = conn_hear(c, until(e), &reply, e->w);
	if (rc != 0) {
		e->poisoned = true;
		return rc;
	}
	if (reply->type == REDIS_REPLY_ERROR) {
		e->poisoned = reply_sends_away(reply);
		rc = reply_words(reply, doing, e->w);
		freeReplyObject(reply);
	} else
		*out_reply = reply;
	return rc;
}

int errand_ask(struct errand *e, struct conn *c, const char *doing, redisReply **out_reply)
{
	int rc = conn_flush(c, until(e), e->w);
	if (rc != 0) {
		e->poisoned = true;
		return rc;
	}
	return errand_hear(e, c, doing, out_reply);
}
