#include "store_user.h"

#include "base/clock.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

static void put_then_get(void)
{
	struct user u = user_open();
	struct doc d;
	char c[65];
	uint64_t version = 0;
	suite_name("docs", c);
	EXPECT_RESULT(&u, user_get(&u, c, "a", &d), TUNNEL_NOT_FOUND);
	EXPECT(d.value == NULL);
	const char *value = "{\"name\":\"caf\xc3\xa9 \\u0000 \xf0\x9f\x9a\x80\",\"n\":[1,2.5e3,null,true]}";
	EXPECT_RESULT(&u, user_put(&u, c, "a", value, TUNNEL_VERSION_ANY, &version), TUNNEL_OK);
	EXPECT(version == 1);
	EXPECT_RESULT(&u, user_get(&u, c, "a", &d), TUNNEL_OK);
	EXPECT(strcmp(d.value, value) == 0); /* byte for byte */
	EXPECT(strcmp(d.key, "a") == 0);
	EXPECT(d.version == 1);
	EXPECT(d.expires_ms == 0);
	doc_free(&d);
	user_close(&u);
}

static void versions_grow_by_one(void)
{
	struct user u = user_open();
	struct doc d;
	char c[65], value[32];
	suite_name("docs", c);
	for (uint64_t i = 1; i <= 20; i++) {
		uint64_t version = 0;
		snprintf(value, sizeof value, "{\"n\":%d}", (int)i);
		uint64_t expect = i == 1 ? TUNNEL_VERSION_NONE : i % 2 ? TUNNEL_VERSION_ANY : i - 1;
		EXPECT_RESULT(&u, user_put(&u, c, "a", value, expect, &version), TUNNEL_OK);
		EXPECT(version == i);
	}
	EXPECT_RESULT(&u, user_put(&u, c, "a", "{}", TUNNEL_VERSION_ANY, NULL), TUNNEL_OK); /* no interest */
	EXPECT_RESULT(&u, user_get(&u, c, "a", &d), TUNNEL_OK);
	EXPECT(d.version == 21);
	doc_free(&d);
	user_close(&u);
}

static void conflict_changes_nothing(void)
{
	struct user u = user_open();
	struct doc d;
	char c[65];
	uint64_t version = 77;
	suite_name("docs", c);
	EXPECT_RESULT(&u, user_put(&u, c, "a", "1", 1, &version), TUNNEL_CONFLICT); /* there is none */
	EXPECT(version == 77);
	EXPECT_RESULT(&u, user_get(&u, c, "a", &d), TUNNEL_NOT_FOUND);
	EXPECT_RESULT(&u, user_put(&u, c, "a", "1", TUNNEL_VERSION_NONE, NULL), TUNNEL_OK);
	EXPECT_RESULT(&u, user_put(&u, c, "a", "2", TUNNEL_VERSION_NONE, &version), TUNNEL_CONFLICT);
	EXPECT_RESULT(&u, user_put(&u, c, "a", "2", 2, &version), TUNNEL_CONFLICT);
	EXPECT_RESULT(&u, user_put(&u, c, "a", "2", UINT64_MAX - 1, &version), TUNNEL_CONFLICT);
	EXPECT_RESULT(&u, user_del(&u, c, "a", 2), TUNNEL_CONFLICT);
	EXPECT_RESULT(&u, user_get(&u, c, "a", &d), TUNNEL_OK);
	EXPECT(d.version == 1 && strcmp(d.value, "1") == 0);
	doc_free(&d);
	user_close(&u);
}

static void del_and_start_again(void)
{
	struct user u = user_open();
	struct doc d;
	char c[65];
	uint64_t version = 0;
	suite_name("docs", c);
	EXPECT_RESULT(&u, user_del(&u, c, "a", TUNNEL_VERSION_ANY), TUNNEL_NOT_FOUND);
	EXPECT_RESULT(&u, user_del(&u, c, "a", 1), TUNNEL_NOT_FOUND);
	EXPECT_RESULT(&u, user_del(&u, c, "a", TUNNEL_VERSION_NONE), TUNNEL_INVALID);
	EXPECT_RESULT(&u, user_put(&u, c, "a", "1", TUNNEL_VERSION_ANY, NULL), TUNNEL_OK);
	EXPECT_RESULT(&u, user_put(&u, c, "a", "2", TUNNEL_VERSION_ANY, NULL), TUNNEL_OK);
	EXPECT_RESULT(&u, user_del(&u, c, "a", 2), TUNNEL_OK);
	EXPECT_RESULT(&u, user_get(&u, c, "a", &d), TUNNEL_NOT_FOUND);
	EXPECT_RESULT(&u, user_put(&u, c, "a", "3", TUNNEL_VERSION_NONE, &version), TUNNEL_OK);
	EXPECT(version == 1);
	EXPECT_RESULT(&u, user_del(&u, c, "a", TUNNEL_VERSION_ANY), TUNNEL_OK);
	user_close(&u);
}

