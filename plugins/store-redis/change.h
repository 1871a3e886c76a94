/* A change on its way: made and waited for on the caller's thread, sent by the one thread that changes. */
#ifndef CHANGE_H
#define CHANGE_H

#include "master.h"
#include "scripts.h"

#define QUEUE_MAX 4096u                     /* changes that wait to be sent */
#define QUEUE_BYTES_MAX (64u * 1024 * 1024) /* of them together */
#define TRIES_MAX 3u                        /* of a change that the server did not take up */
#define FENCE_DIGITS 20

/* Whose changes: part of their keys, and of the fence's. */
struct owner {
	const char *prefix;
	char instance[33];
};

struct change {
	struct change *next;
	const char *doing; /* for texts */
	struct command command;
	size_t fence_at; /* where the number of the connection goes: FENCE_DIGITS digits */
	uint64_t expect_version;
	int64_t deadline_ms;
	unsigned tries;
	bool sent, again; /* again: the server did nothing, and it may be sent once more */
	/* the answer */
	int result;
	uint64_t number; /* version, or sequence of the first record */
	char text[200];
	enum { CHANGE_QUEUED, CHANGE_TAKEN, CHANGE_ANSWERED, CHANGE_ABANDONED } state;
};

/* NULL: out of memory. */
struct change *change_new_put(const struct owner *owner, const struct tunnel_put *put);
struct change *change_new_del(const struct owner *owner, const char *collection, const char *key,
			      uint64_t expect_version);
struct change *change_new_append(const struct owner *owner, const char *log, const struct tunnel_record *records,
				 size_t n);
struct change *change_new_probe(const struct owner *owner);
struct change *change_new_purge(const struct owner *owner, unsigned most);
void change_free(struct change *c);
/* The command, as that connection for changes sends it. */
void change_send(struct change *c, uint64_t fence, struct command *out);
/* What the server said to it. */
void change_take(struct change *c, const redisReply *reply);
void change_fail(struct change *c, int result, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* queue.c: a change belongs to the queue until it is answered. A caller whose deadline passes while it is on its way
 * marks it abandoned, and the queue frees it. */
struct queue;
int queue_new(const struct tunnel_host *host, struct queue **out_queue, struct words w);
void queue_free(struct queue **queue);
/* Hands the change over and waits for its answer or the call's deadline. Frees the change. */
int queue_submit(struct queue *q, struct master *m, const struct tunnel_call *call, struct change *c,
		 uint64_t *out_number);
/* For the one thread that sends: */
int queue_fd(const struct queue *q); /* readable when something may wait */
struct change *queue_take(struct queue *q, size_t most, size_t bytes_most);
void queue_answer(struct queue *q, struct change *batch); /* those marked again go back to the front */
void queue_fail_all(struct queue *q, int result, const char *why);

#endif
