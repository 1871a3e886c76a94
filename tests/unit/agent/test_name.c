#include "support/case.h"

#include "agent/name.h"

static void test_names_of_generations(void **state)
{
	(void)state;
	char name[WORKER_NAME], session[LIMIT_ID + 1];
	int64_t generation = 0;
	name_make("s-1", 1, name);
	assert_string_equal(name, "s-1");
	assert_true(name_parse(name, session, &generation));
	assert_string_equal(session, "s-1");
	assert_int_equal(generation, 1);
	name_make("s-1", LIMIT_GENERATION, name);
	assert_string_equal(name, "s-1@999999");
	assert_true(name_parse(name, session, &generation));
	assert_string_equal(session, "s-1");
	assert_int_equal(generation, LIMIT_GENERATION);
}

static void test_the_longest_name_fits(void **state)
{
	(void)state;
	char id[LIMIT_ID + 1], name[WORKER_NAME], session[LIMIT_ID + 1];
	int64_t generation = 0;
	memset(id, 'a', LIMIT_ID);
	id[LIMIT_ID] = '\0';
	name_make(id, LIMIT_GENERATION, name);
	assert_int_equal(strlen(name), WORKER_NAME - 1);
	assert_true(name_parse(name, session, &generation));
	assert_string_equal(session, id);
}

static void test_what_is_no_name(void **state)
{
	(void)state;
	static const char *const bad[] = {
		"",       "@2",   "s@",        "s@0",   "s@1",  "s@02",  "s@2x",
		"s@-2",   "s@ 2", "s@1000000", "s@2@3", "../s", "s/x@2", "s@99999999999999999999",
		".hid@2", "s@+2", "s@2.sock"
	};
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		char session[LIMIT_ID + 1] = "untouched";
		int64_t generation = 7;
		if (name_parse(bad[i], session, &generation))
			fail_msg("\"%s\" was taken", bad[i]);
		assert_string_equal(session, "untouched");
		assert_int_equal(generation, 7);
	}
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names_of_generations),
		cmocka_unit_test(test_the_longest_name_fits),
		cmocka_unit_test(test_what_is_no_name),
	};
	return RUN_CASES(tests);
}