static void collections_are_apart(void)
{
	struct user u = user_open();
	struct doc d;
	char one[65], two[65];
	suite_name("docs", one);
	suite_name("docs", two);
	EXPECT_RESULT(&u, user_put(&u, one, "a", "1", TUNNEL_VERSION_ANY, NULL), TUNNEL_OK);
	EXPECT_RESULT(&u, user_get(&u, two, "a", &d), TUNNEL_NOT_FOUND);
	EXPECT_RESULT(&u, user_put(&u, two, "a", "2", TUNNEL_VERSION_NONE, NULL), TUNNEL_OK);
	EXPECT_RESULT(&u, user_del(&u, one, "a", TUNNEL_VERSION_ANY), TUNNEL_OK);
	EXPECT_RESULT(&u, user_get(&u, two, "a", &d), TUNNEL_OK);
	EXPECT(strcmp(d.value, "2") == 0);
	doc_free(&d);
	user_close(&u);
}

/* Names that would break a careless SQL text, file name or Redis key. */
static void names_and_keys_in_full_range(void)
{
	static const char *const names[] = { "select", "index", "table", "order", "sqlite_master", "a", "z9_" };
	static const char *const keys[] = { "'", "\"", "a'b\"c;--", "%s%n", "*?[a]", "{tag}", "../..", "\\", "~", "!" };
	struct user u = user_open();
	struct doc d;
	char long_key[258], long_name[66];
	memset(long_key, '~', 256);
	long_key[256] = '\0';
	memset(long_name, 'n', 64);
	long_name[64] = '\0';
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		for (size_t k = 0; k < sizeof keys / sizeof *keys; k++) {
			EXPECT_RESULT(&u, user_put(&u, names[i], keys[k], "7", TUNNEL_VERSION_ANY, NULL), TUNNEL_OK);
			EXPECT_RESULT(&u, user_get(&u, names[i], keys[k], &d), TUNNEL_OK);
			EXPECT(strcmp(d.key, keys[k]) == 0);
			doc_free(&d);
			EXPECT_RESULT(&u, user_del(&u, names[i], keys[k], TUNNEL_VERSION_ANY), TUNNEL_OK);
		}
	EXPECT_RESULT(&u, user_put(&u, long_name, long_key, "7", TUNNEL_VERSION_ANY, NULL), TUNNEL_OK);
	EXPECT_RESULT(&u, user_get(&u, long_name, long_key, &d), TUNNEL_OK);
	doc_free(&d);
	EXPECT_RESULT(&u, user_del(&u, long_name, long_key, TUNNEL_VERSION_ANY), TUNNEL_OK);
	user_close(&u);
}

static void refuses_bad_names_and_keys(void)
{
	char long_key[258], long_name[66];
	memset(long_key, 'k', 257);
	long_key[257] = '\0';
	memset(long_name, 'n', 65);
	long_name[65] = '\0';
	const char *const names[] = { "", "A", "1a", "_a", "a-b", "a b", "a\n", "\xc3\xa9", long_name };
	const char *const keys[] = { "", " ", "a b", "a\t", "\x7f", "\xc3\xa9", "a\n", long_key };
	struct user u = user_open();
	struct doc d;
	struct rows *r = calloc(1, sizeof *r);
	uint64_t seq;
	EXPECT(r != NULL);
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		struct tunnel_call call = suite_call(u.words, sizeof u.words);
		EXPECT_RESULT(&u, user_put(&u, names[i], "a", "1", TUNNEL_VERSION_ANY, NULL), TUNNEL_INVALID);
		EXPECT_RESULT(&u, user_get(&u, names[i], "a", &d), TUNNEL_INVALID);
		EXPECT_RESULT(&u, user_del(&u, names[i], "a", TUNNEL_VERSION_ANY), TUNNEL_INVALID);
		EXPECT_RESULT(&u, user_append(&u, names[i], "1", &seq), TUNNEL_INVALID);
		EXPECT_RESULT(&u, user_read(&u, names[i], 1, 1, r), TUNNEL_INVALID);
		EXPECT_RESULT(&u, plugin_store_publish_blocking(u.p, &call, names[i], "1", 1), TUNNEL_INVALID);
	}
	for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
		EXPECT_RESULT(&u, user_put(&u, "docs", keys[i], "1", TUNNEL_VERSION_ANY, NULL), TUNNEL_INVALID);
		EXPECT(u.words[0] != '\0');
		EXPECT_RESULT(&u, user_get(&u, "docs", keys[i], &d), TUNNEL_INVALID);
		EXPECT_RESULT(&u, user_del(&u, "docs", keys[i], TUNNEL_VERSION_ANY), TUNNEL_INVALID);
	}
	free(r);
	user_close(&u);
}

