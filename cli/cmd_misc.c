/* read-audit, whoami. */
#include "cli/client.h"
#include "cli/output.h"
#include "cli/query.h"

#include <stdio.h>

struct audit_options {
	struct common_options common;
	const char *from, *limit;
};
#define AT(member) offsetof(struct audit_options, member)
static const struct arg_row audit_rows[] = {
	{ "from", 0, ARG_TEXT, AT(from), "N", "first sequence number; default 1" },
	{ "limit", 0, ARG_TEXT, AT(limit), "N", "at most so many records; default 100" },
	{ .name = NULL },
};

static int read_audit(const void *options, int argc, char **argv)
{
	(void)argv;
	const struct audit_options *o = options;
	if (argc > 0) {
		complain("read-audit takes no arguments; see --help");
		return EXIT_CODE_USAGE;
	}
	const struct query_param params[] = { { "from", o->from }, { "limit", o->limit }, { NULL, NULL } };
	struct client c;
	json_t *answer = NULL;
	int code = client_open(&c, &o->common);
	if (code != EXIT_CODE_OK)
		return code;
	char path[512];
	query_path("/v1/audit", params, path, sizeof path);
	code = client_call(&c, "GET", path, NULL, &answer);
	client_close(&c);
	size_t i;
	json_t *record;
	if (code == EXIT_CODE_OK)
		json_array_foreach(json_object_get(answer, "records"), i, record)
		{
			json_dumpf(record, stdout, JSON_COMPACT);
			fputc('\n', stdout);
		}
	json_decref(answer);
	return code;
}

const struct command command_read_audit = {
	.name = "read-audit",
	.usage = "[--from N] [--limit N]",
	.summary = "Print audit records, one JSON object a line",
	.rows = audit_rows,
	.options_size = sizeof(struct audit_options),
	.run = read_audit,
};

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
};
