#include "store_user.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

static void put_plain(struct user *u, const char *collection, const char *key, const char *value)
{
	EXPECT_RESULT(u, user_put(u, collection, key, value, TUNNEL_VERSION_ANY, NULL), TUNNEL_OK);
}

static void put_tagged(struct user *u, const char *collection, const char *key, const struct tunnel_index *tags,
		       size_t n)
{
	struct tunnel_put put = { .size = sizeof put,
				  .collection = collection,
				  .key = key,
				  .value = "1",
				  .value_len = 1,
				  .expect_version = TUNNEL_VERSION_ANY,
				  .indexes = tags,
				  .index_count = n };
	EXPECT_RESULT(u, user_put_all(u, &put, NULL), TUNNEL_OK);
}

/* All pages of a scan, joined. */
static void scan_all(struct user *u, const struct tunnel_scan *from, char *out, size_t size, unsigned *out_pages)
{
	char cursor[TUNNEL_CURSOR_MAX] = "";
	struct tunnel_scan scan = *from;
	struct rows *r = calloc(1, sizeof *r);
	size_t used = 0;
	EXPECT(r != NULL);
	*out_pages = 0;
	out[0] = '\0';
	do {
		char next[TUNNEL_CURSOR_MAX];
		scan.cursor = cursor;
		EXPECT_RESULT(u, user_scan(u, &scan, r, next), TUNNEL_OK);
		EXPECT(r->count <= scan.limit);
		EXPECT(r->count > 0 || !next[0]);
		used += (size_t)snprintf(out + used, size - used, "%s", r->text);
		memcpy(cursor, next, sizeof cursor);
		(*out_pages)++;
	} while (cursor[0]);
	free(r);
}

static void scan_in_key_order(void)
{
	struct user u = user_open();
	char c[65], text[512];
	unsigned pages;
	suite_name("docs", c);
	static const char *const keys[] = { "b", "a", "B", "ab", "a~", "!", "~", "a0", "10", "9" };
	for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
		put_plain(&u, c, keys[i], "1");
	struct tunnel_scan scan = { .size = sizeof scan, .collection = c, .limit = 1000 };
	scan_all(&u, &scan, text, sizeof text, &pages);
	EXPECT(strcmp(text, "!=1 10=1 9=1 B=1 a=1 a0=1 ab=1 a~=1 b=1 ~=1 ") == 0); /* by bytes */
	EXPECT(pages == 1);
	user_close(&u);
}

static void scan_pages(void)
{
	struct user u = user_open();
	char c[65], text[512];
	unsigned pages;
	suite_name("docs", c);
	struct tunnel_scan scan = { .size = sizeof scan, .collection = c, .limit = 1 };
	scan_all(&u, &scan, text, sizeof text, &pages);
	EXPECT(pages == 1 && !text[0]); /* an empty collection */
	for (int i = 0; i < 6; i++)
		put_plain(&u, c, (char[]){ (char)('a' + i), '\0' }, "1");
	for (uint32_t limit = 1; limit <= 7; limit++) {
		scan.limit = limit;
		scan_all(&u, &scan, text, sizeof text, &pages);
		EXPECT(strcmp(text, "a=1 b=1 c=1 d=1 e=1 f=1 ") == 0);
		EXPECT(pages == (6 + limit - 1) / limit); /* no empty last page */
	}
	user_close(&u);
}

