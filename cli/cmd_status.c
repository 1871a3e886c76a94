/* status: the sessions that run on this machine, as their own clients see them. They are asked twice: how much goes
 * through is the difference. */
#include "cli/command.h"
#include "cli/output.h"
#include "cli/status_socket.h"
#include "cli/story.h"

#include "base/text.h"

#include <string.h>
#include <time.h>

#define BETWEEN_MS 500

static const struct column columns[] = {
	{ "SESSION", "session" }, { "TARGET", "target" }, { "STATE", "state" },     { "SINCE", "since" },
	{ "STREAMS", "streams" }, { "IN", "in" },         { "OUT", "out" },         { "IN/S", "in_rate" },
	{ "OUT/S", "out_rate" },  { "RTT", "rtt" },       { "RESUMES", "resumes" }, { "LAST TROUBLE", "trouble" },
	{ NULL, NULL },
};

static json_int_t number(const json_t *row, const char *name)
{
	return json_integer_value(json_object_get(row, name));
}

/* The same client: of one that takes a session over, and of the one that lets it go, each counts for itself. */
static const json_t *find(const json_t *rows, const json_t *like)
{
	size_t i;
	const json_t *row;
	json_array_foreach(rows, i, row) if (number(row, "pid") == number(like, "pid")) return row;
	return NULL;
}

static void add_rate(json_t *row, const json_t *before, const char *name, const char *rate)
{
	json_int_t ms = before ? number(row, "at_ms") - number(before, "at_ms") : 0;
	json_int_t bytes = before ? number(row, name) - number(before, name) : 0;
	json_object_set_new(row, rate, json_integer(ms > 0 && bytes > 0 ? bytes * 1000 / ms : 0));
}

static void add_rates(json_t *rows, const json_t *before)
{
	size_t i;
	json_t *row;
	json_array_foreach(rows, i, row)
	{
		const json_t *old = find(before, row);
		add_rate(row, old, "bytes_in", "bytes_in_per_s");
		add_rate(row, old, "bytes_out", "bytes_out_per_s");
		json_object_del(row, "at_ms");
	}
}

static void set_bytes(json_t *row, const char *from, const char *to, const char *unit)
{
	char text[40], whole[48];
	story_bytes(number(row, from) > 0 ? (uint64_t)number(row, from) : 0, text, sizeof text);
	snprintf(whole, sizeof whole, "%s%s", text, unit);
	json_object_set_new(row, to, json_string(whole));
}

/* The table's cells. */
static void add_words(json_t *rows)
{
	size_t i;
	json_t *row;
	json_array_foreach(rows, i, row)
	{
		char text[40];
		story_duration(number(row, "state_for_ms"), text, sizeof text);
		json_object_set_new(row, "since", json_string(text));
		set_bytes(row, "bytes_in", "in", "");
		set_bytes(row, "bytes_out", "out", "");
		set_bytes(row, "bytes_in_per_s", "in_rate", "/s");
		set_bytes(row, "bytes_out_per_s", "out_rate", "/s");
		snprintf(text, sizeof text, "%lld ms", (long long)number(row, "rtt_ms"));
		json_object_set_new(row, "rtt",
				    json_is_null(json_object_get(row, "rtt_ms")) ? json_null() : json_string(text));
	}
}

static int status(const void *options, int argc, char **argv)
{
	const struct common_options *common = options;
	const char *session = argc == 1 ? argv[0] : NULL;
	const struct timespec pause = { .tv_nsec = BETWEEN_MS * 1000000L };
	json_t *before = NULL, *rows = NULL;
	struct err e = { 0 };
	if (argc > 1 || (session && !text_is_id(session))) {
		complain("status: expected no argument, or one: SESSION");
		return EXIT_CODE_USAGE;
	}
	int rc = status_ask_all(session, &before, &e);
	if (rc == 0 && json_array_size(before) > 0)
		nanosleep(&pause, NULL);
	if (rc == 0)
		rc = status_ask_all(session, &rows, &e);
	if (rc != 0) {
		json_decref(before);
		complain("status: %s", e.text);
		return EXIT_CODE_CONFIG;
	}
	add_rates(rows, before);
	json_decref(before);
	size_t n = json_array_size(rows);
	if (common->output == OUTPUT_JSON) {
		output_json(rows);
	} else if (n > 0) {
		add_words(rows);
		output_table(rows, columns);
	} else if (!common->quiet) {
		complain(session ? "session %s does not run here; tunnel-cli list-sessions shows where your sessions "
				   "lead"
				 : "no session of yours runs on this machine%s",
			 session ? session : "");
	}
	json_decref(rows);
	return session && n == 0 ? EXIT_CODE_NOT_FOUND : EXIT_CODE_OK;
}

const struct command command_status = {
	.name = "status",
	.usage = "[SESSION]",
	.summary = "Show how your sessions on this machine are: round trip, throughput, streams, resumptions",
	.options_size = sizeof(struct common_options),
	.run = status,
	.details = "Without SESSION: all of them. Times are how long the state has lasted.\n\n"
		   "Examples:\n"
		   "  tunnel-cli status\n"
		   "  watch tunnel-cli status s-dwzd7dhs3tuvhegvr6mc\n",
};
