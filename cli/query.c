#include "cli/query.h"

#include "base/text.h"
#include "cli/client.h"

#include <stdio.h>
#include <string.h>

static void add_encoded(char *out, size_t size, const char *text)
{
	size_t n = strlen(out);
	for (; *text && n + 4 < size; text++) {
		unsigned char c = (unsigned char)*text;
		bool plain =
			(c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || strchr("-._~", c);
		n += (size_t)snprintf(out + n, size - n, plain ? "%c" : "%%%02X", c);
	}
}

void query_path(const char *path, const struct query_param *params, char *out, size_t size)
{
	char mark = '?';
	snprintf(out, size, "%s", path);
	for (; params && params->name; params++) {
		if (!params->value)
			continue;
		size_t n = strlen(out);
		snprintf(out + n, size - n, "%c%s=", mark, params->name);
		add_encoded(out, size, params->value);
		mark = '&';
	}
}

/* The cursor belongs before every other name that we use ("cursor" < "from", "limit", "principal", "state", "tag.…",
 * "target"). */
static void page_path(const char *path, const struct query_param *params, const char *cursor, char *out, size_t size)
{
	char first[1024];
	const struct query_param page[] = { { "cursor", cursor }, { NULL, NULL } };
	query_path(path, page, first, sizeof first);
	if (!cursor) {
		query_path(path, params, out, size);
		return;
	}
	char rest[1024];
	query_path("", params, rest, sizeof rest);
	if (rest[0])
		rest[0] = '&';
	snprintf(out, size, "%s%s", first, rest);
}

static int collect_pages(struct client *c, const char *path, const struct query_param *params, const char *member,
			 query_keep *keep, json_t *all)
{
	char cursor[768] = "";
	do {
		char full[2048];
		json_t *page = NULL;
		page_path(path, params, cursor[0] ? cursor : NULL, full, sizeof full);
		int code = client_call(c, "GET", full, NULL, &page);
		if (code != EXIT_CODE_OK)
			return code;
		size_t i;
		json_t *row;
		json_array_foreach(json_object_get(page, member), i, row) if (!keep || keep(row))
			json_array_append(all, row);
		const char *next = json_string_value(json_object_get(page, "next_cursor"));
		snprintf(cursor, sizeof cursor, "%s", next ? next : "");
		json_decref(page);
	} while (cursor[0]);
	return EXIT_CODE_OK;
}

int query_list(const struct common_options *common, const char *path, const struct query_param *params,
	       const char *member, query_keep *keep, const struct column *columns)
{
	struct client c;
	int code = client_open(&c, common);
	if (code != EXIT_CODE_OK)
		return code;
	json_t *all = json_array();
	code = collect_pages(&c, path, params, member, keep, all);
	client_close(&c);
	if (code == EXIT_CODE_OK && common->output == OUTPUT_JSON)
		output_json(all);
	else if (code == EXIT_CODE_OK)
		output_table(all, columns);
	json_decref(all);
	return code;
}

int query_one(const struct common_options *common, const char *method, const char *prefix, const char *what, int argc,
	      char **argv)
{
	if (argc != (what ? 1 : 0) || (what && !text_is_id(argv[0]))) {
		complain(what ? "expected one argument: %s (letters, digits, . _ -)" : "no arguments expected%s",
			 what ? what : "");
		return EXIT_CODE_USAGE;
	}
	struct client c;
	int code = client_open(&c, common);
	if (code != EXIT_CODE_OK)
		return code;
	char path[256];
	json_t *answer = NULL;
	snprintf(path, sizeof path, "%s%s", prefix, what ? argv[0] : "");
	code = client_call(&c, method, path, NULL, &answer);
	client_close(&c);
	if (code == EXIT_CODE_OK && answer && common->output == OUTPUT_JSON)
		output_json(answer);
	else if (code == EXIT_CODE_OK && answer)
		output_object(answer);
	json_decref(answer);
	return code;
}
