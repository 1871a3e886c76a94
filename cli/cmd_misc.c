/* whoami. */
#include "cli/query.h"

static int whoami(const void *options, int argc, char **argv)
{
	return query_one(options, "GET", "/v1/whoami", NULL, argc, argv);
}

const struct command command_whoami = {
	.name = "whoami",
	.usage = "",
	.summary = "Show who the server takes you for",
	.options_size = sizeof(struct common_options),
	.run = whoami,
	.details = "Example:\n"
		   "  tunnel-cli whoami --profile lab\n",
};
