/* list-nodes. */
#include "cli/output.h"
#include "cli/query.h"

static const struct column columns[] = {
	{ "NODE", "name" },           { "URL", "url" },           { "AGENTS", "agents" },
	{ "SESSIONS", "sessions" },   { "DRAINING", "draining" }, { "STARTED", "started_at" },
	{ "LAST SEEN", "last_seen" }, { "VERSION", "version" },   { NULL, NULL },
};

static int list_nodes(const void *options, int argc, char **argv)
{
	(void)argv;
	if (argc > 0) {
		complain("list-nodes takes no arguments; see --help");
		return EXIT_CODE_USAGE;
	}
	return query_list(options, "/v1/nodes", NULL, "nodes", NULL, columns);
}

const struct command command_list_nodes = {
	.name = "list-nodes",
	.usage = "",
	.summary = "Show the server's nodes, with their agents and sessions",
	.options_size = sizeof(struct common_options),
	.run = list_nodes,
	.details = "Example:\n"
		   "  tunnel-cli list-nodes\n",
};
