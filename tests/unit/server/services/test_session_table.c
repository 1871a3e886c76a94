/* The table of live sessions, against a plain array that is asked the same. */
#include "support/case.h"

#include "server/session_table.h"

#include <stdlib.h>
#include <string.h>

#define IDS 40
#define TARGETS 5
#define STEPS 1000

/* at[i]: the target of session i, 0: it is not there */
static void names(struct session_live *row, int id, int target)
{
	*row = (struct session_live){ .generation = id };
	snprintf(row->id, sizeof row->id, "session-%d", id);
	snprintf(row->target, sizeof row->target, "target-%d", target);
}

static size_t expected(const int *at, int target)
{
	size_t n = 0;
	for (int i = 0; i < IDS; i++)
		n += target ? at[i] == target : at[i] != 0;
	return n;
}

/* What there is of a target (0: of all): each once, and none else. */
static void compare(struct session_table *t, const int *at, int target)
{
	struct session_live row;
	size_t n;
	names(&row, 0, target);
	const char *of = target ? row.target : NULL;
	struct session_live *rows = session_table_copy(t, of, &n);
	assert_int_equal(n, expected(at, target));
	assert_int_equal(session_table_count(t, of), n);
	assert_int_equal(rows != NULL, n > 0);
	bool seen[IDS] = { false };
	for (size_t i = 0; i < n; i++) {
		int64_t id = rows[i].generation;
		assert_in_range(id, 0, IDS - 1);
		assert_false(seen[id]);
		seen[id] = true;
		names(&row, (int)id, at[id]);
		assert_string_equal(rows[i].target, row.target);
	}
	free(rows);
}

static void test_what_there_is_of_a_target(void **state)
{
	(void)state;
	struct session_table *t = session_table_new();
	int at[IDS] = { 0 };
	unsigned random = 1;
	for (int step = 0; step < STEPS; step++) {
		random = random * 1103515245u + 12345u;
		int id = (int)(random >> 16) % IDS, target = (int)(random >> 8) % (TARGETS + 1);
		struct session_live row;
		names(&row, id, target);
		if (target)
			assert_true(
				session_table_add(t, &row)); /* a new one, or in the place of one of another target */
		else
			session_table_remove(t, row.id);
		at[id] = target;
		assert_int_equal(session_table_get(t, row.id, &row), target != 0);
		for (int of = 0; of <= TARGETS; of++)
			compare(t, at, of);
	}
	session_table_free(&t);
	assert_null(t);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_what_there_is_of_a_target),
	};
	return RUN_CASES(tests);
}