static void refuses_what_is_not_json(void)
{
	static const char *const bad[] = { "",      "{",        "}",       "[1,]",     "{\"a\":}", "{\"a\" 1}",
					   "{a:1}", "'a'",      "nul",     "1 2",      "01",       "+1",
					   "1.",    "\"\x01\"", "\"\\x\"", "[1}",      "\"abc",    "{\"a\":1}}",
					   " ",     ".5",       "NaN",     "\"\xff\"", "[1,2",     "\"\\u12g4\"" };
	static const char *const good[] = { "0",       "-0.5e-3", "\"\"",        "[]",  " { } ",       "null",
					    "[[],{}]", "true",    "\"\\u00e9\"", "1E5", "{\"a\":[{}]}" };
	struct user u = user_open();
	uint64_t seq;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		if (user_put(&u, "docs", "bad", bad[i], TUNNEL_VERSION_ANY, NULL) != TUNNEL_INVALID)
			suite_fail(__FILE__, __LINE__, "took <%s>", bad[i]);
		EXPECT_RESULT(&u, user_append(&u, "journal", bad[i], &seq), TUNNEL_INVALID);
	}
	for (size_t i = 0; i < sizeof good / sizeof *good; i++)
		if (user_put(&u, "docs", "good", good[i], TUNNEL_VERSION_ANY, NULL) != TUNNEL_OK)
			suite_fail(__FILE__, __LINE__, "refused <%s>: %s", good[i], u.words);
	struct tunnel_put put = { .size = sizeof put,
				  .collection = "docs",
				  .key = "bad",
				  .value = "{}\0{",
				  .value_len = 4,
				  .expect_version = TUNNEL_VERSION_ANY };
	EXPECT_RESULT(&u, user_put_all(&u, &put, NULL), TUNNEL_INVALID); /* a NUL byte inside */
	user_close(&u);
}

static void value_sizes(void)
{
	struct user u = user_open();
	struct doc d;
	char c[65];
	size_t max = 1024 * 1024;
	char *value = malloc(max + 2);
	suite_name("docs", c);
	EXPECT(value != NULL);
	memset(value, 'x', max + 1);
	value[0] = '"';
	value[max - 1] = '"';
	value[max] = '\0';
	EXPECT_RESULT(&u, user_put(&u, c, "a", value, TUNNEL_VERSION_ANY, NULL), TUNNEL_OK);
	EXPECT_RESULT(&u, user_get(&u, c, "a", &d), TUNNEL_OK);
	EXPECT(strcmp(d.value, value) == 0);
	doc_free(&d);
	value[max - 1] = 'x';
	value[max] = '"';
	value[max + 1] = '\0';
	EXPECT_RESULT(&u, user_put(&u, c, "a", value, TUNNEL_VERSION_ANY, NULL), TUNNEL_INVALID);
	EXPECT_RESULT(&u, user_del(&u, c, "a", 1), TUNNEL_OK);
	free(value);
	user_close(&u);
}

