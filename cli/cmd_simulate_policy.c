/* simulate-policy: would the policies in force allow it? */
#include "cli/client.h"
#include "cli/output.h"
#include "cli/policy_about.h"

#include <stdio.h>
#include <string.h>

struct simulate_options {
	struct common_options common;
	const char *principal, *target, *resource;
	struct arg_list groups;
	struct policy_about about;
};
#define SIMULATE_AT(member) offsetof(struct simulate_options, member)
static const struct arg_row simulate_rows[] = {
	{ "principal", 0, ARG_TEXT, SIMULATE_AT(principal), "NAME", "who asks" },
	{ "group", 'g', ARG_LIST, SIMULATE_AT(groups), "GROUP", "group of the principal; may be repeated" },
	{ "target", 't', ARG_TEXT, SIMULATE_AT(target), "ID", "short for --resource target/ID" },
	{ "resource", 0, ARG_TEXT, SIMULATE_AT(resource), "RESOURCE",
	  "\"session/s-1\", \"policy/base\", \"audit\", ..." },
	POLICY_ABOUT_ROWS(simulate_options),
	{ .name = NULL },
};

static bool is_action(const json_t *action, const char *name)
{
	return strcmp(json_string_value(action), name) == 0;
}

/* What a start of a session is judged by: itself, then what it is for. */
static json_t *simulated_actions(const struct simulate_options *o)
{
	const struct policy_about *a = &o->about;
	if (a->actions.n)
		return policy_about_list(&a->actions, policy_about_action);
	json_t *actions = json_pack("[s]", "tunnel:StartSession");
	if (a->login)
		json_array_append_new(actions, json_string("tunnel:OpenSsh"));
	if (a->host || a->port)
		json_array_append_new(actions, json_string("tunnel:OpenTcp"));
	if (a->path)
		json_array_append_new(actions, json_string("tunnel:OpenUnix"));
	return actions;
}

/* The context as the server makes it for this action of a session's start. */
static json_t *context_for(const json_t *context, const json_t *action, const struct policy_about *a)
{
	json_t *own = json_copy((json_t *)(size_t)context);
	bool ssh = is_action(action, "tunnel:OpenSsh"),
	     tcp = is_action(action, "tunnel:OpenTcp") || is_action(action, "tunnel:AcceptTcp"),
	     socket = is_action(action, "tunnel:OpenUnix");
	if (!ssh && !tcp && !socket && !is_action(action, "tunnel:StartSession"))
		return own;
	bool raw = tcp || socket || (!ssh && !a->login && (a->host || a->port || a->path));
	json_object_set_new(own, "tunnel:Kind", json_string(raw ? "tcp" : "ssh"));
	if (raw)
		json_object_del(own, "tunnel:Login");
	if (!tcp) {
		json_object_del(own, "tunnel:Host");
		json_object_del(own, "tunnel:Port");
	}
	if (!socket)
		json_object_del(own, "tunnel:Path");
	return own;
}

static int simulate_one(struct client *c, const struct simulate_options *o, const json_t *context, json_t *action,
			json_t *decisions, bool *allowed)
{
	json_t *answer = NULL;
	json_t *resource = o->target ? json_sprintf("target/%s", o->target) : json_string(o->resource);
	json_t *body = json_pack("{s:s, s:o, s:O, s:O, s:o}", "subject", o->principal, "groups",
				 policy_about_list(&o->groups, json_string), "action", action, "resource", resource,
				 "context", context_for(context, action, &o->about));
	int code = client_call(c, "POST", "/v1/policies:simulate", body, &answer);
	if (code == EXIT_CODE_OK) {
		json_t *row = json_pack("{s:O, s:O}", "action", action, "resource", resource);
		const char *effect = json_string_value(json_object_get(answer, "effect"));
		json_object_update(row, answer);
		*allowed = *allowed && effect && strcmp(effect, "allow") == 0;
		json_array_append_new(decisions, row);
	}
	json_decref(answer);
	json_decref(body);
	json_decref(resource);
	return code;
}

static void print_decisions(const json_t *decisions)
{
	static const struct column columns[] = { { "ACTION", "action" },
						 { "RESOURCE", "resource" },
						 { "DECISION", "word" },
						 { "BY", "by" },
						 { NULL, NULL } };
	size_t i;
	json_t *row;
	json_array_foreach(decisions, i, row)
	{
		const char *effect = json_string_value(json_object_get(row, "effect"));
		const char *policy = json_string_value(json_object_get(row, "policy"));
		const char *statement = json_string_value(json_object_get(row, "statement"));
		bool allow = effect && strcmp(effect, "allow") == 0;
		json_object_set_new(row, "word", json_string(allow ? "allow" : "deny"));
		json_object_set_new(
			row, "by",
			policy ? json_sprintf("statement %s of policy %s", statement ? statement : "?", policy)
			       : json_string("no statement allows it"));
	}
	output_table(decisions, columns);
}

static int simulate_all(const struct simulate_options *o, const json_t *context)
{
	struct client c;
	int code = client_open(&c, &o->common);
	if (code != EXIT_CODE_OK)
		return code;
	json_t *decisions = json_array(), *actions = simulated_actions(o), *action;
	bool allowed = true;
	size_t i;
	json_array_foreach(actions, i, action) if (code == EXIT_CODE_OK) code =
		simulate_one(&c, o, context, action, decisions, &allowed);
	client_close(&c);
	if (code == EXIT_CODE_OK && o->common.output == OUTPUT_JSON) {
		json_t *whole = json_pack("{s:b, s:O}", "allowed", allowed, "decisions", decisions);
		output_json(whole);
		json_decref(whole);
	} else if (code == EXIT_CODE_OK) {
		print_decisions(decisions);
	}
	json_decref(decisions);
	json_decref(actions);
	return code == EXIT_CODE_OK && !allowed ? EXIT_CODE_NOT_ALLOWED : code;
}

static int simulate_policy(const void *options, int argc, char **argv)
{
	(void)argv;
	const struct simulate_options *o = options;
	if (argc > 0 || !o->principal || (o->target == NULL) == (o->resource == NULL)) {
		complain("simulate-policy needs --principal and either --target or --resource, and no other "
			 "arguments; see --help");
		return EXIT_CODE_USAGE;
	}
	if (o->resource && !o->about.actions.n) {
		complain("simulate-policy --resource needs --action; see --help");
		return EXIT_CODE_USAGE;
	}
	json_t *context = NULL;
	int code = policy_about_context(&o->about, &context);
	if (code == EXIT_CODE_OK)
		code = simulate_all(o, context);
	json_decref(context);
	return code;
}

const struct command command_simulate_policy = {
	.name = "simulate-policy",
	.usage = "--principal NAME (--target ID | --resource RESOURCE) [OPTIONS]",
	.summary = "Ask whether the policies would allow something, and by which statement",
	.rows = simulate_rows,
	.options_size = sizeof(struct simulate_options),
	.run = simulate_policy,
	.details =
		"Without --action: what starting a session takes, StartSession and, with --login, OpenSsh, with --host "
		"and\n--port, OpenTcp, or with --path, OpenUnix. What is not given is missing from the request. A "
		"target that exists has its own "
		"tags\nunless --tag is given. Exit code: 0 all is allowed, 245 not all is.\n\n"
		"Examples:\n  tunnel-cli simulate-policy --principal ann --group operators --target web-1 --login "
		"deploy\n"
		"  tunnel-cli simulate-policy --principal ann --action ReadAudit --resource audit\n",
};
