/* who-can: whom do the policies in force let reach a target? */
#include "cli/client.h"
#include "cli/output.h"
#include "cli/policy_about.h"

#include "base/buf.h"
#include "base/limits.h"
#include "base/text.h"

#include <stdlib.h>

struct who_options {
	struct common_options common;
	const char *target;
	struct policy_about about;
};
static const struct arg_row who_rows[] = {
	{ "target", 't', ARG_TEXT, offsetof(struct who_options, target), "ID", "who reaches which target" },
	POLICY_ABOUT_ROWS(who_options),
	{ .name = NULL },
};

static void add_names(struct buf *out, const char *kind, const json_t *names, const char **between)
{
	size_t i;
	const json_t *name;
	json_array_foreach(names, i, name)
	{
		buf_printf(out, "%s%s %s", *between, kind, json_string_value(name));
		*between = ", ";
	}
}

static void add_who(struct buf *out, const json_t *who)
{
	const json_t *user = json_object_get(who, "user"), *group = json_object_get(who, "group"),
		     *except = json_object_get(who, "everyone_except");
	const char *between = " ";
	if (user)
		buf_printf(out, "user %s", json_string_value(user));
	else if (group)
		buf_printf(out, "group %s", json_string_value(group));
	else
		buf_printf(out, "everyone");
	if (!except)
		return;
	buf_printf(out, " except");
	add_names(out, "user", json_object_get(except, "users"), &between);
	add_names(out, "group", json_object_get(except, "groups"), &between);
}

static void add_operands(struct buf *out, const json_t *values)
{
	size_t n = json_is_array(values) ? json_array_size(values) : 1;
	for (size_t i = 0; i < n; i++) {
		char *text = json_dumps(json_is_array(values) ? json_array_get(values, i) : values, JSON_ENCODE_ANY);
		buf_printf(out, "%s%s", i ? " or " : "", text ? text : "too long for a table: see --output json");
		free(text);
	}
}

/* "tunnel:Login StringEquals "deploy" or "root" and …" */
static void add_conditions(struct buf *out, const json_t *ifs)
{
	size_t i;
	json_t *item, *block, *values;
	const char *op, *key;
	json_array_foreach(ifs, i, item)
	{
		json_object_foreach(item, op, block)
		{
			buf_printf(out, "%s", i ? " and " : "");
			if (!json_is_object(block)) {
				buf_printf(out, "%s is ", op);
				add_operands(out, block);
				continue;
			}
			json_object_foreach(block, key, values)
			{
				buf_printf(out, "%s %s ", key, op);
				add_operands(out, values);
			}
		}
	}
}

static void add_unless(struct buf *out, const json_t *unless)
{
	size_t i;
	const json_t *list = json_object_get(unless, "who"), *ifs = json_object_get(unless, "if"), *who;
	buf_printf(out, "%sunless ", out->len ? "; " : "");
	json_array_foreach(list, i, who)
	{
		buf_printf(out, "%s", i ? " or " : "");
		add_who(out, who);
	}
	if (json_array_size(ifs)) {
		buf_printf(out, "%s", list ? " and " : "");
		add_conditions(out, ifs);
	}
	buf_printf(out, " (%s/%s)", json_string_value(json_object_get(unless, "policy")),
		   json_string_value(json_object_get(unless, "statement")));
}

/* What a table shows. Half a condition would be another one, so it is all or nothing. */
#define CELL_TEXT 4000

static json_t *taken(struct buf *b)
{
	char *text = b->len <= CELL_TEXT ? buf_take_text(b) : NULL;
	json_t *json = json_string(text ? text : "(too long for a table; see --output json)");
	free(text);
	buf_free(b);
	return json;
}

/* A row of the answer as a row of the table. */
static json_t *table_row(const json_t *row)
{
	struct buf who = BUF_INIT(LIMIT_HTTP_BODY), what = BUF_INIT(LIMIT_HTTP_BODY), when = BUF_INIT(LIMIT_HTTP_BODY);
	const json_t *ifs = json_object_get(row, "if"), *item;
	size_t i;
	add_who(&who, json_object_get(row, "who"));
	json_array_foreach(json_object_get(row, "actions"), i, item)
	{
		const char *action = json_string_value(item);
		buf_printf(&what, "%s%s", i ? "," : "", text_starts(action, "tunnel:") ? action + 7 : action);
	}
	if (json_array_size(ifs))
		buf_printf(&when, "if ");
	add_conditions(&when, ifs);
	json_array_foreach(json_object_get(row, "unless"), i, item) add_unless(&when, item);
	if (!when.len)
		buf_printf(&when, "always");
	return json_pack("{s:o, s:o, s:o, s:s++}", "who", taken(&who), "what", taken(&what), "when", taken(&when), "by",
			 json_string_value(json_object_get(row, "policy")), "/",
			 json_string_value(json_object_get(row, "statement")));
}

static void print_reach(const json_t *answer)
{
	static const struct column columns[] = {
		{ "WHO", "who" }, { "MAY", "what" }, { "BY", "by" }, { "WHEN", "when" }, { NULL, NULL }
	};
	json_t *table = json_array();
	size_t i;
	const json_t *row;
	json_array_foreach(json_object_get(answer, "reach"), i, row) json_array_append_new(table, table_row(row));
	output_table(table, columns);
	json_decref(table);
}

static int who_can(const void *options, int argc, char **argv)
{
	(void)argv;
	const struct who_options *o = options;
	json_t *context = NULL, *answer = NULL;
	struct client c;
	if (argc > 0 || !o->target) {
		complain("who-can needs --target, and no other arguments; see --help");
		return EXIT_CODE_USAGE;
	}
	int code = policy_about_context(&o->about, &context);
	if (code != EXIT_CODE_OK)
		return code;
	json_t *body = json_pack("{s:s, s:o, s:o}", "target", o->target, "actions",
				 policy_about_list(&o->about.actions, policy_about_action), "context", context);
	code = client_open(&c, &o->common);
	if (code == EXIT_CODE_OK) {
		code = client_call(&c, "POST", "/v1/policies:who-can", body, &answer);
		client_close(&c);
	}
	json_decref(body);
	if (code == EXIT_CODE_OK && o->common.output == OUTPUT_JSON)
		output_json(answer);
	else if (code == EXIT_CODE_OK)
		print_reach(answer);
	if (code == EXIT_CODE_OK && json_is_true(json_object_get(answer, "more")))
		complain("there are more than these; ask for one action, or with more options");
	json_decref(answer);
	return code;
}

const struct command command_who_can = {
	.name = "who-can",
	.usage = "--target ID [OPTIONS]",
	.summary = "Show whom the policies let reach a target",
	.rows = who_rows,
	.options_size = sizeof(struct who_options),
	.run = who_can,
	.details =
		"Without --action: StartSession, OpenSsh, OpenTcp and OpenUnix; a session needs the first and one of "
		"the others. "
		"Users, groups\nand patterns are listed as the policies have them: who is in a group, only the "
		"identity "
		"provider knows. What\nthe options do not say is open, and shown as a condition (\"if\") or as a Deny "
		"that "
		"may apply (\"unless\").\n\n"
		"Examples:\n  tunnel-cli who-can --target web-1\n"
		"  tunnel-cli who-can --target web-1 --action OpenSsh --login root --source-ip 10.1.2.3\n",
};
