/* What lies between the relay and whatever carries a leg. The relay (relay.c) decides and holds what waits to be sent;
 * a transport (leg.c: WebSockets through lws) reads and writes. All calls here are made on the leg's own reactor; what
 * happens to its peer on another reactor arrives as a kick. */
#ifndef SERVER_LEG_H
#define SERVER_LEG_H

#include "server/conn.h"
#include "server/relay.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct leg;

struct leg_transport {
	void (*want_write)(void *transport); /* there is something: call leg_next when it can be sent */
	void (*pause)(void *transport);      /* stop reading */
	void (*resume)(void *transport);
};

struct leg_init {
	const char *session;
	enum leg_role role;
	int64_t generation; /* of the token that let it in */
	wsconn_id id;       /* of the connection; its reactor is told to kick by it */
	const char *remote_address;
	const struct leg_transport *ops;
	void *transport;
};

/* Lets a leg in: it takes the place of an older one of its role, is told `attached`, and paired when its peer is there.
 * One of an older generation than the pair's is closed instead. NULL when out of memory. */
struct leg *leg_attach(struct relay *relay, const struct leg_init *init);
/* Bytes of the leg, to its peer or nowhere. The transport may be paused in here. */
void leg_on_bytes(struct leg *leg, const void *data, size_t len);
/* A whole text message. */
void leg_on_text(struct leg *leg, const char *text, size_t len);
/* The next thing to send: a message that the transport frees, or NULL. When nothing is left and the leg has to go, NULL
 * with *out_code not 0. */
struct conn_msg *leg_next(struct leg *leg, bool *out_more, unsigned *out_code, const char **out_reason);
/* Watches for a leg that does not read. true: this leg is to go. */
bool leg_tick(struct leg *leg, int64_t now_mono_ms);
/* Something changed on the other side. */
void leg_kick(struct leg *leg);
/* The connection is gone. code: of the peer's close frame, 0 without one. Frees the leg. */
void leg_detach(struct leg **leg, unsigned code, const char *why);

/* Runs on a reactor when another one has news for a leg: finds it and calls leg_kick (leg.c). */
void legconn_kick(struct server *server, wsconn_id id);

/* {"type":"closing",…}: malloc'd; NULL when out of memory. relay_url may be NULL. With 4402 it says what time it is. */
char *leg_closing_text(unsigned code, const char *reason, const char *relay_url);

#endif
