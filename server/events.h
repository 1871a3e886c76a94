/* What other nodes tell through the store's publish/subscribe: a change of policies and revocations is read and judged
 * here, too; what is for peers goes there. */
#ifndef SERVER_EVENTS_H
#define SERVER_EVENTS_H

#include "base/err.h"

struct server;
struct events;

/* Subscribes; from then on messages become jobs of the pool. */
int events_open_blocking(struct server *server, struct events **out_events, struct err *e);
/* No job is made any more when this returns. Before the pool stops. */
void events_mute(struct events *events);
/* After the store was closed: only then it calls no more. */
void events_free(struct events **events);

#endif
