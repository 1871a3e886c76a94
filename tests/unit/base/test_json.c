#include "support/case.h"

#include "base/json.h"

struct body {
	const char *target;
	int64_t port;
	json_t *allow;
};

static int parse(const char *text, struct body *b, json_t **out_json, struct err *e)
{
	const struct json_field fields[] = {
		{ "target", JSON_FIELD_STRING, true, 1, 8, &b->target },
		{ "port", JSON_FIELD_INT, false, 1, 65535, &b->port },
		{ "allow", JSON_FIELD_STRINGS, false, 0, 2, &b->allow },
		{ .name = NULL },
	};
	int rc = json_parse(text, strlen(text), out_json, e);
	return rc ? rc : json_read(*out_json, "body", true, fields, e);
}

static void test_reads_what_the_table_says(void **state)
{
	(void)state;
	struct body b = { .port = 7 };
	json_t *json = NULL;
	struct err e;
	assert_int_equal(parse("{\"target\":\"web-1\",\"allow\":[\"a:1\"]}", &b, &json, &e), 0);
	assert_string_equal(b.target, "web-1");
	assert_int_equal(b.port, 7);
	assert_int_equal(json_array_size(b.allow), 1);
	json_decref(json);
}

static void test_names_each_mistake(void **state)
{
	(void)state;
	static const struct {
		const char *text, *complaint;
	} cases[] = {
		{ "{\"target\":\"web-1\",\"prot\":1}", "body.prot: unknown field" },
		{ "{}", "body.target: missing (string)" },
		{ "{\"target\":\"\"}", "body.target: 0 bytes long; allowed: 1 to 8" },
		{ "{\"target\":\"a\",\"port\":70000}", "body.port: 70000 is out of range; allowed: 1 to 65535" },
		{ "{\"target\":\"a\",\"allow\":[\"a\",5]}", "body.allow[1]: expected string" },
		{ "{\"target\":\"a\",\"allow\":[\"a\",\"b\",\"c\"]}", "body.allow: 3 entries; allowed: at most 2" },
		{ "[]", "body: expected object" },
		{ "{\"target\":\"a\",\"target\":\"b\"}", "not valid JSON: line 1" },
		{ "{\"target\":\"\\u0000\"}", "not valid JSON: line 1" },
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct body b = { 0 };
		json_t *json = NULL;
		struct err e = { 0 };
		assert_int_not_equal(parse(cases[i].text, &b, &json, &e), 0);
		if (strncmp(e.text, cases[i].complaint, strlen(cases[i].complaint)) != 0)
			fail_msg("%s", e.text);
		json_decref(json);
	}
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_reads_what_the_table_says),
		cmocka_unit_test(test_names_each_mistake),
	};
	return RUN_CASES(tests);
}