static void scan_by_prefix(void)
{
	struct user u = user_open();
	char c[65], text[512];
	unsigned pages;
	suite_name("docs", c);
	static const char *const keys[] = { "a", "a/", "a/1", "a/2", "a/22", "a0", "b/1", "a/~", "%/1", "_/1" };
	for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
		put_plain(&u, c, keys[i], "1");
	struct tunnel_scan scan = { .size = sizeof scan, .collection = c, .prefix = "a/", .limit = 2 };
	scan_all(&u, &scan, text, sizeof text, &pages);
	EXPECT(strcmp(text, "a/=1 a/1=1 a/2=1 a/22=1 a/~=1 ") == 0);
	scan.prefix = "a/2";
	scan_all(&u, &scan, text, sizeof text, &pages);
	EXPECT(strcmp(text, "a/2=1 a/22=1 ") == 0);
	scan.prefix = "%"; /* not a pattern */
	scan_all(&u, &scan, text, sizeof text, &pages);
	EXPECT(strcmp(text, "%/1=1 ") == 0);
	scan.prefix = "none";
	scan_all(&u, &scan, text, sizeof text, &pages);
	EXPECT(!text[0] && pages == 1);
	scan.prefix = "";
	scan.limit = 1000;
	scan_all(&u, &scan, text, sizeof text, &pages);
	EXPECT(strlen(text) == 57); /* all ten */
	user_close(&u);
}

static void scan_by_index(void)
{
	struct user u = user_open();
	char c[65], other[65], text[512];
	unsigned pages;
	suite_name("docs", c);
	suite_name("docs", other);
	const struct tunnel_index alice[] = { { "principal", "alice" }, { "state", "active" } };
	const struct tunnel_index bob[] = { { "principal", "bob" }, { "state", "active" }, { "state", "new" } };
	const struct tunnel_index odd[] = { { "principal", "a*?[x]'\" \xc3\xa9" } };
	put_tagged(&u, c, "s3", alice, 2);
	put_tagged(&u, c, "s1", alice, 2);
	put_tagged(&u, c, "s2", bob, 3);
	put_tagged(&u, c, "s4", odd, 1);
	put_plain(&u, c, "s5", "1");
	put_tagged(&u, other, "s6", alice, 2);
	struct tunnel_scan scan = {
		.size = sizeof scan, .collection = c, .index = "principal", .index_value = "alice", .limit = 1
	};
	scan_all(&u, &scan, text, sizeof text, &pages);
	EXPECT(strcmp(text, "s1=1 s3=1 ") == 0);
	scan.index = "state";
	scan.index_value = "active";
	scan_all(&u, &scan, text, sizeof text, &pages);
	EXPECT(strcmp(text, "s1=1 s2=1 s3=1 ") == 0);
	scan.index_value = "new";
	scan_all(&u, &scan, text, sizeof text, &pages);
	EXPECT(strcmp(text, "s2=1 ") == 0);
	scan.index = "principal";
	scan.index_value = odd[0].value;
	scan_all(&u, &scan, text, sizeof text, &pages);
	EXPECT(strcmp(text, "s4=1 ") == 0);
	scan.index_value = "Alice";
	scan_all(&u, &scan, text, sizeof text, &pages);
	EXPECT(!text[0]);
	put_tagged(&u, c, "s1", bob, 1); /* replaces all earlier entries */
	EXPECT_RESULT(&u, user_del(&u, c, "s2", TUNNEL_VERSION_ANY), TUNNEL_OK);
	scan.index_value = "bob";
	scan_all(&u, &scan, text, sizeof text, &pages);
	EXPECT(strcmp(text, "s1=1 ") == 0);
	scan.index = "state";
	scan.index_value = "active";
	scan_all(&u, &scan, text, sizeof text, &pages);
	EXPECT(strcmp(text, "s3=1 ") == 0);
	put_plain(&u, c, "s2", "1"); /* the same key again, without entries */
	scan.index_value = "new";
	scan_all(&u, &scan, text, sizeof text, &pages);
	EXPECT(!text[0]);
	user_close(&u);
}

