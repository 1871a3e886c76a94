#include "support/case.h"

#include "server/metrics.h"
#include "server/settings.h"
#include "server/strangers.h"

#include <sys/resource.h>

static struct strangers *new_strangers(int64_t most, int64_t each, struct metrics *m)
{
	static char *own[] = { (char *)(uintptr_t) "127.0.0.1" };
	const struct settings s = { .limit_strangers = most,
				    .limit_strangers_per_address = each,
				    .limit_except = { own, 1 } };
	struct strangers *out = NULL;
	struct err e = { 0 };
	assert_int_equal(strangers_new(&s, m, &out, &e), 0);
	return out;
}

/* How many get in. */
static size_t enter(struct strangers *s, const char *address, size_t n, uint64_t *places)
{
	size_t in = 0;
	for (size_t i = 0; i < n; i++)
		in += strangers_enter(s, address, &places[in]);
	return in;
}

static void test_an_address_has_its_number(void **state)
{
	(void)state;
	uint64_t a[20], b[20];
	struct metrics *m = metrics_new();
	struct strangers *s = new_strangers(200, 10, m);
	assert_int_equal(enter(s, "192.0.2.7", 20, a), 10);
	assert_int_equal(metrics_get(m, METRIC_CONNECTIONS_REFUSED), 10);
	assert_int_equal(enter(s, "192.0.2.8", 5, b), 5);
	strangers_leave(s, &a[0]);
	assert_int_equal(a[0], 0);
	strangers_leave(s, &a[0]); /* once is enough */
	assert_int_equal(enter(s, "192.0.2.7", 2, a), 1);
	assert_int_equal(strangers_count(s), 15);
	for (size_t i = 0; i < 10; i++)
		strangers_leave(s, &a[i]);
	for (size_t i = 0; i < 5; i++)
		strangers_leave(s, &b[i]);
	assert_int_equal(strangers_count(s), 0);
	strangers_free(&s);
	metrics_free(&m);
}

/* However many machines come together, one that is alone finds room until they are about a hundred. */
static void test_a_crowd_leaves_room(void **state)
{
	(void)state;
	static uint64_t places[1000];
	uint64_t mine[20];
	char address[32];
	struct metrics *m = metrics_new();
	struct strangers *s = new_strangers(400, 1000, m);
	assert_int_equal(enter(s, "192.0.2.1", 1000, places), 23); /* a sixteenth of what is free when it has that */
	for (int i = 2; i < 50; i++) {
		snprintf(address, sizeof address, "192.0.2.%d", i);
		enter(s, address, 1000, places);
	}
	assert_true(strangers_count(s) < 400);
	assert_true(enter(s, "198.51.100.1", 10, mine) >= 1);
	for (int i = 0; i < 400; i++) {
		snprintf(address, sizeof address, "198.18.%d.%d", i / 250, i % 250);
		enter(s, address, 1, places);
	}
	assert_int_equal(strangers_count(s), 400);
	assert_int_equal(enter(s, "198.51.100.2", 1, mine), 0);
	strangers_free(&s);
	metrics_free(&m);
}

static void test_whom_nobody_counts(void **state)
{
	(void)state;
	uint64_t place[30] = { 7 };
	struct metrics *m = metrics_new();
	struct strangers *s = new_strangers(10, 1, m);
	assert_int_equal(enter(s, "127.0.0.1", 30, place), 30);
	assert_int_equal(place[0], 0);
	assert_int_equal(strangers_count(s), 0);
	strangers_free(&s);
	s = new_strangers(0, 0, m);
	assert_int_equal(enter(s, "192.0.2.7", 30, place), 30);
	strangers_free(&s);
	assert_int_equal(enter(NULL, "192.0.2.7", 30, place), 30);
	metrics_free(&m);
}

static void test_half_of_the_descriptors_stay(void **state)
{
	(void)state;
	static uint64_t places[300];
	char address[32];
	struct rlimit before, few = { 100, 100 };
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	few.rlim_max = before.rlim_max;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
	struct metrics *m = metrics_new();
	struct strangers *s = new_strangers(8192, 1000, m);
	for (int i = 0; i < 200; i++) {
		snprintf(address, sizeof address, "192.0.2.%d", i);
		enter(s, address, 1, places);
	}
	assert_int_equal(strangers_count(s), 50);
	strangers_free(&s);
	metrics_free(&m);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
}

int main(int argc, char **argv)
{
	static const struct CMUnitTest cases[] = {
		cmocka_unit_test(test_an_address_has_its_number),
		cmocka_unit_test(test_a_crowd_leaves_room),
		cmocka_unit_test(test_whom_nobody_counts),
		cmocka_unit_test(test_half_of_the_descriptors_stay),
	};
	return RUN_CASES(cases);
}
