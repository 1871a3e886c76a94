/* Lines as whoever reads them by machine gets them. */
#include "support/case.h"

#include "base/log.h"
#include "base/text.h"

#include <fcntl.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char got[8192];

/* What one call has written. */
static void catch_line(const struct log_field *fields, const char *event)
{
	char path[] = "/tmp/log-XXXXXX";
	int file = mkstemp(path), before = dup(STDERR_FILENO);
	assert_true(file >= 0 && before >= 0);
	unlink(path);
	dup2(file, STDERR_FILENO);
	log_with(LOG_LEVEL_ERROR, fields, "%s", event);
	dup2(before, STDERR_FILENO);
	close(before);
	ssize_t n = pread(file, got, sizeof got - 1, 0);
	close(file);
	assert_true(n > 0);
	got[n] = '\0';
	assert_int_equal(strcspn(got, "\n"), n - 1);
	assert_true(text_is_utf8(got, (size_t)n));
}

static json_t *catch_json(const struct log_field *fields, const char *event)
{
	json_error_t e;
	log_init("t", LOG_LEVEL_INFO, LOG_FORMAT_JSON);
	catch_line(fields, event);
	json_t *json = json_loads(got, JSON_REJECT_DUPLICATES, &e);
	if (!json)
		fail_msg("%s: %s", e.text, got);
	return json;
}

static void test_fields_are_told_as_they_are(void **state)
{
	(void)state;
	json_t *json = catch_json(
		FIELDS({ "session", "s-1" }, { "none", NULL }, { "by", "J\xc3\xb6rg \"x\\\n\x1b[2J\xc2\x9b" }), "a b");
	assert_string_equal(json_string_value(json_object_get(json, "msg")), "a b");
	assert_string_equal(json_string_value(json_object_get(json, "level")), "error");
	assert_string_equal(json_string_value(json_object_get(json, "session")), "s-1");
	assert_string_equal(json_string_value(json_object_get(json, "by")), "J\xc3\xb6rg \"x\\\n\x1b[2J\xc2\x9b");
	assert_null(json_object_get(json, "none"));
	json_decref(json);
	log_init("t", LOG_LEVEL_INFO, LOG_FORMAT_LOGFMT);
	catch_line(FIELDS({ "by", "\xc2\x9b" }), "\xc2\x9b[2J");
	assert_null(strstr(got, "\xc2\x9b"));
	catch_line(FIELDS({ "session", "s-1" }, { "by", "a=b" }, { "empty", "" }), "a b");
	assert_non_null(strstr(got, " level=error program=t msg=\"a b\" session=s-1 by=\"a=b\" empty=\"\"\n"));
	log_init("t", LOG_LEVEL_INFO, LOG_FORMAT_PLAIN);
	catch_line(FIELDS({ "session", "s-1" }), "a b");
	assert_string_equal(got, "t: a b session=s-1\n");
}

/* However long: the line is cut, never half a character, an escape, or the object. */
static void test_what_is_too_long_is_cut_where_it_can_be(void **state)
{
	(void)state;
	static const char *const pieces[] = { "x", "\"", "\x01", "\xc3\xa4", "\xf0\x9f\x98\x80", "\xff" };
	for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++)
		for (size_t len = 880; len < 2100; len += len < 1100 ? 1 : 37) {
			char text[2200] = "";
			for (size_t n = 0; n + strlen(pieces[i]) <= len; n += strlen(pieces[i]))
				strcat(text + n, pieces[i]);
			json_t *json = catch_json(FIELDS({ "before", "1" }, { "text", text }, { "after", "2" }), text);
			assert_string_equal(json_string_value(json_object_get(json, "program")), "t");
			json_decref(json);
			log_init("t", LOG_LEVEL_INFO, LOG_FORMAT_LOGFMT);
			catch_line(FIELDS({ "text", text }, { "after", "2" }), "m");
			log_init("t", LOG_LEVEL_INFO, LOG_FORMAT_PLAIN);
			catch_line(FIELDS({ "text", text }, { "after", "2" }), text);
		}
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fields_are_told_as_they_are),
		cmocka_unit_test(test_what_is_too_long_is_cut_where_it_can_be),
	};
	return RUN_CASES(tests);
}
