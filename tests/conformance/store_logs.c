#include "store_user.h"

#include <stdlib.h>
#include <string.h>

static void append_then_read(void)
{
	struct user u = user_open();
	char log[65], other[65], record[32];
	uint64_t seq = 0;
	struct rows *r = calloc(1, sizeof *r);
	EXPECT(r != NULL);
	suite_name("journal", log);
	suite_name("journal", other);
	EXPECT_RESULT(&u, user_read(&u, log, 1, 10, r), TUNNEL_OK); /* one that nobody wrote is empty */
	EXPECT(r->count == 0);
	for (uint64_t i = 1; i <= 12; i++) {
		snprintf(record, sizeof record, "%d", (int)i);
		EXPECT_RESULT(&u, user_append(&u, log, record, &seq), TUNNEL_OK);
		EXPECT(seq == i);
	}
	EXPECT_RESULT(&u, user_append(&u, other, "\"x\"", &seq), TUNNEL_OK);
	EXPECT(seq == 1); /* each log counts by itself */
	EXPECT_RESULT(&u, user_read(&u, log, 1, 3, r), TUNNEL_OK);
	EXPECT(strcmp(r->text, "=1 =2 =3 ") == 0 && r->last_version == 3);
	EXPECT_RESULT(&u, user_read(&u, log, 4, 1000, r), TUNNEL_OK);
	EXPECT(strcmp(r->text, "=4 =5 =6 =7 =8 =9 =10 =11 =12 ") == 0 && r->last_version == 12);
	EXPECT_RESULT(&u, user_read(&u, log, 0, 1, r), TUNNEL_OK);
	EXPECT(strcmp(r->text, "=1 ") == 0);
	EXPECT_RESULT(&u, user_read(&u, log, 13, 10, r), TUNNEL_OK);
	EXPECT(r->count == 0);
	EXPECT_RESULT(&u, user_read(&u, log, UINT64_MAX, 10, r), TUNNEL_OK);
	EXPECT(r->count == 0);
	r->stop_after = 2;
	EXPECT_RESULT(&u, user_read(&u, log, 1, 10, r), TUNNEL_OK);
	EXPECT(r->count == 2);
	free(r);
	user_close(&u);
}

static void log_and_collection_of_one_name(void)
{
	struct user u = user_open();
	struct doc d;
	char name[65];
	uint64_t seq = 0;
	suite_name("both", name);
	EXPECT_RESULT(&u, user_append(&u, name, "1", &seq), TUNNEL_OK);
	EXPECT_RESULT(&u, user_put(&u, name, "a", "2", TUNNEL_VERSION_NONE, NULL), TUNNEL_OK);
	EXPECT_RESULT(&u, user_append(&u, name, "3", &seq), TUNNEL_OK);
	EXPECT(seq == 2);
	EXPECT_RESULT(&u, user_get(&u, name, "a", &d), TUNNEL_OK);
	doc_free(&d);
	user_close(&u);
}

#define WRITERS 8
#define EACH 60

struct race {
	struct user u;
	char log[65];
	uint64_t seqs[WRITERS][EACH];
};

static void append_many(void *arg, size_t i)
{
	struct race *race = arg;
	struct user mine = race->u;
	for (size_t n = 0; n < EACH; n++) {
		char record[48];
		snprintf(record, sizeof record, "{\"w\":%zu,\"n\":%zu}", i, n);
		EXPECT_RESULT(&mine, user_append(&mine, race->log, record, &race->seqs[i][n]), TUNNEL_OK);
	}
}

struct expected {
	const char *texts[WRITERS * EACH + 1];
	uint64_t next;
	size_t writers_next[WRITERS];
};

static int check_record(void *arg, const struct tunnel_row *row)
{
	struct expected *x = arg;
	size_t w = 0, n = 0;
	EXPECT(row->version == ++x->next);
	EXPECT(sscanf(row->value, "{\"w\":%zu,\"n\":%zu}", &w, &n) == 2 && w < WRITERS);
	EXPECT(x->writers_next[w]++ == n); /* each writer's records in its order */
	return 0;
}

static void append_without_gaps_by_many(void)
{
	struct race *race = calloc(1, sizeof *race);
	struct expected *x = calloc(1, sizeof *x);
	EXPECT(race && x);
	race->u = user_open();
	suite_name("journal", race->log);
	suite_threads(WRITERS, append_many, race);
	bool seen[WRITERS * EACH + 1] = { false };
	for (size_t i = 0; i < WRITERS; i++)
		for (size_t n = 0; n < EACH; n++) {
			uint64_t seq = race->seqs[i][n];
			EXPECT(seq >= 1 && seq <= WRITERS * EACH && !seen[seq]);
			EXPECT(n == 0 || seq > race->seqs[i][n - 1]);
			seen[seq] = true;
		}
	struct tunnel_call call = suite_call(race->u.words, sizeof race->u.words);
	EXPECT_RESULT(&race->u, plugin_store_read_blocking(race->u.p, &call, race->log, 1, 1000, check_record, x),
		      TUNNEL_OK);
	EXPECT(x->next == WRITERS * EACH);
	user_close(&race->u);
	free(race);
	free(x);
}

const struct suite_case store_log_cases[] = {
	CASE(append_then_read),
	CASE(log_and_collection_of_one_name),
	CASE(append_without_gaps_by_many),
	CASES_END,
};
