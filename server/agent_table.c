/* A chained hash table under one mutex. */
#include "server/agent_table.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BUCKETS 4096u /* a few thousand agents a node */

struct agent {
	struct agent *next;
	char target[LIMIT_ID + 1];
	wsconn_id conn;
	char identity[KEY_PIN_TEXT];
	uint64_t last_seq;
	bool failed;
};

struct agent_table {
	struct server *server;
	pthread_mutex_t lock;
	size_t count;
	struct agent *buckets[BUCKETS];
};

struct agent_table *agent_table_new(struct server *server)
{
	struct agent_table *t = calloc(1, sizeof *t);
	if (t) {
		t->server = server;
		pthread_mutex_init(&t->lock, NULL);
	}
	return t;
}

void agent_table_free(struct agent_table **table)
{
	struct agent_table *t = *table;
	if (!t)
		return;
	for (size_t i = 0; i < BUCKETS; i++)
		for (struct agent *a = t->buckets[i], *next; a; a = next) {
			next = a->next;
			free(a);
		}
	pthread_mutex_destroy(&t->lock);
	free(t);
	*table = NULL;
}

static struct agent **find(struct agent_table *t, const char *target)
{
	uint32_t h = 2166136261u;
	for (const char *c = target; *c; c++)
		h = (h ^ (unsigned char)*c) * 16777619u;
	struct agent **at = &t->buckets[h % BUCKETS];
	while (*at && strcmp((*at)->target, target) != 0)
		at = &(*at)->next;
	return at;
}

bool agent_table_set(struct agent_table *t, const char *target, wsconn_id conn, const char *identity, uint64_t last_seq,
		     const char *first, wsconn_id *out_old)
{
	pthread_mutex_lock(&t->lock);
	struct agent **at = find(t, target);
	if (!*at) {
		*at = calloc(1, sizeof **at);
		if (*at) {
			snprintf((*at)->target, sizeof(*at)->target, "%s", target);
			t->count++;
		}
	}
	struct agent *a = *at;
	if (a) {
		*out_old = a->conn;
		a->conn = conn;
		snprintf(a->identity, sizeof a->identity, "%s", identity);
		a->last_seq = last_seq;
		a->failed = false;
		wsconn_send_text_anythread(t->server, conn, first);
	}
	pthread_mutex_unlock(&t->lock);
	return a != NULL;
}

bool agent_table_remove(struct agent_table *t, const char *target, wsconn_id conn)
{
	pthread_mutex_lock(&t->lock);
	struct agent **at = find(t, target), *a = *at;
	bool is = a && a->conn == conn;
	if (is) {
		*at = a->next;
		t->count--;
		free(a);
	}
	pthread_mutex_unlock(&t->lock);
	return is;
}

wsconn_id agent_table_get(struct agent_table *t, const char *target)
{
	pthread_mutex_lock(&t->lock);
	struct agent *a = *find(t, target);
	wsconn_id conn = a ? a->conn : 0;
	pthread_mutex_unlock(&t->lock);
	return conn;
}

wsconn_id agent_table_get_identity(struct agent_table *t, const char *target, char out_identity[KEY_PIN_TEXT])
{
	pthread_mutex_lock(&t->lock);
	struct agent *a = *find(t, target);
	wsconn_id conn = a ? a->conn : 0;
	if (a)
		memcpy(out_identity, a->identity, sizeof a->identity);
	pthread_mutex_unlock(&t->lock);
	return conn;
}

bool agent_table_send(struct agent_table *t, const char *target, const char *text)
{
	pthread_mutex_lock(&t->lock);
	struct agent *a = *find(t, target);
	if (a)
		wsconn_send_text_anythread(t->server, a->conn, text);
	pthread_mutex_unlock(&t->lock);
	return a != NULL;
}

void agent_table_send_all(struct agent_table *t, const char *text)
{
	pthread_mutex_lock(&t->lock);
	for (size_t i = 0; i < BUCKETS; i++)
		for (struct agent *a = t->buckets[i]; a; a = a->next)
			wsconn_send_text_anythread(t->server, a->conn, text);
	pthread_mutex_unlock(&t->lock);
}

char (*agent_table_targets(struct agent_table *t, size_t *out_n))[LIMIT_ID + 1]
{
	size_t n = 0;
	pthread_mutex_lock(&t->lock);
	char(*ids)[LIMIT_ID + 1] = calloc(t->count + 1, sizeof *ids);
	for (size_t i = 0; ids && i < BUCKETS; i++)
		for (struct agent *a = t->buckets[i]; a; a = a->next)
			memcpy(ids[n++], a->target, sizeof a->target);
	pthread_mutex_unlock(&t->lock);
	*out_n = n;
	return ids;
}

size_t agent_table_count(struct agent_table *t)
{
	pthread_mutex_lock(&t->lock);
	size_t n = t->count;
	pthread_mutex_unlock(&t->lock);
	return n;
}

uint64_t agent_table_seq(struct agent_table *t, const char *target)
{
	pthread_mutex_lock(&t->lock);
	struct agent *a = *find(t, target);
	uint64_t seq = a ? a->last_seq : 0;
	pthread_mutex_unlock(&t->lock);
	return seq;
}

void agent_table_set_seq(struct agent_table *t, const char *target, wsconn_id conn, uint64_t seq)
{
	pthread_mutex_lock(&t->lock);
	struct agent *a = *find(t, target);
	if (a && a->conn == conn)
		a->last_seq = seq;
	pthread_mutex_unlock(&t->lock);
}

void agent_table_set_failed(struct agent_table *t, const char *target, wsconn_id conn)
{
	pthread_mutex_lock(&t->lock);
	struct agent *a = *find(t, target);
	if (a && a->conn == conn)
		a->failed = true;
	pthread_mutex_unlock(&t->lock);
}

bool agent_table_has_failed(struct agent_table *t, const char *target, wsconn_id conn)
{
	pthread_mutex_lock(&t->lock);
	struct agent *a = *find(t, target);
	bool failed = a && a->conn == conn && a->failed;
	pthread_mutex_unlock(&t->lock);
	return failed;
}
