/* audit: the newest records, or those from a number on; then, with --follow, what comes. The place in the log is a
 * sequence number that the server gives with each answer, so a call that failed is asked again from the same place:
 * nothing is missed and nothing comes twice, whichever server answers. */
#include "base/clock.h"
#include "base/text.h"
#include "cli/client.h"
#include "cli/output.h"
#include "cli/query.h"

#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#define PAGE 1000         /* records a call */
#define FOLLOW_MS 1000    /* between two looks at the log's end */
#define LIMIT_MAX 1000000 /* records that --limit can name: they are held in memory until all are there */
#define PATH_TEXT 2000

struct audit_options {
	struct common_options common;
	const char *session, *principal, *target, *event, *since, *until, *from, *limit;
	bool follow;
};
#define AT(member) offsetof(struct audit_options, member)
static const struct arg_row audit_rows[] = {
	{ "session", 0, ARG_TEXT, AT(session), "ID", "only records of this session" },
	{ "principal", 0, ARG_TEXT, AT(principal), "NAME", "only what this person did or was refused" },
	{ "target", 't', ARG_TEXT, AT(target), "ID", "only records of this target" },
	{ "event", 0, ARG_TEXT, AT(event), "NAME", "only this event; * stands for anything: 'session.*'" },
	{ "since", 0, ARG_TEXT, AT(since), "TIME", "from then on: 2026-01-31T09:15:00Z, or 2h: so long ago" },
	{ "until", 0, ARG_TEXT, AT(until), "TIME", "before then" },
	{ "limit", 'n', ARG_TEXT, AT(limit), "N", "at most so many: the newest (50), or with --from the first (all)" },
	{ "from", 0, ARG_TEXT, AT(from), "N", "from this sequence number on, instead of the newest" },
	{ "follow", 'f', ARG_FLAG, AT(follow), NULL, "go on with what comes, until interrupted" },
	{ .name = NULL },
};

static const struct column audit_columns[] = {
	{ "SEQ", "seq" },       { "TIME", "at" },         { "EVENT", "event" },     { "PRINCIPAL", "principal" },
	{ "TARGET", "target" }, { "SESSION", "session" }, { "DETAILS", "details" }, { NULL, NULL },
};

struct reader {
	struct client client;
	const struct audit_options *options;
	struct table table;
	char since[CLOCK_TEXT_LEN], until[CLOCK_TEXT_LEN]; /* "": not given */
	int64_t from, limit;                               /* 0: not given */
	int64_t next_from;                                 /* what has not been looked at begins here */
	int64_t printed;
	bool lost; /* the last call failed, and that was said */
};

/* --- printing --- */

static const char *text_of(const json_t *record, const char *key)
{
	const char *text = json_string_value(json_object_get(record, key));
	return text && *text ? text : NULL;
}

/* Who it is about, whatever the record calls him. */
static const char *who_of(const json_t *record)
{
	static const char *const keys[] = { "principal", "subject", "by" };
	for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
		if (text_of(record, keys[i]))
			return text_of(record, keys[i]);
	return NULL;
}

/* What has no column of its own, but for what only programs read. */
static json_t *details_of(const json_t *record)
{
	static const char *const elsewhere[] = { "seq",    "at",      "event", "principal", "subject",
						 "target", "session", "prev",  "hash",      "grant" };
	json_t *details = json_copy((json_t *)(uintptr_t)record);
	const char *key;
	json_t *value;
	void *at;
	for (size_t i = 0; i < sizeof elsewhere / sizeof *elsewhere; i++)
		json_object_del(details, elsewhere[i]);
	json_object_foreach_safe(details, at, key, value)
	{
		if (json_is_null(value) || (json_is_string(value) && !*json_string_value(value)))
			json_object_del(details, key);
	}
	return details;
}

static json_t *row_of(const json_t *record)
{
	json_t *row = json_copy((json_t *)(uintptr_t)record);
	const char *who = who_of(record);
	json_object_set_new(row, "principal", who ? json_string(who) : json_null());
	json_object_set_new(row, "details", details_of(record));
	return row;
}

/* A reader that is gone (head) is the end of it. */
static int print_records(struct reader *r, const json_t *records)
{
	size_t i;
	const json_t *record;
	json_auto_t *rows = json_array();
	json_array_foreach(records, i, record)
	{
		if (r->options->common.output == OUTPUT_JSON)
			output_json_line(record);
		else
			json_array_append_new(rows, row_of(record));
	}
	if (r->options->common.output != OUTPUT_JSON && (json_array_size(rows) || !r->table.headed))
		output_rows(&r->table, rows);
	r->printed += (int64_t)json_array_size(records);
	return fflush(stdout) == 0 ? EXIT_CODE_OK : EXIT_CODE_FAILED;
}

/* --- asking --- */

/* tail: the newest below place (0: of all); else from place on. */
static int ask(struct reader *r, bool tail, int64_t place, int64_t count, json_t **out_answer, char why[CLIENT_WHY])
{
	const struct audit_options *o = r->options;
	char path[PATH_TEXT], at[24], most[24];
	snprintf(at, sizeof at, "%" PRId64, place);
	snprintf(most, sizeof most, "%" PRId64, count > PAGE ? PAGE : count);
	const struct query_param params[] = { { "before", tail && place ? at : NULL },
					      { "event", o->event },
					      { "from", tail ? NULL : at },
					      { "limit", tail ? NULL : most },
					      { "principal", o->principal },
					      { "session", o->session },
					      { "since", *r->since ? r->since : NULL },
					      { "tail", tail ? most : NULL },
					      { "target", o->target },
					      { "until", *r->until ? r->until : NULL },
					      { NULL, NULL } };
	query_path("/v1/audit", params, path, sizeof path);
	return client_try(&r->client, "GET", path, NULL, out_answer, why);
}

