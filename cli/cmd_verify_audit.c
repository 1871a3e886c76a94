/* verify-audit: is the audit log whole? Over the API, or what was exported from it. */
#include "base/audit_chain.h"
#include "base/json.h"
#include "base/limits.h"
#include "base/text.h"
#include "cli/client.h"
#include "cli/output.h"
#include "cli/query.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LINE_MAX_BYTES (LIMIT_STORE_VALUE + 4096) /* a record as the store takes it, with its number */

struct verify_options {
	struct common_options common;
	const char *file;
};
static const struct arg_row verify_rows[] = {
	{ "file", 0, ARG_TEXT, offsetof(struct verify_options, file), "FILE",
	  "check this export (JSON lines) instead of the server's log; \"-\": standard input" },
	{ .name = NULL },
};

/* 0: all was read and is whole. ERR_INVALID: it is not. Else it could not be read: *out_code, and it has complained. */
static int check_server(const struct common_options *common, struct audit_check *check, int *out_code, struct err *e)
{
	struct client c;
	int rc = 0;
	bool at_end = false;
	*out_code = client_open(&c, common);
	if (*out_code != EXIT_CODE_OK)
		return ERR_UNAVAILABLE;
	while (rc == 0 && !at_end) {
		char path[64], from[24];
		json_auto_t *answer = NULL;
		snprintf(from, sizeof from, "%" PRIu64, check->next ? check->next : 1);
		const struct query_param params[] = { { "from", from }, { "limit", "1000" }, { NULL, NULL } };
		query_path("/v1/audit", params, path, sizeof path);
		*out_code = client_call(&c, "GET", path, NULL, &answer);
		if (*out_code != EXIT_CODE_OK) {
			rc = ERR_UNAVAILABLE;
			break;
		}
		at_end = json_array_size(json_object_get(answer, "records")) == 0;
		rc = audit_check_records(check, json_object_get(answer, "records"), e);
	}
	client_close(&c);
	return rc;
}

/* A line without its end, of no more than fits; false: there is none. What it holds may be anything, also NULs. */
static bool read_line(FILE *f, char *line, size_t *out_len)
{
	size_t len = 0;
	int c = EOF;
	while (len < LINE_MAX_BYTES && (c = getc(f)) != EOF && c != '\n')
		line[len++] = (char)c;
	*out_len = len;
	return len > 0 || c != EOF;
}

static int check_line(const char *line, size_t len, size_t number, struct audit_check *check, struct err *e)
{
	json_t *record = NULL;
	struct err why;
	int rc = json_parse(line, len, &record, &why);
	if (rc != 0)
		return err_set(e, ERR_INVALID, "line %zu: is no record: %.150s", number, why.text);
	json_auto_t *records = json_pack("[o]", record);
	rc = audit_check_records(check, records, e);
	return rc ? err_wrap(e, "line %zu", number) : 0;
}

static int check_lines(FILE *f, const char *name, struct audit_check *check, int *out_code, struct err *e)
{
	char *line = malloc(LINE_MAX_BYTES);
	int rc = line ? audit_check_allow_repeats(check, e) : err_set(e, ERR_NOMEM, "out of memory");
	size_t len;
	for (size_t number = 1; rc == 0 && read_line(f, line, &len); number++)
		rc = check_line(line, len, number, check, e);
	free(line);
	if (rc == 0 && ferror(f)) {
		complain("%s: %s", name, strerror(errno));
		*out_code = EXIT_CODE_CONFIG;
		return ERR_IO;
	}
	return rc;
}

static int check_file(const char *name, struct audit_check *check, int *out_code, struct err *e)
{
	bool standard = strcmp(name, "-") == 0;
	FILE *f = standard ? stdin : fopen(name, "re");
	if (!f) {
		complain("%s: %s", name, strerror(errno));
		*out_code = EXIT_CODE_CONFIG;
		return ERR_IO;
	}
	int rc = check_lines(f, name, check, out_code, e);
	if (!standard)
		fclose(f);
	return rc;
}

static json_t *report_of(const struct audit_check *check, const char *problem)
{
	const char *name;
	json_t *node, *nodes = json_array();
	json_object_foreach(check->nodes, name, node)
	{
		json_t *row = json_pack("{s:s}", "node", name);
		json_object_update(row, node);
		json_array_append_new(nodes, row);
	}
	return json_pack("{s:b, s:I, s:I, s:I, s:I, s:o, s:s?}", "whole", problem == NULL, "records",
			 (json_int_t)check->records, "repeated", (json_int_t)check->repeated, "first",
			 (json_int_t)check->first, "last", (json_int_t)(check->next ? check->next - 1 : 0), "nodes",
			 nodes, "problem", problem);
}

static void print_report(const struct audit_check *check, const json_t *report, const char *problem)
{
	static const struct column columns[] = { { "NODE", "node" }, { "RECORDS", "records" }, { "FIRST", "first" },
						 { "LAST", "last" }, { "HASH", "hash" },       { NULL, NULL } };
	if (check->records)
		output_table(json_object_get(report, "nodes"), columns);
	printf("%" PRIu64 " record%s %s whole", check->records, check->records == 1 ? "" : "s",
	       check->records == 1 ? "is" : "are");
	if (check->repeated)
		printf(", %" PRIu64 " came twice", check->repeated);
	if (check->records && !check->from_start)
		printf("; what came before record %" PRIu64 " was not looked at", check->first);
	printf("\n");
	if (problem)
		printf("not whole: %s\n", problem);
}

static int verify_audit(const void *options, int argc, char **argv)
{
	(void)argv;
	const struct verify_options *o = options;
	struct audit_check check;
	struct err e = { 0 };
	int code = EXIT_CODE_FAILED;
	if (argc > 0) {
		complain("verify-audit takes no arguments; an export is named by --file; see --help");
		return EXIT_CODE_USAGE;
	}
	audit_check_init(&check);
	int rc = o->file ? check_file(o->file, &check, &code, &e) : check_server(&o->common, &check, &code, &e);
	if (rc == 0 || rc == ERR_INVALID) {
		char problem[sizeof e.text];
		snprintf(problem, sizeof problem, "%s", e.text);
		text_make_plain(problem);
		const char *found = rc ? problem : NULL;
		json_auto_t *report = report_of(&check, found);
		if (o->common.output == OUTPUT_JSON)
			output_json(report);
		else
			print_report(&check, report, found);
		code = rc ? EXIT_CODE_NOT_WHOLE : EXIT_CODE_OK;
	} else if (rc == ERR_NOMEM) {
		complain("%s", e.text);
	}
	audit_check_free(&check);
	return code;
}

const struct command command_verify_audit = {
	.name = "verify-audit",
	.usage = "[--file FILE]",
	.summary = "Check that the audit log is whole: nothing changed, removed or added",
	.rows = verify_rows,
	.options_size = sizeof(struct verify_options),
	.run = verify_audit,
	.details = "Exit codes: 0 whole, 244 not whole; others: it could not be read.\n"
		   "\nExamples:\n"
		   "  tunnel-cli verify-audit\n"
		   "  tunnel-cli verify-audit --file audit.jsonl\n",
};
