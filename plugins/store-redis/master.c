#include "master.h"

#include <stdio.h>
#include <stdlib.h>

struct master {
	const struct tunnel_host *host;
	pthread_mutex_t lock;
	pthread_cond_t found;
	enum { SOUGHT, HERE, AWAY } state;
	struct where where;
	char identity[IDENTITY_MAX];
	char why[256];
};

int master_new(const struct tunnel_host *host, struct master **out_master, struct words w)
{
	struct master *m = calloc(1, sizeof *m);
	if (!m)
		return words_set(w, TUNNEL_UNAVAILABLE, "out of memory");
	m->host = host;
	pthread_mutex_init(&m->lock, NULL);
	cond_init_monotonic(&m->found);
	*out_master = m;
	return 0;
}

void master_free(struct master **master)
{
	struct master *m = *master;
	if (!m)
		return;
	pthread_mutex_destroy(&m->lock);
	pthread_cond_destroy(&m->found);
	free(m);
	*master = NULL;
}

void master_is(struct master *m, const struct endpoint *server, const char *identity)
{
	pthread_mutex_lock(&m->lock);
	if (strcmp(m->identity, identity) != 0)
		m->where.generation++;
	snprintf(m->identity, sizeof m->identity, "%s", identity);
	m->where.server = *server;
	m->state = HERE;
	pthread_cond_broadcast(&m->found);
	pthread_mutex_unlock(&m->lock);
}

void master_is_sought(struct master *m)
{
	pthread_mutex_lock(&m->lock);
	m->state = SOUGHT;
	pthread_mutex_unlock(&m->lock);
}

void master_is_away(struct master *m, const char *why)
{
	pthread_mutex_lock(&m->lock);
	m->state = AWAY;
	snprintf(m->why, sizeof m->why, "%s", why);
	pthread_cond_broadcast(&m->found);
	pthread_mutex_unlock(&m->lock);
}

int master_where(struct master *m, int64_t until_ms, struct where *out, struct words w)
{
	int rc = 0;
	pthread_mutex_lock(&m->lock);
	while (m->state == SOUGHT && rc == 0) {
		int64_t left = time_left(m->host, until_ms, 60000);
		if (left == 0)
			rc = words_set(w, TUNNEL_TIMEOUT, "the deadline passed while a connection to Redis was sought");
		else
			wait_on(&m->found, &m->lock, left);
	}
	if (rc == 0 && m->state == AWAY)
		rc = words_set(w, TUNNEL_UNAVAILABLE, "%s", m->why);
	if (rc == 0)
		*out = m->where;
	pthread_mutex_unlock(&m->lock);
	return rc;
}

uint64_t master_generation(struct master *m)
{
	pthread_mutex_lock(&m->lock);
	uint64_t generation = m->where.generation;
	pthread_mutex_unlock(&m->lock);
	return generation;
}

int master_refuses(struct master *m, struct words w)
{
	pthread_mutex_lock(&m->lock);
	int rc = m->state == AWAY ? words_set(w, TUNNEL_UNAVAILABLE, "%s", m->why) : 0;
	pthread_mutex_unlock(&m->lock);
	return rc;
}
