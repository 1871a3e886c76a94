/* The relay: pairs the two legs of a session and moves opaque bytes between them (PROTOCOL.md, section 3). It parses
 * nothing of them and holds nothing that a session needs. Legs live on reactors; a session's two legs may sit on
 * different ones. */
#ifndef SERVER_RELAY_H
#define SERVER_RELAY_H

#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

struct server;
struct relay;

enum leg_role { LEG_CLIENT, LEG_TARGET };

int relay_new(struct server *server, struct relay **out_relay, struct err *e);
void relay_free(struct relay **relay);

#define RELAY_RESUMED_TEXT "the session was resumed by another client"

/* The session is of this generation now: legs of older ones are closed with 4001, and none is let in any more. Any
 * thread. */
void relay_renew_anythread(struct relay *relay, const char *session, int64_t generation);
/* Closes both legs with the code (or, while nobody is attached, does nothing). Any thread. */
void relay_end_anythread(struct relay *relay, const char *session, unsigned close_code, const char *reason);
/* Sends both legs there (4009). Any thread. */
void relay_move_anythread(struct relay *relay, const char *session, const char *relay_url);

/* To the client's leg, if it is attached: unless something changes, the session ends then and so. A leg is told once of
 * each end; again when its time has moved. Any thread. */
struct relay_notice {
	unsigned code;
	int64_t at_ms; /* wall */
	const char *reason;
};
void relay_notice_anythread(struct relay *relay, const char *session, const struct relay_notice *notice);

struct relay_info {
	bool client, target;        /* attached now */
	bool flows;                 /* one of them is, and is not being closed */
	int64_t last_bytes_mono_ms; /* when bytes last moved; 0: never here */
	int64_t detached_mono_ms;   /* since when not both are attached; 0: they are */
	uint64_t bytes_up, bytes_down;
};
/* false: no leg of it has been here since start. Any thread. */
bool relay_info_anythread(struct relay *relay, const char *session, struct relay_info *out);
/* Forgets a session, once its last leg has gone. Any thread. */
void relay_forget_anythread(struct relay *relay, const char *session);
/* Tells all ends to move (4002). */
void relay_drain_anythread(struct relay *relay);

#endif
