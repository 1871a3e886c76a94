#include "support/case.h"

#include "cli/ends.h"
#include "cli/command.h"
#include "cli/escape.h"
#include "cli/story.h"

#include <stdlib.h>
#include <time.h>

#define NOON 1764072000000LL /* 2025-11-25 12:00 UTC */
#define MINUTE 60000LL

static int in_utc(void **state)
{
	(void)state;
	setenv("TZ", "UTC", 1);
	tzset();
	return 0;
}

static void test_an_outage_is_told_once(void **state)
{
	(void)state;
	struct story s;
	char line[STORY_LINE];
	story_begin(&s, 15 * MINUTE, 0);
	assert_false(story_state(&s, ENDPOINT_UP, 0, "", 500, line)); /* the first time is no news */
	assert_true(s.next_ms == INT64_MAX);
	assert_true(story_state(&s, ENDPOINT_LOST, 0, "cut", 1000, line));
	assert_string_equal(line, "connection lost, resuming…");
	assert_false(story_state(&s, ENDPOINT_LOST, 0, "cut again", 1100, line));
	assert_true(story_state(&s, ENDPOINT_UP, 800, "", 1800, line));
	assert_string_equal(line, "resumed after 0.8 s");
	assert_int_equal(s.resumes, 1);
}

static void test_a_long_outage_has_a_line_a_minute(void **state)
{
	(void)state;
	struct story s;
	char line[STORY_LINE];
	story_begin(&s, 15 * MINUTE, 0);
	story_state(&s, ENDPOINT_UP, 0, "", 0, line);
	story_state(&s, ENDPOINT_LOST, 0, "reset by peer", 0, line);
	assert_false(story_tick(&s, MINUTE - 1, NOON + MINUTE - 1, line));
	story_trouble(&s, "connection refused");
	story_trouble(&s, "");
	assert_true(story_tick(&s, MINUTE, NOON + MINUTE, line));
	assert_string_equal(line, "still trying to resume: connection refused; giving up at 12:15");
	assert_false(story_tick(&s, MINUTE + 1, NOON + MINUTE + 1, line));
	assert_true(story_tick(&s, 2 * MINUTE, NOON + 2 * MINUTE, line));
	assert_string_equal(line, "still trying to resume: connection refused; giving up at 12:15");
	story_state(&s, ENDPOINT_UP, 3 * MINUTE, "", 3 * MINUTE, line);
	assert_false(story_tick(&s, 10 * MINUTE, NOON + 10 * MINUTE, line));
}

static void test_a_first_connection_that_takes_long_is_told(void **state)
{
	(void)state;
	struct story s;
	char line[STORY_LINE];
	story_begin(&s, 15 * MINUTE, 0);
	assert_false(story_state(&s, ENDPOINT_CONNECTING, 0, "no route", 10, line));
	assert_true(story_tick(&s, 3000, NOON + 3000, line));
	assert_string_equal(line, "not connected yet: no route; giving up at 12:15");
}

static void test_an_end_is_foretold_once(void **state)
{
	(void)state;
	struct story s;
	char line[STORY_LINE];
	story_begin(&s, 15 * MINUTE, 0);
	assert_true(story_notice(&s, 4004, NOON + 5 * MINUTE, "reached its maximum duration", NOON, line));
	assert_string_equal(line, "the session ends at 12:05 (in 5 min): reached its maximum duration");
	assert_false(story_notice(&s, 4004, NOON + 5 * MINUTE, "reached its maximum duration", NOON + MINUTE, line));
	assert_true(story_notice(&s, 4005, NOON + 2 * MINUTE, "idle", NOON + 30000, line));
	assert_string_equal(line, "the session ends at 12:02 (in 90 s): idle");
	assert_false(story_notice(&s, 4004, NOON + 5 * MINUTE, "reached its maximum duration", NOON + MINUTE, line));
	assert_true(story_notice(&s, 4005, NOON + 24 * 60 * MINUTE, "idle", NOON, line)); /* another end */
	assert_string_equal(line, "the session ends at 2025-11-26 12:00 (in 24 h): idle");
}

static void test_a_renewal_is_news_to_whoever_was_told_of_an_end(void **state)
{
	(void)state;
	struct story s;
	char line[STORY_LINE];
	story_begin(&s, 15 * MINUTE, 0);
	assert_false(story_renewed(&s, NOON + 60 * MINUTE, NOON, line));
	assert_true(story_notice(&s, 4004, NOON + 5 * MINUTE, "its credential expires", NOON, line));
	assert_true(story_renewed(&s, NOON + 60 * MINUTE, NOON, line));
	assert_string_equal(line, "the session was renewed and goes on; it ends at 13:00");
	assert_false(story_renewed(&s, NOON + 60 * MINUTE, NOON, line));
	assert_true(story_notice(&s, 4004, NOON + 60 * MINUTE, "its credential expires", NOON + 55 * MINUTE, line));
	assert_true(story_not_renewed(&s, NOON + 60 * MINUTE, "no token", NOON + 56 * MINUTE, line));
	assert_string_equal(line, "the session could not be renewed, and ends with its credential at 13:00 (in 4 min): "
				  "no token");
	assert_false(story_not_renewed(&s, NOON + 60 * MINUTE, "no token", NOON + 57 * MINUTE, line));
	assert_true(story_renewed(&s, NOON + 90 * MINUTE, NOON + 58 * MINUTE, line));
	assert_true(story_not_renewed(&s, NOON + 90 * MINUTE, "no token", NOON + 86 * MINUTE, line));
}

