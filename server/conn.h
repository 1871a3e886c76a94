/* One connection of the server, as everything above the transport sees it. A connection lives on one reactor for life,
 * and all of this is for that reactor's thread alone; other threads know it by its id. below are two transports,
 * conn_lws.c for everything and direct.c for what our own agent and CLI open; http.c, agentconn.c and leg.c are what
 * may run on top. */
#ifndef SERVER_CONN_H
#define SERVER_CONN_H

#include "base/list.h"
#include "server/wsconn.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <tunnel/auth.h>

struct server;
struct reactor;
struct conn;

#define CONN_PING_MS 5000  /* of silence: the peer is asked whether it is there */
#define CONN_DEAD_MS 15000 /* and is not, if it says nothing for so long */
#define CONN_VALID_MS 1000 /* how often it is noted that it is alive */

#define CONN_HEADROOM 32u       /* bytes that the transport may write before a message */
#define CONN_CHUNK (16u * 1024) /* bytes written at once: one TLS record */

enum conn_result { CONN_OK, CONN_CLOSE };

/* Which of the server's listeners a connection came through. */
enum listener { LISTENER_PUBLIC, LISTENER_ADMIN };

/* What a WebSocket of one subprotocol does. All run on the connection's reactor. */
struct conn_ops {
	const char *subprotocol;
	/* Called once, right after the upgrade; c->state is set already. */
	void (*on_open)(struct conn *c);
	/* A piece of a message; last: the message ends with it. */
	enum conn_result (*on_data)(struct conn *c, bool binary, const uint8_t *data, size_t len, bool last);
	/* May write at most one message (conn_write). CONN_CLOSE: close with c->close_code. */
	enum conn_result (*on_writable)(struct conn *c);
	void (*on_tick)(struct conn *c, int64_t now_mono_ms); /* about four times a second */
	/* Frees c->state. code 0: without a close frame. Also for a connection whose upgrade never finished. */
	void (*on_closed)(struct conn *c, unsigned code, const char *why);
};

/* Messages that wait, each in one block with room for the transport's header. */
struct conn_msg {
	struct conn_msg *next;
	bool binary, last; /* last: of its message; for what was received */
	size_t len;
	uint8_t head[CONN_HEADROOM];
	uint8_t data[];
};
struct conn_queue {
	struct conn_msg *first, *last;
	size_t bytes; /* with the blocks' own size, so that many small messages count for what they cost */
};

/* Who carries the bytes of a connection. All of it is called by conn.c alone, whose functions of these names say what
 * they mean. */
struct conn_transport {
	void (*want_write)(struct conn *c);
	void (*pause)(struct conn *c);  /* c->paused is set */
	void (*resume)(struct conn *c); /* and is no longer */
	int (*write)(struct conn *c, bool binary, uint8_t *data, size_t len);
	int (*write_http)(struct conn *c, const uint8_t *data, size_t len, bool final);
	bool (*can_write)(struct conn *c);
	enum conn_result (*next_request)(struct conn *c);
	int (*socket)(struct conn *c);
	bool (*secured)(struct conn *c);                    /* the TLS handshake is done */
	void (*alive)(struct conn *c, int64_t now_mono_ms); /* the peer is not to be taken for dead: it is not read */
	void (*tick)(struct conn *c, int64_t now_mono_ms);  /* of an open WebSocket; may be NULL */
	void (*kill)(struct conn *c);
};

struct conn {
	wsconn_id id;
	struct server *server;
	struct reactor *on;
	int reactor;
	const struct conn_transport *via;
	void *transport; /* of via */
	struct list node;
	char remote[64];
	enum listener from;
	uint64_t place;             /* among the strangers, until the connection is known; 0: none */
	struct http *http;          /* until the upgrade */
	const struct conn_ops *ops; /* once an upgrade was granted */
	void *state;                /* of ops */
	bool open;                  /* upgraded */
	bool paused;                /* on_data is not called */
	bool stopped;               /* nothing is read from the socket */
	struct conn_queue held;     /* what came after the pause, at most a TLS record; stopped and held are lws' */
	bool closing;               /* close_code goes out with the next write */
	bool close_sent;
	unsigned close_code;
	char close_reason[120]; /* a close frame has room for 123 bytes */
	unsigned peer_code;     /* of the peer's close frame */
	int64_t deadline_ms;    /* monotonic; killed then. 0: none */
	int64_t valid_ms;       /* when the transport last heard that the peer is alive */
};

void conn_want_write(struct conn *c);
/* Stops and starts on_data. */
void conn_pause(struct conn *c);
void conn_resume(struct conn *c);
/* Writes one message from inside on_writable. data has CONN_HEADROOM bytes before it that are overwritten. */
int conn_write(struct conn *c, bool binary, uint8_t *data, size_t len);
/* Closes with that code as soon as on_writable has nothing more to send; the first call counts. */
void conn_close(struct conn *c, unsigned code, const char *reason);
/* As much as conn_close allows for the close frame, when the layer above sends it itself. */
void conn_close_deadline(struct conn *c);
/* Without ceremony, soon. */
void conn_kill(struct conn *c);
/* Does the socket take bytes at once? */
bool conn_can_write(struct conn *c);
/* An HTTP answer is written; reading goes on. */
enum conn_result conn_next_request(struct conn *c);
/* Has the peer sent something, or its end, that was not read yet? */
bool conn_has_unread(struct conn *c);
/* Plain bytes of an HTTP answer; only before an upgrade. */
int conn_write_http(struct conn *c, const uint8_t *data, size_t len, bool final);

/* Its peer has shown a credential that was accepted: it counts no longer as one of the strangers. */
void conn_is_known(struct conn *c);

/* The connection of an id on this reactor; NULL when it is gone. */
struct conn *conn_find(struct server *server, wsconn_id id);
static inline int conn_reactor_of(wsconn_id id)
{
	return (int)(id & 0xff);
}

/* A copy of data at the queue's end; NULL when out of memory. */
struct conn_msg *conn_queue_add(struct conn_queue *q, bool binary, const void *data, size_t len);
struct conn_msg *conn_queue_take(struct conn_queue *q);
void conn_queue_clear(struct conn_queue *q, bool binary_only);

#endif
