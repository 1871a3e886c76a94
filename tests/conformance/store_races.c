#include "store_user.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define THREADS 8
#define ROUNDS 40

struct race {
	struct user u;
	char collection[65];
	atomic_uint wins[ROUNDS];
	atomic_uint conflicts;
};

/* Everybody adds one to a counter, reading and writing back with compare-and-set until it succeeds. */
static void count_up(void *arg, size_t i)
{
	struct race *race = arg;
	struct user mine = race->u;
	(void)i;
	for (int n = 0; n < ROUNDS;) {
		struct doc d;
		char value[32];
		EXPECT_RESULT(&mine, user_get(&mine, race->collection, "counter", &d), TUNNEL_OK);
		snprintf(value, sizeof value, "%d", atoi(d.value) + 1);
		uint64_t version = 0;
		int rc = user_put(&mine, race->collection, "counter", value, d.version, &version);
		EXPECT(rc == TUNNEL_OK || rc == TUNNEL_CONFLICT);
		EXPECT(rc != TUNNEL_OK || version == d.version + 1);
		if (rc == TUNNEL_OK)
			n++;
		else
			atomic_fetch_add(&race->conflicts, 1);
		doc_free(&d);
	}
}

static void no_update_is_lost(void)
{
	struct race race = { .u = user_open() };
	struct doc d;
	suite_name("docs", race.collection);
	EXPECT_RESULT(&race.u, user_put(&race.u, race.collection, "counter", "0", TUNNEL_VERSION_NONE, NULL),
		      TUNNEL_OK);
	suite_threads(THREADS, count_up, &race);
	EXPECT_RESULT(&race.u, user_get(&race.u, race.collection, "counter", &d), TUNNEL_OK);
	EXPECT(atoi(d.value) == THREADS * ROUNDS);
	EXPECT(d.version == THREADS * ROUNDS + 1);
	doc_free(&d);
	user_close(&race.u);
}

static void create_all(void *arg, size_t i)
{
	struct race *race = arg;
	struct user mine = race->u;
	for (size_t n = 0; n < ROUNDS; n++) {
		char key[32], value[32];
		snprintf(key, sizeof key, "k%zu", n);
		snprintf(value, sizeof value, "%zu", i);
		int rc = user_put(&mine, race->collection, key, value, TUNNEL_VERSION_NONE, NULL);
		EXPECT(rc == TUNNEL_OK || rc == TUNNEL_CONFLICT);
		if (rc == TUNNEL_OK)
			atomic_fetch_add(&race->wins[n], 1);
	}
}

static void one_creator_wins(void)
{
	struct race race = { .u = user_open() };
	suite_name("docs", race.collection);
	suite_threads(THREADS, create_all, &race);
	for (size_t n = 0; n < ROUNDS; n++)
		EXPECT(atomic_load(&race.wins[n]) == 1);
	user_close(&race.u);
}

static void delete_all(void *arg, size_t i)
{
	struct race *race = arg;
	struct user mine = race->u;
	(void)i;
	for (size_t n = 0; n < ROUNDS; n++) {
		char key[32];
		snprintf(key, sizeof key, "k%zu", n);
		int rc = user_del(&mine, race->collection, key, 1);
		EXPECT(rc == TUNNEL_OK || rc == TUNNEL_NOT_FOUND);
		if (rc == TUNNEL_OK)
			atomic_fetch_add(&race->wins[n], 1);
	}
}

static void one_deleter_wins(void)
{
	struct race race = { .u = user_open() };
	suite_name("docs", race.collection);
	for (size_t n = 0; n < ROUNDS; n++) {
		char key[32];
		snprintf(key, sizeof key, "k%zu", n);
		EXPECT_RESULT(&race.u, user_put(&race.u, race.collection, key, "1", TUNNEL_VERSION_NONE, NULL),
			      TUNNEL_OK);
	}
	suite_threads(THREADS, delete_all, &race);
	for (size_t n = 0; n < ROUNDS; n++)
		EXPECT(atomic_load(&race.wins[n]) == 1);
	user_close(&race.u);
}

/* A reader never sees a version go back, nor a value that does not belong to it. */
static void read_or_write(void *arg, size_t i)
{
	struct race *race = arg;
	struct user mine = race->u;
	uint64_t last = 0;
	for (uint64_t n = 1; n <= 200; n++) {
		char value[32];
		if (i == 0) {
			snprintf(value, sizeof value, "%d", (int)n);
			uint64_t version = 0;
			EXPECT_RESULT(&mine, user_put(&mine, race->collection, "a", value, n - 1, &version), TUNNEL_OK);
			struct doc own;
			EXPECT_RESULT(&mine, user_get(&mine, race->collection, "a", &own), TUNNEL_OK);
			EXPECT(own.version == n); /* what was answered can be read at once */
			doc_free(&own);
			continue;
		}
		struct doc d;
		if (user_get(&mine, race->collection, "a", &d) == TUNNEL_OK) {
			EXPECT(d.version >= last && (uint64_t)atoi(d.value) == d.version);
			last = d.version;
		}
		doc_free(&d);
	}
}

static void readers_see_whole_documents(void)
{
	struct race race = { .u = user_open() };
	suite_name("docs", race.collection);
	suite_threads(4, read_or_write, &race);
	user_close(&race.u);
}

const struct suite_case store_race_cases[] = {
	CASE(no_update_is_lost),
	CASE(one_creator_wins),
	CASE(one_deleter_wins),
	CASE(readers_see_whole_documents),
	CASES_END,
};
