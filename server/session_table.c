/* A chained hash table under one mutex. Rows are copied in and out, so nobody holds a pointer into it. */
#include "server/session_table.h"

#include "base/secret.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define BUCKETS 4096u /* a few thousand live sessions a node; longer chains only cost time */

struct node {
	struct node *next;
	struct session_live row;
	char token[SECRET_TOKEN_TEXT]; /* "": none */
};

struct session_table {
	pthread_mutex_t lock;
	size_t count;
	struct node *buckets[BUCKETS];
};

uint32_t session_table_hash(const char *id)
{
	uint32_t h = 2166136261u;
	for (; *id; id++)
		h = (h ^ (unsigned char)*id) * 16777619u;
	return h;
}

static void node_free(struct node *n)
{
	secret_wipe(n->token, sizeof n->token);
	free(n);
}

static struct node **find(struct session_table *t, const char *id)
{
	struct node **at = &t->buckets[session_table_hash(id) % BUCKETS];
	while (*at && strcmp((*at)->row.id, id) != 0)
		at = &(*at)->next;
	return at;
}

struct session_table *session_table_new(void)
{
	struct session_table *t = calloc(1, sizeof *t);
	if (t)
		pthread_mutex_init(&t->lock, NULL);
	return t;
}

void session_table_free(struct session_table **table)
{
	struct session_table *t = *table;
	if (!t)
		return;
	for (size_t i = 0; i < BUCKETS; i++)
		for (struct node *n = t->buckets[i], *next; n; n = next) {
			next = n->next;
			node_free(n);
		}
	pthread_mutex_destroy(&t->lock);
	free(t);
	*table = NULL;
}

bool session_table_add(struct session_table *t, const struct session_live *row)
{
	pthread_mutex_lock(&t->lock);
	struct node **at = find(t, row->id);
	if (!*at) {
		*at = calloc(1, sizeof **at);
		t->count += *at ? 1 : 0;
	}
	bool ok = *at != NULL;
	if (ok)
		(*at)->row = *row;
	pthread_mutex_unlock(&t->lock);
	return ok;
}

void session_table_remove(struct session_table *t, const char *id)
{
	pthread_mutex_lock(&t->lock);
	struct node **at = find(t, id), *n = *at;
	if (n) {
		*at = n->next;
		t->count--;
		node_free(n);
	}
	pthread_mutex_unlock(&t->lock);
}

bool session_table_get(struct session_table *t, const char *id, struct session_live *out)
{
	pthread_mutex_lock(&t->lock);
	struct node *n = *find(t, id);
	if (n)
		*out = n->row;
	pthread_mutex_unlock(&t->lock);
	return n != NULL;
}

bool session_table_change(struct session_table *t, const char *id, void (*change)(struct session_live *row, void *arg),
			  void *arg)
{
	pthread_mutex_lock(&t->lock);
	struct node *n = *find(t, id);
	if (n)
		change(&n->row, arg);
	if (n && n->row.accepted)
		secret_wipe(n->token, sizeof n->token);
	pthread_mutex_unlock(&t->lock);
	return n != NULL;
}

void session_table_keep_token(struct session_table *t, const char *id, const char *token)
{
	pthread_mutex_lock(&t->lock);
	struct node *n = *find(t, id);
	if (n)
		memcpy(n->token, token, sizeof n->token);
	pthread_mutex_unlock(&t->lock);
}

bool session_table_token(struct session_table *t, const char *id, char *out)
{
	pthread_mutex_lock(&t->lock);
	struct node *n = *find(t, id);
	bool kept = n && n->token[0];
	if (kept)
		memcpy(out, n->token, sizeof n->token);
	pthread_mutex_unlock(&t->lock);
	return kept;
}

static size_t count_locked(struct session_table *t, const char *target, struct session_live *out)
{
	size_t n = 0;
	for (size_t i = 0; i < BUCKETS; i++)
		for (struct node *node = t->buckets[i]; node; node = node->next)
			if (!target || strcmp(node->row.target, target) == 0) {
				if (out)
					out[n] = node->row;
				n++;
			}
	return n;
}

size_t session_table_count(struct session_table *t, const char *target)
{
	pthread_mutex_lock(&t->lock);
	size_t n = target ? count_locked(t, target, NULL) : t->count;
	pthread_mutex_unlock(&t->lock);
	return n;
}

struct session_live *session_table_copy(struct session_table *t, const char *target, size_t *out_n)
{
	pthread_mutex_lock(&t->lock);
	struct session_live *rows = t->count ? calloc(t->count, sizeof *rows) : NULL;
	*out_n = rows ? count_locked(t, target, rows) : 0;
	pthread_mutex_unlock(&t->lock);
	return rows;
}
