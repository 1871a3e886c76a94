/* Which nodes share the store. Each keeps a document of collection "nodes" that expires unless it is renewed, and knows
 * those of the others. Any thread but for start and stop. */
#ifndef SERVER_NODES_H
#define SERVER_NODES_H

#include "base/err.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

struct server;
struct nodes;

/* ERR_CONFLICT: another server that lives has this node's name. Blocking. */
int nodes_start_blocking(struct server *server, struct nodes **out_nodes, struct err *e);
/* The node leaves. Accepts a pointer to NULL. Blocking. */
void nodes_stop(struct nodes **nodes);
/* The others see soon that this one drains. Blocking. */
void nodes_tell_draining_blocking(struct nodes *nodes);

/* As of the last look, at most a few seconds ago. This node itself lives. NULL for nodes: there is no other. */
bool nodes_lives(struct nodes *nodes, const char *name);
/* The names of the others that live. NULL when out of memory. New reference. */
json_t *nodes_others(struct nodes *nodes);
/* Does one of them take what this one has to give away? */
bool nodes_has_heir(struct nodes *nodes);
/* Is its name the first of those that live? For what one of them has to do for all. */
bool nodes_is_first(struct nodes *nodes);
/* Live sessions of a target on the other nodes. */
size_t nodes_sessions(struct nodes *nodes, const char *target);
/* The API's view of all: [{name, url, version, started_at, draining, agents, sessions}], by name. New reference. */
json_t *nodes_view(struct nodes *nodes);

#endif
