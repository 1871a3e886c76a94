#include "support/case.h"

#include "base/secret.h"

#include <sys/stat.h>

static void test_refuses_a_secret_that_others_can_read(void **state)
{
	(void)state;
	char folder[64], path[128];
	snprintf(path, sizeof path, "%s/key", case_folder(folder));
	struct err e = { 0 };
	struct buf b;
	assert_int_equal(secret_write_file(path, "s3cret", 6, &e), 0);
	assert_int_equal(secret_read_file(path, &b, &e), 0);
	assert_int_equal(b.len, 6);
	buf_wipe_free(&b);
	chmod(path, 0640);
	assert_int_equal(secret_read_file(path, &b, &e), ERR_DENIED);
	assert_non_null(strstr(e.text, "chmod 600"));
	case_folder_remove(folder);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_refuses_a_secret_that_others_can_read),
	};
	return RUN_CASES(tests);
}
