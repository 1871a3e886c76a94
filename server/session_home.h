/* Where sessions live: on the node that their target's agent is connected to. So what agents are told, and what they
 * say, concerns sessions of the same node; when an agent comes back through another one its sessions follow, and their
 * ends are sent there. Blocking: workers only. */
#ifndef SERVER_SESSION_HOME_H
#define SERVER_SESSION_HOME_H

#include "base/err.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

struct server;

/* The agent connects here, with a hello: its live sessions that are on other nodes become this node's. */
void session_home_take_blocking(struct server *server, const char *target);
/* It is connected, and a node has found some that were overlooked. The agent is told of them. */
void session_home_take_late_blocking(struct server *server, const char *target);
/* The same for one whose record has another node. true: it is here now. */
bool session_home_claim_blocking(struct server *server, const json_t *record);
/* Lets go of the target's sessions that another node has taken, and has it take those that it has overlooked. */
void session_home_release_blocking(struct server *server, const char *target);
/* Sends what is attached here to the node of the record. Any thread. */
void session_home_send_legs(struct server *server, const json_t *record);
/* Whose is it, by its record? What is left here of one that another node has is let go. The store may not say; of one
 * that has ended, or is lost, it says that nobody else has it. */
enum session_home { SESSION_HERE, SESSION_LEFT, SESSION_UNKNOWN };
enum session_home session_home_look_blocking(struct server *server, const char *session);
/* For whoever is about to change the record: 0, or ERR_UNAVAILABLE when another node has the session by now. */
int session_home_check(const struct server *server, const json_t *record, struct err *e);
/* Makes the record this node's. false: it is already. */
bool session_home_set(const struct server *server, json_t *record);
/* Looks, now and then, whether agents that are missing here have connected elsewhere. The sweep's. */
void session_home_sweep_blocking(struct server *server, int64_t mono_ms);

/* The node that the agent is connected to, as far as the store knows, in node (LIMIT_ID + 1); false: to none that
 * lives. */
bool session_home_of_target(struct server *server, const json_t *target_doc, char *node);

#endif
