/* From any thread to a connection: the call is copied, posted to the connection's reactor, and there the id is looked
 * up. A connection that has gone meanwhile makes it a no-op. */
#include "server/wsconn.h"

#include "base/certain.h"
#include "server/reactor.h"
#include "server/reactor_internal.h"
#include "server/server.h"
#include "server/upgrade.h"

#include <stdlib.h>
#include <string.h>

struct message {
	struct server *server;
	wsconn_id conn;
	unsigned code; /* 0: text is a message; else a close's reason */
	size_t len;
	char text[];
};

static void arrive(void *arg)
{
	struct message *m = arg;
	struct conn *c = conn_find(m->server, m->conn);
	if (c && c->ops && m->code)
		conn_close(c, m->code, m->text);
	else if (c && c->ops)
		agentconn_send(c, m->text, m->len);
	free(m);
}

static void post(struct server *server, wsconn_id conn, unsigned code, const char *text)
{
	size_t len = strlen(text);
	int reactor = conn_reactor_of(conn);
	if (conn == 0 || (size_t)reactor >= reactors_count(server->reactors))
		return;
	/* If it were lost the peer would wait for ever for what was promised. */
	struct message *m = certain_malloc(sizeof *m + len + 1);
	*m = (struct message){ .server = server, .conn = conn, .code = code, .len = len };
	memcpy(m->text, text, len + 1);
	if (reactors_post_anythread(server->reactors, reactor, arrive, m) != 0)
		free(m);
}

void wsconn_send_text_anythread(struct server *server, wsconn_id conn, const char *text)
{
	post(server, conn, 0, text);
}

void wsconn_close_anythread(struct server *server, wsconn_id conn, unsigned code, const char *reason)
{
	post(server, conn, code, reason);
}
