/* What must be whole is, while memory runs out. */
#include "support/case.h"
#include "support/failing_alloc.h"

#include "base/certain.h"

#include <jansson.h>
#include <sys/wait.h>
#include <unistd.h>

static char said[400];

static void listen_to(const char *words)
{
	snprintf(said, sizeof said, "%s", words);
}

static bool make_document(void *arg)
{
	json_t *doc = json_pack("{s:s, s:[i, i, i], s:{s:b}}", "name", "value", "list", 1, 2, 3, "object", "truth", 1);
	json_object_set_new(doc, "more", json_string("a text of some length"));
	char *text = json_dumps(doc, JSON_SORT_KEYS | JSON_COMPACT);
	json_t *again = json_loads(text, 0, NULL);
	bool failed = failing_alloc_over();
	(void)arg;
	assert_string_equal(
		text,
		"{\"list\":[1,2,3],\"more\":\"a text of some length\",\"name\":\"value\",\"object\":{\"truth\":true}}");
	assert_true(json_equal(doc, again));
	if (failed) {
		assert_non_null(strstr(said, "out of memory"));
		certain_init(listen_to); /* the reserve, without the wait */
	}
	*said = '\0';
	json_decref(doc);
	json_decref(again);
	free(text);
	return failed;
}

static void test_a_document_is_whole_whatever_fails(void **state)
{
	(void)state;
	certain_init(listen_to);
	assert_true(failing_alloc_sweep(make_document, NULL) > 20);
}

static void test_the_reserve_is_given_once(void **state)
{
	(void)state;
	certain_init(listen_to);
	assert_true(certain_release());
	assert_false(certain_release());
	certain_init(NULL);
	assert_true(certain_release());
}

static void test_without_the_reserve_the_process_ends(void **state)
{
	(void)state;
	int words[2], status = 0;
	assert_int_equal(pipe(words), 0);
	pid_t pid = fork();
	if (pid == 0) {
		dup2(words[1], STDERR_FILENO);
		certain_init(NULL);
		failing_alloc_at(1, true);
		certain_malloc(1);
		_exit(0);
	}
	assert_true(waitpid(pid, &status, 0) == pid && WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
	close(words[0]);
	close(words[1]);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_document_is_whole_whatever_fails),
		cmocka_unit_test(test_the_reserve_is_given_once),
		cmocka_unit_test(test_without_the_reserve_the_process_ends),
	};
	return RUN_CASES(tests);
}
