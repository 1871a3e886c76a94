#include "change.h"

#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct queue {
	const struct tunnel_host *host;
	int fd;
	pthread_mutex_t lock; /* guards what follows, and the state of every change in the queue's hands */
	pthread_cond_t answered;
	struct change *first, **last;
	size_t waiting, bytes;
};

int queue_new(const struct tunnel_host *host, struct queue **out_queue, struct words w)
{
	struct queue *q = calloc(1, sizeof *q);
	if (!q)
		return words_set(w, TUNNEL_UNAVAILABLE, "out of memory");
	q->host = host;
	q->last = &q->first;
	pthread_mutex_init(&q->lock, NULL);
	cond_init_monotonic(&q->answered);
	q->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (q->fd < 0) {
		queue_free(&q);
		return words_set(w, TUNNEL_UNAVAILABLE, "no more descriptors");
	}
	*out_queue = q;
	return 0;
}

void queue_free(struct queue **queue)
{
	struct queue *q = *queue;
	if (!q)
		return;
	if (q->fd >= 0)
		close(q->fd);
	while (q->first) {
		struct change *c = q->first;
		q->first = c->next;
		change_free(c);
	}
	pthread_mutex_destroy(&q->lock);
	pthread_cond_destroy(&q->answered);
	free(q);
	*queue = NULL;
}

int queue_fd(const struct queue *q)
{
	return q->fd;
}

/* Under the lock: takes the one that *at points to out. */
static struct change *take_out(struct queue *q, struct change **at)
{
	struct change *c = *at;
	*at = c->next;
	if (q->last == &c->next)
		q->last = at;
	c->next = NULL;
	q->waiting--;
	q->bytes -= c->command.used;
	return c;
}

/* Under the lock. */
static int answer_of(struct change *c, uint64_t *out_number, struct words w)
{
	if (c->result == TUNNEL_OK && out_number)
		*out_number = c->number;
	return c->text[0] ? words_set(w, c->result, "%s", c->text) : c->result;
}

static int give_up(struct queue *q, struct change **change, struct words w)
{
	struct change *c = *change;
	if (c->state == CHANGE_QUEUED) {
		struct change **at = &q->first;
		while (*at != c)
			at = &(*at)->next;
		take_out(q, at);
		return words_set(w, TUNNEL_TIMEOUT, "the deadline passed before it was sent; nothing was written");
	}
	c->state = CHANGE_ABANDONED;
	*change = NULL;
	return words_set(w, TUNNEL_TIMEOUT,
			 "Redis did not answer before the deadline; whether it was written is unknown");
}

int queue_submit(struct queue *q, struct master *m, const struct tunnel_call *call, struct change *c,
		 uint64_t *out_number)
{
	struct words w = words_of(call);
	int rc = c ? master_refuses(m, w) : words_set(w, TUNNEL_UNAVAILABLE, "out of memory");
	if (rc != 0) {
		change_free(c);
		return rc;
	}
	c->deadline_ms = call->deadline_ms;
	pthread_mutex_lock(&q->lock);
	if (q->waiting == QUEUE_MAX || q->bytes + c->command.used > QUEUE_BYTES_MAX) {
		pthread_mutex_unlock(&q->lock);
		change_free(c);
		return words_set(w, TUNNEL_UNAVAILABLE, "too many changes wait for Redis");
	}
	bool was_empty = !q->first;
	*q->last = c;
	q->last = &c->next;
	q->waiting++;
	q->bytes += c->command.used;
	if (was_empty)
		eventfd_write(q->fd, 1);
	while (c->state != CHANGE_ANSWERED) {
		int64_t left = time_left(q->host, c->deadline_ms, 60000);
		if (left == 0)
			break;
		wait_on(&q->answered, &q->lock, left);
	}
	rc = c->state == CHANGE_ANSWERED ? answer_of(c, out_number, w) : give_up(q, &c, w);
	pthread_mutex_unlock(&q->lock);
	change_free(c);
	return rc;
}

struct change *queue_take(struct queue *q, size_t most, size_t bytes_most)
{
	struct change *batch = NULL, **tail = &batch;
	size_t bytes = 0;
	eventfd_t times;
	pthread_mutex_lock(&q->lock);
	eventfd_read(q->fd, &times);
	for (size_t n = 0; q->first && n < most && bytes < bytes_most; n++) {
		bytes += q->first->command.used;
		*tail = take_out(q, &q->first);
		(*tail)->state = CHANGE_TAKEN;
		tail = &(*tail)->next;
	}
	if (q->first)
		eventfd_write(q->fd, 1);
	pthread_mutex_unlock(&q->lock);
	return batch;
}

/* Under the lock. */
static void settle(struct change *c)
{
	if (c->state == CHANGE_ABANDONED)
		change_free(c);
	else
		c->state = CHANGE_ANSWERED;
}

/* Under the lock: in their order, before all that wait. */
static void put_back(struct queue *q, struct change *c, struct change ***at)
{
	c->state = CHANGE_QUEUED;
	c->sent = c->again = false;
	c->result = TUNNEL_OK;
	c->text[0] = '\0';
	c->next = **at;
	if (q->last == *at)
		q->last = &c->next;
	**at = c;
	*at = &c->next;
	q->waiting++;
	q->bytes += c->command.used;
}

void queue_answer(struct queue *q, struct change *batch)
{
	pthread_mutex_lock(&q->lock);
	struct change **front = &q->first;
	while (batch) {
		struct change *c = batch;
		batch = c->next;
		c->next = NULL;
		if (c->again && c->state != CHANGE_ABANDONED)
			put_back(q, c, &front);
		else
			settle(c);
	}
	if (q->first)
		eventfd_write(q->fd, 1);
	pthread_cond_broadcast(&q->answered);
	pthread_mutex_unlock(&q->lock);
}

void queue_fail_all(struct queue *q, int result, const char *why)
{
	struct change *all = queue_take(q, SIZE_MAX, SIZE_MAX);
	for (struct change *c = all; c; c = c->next)
		change_fail(c, result, "%s", why);
	queue_answer(q, all);
}
