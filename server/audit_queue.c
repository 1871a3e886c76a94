#include "server/audit_queue.h"

#include <pthread.h>
#include <stdlib.h>

#define RECORDS_MAX 4096u              /* an hour of a busy node's attaches and denials */
#define BYTES_MAX (8u * 1024 * 1024)   /* of their JSON: a denial may carry a long resource */
#define RECORD_BYTES_MAX (512u * 1024) /* one that a store would refuse must not keep back those behind it */

struct waiting {
	json_t *record;
	size_t bytes;
};

struct audit_queue {
	pthread_mutex_t lock;
	struct waiting at[RECORDS_MAX];
	size_t first, count, bytes;
	json_t *lost; /* event → how many */
	json_int_t lost_count;
};

struct audit_queue *audit_queue_new(void)
{
	struct audit_queue *q = calloc(1, sizeof *q);
	if (q)
		pthread_mutex_init(&q->lock, NULL);
	return q;
}

void audit_queue_free(struct audit_queue **queue)
{
	struct audit_queue *q = *queue;
	*queue = NULL;
	if (!q)
		return;
	audit_queue_pop(q, q->count);
	json_decref(q->lost);
	pthread_mutex_destroy(&q->lock);
	free(q);
}

/* With the lock held. */
static void count_lost(struct audit_queue *q, const json_t *record)
{
	const char *event = json_string_value(json_object_get(record, "event"));
	if (!q->lost)
		q->lost = json_object();
	json_int_t n = event ? json_integer_value(json_object_get(q->lost, event)) : 0;
	if (event)
		json_object_set_new(q->lost, event, json_integer(n + 1));
	q->lost_count++;
}

bool audit_queue_push(struct audit_queue *q, json_t *record)
{
	size_t bytes = json_dumpb(record, NULL, 0, JSON_COMPACT);
	json_t *own =
		json_deep_copy(record); /* whoever writes it completes it, while the caller may still look at his */
	pthread_mutex_lock(&q->lock);
	bool room = own && q->count < RECORDS_MAX && bytes <= RECORD_BYTES_MAX && q->bytes + bytes <= BYTES_MAX;
	if (room) {
		q->at[(q->first + q->count++) % RECORDS_MAX] = (struct waiting){ own, bytes };
		own = NULL;
		q->bytes += bytes;
	} else {
		count_lost(q, record);
	}
	pthread_mutex_unlock(&q->lock);
	json_decref(own);
	json_decref(record);
	return room;
}

size_t audit_queue_peek(struct audit_queue *q, json_t **out_records, size_t most)
{
	pthread_mutex_lock(&q->lock);
	size_t n = q->count < most ? q->count : most;
	for (size_t i = 0; i < n; i++)
		out_records[i] = json_incref(q->at[(q->first + i) % RECORDS_MAX].record);
	pthread_mutex_unlock(&q->lock);
	return n;
}

void audit_queue_pop(struct audit_queue *q, size_t n)
{
	pthread_mutex_lock(&q->lock);
	for (; n && q->count; n--, q->count--) {
		q->bytes -= q->at[q->first].bytes;
		json_decref(q->at[q->first].record);
		q->first = (q->first + 1) % RECORDS_MAX;
	}
	pthread_mutex_unlock(&q->lock);
}

size_t audit_queue_count(struct audit_queue *q)
{
	pthread_mutex_lock(&q->lock);
	size_t count = q->count;
	pthread_mutex_unlock(&q->lock);
	return count;
}

json_t *audit_queue_take_lost(struct audit_queue *q)
{
	pthread_mutex_lock(&q->lock);
	json_t *lost = q->lost_count ? json_pack("{s:I, s:o*}", "count", q->lost_count, "events", q->lost) : NULL;
	if (lost) {
		q->lost = NULL;
		q->lost_count = 0;
	}
	pthread_mutex_unlock(&q->lock);
	return lost;
}
