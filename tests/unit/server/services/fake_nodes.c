/* The other nodes: a list of names, and what they are told is written down. */
#include "fakes.h"

#include "server/nodes.h"
#include "server/peers.h"

#include <string.h>

static json_t *others; /* names */
static json_t *told;   /* "node op" */

void fake_nodes_reset(void)
{
	json_decref(others);
	json_decref(told);
	others = json_array();
	told = json_array();
}

void fake_nodes_add(const char *name)
{
	json_array_append_new(others, json_string(name));
}

static bool has(const json_t *texts, const char *text)
{
	for (size_t i = 0; i < json_array_size(texts); i++)
		if (strcmp(json_string_value(json_array_get(texts, i)), text) == 0)
			return true;
	return false;
}

bool fake_nodes_told(const char *node_and_op)
{
	return has(told, node_and_op);
}

bool nodes_lives(struct nodes *nodes, const char *name)
{
	(void)nodes;
	return has(others, name);
}

json_t *nodes_others(struct nodes *nodes)
{
	(void)nodes;
	return json_deep_copy(others);
}

bool nodes_has_heir(struct nodes *nodes)
{
	(void)nodes;
	return json_array_size(others) > 0;
}

/* Names are given so that the node itself would be. */
bool nodes_is_first(struct nodes *nodes)
{
	(void)nodes;
	return !has(others, "node-0");
}

size_t nodes_sessions(struct nodes *nodes, const char *target)
{
	(void)nodes, (void)target;
	return 0;
}

json_t *nodes_view(struct nodes *nodes)
{
	(void)nodes;
	return json_array();
}

void peers_tell_blocking(struct peers *peers, const char *node, const char *op, const json_t *body)
{
	(void)peers, (void)body;
	json_array_append_new(told, json_sprintf("%s %s", node, op));
}

int peers_ask_blocking(struct peers *peers, const char *node, const char *op, const json_t *body, int64_t limit_ms,
		       json_t **out_answer, struct err *e)
{
	(void)peers, (void)node, (void)op, (void)body, (void)limit_ms, (void)out_answer;
	return err_set(e, ERR_UNAVAILABLE, "fakes do not answer");
}

struct peers_ask *peers_begin_blocking(struct peers *peers, const json_t *nodes, const char *op, const json_t *body,
				       int64_t limit_ms)
{
	(void)peers, (void)nodes, (void)op, (void)body, (void)limit_ms;
	return NULL;
}

json_t *peers_finish_blocking(struct peers_ask *ask)
{
	(void)ask;
	return json_object();
}
