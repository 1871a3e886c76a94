/* A worker's reports until a supervisor has them on disk. They wait here while there is no supervisor; a new one gets
 * all of them again and drops what it knows by number. */
#ifndef AGENT_REPORTS_H
#define AGENT_REPORTS_H

#include "agent/channel.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

struct reports;

/* session: for log lines; must outlive it. NULL: out of memory. */
struct reports *reports_new(const char *session);
void reports_free(struct reports **reports);
void reports_add(struct reports *r, json_t *body); /* takes the reference; NULL is ignored */
void reports_ack(struct reports *r, uint64_t number);
/* All that wait, and from now on each new one, go to this channel, as far as it takes them; the rest follows when some
 * were acknowledged. NULL: to nobody. */
void reports_attach(struct reports *r, struct channel *channel);
bool reports_empty(const struct reports *r);
const json_t *reports_waiting(const struct reports *r); /* array of {"type", "n", "body"} */

#endif