static void index_limits(void)
{
	struct user u = user_open();
	char c[65], long_value[258];
	struct tunnel_index nine[9];
	suite_name("docs", c);
	memset(long_value, 'v', 257);
	long_value[256] = '\0';
	for (size_t i = 0; i < 9; i++)
		nine[i] = (struct tunnel_index){ "tag", i == 0 ? long_value : i % 2 ? "odd" : "even" };
	struct tunnel_put put = { .size = sizeof put,
				  .collection = c,
				  .key = "a",
				  .value = "1",
				  .value_len = 1,
				  .expect_version = TUNNEL_VERSION_ANY,
				  .indexes = nine,
				  .index_count = 9 };
	EXPECT_RESULT(&u, user_put_all(&u, &put, NULL), TUNNEL_INVALID);
	put.index_count = 8; /* also: an entry twice, and several values of one name */
	EXPECT_RESULT(&u, user_put_all(&u, &put, NULL), TUNNEL_OK);
	long_value[256] = 'v';
	long_value[257] = '\0';
	EXPECT_RESULT(&u, user_put_all(&u, &put, NULL), TUNNEL_INVALID);
	nine[0].value = "";
	EXPECT_RESULT(&u, user_put_all(&u, &put, NULL), TUNNEL_INVALID);
	nine[0] = (struct tunnel_index){ "Tag", "x" };
	EXPECT_RESULT(&u, user_put_all(&u, &put, NULL), TUNNEL_INVALID);
	user_close(&u);
}

static int put_expiring(struct user *u, const char *collection, const char *key, int64_t expires_ms, uint64_t expect,
			uint64_t *out_version)
{
	struct tunnel_index index = { "kind", "mortal" };
	struct tunnel_put put = { .size = sizeof put,
				  .collection = collection,
				  .key = key,
				  .value = "1",
				  .value_len = 1,
				  .expect_version = expect,
				  .expires_ms = expires_ms,
				  .indexes = &index,
				  .index_count = 1 };
	return user_put_all(u, &put, out_version);
}

static void expired_is_absent(void)
{
	struct user u = user_open();
	struct doc d;
	char c[65], cursor[TUNNEL_CURSOR_MAX];
	struct rows *r = calloc(1, sizeof *r);
	uint64_t version = 0;
	int64_t soon = clock_wall_ms() + 300, later = clock_wall_ms() + 3600000;
	EXPECT(r != NULL);
	suite_name("docs", c);
	EXPECT_RESULT(&u, put_expiring(&u, c, "later", later, TUNNEL_VERSION_ANY, NULL), TUNNEL_OK);
	EXPECT_RESULT(&u, put_expiring(&u, c, "soon", soon, TUNNEL_VERSION_ANY, NULL), TUNNEL_OK);
	EXPECT_RESULT(&u, put_expiring(&u, c, "past", 1, TUNNEL_VERSION_ANY, NULL), TUNNEL_OK);
	EXPECT_RESULT(&u, put_expiring(&u, c, "negative", -1, TUNNEL_VERSION_ANY, NULL), TUNNEL_INVALID);
	EXPECT_RESULT(&u, user_get(&u, c, "past", &d), TUNNEL_NOT_FOUND);
	EXPECT_RESULT(&u, user_get(&u, c, "later", &d), TUNNEL_OK);
	EXPECT(d.expires_ms == later);
	doc_free(&d);
	for (int64_t asked = clock_wall_ms(); user_get(&u, c, "soon", &d) == TUNNEL_OK; asked = clock_wall_ms()) {
		EXPECT(d.expires_ms == soon);
		doc_free(&d);
		EXPECT(asked < soon + 2000);
		nanosleep(&(struct timespec){ .tv_nsec = 5000000 }, NULL);
	}
	EXPECT(clock_wall_ms() >= soon); /* and not earlier */
	struct tunnel_scan scan = { .size = sizeof scan, .collection = c, .limit = 10 };
	EXPECT_RESULT(&u, user_scan(&u, &scan, r, cursor), TUNNEL_OK);
	EXPECT(strcmp(r->text, "later=1 ") == 0);
	scan.index = "kind";
	scan.index_value = "mortal";
	EXPECT_RESULT(&u, user_scan(&u, &scan, r, cursor), TUNNEL_OK);
	EXPECT(strcmp(r->text, "later=1 ") == 0);
	EXPECT_RESULT(&u, user_del(&u, c, "soon", TUNNEL_VERSION_ANY), TUNNEL_NOT_FOUND);
	EXPECT_RESULT(&u, put_expiring(&u, c, "soon", later, 1, NULL), TUNNEL_CONFLICT);
	EXPECT_RESULT(&u, put_expiring(&u, c, "soon", later, TUNNEL_VERSION_NONE, &version), TUNNEL_OK);
	EXPECT(version == 1); /* a new one */
	free(r);
	user_close(&u);
}

