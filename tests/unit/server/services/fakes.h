/* What the services stand on, replaced: a store in memory, an auth provider that believes what it reads, a relay and
 * connections that write down what they are told. */
#ifndef TESTS_SERVER_FAKES_H
#define TESTS_SERVER_FAKES_H

#include "server/relay.h"
#include "server/wsconn.h"

#include <jansson.h>
#include <stdbool.h>

void fake_store_reset(void);
void fake_store_away(void); /* nothing works */
/* The same; and while the next call waits in vain, something else happens. */
void fake_store_hang(void (*meanwhile)(void *arg), void *arg);
void fake_store_fail_after(int puts, int appends); /* so many writes of sessions, of logs still work; -1: all */
/* The process dies in its n-th call from now on, before (or after) the call has its effect: nothing works any more. */
void fake_store_crash_at(int n, bool after);
bool fake_store_crashed(void);
/* The next write to that collection has its effect, and its caller gets no answer in time. */
void fake_store_unanswered(const char *collection);
void fake_store_heal(void);
/* What expires in the store does so that much earlier. */
void fake_store_ahead(int64_t ms);
/* Once, after the next write to that collection. */
void fake_store_then(const char *collection, void (*then)(void *arg), void *arg);

/* Once, when the auth provider is next asked about an endpoint. */
void fake_auth_then(void (*then)(void *arg), void *arg);

/* What the provider says to authorize from now on (TUNNEL_NOT_MINE until then), and how often it was asked since. */
void fake_auth_answers(int result);
size_t fake_auth_asked(void);
/* To the question that is being asked, or the next one, whatever it would say. */
void fake_auth_refuses_once(void);

void fake_io_reset(void);
/* The relay's last end of that session: 0 none. */
unsigned fake_relay_ended(const char *session);
void fake_relay_reset_ends(void);
int64_t fake_relay_generation(const char *session);            /* of its last renewal; 0: none */
int64_t fake_relay_notice(const char *session, unsigned code); /* when the last such end was to come; 0: none told */
void fake_relay_set(const char *session, const struct relay_info *info); /* NULL: never here */
/* The newest message of that type to a connection, new reference; NULL: none. */
json_t *fake_ws_last(wsconn_id conn, const char *type);
size_t fake_ws_count(wsconn_id conn, const char *type);
unsigned fake_ws_closed(wsconn_id conn); /* its close code; 0: open */
/* Once, before the next message to that connection. */
void fake_ws_then(wsconn_id conn, void (*then)(void *arg), void *arg);
const char *fake_ws_first(wsconn_id conn); /* type of its first message */

/* Those who link fake_nodes.c. */
void fake_nodes_reset(void); /* there are no others */
void fake_nodes_add(const char *name);
bool fake_nodes_told(const char *node_and_op); /* "node-2 moved" */

#endif
