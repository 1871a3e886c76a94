/* Secrets are taken out of a credentials file's text, whatever stands around them; what is no plain secret stays. */
#include "support/case.h"

#include "plugins/auth-hmac/mask.h"

#include <string.h>

#define SECRET_END "9abcdef"
#define OTHER_END "3210x"
#define SECRET "012345678" SECRET_END
#define OTHER "fedcba987654" OTHER_END

static void check_masked(const char *text, size_t secrets)
{
	char *copy = strdup(text);
	struct mask m;
	mask_secrets(&m, copy);
	assert_int_equal(m.n, secrets);
	assert_int_equal(strlen(copy), strlen(text));
	if (secrets == 0)
		assert_string_equal(copy, text);
	else
		assert_true(!strstr(copy, SECRET_END) && !strstr(copy, OTHER_END));
	mask_free(&m);
	free(copy);
}

static void test_what_is_masked(void **state)
{
	(void)state;
	check_masked("secret = \"" SECRET "\";", 1);
	check_masked("secret=\"" SECRET "\"", 1);
	check_masked("secret :\n\t\"" SECRET "\"", 1);
	check_masked("secret /* of \"nobody\" */ = # here it comes\n // now\n \"" SECRET "\";", 1);
	check_masked("{ key_id = \"a\\\"secret = \"; secret = \"" SECRET "\"; }, { secret = \"" OTHER "\"; }", 2);
	check_masked("/* secret = \" */ secret = \"" SECRET "\"", 1);
}

static void test_what_is_left(void **state)
{
	(void)state;
	check_masked("", 0);
	check_masked("secret", 0);
	check_masked("secret = ", 0);
	check_masked("secret = \"", 0);
	check_masked("secret = \"" SECRET, 0);
	check_masked("secret = \"short\";", 0);
	check_masked("secret = \"" SECRET "\" /* goes on */ \"" OTHER "\";", 0);
	check_masked("secret = \"" SECRET "\\n\";", 0);
	check_masked("secret = \"" SECRET "\n\";", 0);
	check_masked("secrets = \"" SECRET "\"; my-secret = \"" SECRET "\";", 0);
	check_masked("# secret = \"" SECRET "\"", 0);
	check_masked("/* secret = \"" SECRET "\"", 0);
	check_masked("subject = \"secret = \\\"" SECRET "\\\"\"", 0);
}

static void test_what_marks_stand_for(void **state)
{
	(void)state;
	char text[] = "secret = \"" SECRET "\"; secret = \"" OTHER "\";";
	char *first = strchr(text, '"') + 1, *second = strstr(text + 12, "= \"") + 3;
	struct mask m;
	mask_secrets(&m, text);
	first[strlen(SECRET)] = second[strlen(OTHER)] = '\0';
	assert_string_equal(mask_secret(&m, first), SECRET);
	assert_string_equal(mask_secret(&m, second), OTHER);
	assert_string_equal(mask_secret(&m, "another"), "another");
	assert_null(mask_secret(&m, "\x01"
				    "2"));
	assert_null(mask_secret(&m, "\x01"));
	char *taken = mask_take(&m, second), *own = mask_take(&m, "another");
	assert_string_equal(taken, OTHER);
	assert_string_equal(own, "another");
	assert_null(mask_take(&m, second));
	assert_null(mask_secret(&m, second));
	secret_free(taken);
	secret_free(own);
	mask_free(&m);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_is_masked),
		cmocka_unit_test(test_what_is_left),
		cmocka_unit_test(test_what_marks_stand_for),
	};
	return RUN_CASES(tests);
}