static void scan_refuses_bad_arguments(void)
{
	struct user u = user_open();
	char cursor[TUNNEL_CURSOR_MAX] = "untouched";
	struct rows *r = calloc(1, sizeof *r);
	EXPECT(r != NULL);
	const struct tunnel_scan bad[] = {
		{ .size = sizeof *bad, .collection = "docs", .limit = 0 },
		{ .size = sizeof *bad, .collection = "docs", .limit = 1001 },
		{ .size = sizeof *bad, .collection = "Docs", .limit = 1 },
		{ .size = sizeof *bad, .collection = "docs", .limit = 1, .index = "a" },
		{ .size = sizeof *bad, .collection = "docs", .limit = 1, .index_value = "a" },
		{ .size = sizeof *bad, .collection = "docs", .limit = 1, .index = "a b", .index_value = "x" },
		{ .size = sizeof *bad, .collection = "docs", .limit = 1, .index = "a", .index_value = "" },
		{ .size = sizeof *bad,
		  .collection = "docs",
		  .limit = 1,
		  .index = "a",
		  .index_value = "x",
		  .prefix = "p" },
	};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		int rc = user_scan(&u, &bad[i], r, cursor);
		if (rc != TUNNEL_INVALID || strcmp(cursor, "untouched") != 0)
			suite_fail(__FILE__, __LINE__, "scan %zu answered %s", i, suite_result(rc));
	}
	EXPECT_RESULT(&u, user_read(&u, "journal", 1, 0, r), TUNNEL_INVALID);
	EXPECT_RESULT(&u, user_read(&u, "journal", 1, 1001, r), TUNNEL_INVALID);
	free(r);
	user_close(&u);
}

/* A strange cursor may be refused or mean some place; it must not do harm. */
static void scan_survives_strange_cursors(void)
{
	struct user u = user_open();
	char c[65], cursor[TUNNEL_CURSOR_MAX], long_cursor[2000];
	struct rows *r = calloc(1, sizeof *r);
	EXPECT(r != NULL);
	suite_name("docs", c);
	put_plain(&u, c, "a", "1");
	memset(long_cursor, 'k', sizeof long_cursor - 1);
	long_cursor[sizeof long_cursor - 1] = '\0';
	const char *const cursors[] = { "x", "k:", "k:a b", "0", "-1", "99999999999999999999", "%s%n", long_cursor };
	struct tunnel_scan scan = { .size = sizeof scan, .collection = c, .limit = 10 };
	for (size_t i = 0; i < sizeof cursors / sizeof *cursors; i++) {
		scan.cursor = cursors[i];
		int rc = user_scan(&u, &scan, r, cursor);
		if (rc != TUNNEL_OK && rc != TUNNEL_INVALID)
			suite_fail(__FILE__, __LINE__, "cursor %zu answered %s", i, suite_result(rc));
	}
	free(r);
	user_close(&u);
}

static void scan_can_be_stopped(void)
{
	struct user u = user_open();
	char c[65], cursor[TUNNEL_CURSOR_MAX];
	struct rows *r = calloc(1, sizeof *r);
	EXPECT(r != NULL);
	suite_name("docs", c);
	for (int i = 0; i < 5; i++)
		put_plain(&u, c, (char[]){ (char)('a' + i), '\0' }, "1");
	struct tunnel_scan scan = { .size = sizeof scan, .collection = c, .limit = 10 };
	r->stop_after = 2;
	EXPECT_RESULT(&u, user_scan(&u, &scan, r, cursor), TUNNEL_OK);
	EXPECT(r->count == 2 && cursor[0]);
	scan.cursor = cursor;
	r->stop_after = 0;
	char next[TUNNEL_CURSOR_MAX];
	EXPECT_RESULT(&u, user_scan(&u, &scan, r, next), TUNNEL_OK);
	EXPECT(strcmp(r->text, "c=1 d=1 e=1 ") == 0 && !next[0]);
	free(r);
	user_close(&u);
}

