/* Whether those who are connected are still their targets' agents, and connected here by their targets' records. These
 * are changed by any node, so the node with the connection is told; a message may be lost, so every report asks, and
 * the sweep looks at all connections in turn. */
#include "server/control_message.h"

#include "base/log.h"
#include "server/nodes.h"
#include "server/peers.h"
#include "server/server.h"
#include "server/session_record.h"
#include "server/target_key.h"
#include "server/targets.h"

#include <stdlib.h>
#include <string.h>

#define ELSEWHERE "the agent is connected elsewhere, by its record"
#define PASSES 60u /* of the sweep, one a second, until each connection was looked at */

/* *out_here: and this node is where it is connected, by its record. */
static int check_identity(struct server *server, const char *target, const char *identity, bool *out_here,
			  struct err *e)
{
	json_auto_t *doc = NULL;
	int rc = targets_get_blocking(server, target, &doc, e);
	*out_here = strcmp(record_text(doc, "node"), server->node) == 0 && record_int(doc, "connected_since") != 0;
	return rc ? rc : targets_check_identity(doc, identity, e);
}

/* A node that was stopped for a while reads what the agent has said again elsewhere. */
int control_check_sender_blocking(struct message *m)
{
	bool here;
	int rc = check_identity(m->server, m->target, m->identity, &here, &m->e);
	return rc || here ? rc : err_set(&m->e, ERR_UNAVAILABLE, ELSEWHERE);
}

/* The connection is looked up first: one that comes in between is a newer one. An agent that has only this one comes
 * back at once, and by its hello everybody knows where. */
int control_check_target_blocking(struct server *server, const char *target, struct err *e)
{
	char identity[KEY_PIN_TEXT];
	bool here = true;
	wsconn_id conn = agent_table_get_identity(server->control->agents, target, identity);
	int rc = conn ? check_identity(server, target, identity, &here, e) : 0;
	if (rc == ERR_NOT_FOUND || rc == ERR_DENIED)
		control_drop_blocking(server, conn, target, 4403,
				      rc == ERR_DENIED ? e->text : "the target was deregistered");
	else if (rc)
		return rc;
	else if (!here)
		control_drop_blocking(server, conn, target, 4009, ELSEWHERE);
	return 0;
}

void control_tell_target_changed_blocking(struct server *server, const char *target)
{
	json_auto_t *nodes = nodes_others(server->nodes);
	json_auto_t *body = json_pack("{s:s}", "target", target);
	for (size_t i = 0; body && i < json_array_size(nodes); i++)
		peers_tell_blocking(server->peers, json_string_value(json_array_get(nodes, i)), "target-changed", body);
}

void control_sweep_blocking(struct control *control)
{
	size_t n = 0;
	char(*targets)[LIMIT_ID + 1] = agent_table_targets(control->agents, &n);
	size_t share = n / PASSES + 1;
	struct err e;
	for (size_t i = 0; targets && n && i < share; i++, control->looked++) {
		int rc = control_check_target_blocking(control->server, targets[control->looked % n], &e);
		if (rc && !control->blind)
			log_warn("it could not be looked up whether agents are still those of their targets: %s",
				 e.text);
		control->blind = rc != 0;
		if (rc)
			break;
	}
	free(targets);
}