static void put_replaces_expiry(void)
{
	struct user u = user_open();
	struct doc d;
	char c[65];
	int64_t later = clock_wall_ms() + 3600000;
	suite_name("docs", c);
	EXPECT_RESULT(&u, put_expiring(&u, c, "a", later, TUNNEL_VERSION_ANY, NULL), TUNNEL_OK);
	EXPECT_RESULT(&u, put_expiring(&u, c, "a", 0, TUNNEL_VERSION_ANY, NULL), TUNNEL_OK);
	EXPECT_RESULT(&u, user_get(&u, c, "a", &d), TUNNEL_OK);
	EXPECT(d.expires_ms == 0);
	doc_free(&d);
	EXPECT_RESULT(&u, put_expiring(&u, c, "a", 1, 2, NULL), TUNNEL_OK);
	EXPECT_RESULT(&u, user_get(&u, c, "a", &d), TUNNEL_NOT_FOUND);
	user_close(&u);
}

static void words_fit_any_buffer(void)
{
	struct user u = user_open();
	for (size_t size = 0; size < 40; size++) {
		char words[64];
		memset(words, 'Z', sizeof words);
		struct tunnel_call call = suite_call(words, size);
		struct tunnel_put put = { .size = sizeof put,
					  .collection = "Not A Name",
					  .key = "a",
					  .value = "1",
					  .value_len = 1,
					  .expect_version = TUNNEL_VERSION_ANY };
		EXPECT(plugin_store_put_blocking(u.p, &call, &put, NULL) == TUNNEL_INVALID);
		EXPECT(size == 0 || memchr(words, '\0', size) != NULL);
		for (size_t i = size; i < sizeof words; i++)
			EXPECT(words[i] == 'Z');
	}
	user_close(&u);
}

static void deadline_that_has_passed(void)
{
	struct user u = user_open();
	struct doc d;
	char c[65];
	suite_name("docs", c);
	struct tunnel_call call = suite_call(u.words, sizeof u.words);
	call.deadline_ms = clock_mono_ms() - 1;
	struct tunnel_put put = { .size = sizeof put,
				  .collection = c,
				  .key = "a",
				  .value = "1",
				  .value_len = 1,
				  .expect_version = TUNNEL_VERSION_ANY };
	EXPECT_RESULT(&u, plugin_store_put_blocking(u.p, &call, &put, NULL), TUNNEL_TIMEOUT);
	EXPECT_RESULT(&u, user_get(&u, c, "a", &d), TUNNEL_NOT_FOUND);
	user_close(&u);
}

static void health_is_ok(void)
{
	struct user u = user_open();
	struct tunnel_call call = suite_call(u.words, sizeof u.words);
	EXPECT_RESULT(&u, plugin_store_health_blocking(u.p, &call), TUNNEL_OK);
	user_close(&u);
}

static void survives_close_and_open(void)
{
	suite_needs_durability();
	struct user u = user_open();
	struct doc d;
	char c[65], log[65];
	uint64_t seq = 0;
	suite_name("docs", c);
	suite_name("journal", log);
	EXPECT_RESULT(&u, user_put(&u, c, "a", "1", TUNNEL_VERSION_ANY, NULL), TUNNEL_OK);
	EXPECT_RESULT(&u, user_put(&u, c, "a", "2", TUNNEL_VERSION_ANY, NULL), TUNNEL_OK);
	EXPECT_RESULT(&u, user_append(&u, log, "\"first\"", &seq), TUNNEL_OK);
	user_close(&u);
	u = user_open();
	EXPECT_RESULT(&u, user_get(&u, c, "a", &d), TUNNEL_OK);
	EXPECT(d.version == 2 && strcmp(d.value, "2") == 0);
	doc_free(&d);
	EXPECT_RESULT(&u, user_append(&u, log, "\"second\"", &seq), TUNNEL_OK);
	EXPECT(seq == 2);
	user_close(&u);
}

const struct suite_case store_document_cases[] = {
	CASE(put_then_get),
	CASE(versions_grow_by_one),
	CASE(conflict_changes_nothing),
	CASE(del_and_start_again),
	CASE(collections_are_apart),
	CASE(names_and_keys_in_full_range),
	CASE(refuses_bad_names_and_keys),
	CASE(refuses_what_is_not_json),
	CASE(value_sizes),
	CASE(index_limits),
	CASE(expired_is_absent),
	CASE(put_replaces_expiry),
	CASE(words_fit_any_buffer),
	CASE(deadline_that_has_passed),
	CASE(health_is_ok),
	CASE(survives_close_and_open),
	CASES_END,
};
