/* Two chained hash tables under one mutex, by id and by target: each agent asks for its sessions with each heartbeat.
 * Rows are copied in and out, so nobody holds a pointer into it. */
#include "server/session_table.h"

#include "base/secret.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define BUCKETS 4096u /* a few thousand live sessions a node; longer chains only cost time */

struct node {
	struct node *next, *next_of_target; /* in their buckets */
	struct session_live row;
	char token[SECRET_TOKEN_TEXT]; /* "": none */
};

struct session_table {
	pthread_mutex_t lock;
	size_t count;
	struct node *buckets[BUCKETS], *by_target[BUCKETS];
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

static struct node **bucket_of_target(struct session_table *t, const char *target)
{
	return &t->by_target[session_table_hash(target) % BUCKETS];
}

static void link_target(struct session_table *t, struct node *n)
{
	struct node **bucket = bucket_of_target(t, n->row.target);
	n->next_of_target = *bucket;
	*bucket = n;
}

static void unlink_target(struct session_table *t, const struct node *n)
{
	struct node **at = bucket_of_target(t, n->row.target);
	while (*at != n)
		at = &(*at)->next_of_target;
	*at = n->next_of_target;
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
	if (*at) {
		unlink_target(t, *at);
	} else {
		*at = calloc(1, sizeof **at);
		t->count += *at ? 1 : 0;
	}
	bool ok = *at != NULL;
	if (ok) {
		(*at)->row = *row;
		link_target(t, *at);
	}
	pthread_mutex_unlock(&t->lock);
	return ok;
}

void session_table_remove(struct session_table *t, const char *id)
{
	pthread_mutex_lock(&t->lock);
	struct node **at = find(t, id), *n = *at;
	if (n) {
		*at = n->next;
		unlink_target(t, n);
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

static size_t count_locked(struct session_table *t, const char *target)
{
	size_t n = 0;
	for (const struct node *node = *bucket_of_target(t, target); node; node = node->next_of_target)
		n += strcmp(node->row.target, target) == 0;
	return n;
}

static void copy_locked(struct session_table *t, const char *target, struct session_live *out)
{
	if (target) {
		for (const struct node *n = *bucket_of_target(t, target); n; n = n->next_of_target)
			if (strcmp(n->row.target, target) == 0)
				*out++ = n->row;
		return;
	}
	for (size_t i = 0; i < BUCKETS; i++)
		for (const struct node *n = t->buckets[i]; n; n = n->next)
			*out++ = n->row;
}

size_t session_table_count(struct session_table *t, const char *target)
{
	pthread_mutex_lock(&t->lock);
	size_t n = target ? count_locked(t, target) : t->count;
	pthread_mutex_unlock(&t->lock);
	return n;
}

struct session_live *session_table_copy(struct session_table *t, const char *target, size_t *out_n)
{
	pthread_mutex_lock(&t->lock);
	size_t n = target ? count_locked(t, target) : t->count;
	struct session_live *rows = n ? malloc(n * sizeof *rows) : NULL;
	if (rows)
		copy_locked(t, target, rows);
	*out_n = rows ? n : 0;
	pthread_mutex_unlock(&t->lock);
	return rows;
}
