/* Asking other nodes to do something, through the store's events. A message may be lost, so a question is repeated
 * until it is answered, and whoever is asked does it once. Whoever may write the store is trusted: it holds the
 * policies, too. */
#ifndef SERVER_PEERS_H
#define SERVER_PEERS_H

#include "base/err.h"

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

struct server;
struct peers;

#define PEERS_CHANNEL "peers"

/* What a node does when it is asked. Blocking; on a worker. The answer is an object; NULL: none could be made, and the
 * asker hears nothing. */
struct peers_op {
	const char *name;
	json_t *(*answer_blocking)(struct server *server, const json_t *body);
};

/* ops ends with name NULL. */
int peers_new(struct server *server, const struct peers_op *ops, struct peers **out_peers, struct err *e);
/* No question becomes a job any more when this returns, and no ask waits any longer. Before the pool stops. */
void peers_mute(struct peers *peers);
/* After the store was closed. Accepts a pointer to NULL. */
void peers_free(struct peers **peers);

/* A message of the channel, as the store gave it. Returns soon. */
void peers_on_event_anythread(struct peers *peers, const char *message, size_t len);

/* 0 and the answer (new reference); ERR_UNAVAILABLE: the node did not answer in time, or has not just before.
 * body is borrowed. */
int peers_ask_blocking(struct peers *peers, const char *node, const char *op, const json_t *body, int64_t limit_ms,
		       json_t **out_answer, struct err *e);
/* Asks all these nodes (array of names) at once; meanwhile the caller does what he has to do himself. NULL: out of
 * memory. */
struct peers_ask *peers_begin_blocking(struct peers *peers, const json_t *nodes, const char *op, const json_t *body,
				       int64_t limit_ms);
/* Until all have answered, or limit_ms from the beginning are over. out: name → answer, for those that answered. New
 * reference. Frees ask. */
json_t *peers_finish_blocking(struct peers_ask *ask);
/* Says it once and waits for nothing. */
void peers_tell_blocking(struct peers *peers, const char *node, const char *op, const json_t *body);

#endif