static void scan_thousand(void)
{
	struct user u = user_open();
	char c[65], cursor[TUNNEL_CURSOR_MAX];
	struct rows *r = calloc(1, sizeof *r);
	EXPECT(r != NULL);
	suite_name("docs", c);
	for (int i = 0; i < 1001; i++) {
		char key[16];
		snprintf(key, sizeof key, "k%04d", i);
		put_plain(&u, c, key, "1");
	}
	struct tunnel_scan scan = { .size = sizeof scan, .collection = c, .limit = 1000 };
	EXPECT_RESULT(&u, user_scan(&u, &scan, r, cursor), TUNNEL_OK);
	EXPECT(r->count == 1000 && cursor[0]);
	scan.cursor = cursor;
	char next[TUNNEL_CURSOR_MAX];
	EXPECT_RESULT(&u, user_scan(&u, &scan, r, next), TUNNEL_OK);
	EXPECT(strcmp(r->text, "k1000=1 ") == 0 && !next[0]);
	free(r);
	user_close(&u);
}

#define STAYING 40

struct churn {
	struct user u;
	char collection[65];
	atomic_bool done;
};

static void put_number(struct user *u, const char *collection, const char *word, int n)
{
	char key[32];
	const struct tunnel_index tag = { "kind", "walked" };
	snprintf(key, sizeof key, "%s%03d", word, n);
	put_tagged(u, collection, key, &tag, 1);
}

static void walk(struct churn *churn, bool by_index)
{
	struct user mine = churn->u;
	char cursor[TUNNEL_CURSOR_MAX] = "";
	int seen[STAYING] = { 0 };
	struct rows *r = calloc(1, sizeof *r);
	struct tunnel_scan scan = {
		.size = sizeof scan, .collection = churn->collection, .limit = 3, .cursor = cursor
	};
	EXPECT(r != NULL);
	if (by_index) {
		scan.index = "kind";
		scan.index_value = "walked";
	}
	do {
		char next[TUNNEL_CURSOR_MAX];
		EXPECT_RESULT(&mine, user_scan(&mine, &scan, r, next), TUNNEL_OK);
		for (char *at = strstr(r->text, "stay"); at; at = strstr(at + 1, "stay"))
			seen[atoi(at + 4)] += at[7] == '='; /* not stay010_… */
		memcpy(cursor, next, sizeof cursor);
	} while (cursor[0]);
	for (size_t i = 0; i < STAYING; i++)
		if (seen[i] != 1)
			suite_fail(__FILE__, __LINE__, "a walk saw stay%03zu %d times; expected once", i, seen[i]);
	free(r);
}

static void churn_member(void *arg, size_t i)
{
	struct churn *churn = arg;
	struct user mine = churn->u;
	if (i == 0) {
		for (int n = 0; n < 6; n++)
			walk(churn, n % 2);
		atomic_store(&churn->done, true);
		return;
	}
	/* Keys that sort before, between and behind those that stay come and go; those that stay are rewritten. */
	for (int n = 0; !atomic_load(&churn->done); n++) {
		static const char *const words[] = { "a", "stay010_", "stay020_", "z" };
		char key[32];
		put_number(&mine, churn->collection, words[n % 4], (int)i * 100 + n % 50);
		put_number(&mine, churn->collection, "stay", n % STAYING);
		snprintf(key, sizeof key, "%s%03d", words[n % 4], (int)i * 100 + n % 50);
		EXPECT_RESULT(&mine, user_del(&mine, churn->collection, key, TUNNEL_VERSION_ANY), TUNNEL_OK);
	}
}

static void walk_while_others_write(void)
{
	struct churn churn = { .u = user_open() };
	suite_name("docs", churn.collection);
	for (int i = 0; i < STAYING; i++)
		put_number(&churn.u, churn.collection, "stay", i);
	suite_threads(3, churn_member, &churn);
	user_close(&churn.u);
}

const struct suite_case store_scan_cases[] = {
	CASE(scan_in_key_order),
	CASE(scan_pages),
	CASE(scan_by_prefix),
	CASE(scan_by_index),
	CASE(scan_refuses_bad_arguments),
	CASE(scan_survives_strange_cursors),
	CASE(scan_can_be_stopped),
	CASE(scan_thousand),
	CASE(walk_while_others_write),
	CASES_END,
};