static int64_t number_of(const json_t *answer, const char *key)
{
	return json_integer_value(json_object_get(answer, key));
}

/* The newest ones come page by page from behind: all are there before the first is printed. */
static int print_newest(struct reader *r)
{
	char why[CLIENT_WHY] = "";
	int64_t before = 0, wanted = r->limit;
	int code = EXIT_CODE_OK;
	json_auto_t *all = json_array();
	do {
		json_auto_t *answer = NULL;
		code = ask(r, true, before, wanted, &answer, why);
		if (code != EXIT_CODE_OK)
			break;
		json_t *records = json_object_get(answer, "records");
		wanted -= (int64_t)json_array_size(records);
		if (!before)
			r->next_from = number_of(answer, "next_from");
		before = number_of(answer, "next_before");
		json_array_extend(records, all);
		json_decref(all);
		all = json_incref(records);
	} while (wanted > 0 && before > 0);
	if (code == EXIT_CODE_OK)
		return print_records(r, all);
	complain("%s", why);
	return code;
}

/* One page from r->next_from on. */
static int print_next(struct reader *r, bool *out_at_end, char why[CLIENT_WHY])
{
	json_auto_t *answer = NULL;
	int64_t left = r->limit && !r->options->follow ? r->limit - r->printed : PAGE;
	int code = ask(r, false, r->next_from, left, &answer, why);
	if (code != EXIT_CODE_OK)
		return code;
	int64_t next = number_of(answer, "next_from");
	if (next < r->next_from || !json_is_boolean(json_object_get(answer, "at_end"))) {
		snprintf(why, CLIENT_WHY, "the server's answer has no place to go on from");
		return EXIT_CODE_FAILED;
	}
	r->next_from = next;
	*out_at_end = json_is_true(json_object_get(answer, "at_end"));
	return print_records(r, json_object_get(answer, "records"));
}

static int print_from(struct reader *r)
{
	char why[CLIENT_WHY] = "";
	bool at_end = false;
	int code = EXIT_CODE_OK;
	r->next_from = r->from;
	while (code == EXIT_CODE_OK && !at_end && (!r->limit || r->printed < r->limit))
		code = print_next(r, &at_end, why);
	if (code != EXIT_CODE_OK && *why)
		complain("%s", why);
	return code;
}

/* A server that is away comes back. */
static int follow(struct reader *r)
{
	for (;;) {
		char why[CLIENT_WHY] = "";
		bool at_end = true;
		int code = print_next(r, &at_end, why);
		bool away = code == EXIT_CODE_UNREACHABLE;
		if (away && !r->lost && !r->options->common.quiet)
			complain("%s; trying again", why);
		r->lost = away;
		if (code != EXIT_CODE_OK && !away) {
			if (*why)
				complain("%s", why);
			return code;
		}
		if (at_end)
			poll(NULL, 0, FOLLOW_MS);
	}
}

/* --- options --- */

static bool read_number(const char *name, const char *text, int64_t max, int64_t *out)
{
	if (text && text_parse_int(text, 1, max, out) != 0) {
		complain("--%s: \"%s\": expected a number from 1 to %" PRId64, name, text, max);
		return false;
	}
	return true;
}

/* The server takes times; so long ago is counted here, once. */
static bool read_time(const char *name, const char *text, char out[CLOCK_TEXT_LEN])
{
	int64_t ms;
	if (!text)
		return true;
	if (clock_parse(text, &ms) == 0 || text_parse_duration_ms(text, &ms) != 0 || ms < 0) {
		if (clock_parse(text, &ms) != 0) {
			complain(
				"--%s: \"%s\": expected a time like 2026-01-31T09:15:00Z, or how long ago: 30m, 2h, 7d",
				name, text);
			return false;
		}
	} else {
		ms = clock_wall_ms() - ms;
	}
	clock_text(ms, out);
	return true;
}

static bool read_options(struct reader *r)
{
	const struct audit_options *o = r->options;
	if (o->follow && o->until) {
		complain("--follow goes on for ever; --until does not go with it");
		return false;
	}
	r->limit = o->from ? 0 : 50;
	return read_number("limit", o->limit, LIMIT_MAX, &r->limit) &&
	       read_number("from", o->from, INT64_MAX, &r->from) && read_time("since", o->since, r->since) &&
	       read_time("until", o->until, r->until);
}

static int audit(const void *options, int argc, char **argv)
{
	(void)argv;
	struct reader r = { .options = options, .table = { .columns = audit_columns } };
	if (argc > 0) {
		complain("audit takes no arguments; see --help");
		return EXIT_CODE_USAGE;
	}
	if (!read_options(&r))
		return EXIT_CODE_USAGE;
	int code = client_open(&r.client, &r.options->common);
	if (code != EXIT_CODE_OK)
		return code;
	code = r.from ? print_from(&r) : print_newest(&r);
	if (code == EXIT_CODE_OK && r.options->follow)
		code = follow(&r);
	client_close(&r.client);
	return code;
}

const struct command command_audit = {
	.name = "audit",
	.usage = "[OPTIONS]",
	.summary = "Show the audit log: the newest records, or those that are looked for",
	.rows = audit_rows,
	.options_size = sizeof(struct audit_options),
	.run = audit,
	.details = "Examples:\n  tunnel-cli audit --principal alice --since 2h\n  tunnel-cli audit --event denied "
		   "--follow\n"
		   "  tunnel-cli audit --from 1 --output json > audit.jsonl\n",
};
