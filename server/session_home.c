/* The target's record says to which node its agent came last. A node takes sessions only while that is itself and the
 * agent is connected; so of two nodes that an agent visits one after the other the second has the last word, also when
 * the first is slow. What a lost message leaves behind is found by reading: by the sweep of the node that has rows
 * without an agent, and when a leg comes to the node where the agent is. */
#include "server/session_home.h"

#include "base/clock.h"
#include "base/limits.h"
#include "base/log.h"
#include "server/control.h"
#include "server/nodes.h"
#include "server/peers.h"
#include "server/server.h"
#include "server/session_record.h"
#include "server/session_state.h"
#include "server/store.h"
#include "server/targets.h"

#include <stdlib.h>
#include <string.h>

#define LOOK_MS 2000 /* between two looks after agents that are missing */

static bool is_here(const struct server *server, const json_t *record)
{
	return strcmp(record_text(record, "node"), server->node) == 0 &&
	       strcmp(record_text(record, "relay_url"), server->public_url) == 0;
}

bool session_home_set(const struct server *server, json_t *record)
{
	if (is_here(server, record))
		return false;
	json_object_set_new(record, "node", json_string(server->node));
	json_object_set_new(record, "relay_url", json_string(server->public_url));
	return true;
}

int session_home_check(const struct server *server, const json_t *record, struct err *e)
{
	if (strcmp(record_text(record, "node"), server->node) == 0)
		return 0;
	return err_set(e, ERR_UNAVAILABLE, "session %s has changed its node, try again", record_text(record, "id"));
}

static bool agent_is_here(struct server *server, const char *target)
{
	json_auto_t *doc = NULL;
	struct err e;
	return control_is_connected_anythread(server->control, target) &&
	       targets_get_blocking(server, target, &doc, &e) == 0 &&
	       strcmp(record_text(doc, "node"), server->node) == 0;
}

/* ---- taking ---- */

static int change_home(void *arg, json_t *doc, struct err *e)
{
	const struct server *server = arg;
	(void)e;
	return record_ended(doc) || !session_home_set(server, doc);
}

static bool take(struct server *server, const json_t *record)
{
	const char *id = record_text(record, "id");
	char from[LIMIT_ID + 1];
	struct session_live row;
	json_auto_t *now = NULL;
	struct err e;
	snprintf(from, sizeof from, "%s", record_text(record, "node"));
	int rc = record_change_blocking(server, id, change_home, server, &now, &e);
	if (rc) {
		log_with(LOG_LEVEL_WARN, FIELDS({ "session", id }, { "error", e.text }),
			 "a session could not be taken over from another node");
		return false;
	}
	if (record_ended(now))
		return false;
	/* A row that is left from before the session went is as old; one that is to end ends. */
	bool ends = session_table_get(server->sessions->live, id, &row) && row.end_code;
	if (!ends && !session_adopt(server->sessions, now, clock_mono_ms()))
		return false;
	log_with(LOG_LEVEL_INFO, FIELDS({ "session", id }, { "from", from }), "session moved here");
	atomic_store(&server->sessions->rejudge_owed, true); /* policies may have changed while nobody had it */
	return true;
}

static int collect(void *arg, const char *key, json_t *doc, uint64_t version)
{
	(void)key, (void)version;
	if (!record_ended(doc) && record_is_settled(doc))
		json_array_append(arg, doc);
	return 0;
}

/* The target's live sessions; those that are only being started belong to who starts them. */
static json_t *sessions_of(struct server *server, const char *target)
{
	char cursor[TUNNEL_CURSOR_MAX] = "";
	json_t *found = json_array();
	struct err e;
	int rc;
	do
		rc = store_scan_blocking(server->store, SESSION_COLLECTION, "target", target, LIMIT_SCAN_PAGE, cursor,
					 collect, found, &e);
	while (rc == 0 && *cursor);
	if (rc)
		log_with(LOG_LEVEL_WARN, FIELDS({ "target", target }, { "error", e.text }),
			 "the target's sessions on other nodes could not be looked up");
	return found;
}

