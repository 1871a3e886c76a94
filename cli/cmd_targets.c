/* list-targets, describe-target, deregister-target, create-enrollment. */
#include "cli/client.h"
#include "cli/output.h"
#include "cli/query.h"

#include "base/text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct tag_options {
	struct common_options common;
	struct arg_list tags;
};
#define AT(member) offsetof(struct tag_options, member)
static const struct arg_row list_rows[] = {
	{ "tag", 0, ARG_LIST, AT(tags), "KEY=VALUE", "only targets with this tag; may be repeated" },
	{ .name = NULL },
};

static const struct column target_columns[] = {
	{ "TARGET", "id" },           { "STATE", "state" },     { "TAGS", "tags" }, { "SESSIONS", "sessions" },
	{ "LAST SEEN", "last_seen" }, { "VERSION", "version" }, { NULL, NULL },
};

static int list_targets(const void *options, int argc, char **argv)
{
	(void)argv;
	const struct tag_options *o = options;
	struct query_param params[ARG_LIST_MAX + 1] = { { NULL, NULL } };
	char names[ARG_LIST_MAX][160];
	if (argc > 0) {
		complain("list-targets takes no arguments; see --help");
		return EXIT_CODE_USAGE;
	}
	for (size_t i = 0; i < o->tags.n; i++) {
		const char *equals = strchr(o->tags.at[i], '=');
		if (!equals || equals == o->tags.at[i]) {
			complain("--tag %s: expected KEY=VALUE", o->tags.at[i]);
			return EXIT_CODE_USAGE;
		}
		snprintf(names[i], sizeof names[i], "tag.%.*s", (int)(equals - o->tags.at[i]), o->tags.at[i]);
		params[i] = (struct query_param){ names[i], equals + 1 };
	}
	return query_list(&o->common, "/v1/targets", params, "targets", NULL, target_columns);
}

const struct command command_list_targets = {
	.name = "list-targets",
	.usage = "[--tag KEY=VALUE]...",
	.summary = "Show targets and whether their agents are connected",
	.rows = list_rows,
	.options_size = sizeof(struct tag_options),
	.run = list_targets,
	.details = "Example:\n"
		   "  tunnel-cli list-targets --tag role=web\n",
};

static int describe_target(const void *options, int argc, char **argv)
{
	return query_one(options, "GET", "/v1/targets/", "TARGET", argc, argv);
}

const struct command command_describe_target = {
	.name = "describe-target",
	.usage = "TARGET",
	.summary = "Show one target",
	.options_size = sizeof(struct common_options),
	.run = describe_target,
	.details = "Example:\n"
		   "  tunnel-cli describe-target web-1\n",
};

static int deregister_target(const void *options, int argc, char **argv)
{
	return query_one(options, "DELETE", "/v1/targets/", "TARGET", argc, argv);
}

const struct command command_deregister_target = {
	.name = "deregister-target",
	.usage = "TARGET",
	.summary = "Remove a target: its sessions end, its key is worthless",
	.options_size = sizeof(struct common_options),
	.run = deregister_target,
	.details = "Example:\n"
		   "  tunnel-cli deregister-target web-1\n",
};

struct enroll_options {
	struct common_options common;
	struct arg_list tags;
	const char *expires;
};
#define ENROLL_AT(member) offsetof(struct enroll_options, member)
static const struct arg_row enroll_rows[] = {
	{ "tag", 0, ARG_LIST, ENROLL_AT(tags), "KEY=VALUE", "tag of the target; may be repeated" },
	{ "expires-in", 0, ARG_TEXT, ENROLL_AT(expires), "DURATION",
	  "how long the token can be used: \"15m\" (default), at most \"7d\"" },
	{ .name = NULL },
};

static json_t *tags_object(const struct arg_list *tags)
{
	json_t *object = json_object();
	for (size_t i = 0; i < tags->n; i++) {
		const char *equals = strchr(tags->at[i], '=');
		if (!equals || equals == tags->at[i]) {
			complain("--tag %s: expected KEY=VALUE", tags->at[i]);
			json_decref(object);
			return NULL;
		}
		char *key = strndup(tags->at[i], (size_t)(equals - tags->at[i]));
		json_object_set_new(object, key, json_string(equals + 1));
		free(key);
	}
	return object;
}

static int print_token(const json_t *answer)
{
	const char *token = json_string_value(json_object_get(answer, "token"));
	bool fine = token && *token;
	for (const char *c = token; fine && *c; c++)
		fine = *c > ' ' && *c < 0x7f;
	if (!fine) {
		complain("the server's answer has no token");
		return EXIT_CODE_FAILED;
	}
	printf("%s\n", token);
	return EXIT_CODE_OK;
}

static int create_enrollment(const void *options, int argc, char **argv)
{
	const struct enroll_options *o = options;
	int64_t expires_ms = 900 * 1000;
	if (argc != 1 || !text_is_id(argv[0])) {
		complain("create-enrollment needs one target id (letters, digits, . _ -)");
		return EXIT_CODE_USAGE;
	}
	if (o->expires && text_parse_duration_ms(o->expires, &expires_ms) != 0) {
		complain("--expires-in %s: expected a duration like \"15m\"", o->expires);
		return EXIT_CODE_USAGE;
	}
	json_t *tags = tags_object(&o->tags), *answer = NULL;
	if (!tags)
		return EXIT_CODE_USAGE;
	struct client c;
	int code = client_open(&c, &o->common);
	if (code == EXIT_CODE_OK) {
		json_t *body = json_pack("{s:s, s:O, s:I}", "target", argv[0], "tags", tags, "expires_in_s",
					 (json_int_t)(expires_ms / 1000));
		code = client_call(&c, "POST", "/v1/enrollments", body, &answer);
		json_decref(body);
		client_close(&c);
	}
	if (code == EXIT_CODE_OK && o->common.output == OUTPUT_JSON)
		output_json(answer);
	else if (code == EXIT_CODE_OK)
		code = print_token(answer);
	json_decref(answer);
	json_decref(tags);
	return code;
}

const struct command command_create_enrollment = {
	.name = "create-enrollment",
	.usage = "TARGET [--tag KEY=VALUE]...",
	.summary = "Print a one-time token with which a machine enrols as TARGET",
	.rows = enroll_rows,
	.options_size = sizeof(struct enroll_options),
	.run = create_enrollment,
	.details =
		"Example:\n  tunnel-cli create-enrollment web-1 --tag role=web >token\n"
		"  # on the machine:\n  tunnel-agent enroll --server https://tunnel.example.com --token-file token\n",
};
