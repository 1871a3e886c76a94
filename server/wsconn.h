/* WebSocket connections of the server, named by id. The transport (lws) stays behind this header and relay.h's leg
 * callbacks. */
#ifndef SERVER_WSCONN_H
#define SERVER_WSCONN_H

#include <stdint.h>

struct server;

/* Ids are never reused in a process. 0 is none. A send to a connection that is gone does nothing. Any thread. */
typedef uint64_t wsconn_id;

void wsconn_send_text_anythread(struct server *server, wsconn_id conn, const char *text);
/* Sends what is queued, then {"type":"closing",…} where the subprotocol has it, then a close frame. */
void wsconn_close_anythread(struct server *server, wsconn_id conn, unsigned code, const char *reason);

#endif
