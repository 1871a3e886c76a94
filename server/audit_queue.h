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
/* New references to the oldest, at most most; how many. They stay in the queue until they are popped. */
size_t audit_queue_peek(struct audit_queue *q, json_t **out_records, size_t most);
void audit_queue_pop(struct audit_queue *q, size_t n); /* the oldest n, of those that are there */
size_t audit_queue_count(struct audit_queue *q);
/* What was counted since it was last asked for: {"count", "events": {event: n}}; NULL: nothing was. New reference. */
json_t *audit_queue_take_lost(struct audit_queue *q);

#endif
