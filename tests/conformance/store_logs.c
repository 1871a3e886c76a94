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

static size_t all_or_one(struct user *u, const char *log, const struct tunnel_record *records, size_t n,
			 uint64_t *out_first)
{
	size_t done = 0;
	EXPECT_RESULT(u, user_append_many(u, log, records, n, &done, out_first), TUNNEL_OK);
	EXPECT(done == n || done == 1);
	return done;
}

static void append_several(void)
{
	struct user u = user_open();
	char log[65];
	uint64_t first = 0;
	size_t n;
	struct rows *r = calloc(1, sizeof *r);
	EXPECT(r != NULL);
	static const struct tunnel_record records[] = { { "1 and more", 1 }, { "[2,\"x\"]", 7 }, { "3", 1 } };
	suite_name("journal", log);
	n = all_or_one(&u, log, records, 3, &first);
	EXPECT(first == 1);
	for (; n < 3; n++)
		EXPECT(all_or_one(&u, log, records + n, 1, &first) == 1 && first == n + 1);
	EXPECT(all_or_one(&u, log, records, 1, &first) == 1 && first == 4);
	EXPECT_RESULT(&u, user_read(&u, log, 1, 10, r), TUNNEL_OK);
	EXPECT(strcmp(r->text, "=1 =[2,\"x\"] =3 =1 ") == 0 && r->last_version == 4);
	free(r);
	user_close(&u);
}

/* Where one of them may not be, none is. */
static void append_several_refused(void)
{
	struct user u = user_open();
	char log[65];
	uint64_t first = 0;
	size_t n;
	struct rows *r = calloc(1, sizeof *r);
	struct tunnel_record *many = calloc(TUNNEL_RECORDS_MAX + 1, sizeof *many);
	EXPECT(r && many);
	suite_name("journal", log);
	for (size_t i = 0; i <= TUNNEL_RECORDS_MAX; i++)
		many[i] = (struct tunnel_record){ "1", 1 };
	EXPECT_RESULT(&u, user_append_many(&u, log, many, 2, &n, &first), TUNNEL_OK);
	if (n == 2) { /* it has the operation */
		many[1] = (struct tunnel_record){ "{", 1 };
		EXPECT_RESULT(&u, user_append_many(&u, log, many, 2, &n, &first), TUNNEL_INVALID);
		many[1] = many[0];
		EXPECT_RESULT(&u, user_append_many(&u, log, many, TUNNEL_RECORDS_MAX + 1, &n, &first), TUNNEL_INVALID);
		EXPECT_RESULT(&u, user_append_many(&u, log, many, 0, &n, &first), TUNNEL_INVALID);
		EXPECT_RESULT(&u, user_append_many(&u, log, many, TUNNEL_RECORDS_MAX, &n, &first), TUNNEL_OK);
		EXPECT(first == 3 && n == TUNNEL_RECORDS_MAX);
		EXPECT_RESULT(&u, user_read(&u, log, 259, 10, r), TUNNEL_OK);
		EXPECT(r->count == 0);
	}
	free(many);
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

/* Every second writer appends two at a time. */
static void append_each(void *arg, size_t i)
{
	struct race *race = arg;
	struct user mine = race->u;
	for (size_t n = 0; n < EACH;) {
		char texts[2][48];
		struct tunnel_record records[2];
		uint64_t first;
		for (size_t k = 0; k < 2; k++) {
			int len = snprintf(texts[k], sizeof texts[k], "{\"w\":%zu,\"n\":%zu}", i, n + k);
			records[k] = (struct tunnel_record){ texts[k], (size_t)len };
		}
		size_t done = all_or_one(&mine, race->log, records, i % 2 && n + 2 <= EACH ? 2 : 1, &first);
		for (size_t k = 0; k < done; k++)
			race->seqs[i][n++] = first + k;
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
	suite_threads(WRITERS, append_each, race);
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
	CASE(append_several),
	CASE(append_several_refused),
	CASE(log_and_collection_of_one_name),
	CASE(append_without_gaps_by_many),
	CASES_END,
};
