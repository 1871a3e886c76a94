/* list-policies, get-policy, put-policy, delete-policy. */
#include "cli/client.h"
#include "cli/output.h"
#include "cli/query.h"

#include "base/file.h"
#include "base/json.h"
#include "base/limits.h"
#include "base/text.h"

#include <stdio.h>
#include <string.h>

static const struct column policy_columns[] = { { "POLICY", "name" }, { "SOURCE", "source" }, { NULL, NULL } };

static int list_policies(const void *options, int argc, char **argv)
{
	(void)argv;
	if (argc > 0) {
		complain("list-policies takes no arguments");
		return EXIT_CODE_USAGE;
	}
	return query_list(options, "/v1/policies", NULL, "policies", NULL, policy_columns);
}

const struct command command_list_policies = {
	.name = "list-policies",
	.usage = "",
	.summary = "Show which policies are in force",
	.options_size = sizeof(struct common_options),
	.run = list_policies,
	.details = "Example:\n"
		   "  tunnel-cli list-policies\n",
};

static int get_policy(const void *options, int argc, char **argv)
{
	struct common_options json = *(const struct common_options *)options;
	json.output = OUTPUT_JSON; /* a policy is JSON: what is printed can be edited and put */
	return query_one(&json, "GET", "/v1/policies/", "POLICY", argc, argv);
}

const struct command command_get_policy = {
	.name = "get-policy",
	.usage = "POLICY",
	.summary = "Print a policy's JSON",
	.options_size = sizeof(struct common_options),
	.run = get_policy,
	.details = "Example:\n"
		   "  tunnel-cli get-policy operators >operators.json\n",
};

static int delete_policy(const void *options, int argc, char **argv)
{
	return query_one(options, "DELETE", "/v1/policies/", "POLICY", argc, argv);
}

const struct command command_delete_policy = {
	.name = "delete-policy",
	.usage = "POLICY",
	.summary = "Remove a policy; sessions it alone allowed end",
	.options_size = sizeof(struct common_options),
	.run = delete_policy,
	.details = "Example:\n"
		   "  tunnel-cli delete-policy operators\n",
};

static int read_json(const char *path, json_t **out_json)
{
	struct err e = { 0 };
	struct buf b;
	int rc = strcmp(path, "-") == 0 ? file_read_fd(0, "standard input", LIMIT_HTTP_BODY, &b, &e)
					: file_read(path, LIMIT_HTTP_BODY, &b, &e);
	if (rc == 0) {
		rc = json_parse((const char *)buf_data(&b), b.len, out_json, &e);
		if (rc != 0)
			err_wrap(&e, "%s", path);
		buf_free(&b);
	}
	if (rc != 0)
		complain("%s", e.text);
	return rc;
}

static int put_policy(const void *options, int argc, char **argv)
{
	if (argc == 2 && !text_is_id(argv[0])) {
		complain("%s: no name of a policy; allowed: letters, digits, '.', '_', '-', at most %u", argv[0],
			 LIMIT_ID);
		return EXIT_CODE_USAGE;
	}
	if (argc != 2) {
		complain("put-policy needs a policy name and a JSON file (or - for standard input)");
		return EXIT_CODE_USAGE;
	}
	json_t *policy = NULL;
	if (read_json(argv[1], &policy) != 0)
		return EXIT_CODE_CONFIG;
	struct client c;
	int code = client_open(&c, options);
	if (code == EXIT_CODE_OK) {
		char path[128];
		snprintf(path, sizeof path, "/v1/policies/%s", argv[0]);
		code = client_call(&c, "PUT", path, policy, NULL);
		client_close(&c);
	}
	json_decref(policy);
	return code;
}

const struct command command_put_policy = {
	.name = "put-policy",
	.usage = "POLICY FILE",
	.summary = "Create or replace a policy; running sessions are judged by it at once",
	.options_size = sizeof(struct common_options),
	.run = put_policy,
	.details = "Example:\n  tunnel-cli put-policy developers etc/policies/developers-ssh-by-tag.json\n",
};