static void test_the_status_line(void **state)
{
	(void)state;
	struct story s;
	char line[STORY_LINE];
	struct link_stats stats = { .streams = 1, .bytes_in = 1234567, .bytes_out = 999, .rtt_ms = 12 };
	story_begin(&s, 15 * MINUTE, 0);
	story_state(&s, ENDPOINT_UP, 0, "", 0, line);
	story_status(&s, "s-1", "web-1", &stats, 3 * MINUTE, line);
	assert_string_equal(line,
			    "session s-1 to web-1: up for 3 min, 1 stream, 1.2 MB in, 999 B out, RTT 12 ms, 0 resumes");
	story_state(&s, ENDPOINT_LOST, 0, "cut", 3 * MINUTE, line);
	stats.rtt_ms = -1;
	stats.streams = 2;
	story_status(&s, "s-1", "web-1", &stats, 3 * MINUTE + 7000, line);
	assert_string_equal(line,
			    "session s-1 to web-1: away, resuming for 7 s (cut), 2 streams, 1.2 MB in, 999 B out, 0 "
			    "resumes");
}

static void test_escapes(void **state)
{
	(void)state;
	static const struct {
		const char *line;
		enum escape escape;
	} cases[] = {
		{ "~.", ESCAPE_END },  { "~d", ESCAPE_DETACH }, { "~r", ESCAPE_RECONNECT }, { "~s", ESCAPE_STATUS },
		{ "~?", ESCAPE_HELP }, { "~x", ESCAPE_HELP },   { "~~", ESCAPE_NONE },      { "~", ESCAPE_NONE },
		{ "", ESCAPE_NONE },   { "~..", ESCAPE_NONE },  { " ~.", ESCAPE_NONE },     { "x~.", ESCAPE_NONE },
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
		if (escape_of_line(cases[i].line) != cases[i].escape)
			fail_msg("\"%s\" is taken for %d", cases[i].line, escape_of_line(cases[i].line));
}

static void test_every_end_has_words_and_a_code(void **state)
{
	(void)state;
	static const struct {
		struct endpoint_end end;
		int exit_code;
		bool gone;
		const char *text;
	} cases[] = {
		{ { .close_code = 4000, .text = "ended by its owner dev" }, 236, true, "ended by its owner dev" },
		{ { .close_code = 4001, .text = "a newer connection" },
		  242,
		  false,
		  "the session was resumed by another client" },
		{ { .close_code = 4003 }, 236, true, "an operator ended it" },
		{ { .close_code = 4004 }, 238, true, "it reached its maximum duration" },
		{ { .close_code = 4005 }, 239, true, "it was idle too long" },
		{ { .close_code = 4006 }, 240, true, "one of its ends was away too long" },
		{ { .close_code = 4007 }, 241, true, "policy no longer allows it" },
		{ { .close_code = 4011 }, 243, true, "the target was deregistered" },
		{ { .close_code = 4013 }, 237, true, "the target's agent refused it" },
		{ { .close_code = 4403 }, 232, false, "policy says no" },
		{ { .http_status = 403, .text = "no statement" }, 232, false, "no statement" },
		{ { .http_status = 404 }, 233, true, "the server does not know it" },
		{ { .http_status = 401 }, 231, false, "the server no longer takes its token" },
		{ { .http_status = 410 }, 236, true, "it has ended" },
		{ { .link_code = LINK_TIMEOUT, .text = "not connected" }, 235, false, "not connected" },
		{ { .link_code = LINK_EXPIRED }, 238, true, "it reached its maximum duration" },
		{ { .link_code = LINK_TERMINATED, .text = "stop" }, 236, true, "stop" },
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct session_ending e;
		ending_of_endpoint(&cases[i].end, false, &e);
		assert_string_equal(e.text, cases[i].text);
		assert_int_equal(e.exit_code, cases[i].exit_code);
		assert_int_equal(e.gone, cases[i].gone);
	}
}

static void test_who_gave_up_is_told_what_can_come_back(void **state)
{
	(void)state;
	const struct endpoint_end gave_up = { .link_code = LINK_TIMEOUT, .text = "not connected" };
	struct session_ending e;
	ending_of_endpoint(&gave_up, true, &e);
	assert_non_null(strstr(e.next, "resume-session"));
	ending_of_endpoint(&gave_up, false, &e);
	assert_string_equal(e.next, "start a new one");
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_an_outage_is_told_once),
		cmocka_unit_test_setup(test_a_long_outage_has_a_line_a_minute, in_utc),
		cmocka_unit_test_setup(test_a_first_connection_that_takes_long_is_told, in_utc),
		cmocka_unit_test_setup(test_an_end_is_foretold_once, in_utc),
		cmocka_unit_test_setup(test_a_renewal_is_news_to_whoever_was_told_of_an_end, in_utc),
		cmocka_unit_test(test_the_status_line),
		cmocka_unit_test(test_escapes),
		cmocka_unit_test(test_every_end_has_words_and_a_code),
		cmocka_unit_test(test_who_gave_up_is_told_what_can_come_back),
	};
	return RUN_CASES(tests);
}
