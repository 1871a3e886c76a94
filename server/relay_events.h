/* What legs do, told to the sessions: jobs on the pool, one session's in order. Never refused. Any thread. */
#ifndef SERVER_RELAY_EVENTS_H
#define SERVER_RELAY_EVENTS_H

#include "server/relay.h"

uint64_t relay_events_key(const char *session); /* FNV-1a: the serial key of a session */
void relay_event_attached(struct server *server, const char *session, enum leg_role role, int64_t generation,
			  const char *remote_address);
void relay_event_detached(struct server *server, const char *session, enum leg_role role, const char *why);
void relay_event_paired(struct server *server, const char *session, int64_t generation, uint64_t epoch);
void relay_event_bye(struct server *server, const char *session, int64_t generation);

#endif
