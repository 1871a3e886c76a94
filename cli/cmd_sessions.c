/* list-sessions, describe-session, terminate-session. */
#include "cli/client.h"
#include "cli/output.h"
#include "cli/query.h"

#include "base/text.h"

#include <stdio.h>
#include <string.h>

struct list_options {
	struct common_options common;
	const char *state, *target, *principal;
};
#define AT(member) offsetof(struct list_options, member)
static const struct arg_row list_rows[] = {
	{ "state", 0, ARG_TEXT, AT(state), "starting|active|ended", "default: all that have not ended" },
	{ "target", 't', ARG_TEXT, AT(target), "ID", "only sessions to this target" },
	{ "principal", 0, ARG_TEXT, AT(principal), "NAME", "only sessions of this person" },
	{ .name = NULL },
};

static const struct column session_columns[] = {
	{ "SESSION", "id" },          { "TARGET", "target" }, { "KIND", "kind" },          { "STATE", "state" },
	{ "PRINCIPAL", "principal" }, { "LOGIN", "login" },   { "STARTED", "created_at" }, { NULL, NULL },
};

static bool goes_on(const json_t *session)
{
	const char *state = json_string_value(json_object_get(session, "state"));
	return !state || strcmp(state, "ended") != 0;
}

static int list_sessions(const void *options, int argc, char **argv)
{
	(void)argv;
	const struct list_options *o = options;
	if (argc > 0) {
		complain("list-sessions takes no arguments; see --help");
		return EXIT_CODE_USAGE;
	}
	const struct query_param params[] = {
		{ "principal", o->principal }, { "state", o->state }, { "target", o->target }, { NULL, NULL }
	};
	return query_list(&o->common, "/v1/sessions", params, "sessions", o->state ? NULL : goes_on, session_columns);
}

const struct command command_list_sessions = {
	.name = "list-sessions",
	.usage = "[OPTIONS]",
	.summary = "Show sessions",
	.rows = list_rows,
	.options_size = sizeof(struct list_options),
	.run = list_sessions,
	.details = "Examples:\n"
		   "  tunnel-cli list-sessions --principal ann\n"
		   "  tunnel-cli list-sessions --state ended --output json\n",
};

static int describe_session(const void *options, int argc, char **argv)
{
	return query_one(options, "GET", "/v1/sessions/", "SESSION", argc, argv);
}

const struct command command_describe_session = {
	.name = "describe-session",
	.usage = "SESSION",
	.summary = "Show one session",
	.options_size = sizeof(struct common_options),
	.run = describe_session,
	.details = "Example:\n"
		   "  tunnel-cli describe-session s-dwzd7dhs3tuvhegvr6mc\n",
};

static int terminate_session(const void *options, int argc, char **argv)
{
	return query_one(options, "DELETE", "/v1/sessions/", "SESSION", argc, argv);
}

const struct command command_terminate_session = {
	.name = "terminate-session",
	.usage = "SESSION",
	.summary = "End a session now, at both ends",
	.options_size = sizeof(struct common_options),
	.run = terminate_session,
	.details = "Example:\n"
		   "  tunnel-cli terminate-session s-dwzd7dhs3tuvhegvr6mc\n",
};
