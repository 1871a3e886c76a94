/* Which connection is which target's, in memory. Sends run under the table's lock, so that an agent's first message is
 * its welcome and nothing goes to a connection that was replaced. Any thread. */
#ifndef SERVER_AGENT_TABLE_H
#define SERVER_AGENT_TABLE_H

#include "base/limits.h"
#include "ident/key.h"
#include "server/wsconn.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct server;
struct agent_table;

struct agent_table *agent_table_new(struct server *server);
void agent_table_free(struct agent_table **t);
/* The newest wins: *out_old is the connection it replaced (0: none). identity: pin of its key. first is sent before
 * anything else can be. false when out of memory. */
bool agent_table_set(struct agent_table *t, const char *target, wsconn_id conn, const char *identity, uint64_t last_seq,
		     const char *first, wsconn_id *out_old);
/* Only if it is still that connection's. */
bool agent_table_remove(struct agent_table *t, const char *target, wsconn_id conn);
wsconn_id agent_table_get(struct agent_table *t, const char *target); /* 0: not connected */
/* The same, with the pin of the key that the connection came with. */
wsconn_id agent_table_get_identity(struct agent_table *t, const char *target, char out_identity[KEY_PIN_TEXT]);
bool agent_table_send(struct agent_table *t, const char *target, const char *text);
void agent_table_send_all(struct agent_table *t, const char *text);
/* The ids of all that are connected, at least one row: to be freed by the caller. NULL when out of memory. */
char (*agent_table_targets(struct agent_table *t, size_t *out_n))[LIMIT_ID + 1];
size_t agent_table_count(struct agent_table *t);
/* The number of its last durable report. Belongs to the connection's own messages, which come one at a time. */
uint64_t agent_table_seq(struct agent_table *t, const char *target);
void agent_table_set_seq(struct agent_table *t, const char *target, wsconn_id conn, uint64_t seq);
/* A message of this connection could not be taken: what came behind it is not to be taken either. */
void agent_table_set_failed(struct agent_table *t, const char *target, wsconn_id conn);
bool agent_table_has_failed(struct agent_table *t, const char *target, wsconn_id conn);

#endif
