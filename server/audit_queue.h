/* Audit records that the store has not taken yet, oldest first. Bounded; what finds no room is counted by its event.
 * Any thread. */
#ifndef SERVER_AUDIT_QUEUE_H
#define SERVER_AUDIT_QUEUE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

struct audit_queue;

struct audit_queue *audit_queue_new(void); /* NULL: out of memory */
void audit_queue_free(struct audit_queue **q);
/* record is stolen. false: no room; it was counted, under its "event". */
bool audit_queue_push(struct audit_queue *q, json_t *record);
/* A new reference; NULL: empty. Only who took it out with pop makes the next one the front. */
json_t *audit_queue_front(struct audit_queue *q);
void audit_queue_pop(struct audit_queue *q);
size_t audit_queue_count(struct audit_queue *q);
/* What was counted since it was last asked for: {"count", "events": {event: n}}; NULL: nothing was. New reference. */
json_t *audit_queue_take_lost(struct audit_queue *q);

#endif