/* from_hello: what the agent is to be told follows from that. */
static void take_all(struct server *server, const char *target, bool from_hello)
{
	json_auto_t *found = sessions_of(server, target);
	json_auto_t *left = json_object(); /* set of nodes */
	for (size_t i = 0; i < json_array_size(found); i++) {
		const json_t *record = json_array_get(found, i);
		if (is_here(server, record) || !agent_is_here(server, target))
			continue;
		const char *node = record_text(record, "node");
		if (!take(server, record))
			continue;
		if (!from_hello)
			session_tell_agent_blocking(server, target, record_text(record, "id"));
		if (strcmp(node, server->node) != 0)
			json_object_set_new(left, node, json_true());
	}
	json_auto_t *body = json_pack("{s:s}", "target", target);
	const char *node;
	json_t *value;
	json_object_foreach(left, node, value) peers_tell_blocking(server->peers, node, "moved", body);
}

void session_home_take_blocking(struct server *server, const char *target)
{
	take_all(server, target, true);
}

void session_home_take_late_blocking(struct server *server, const char *target)
{
	take_all(server, target, false);
}

bool session_home_claim_blocking(struct server *server, const json_t *record)
{
	const char *target = record_text(record, "target");
	if (!agent_is_here(server, target) || !take(server, record))
		return false;
	session_tell_agent_blocking(server, target, record_text(record, "id"));
	return true;
}

/* ---- letting go ---- */

void session_home_send_legs(struct server *server, const json_t *record)
{
	relay_move_anythread(server->relay, record_text(record, "id"), record_text(record, "relay_url"));
	relay_forget_anythread(server->relay, record_text(record, "id"));
}

static void let_go(struct server *server, const char *session, const json_t *record)
{
	session_table_remove(server->sessions->live, session);
	session_home_send_legs(server, record);
	log_with(LOG_LEVEL_INFO, FIELDS({ "session", session }, { "to", record_text(record, "node") }),
		 "session moved to another node");
}

enum session_home session_home_look_blocking(struct server *server, const char *session)
{
	json_auto_t *record = NULL;
	struct err e;
	int rc = record_get_blocking(server, session, &record, NULL, &e);
	if (rc)
		return rc == ERR_NOT_FOUND ? SESSION_HERE : SESSION_UNKNOWN;
	if (record_ended(record) || is_here(server, record))
		return SESSION_HERE;
	let_go(server, session, record);
	return SESSION_LEFT;
}

void session_home_release_blocking(struct server *server, const char *target)
{
	size_t n, kept = 0;
	struct session_live *rows = session_table_copy(server->sessions->live, target, &n);
	for (size_t i = 0; i < n; i++) {
		struct err e;
		if (rows[i].end_code) /* what is still to be written goes into the record first, and its node hears of
					 it */
			session_end_again_blocking(server, &rows[i], &e);
		else if (session_home_look_blocking(server, rows[i].id) != SESSION_LEFT)
			kept++;
	}
	free(rows);
	json_auto_t *doc = NULL;
	json_auto_t *body = json_pack("{s:s}", "target", target);
	char node[LIMIT_ID + 1];
	struct err e;
	if (kept && body && targets_get_blocking(server, target, &doc, &e) == 0 &&
	    session_home_of_target(server, doc, node) && strcmp(node, server->node) != 0)
		peers_tell_blocking(server->peers, node, "take", body);
}

void session_home_sweep_blocking(struct server *server, int64_t mono_ms)
{
	struct sessions *s = server->sessions;
	size_t n;
	if (mono_ms - s->homes_mono_ms < LOOK_MS)
		return;
	s->homes_mono_ms = mono_ms;
	json_auto_t *others = nodes_others(server->nodes);
	if (json_array_size(others) == 0)
		return;
	json_auto_t *looked = json_object();
	struct session_live *rows = session_table_copy(s->live, NULL, &n);
	for (size_t i = 0; i < n; i++)
		if (!control_is_connected_anythread(server->control, rows[i].target) &&
		    !json_object_get(looked, rows[i].target)) {
			json_object_set_new(looked, rows[i].target, json_true());
			session_home_release_blocking(server, rows[i].target);
		}
	free(rows);
}

bool session_home_of_target(struct server *server, const json_t *doc, char *node)
{
	snprintf(node, LIMIT_ID + 1, "%s", record_text(doc, "node"));
	if (strcmp(node, server->node) == 0)
		return control_is_connected_anythread(server->control, record_text(doc, "id"));
	return record_int(doc, "connected_since") != 0 && nodes_lives(server->nodes, node);
}
