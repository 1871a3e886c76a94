#include "support/case.h"

#include "fake_store.h"
#include "base/audit_chain.h"
#include "base/clock.h"
#include "base/limits.h"
#include "server/audit.h"
#include "server/server.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <unistd.h>

struct fixture {
	struct server server;
	struct store *store;
	struct audit *audit;
};

static struct audit *open_as(struct fixture *f, const char *node)
{
	struct audit *audit = NULL;
	struct err e = { 0 };
	f->server.node = node;
	if (audit_open_blocking(&f->server, &audit, &e) != 0)
		fail_msg("%s", e.text);
	return audit;
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof *f);
	f->store = f->server.store = fake_store_new();
	f->audit = open_as(f, "n1");
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	audit_close(&f->audit);
	fake_store_free(f->store);
	free(f);
	return 0;
}

static void append(struct audit *audit, const char *event, int i)
{
	struct err e = { 0 };
	if (audit_append_blocking(audit, event, json_pack("{s:i, s:s}", "i", i, "zoë", "\"ü\""), &e) != 0)
		fail_msg("%s", e.text);
}

/* All records, as GET /v1/audit gives them, in pages of page. */
static json_t *read_all(struct audit *audit, uint32_t page)
{
	json_t *all = json_array(), *some;
	uint64_t from = 1, next;
	size_t n;
	do {
		struct err e = { 0 };
		if (audit_read_blocking(audit, from, page, &some, &next, &e) != 0)
			fail_msg("%s", e.text);
		n = json_array_size(some);
		assert_int_equal(next, from + n);
		json_array_extend(all, some);
		json_decref(some);
		from = next;
	} while (n == page);
	return all;
}

static int verify(const json_t *records, struct err *e)
{
	struct audit_check c;
	audit_check_init(&c);
	int rc = audit_check_records(&c, records, e);
	audit_check_free(&c);
	return rc;
}

static void expect_whole(struct audit *audit, size_t n)
{
	struct err e = { 0 };
	json_t *records = read_all(audit, 1000);
	assert_int_equal(json_array_size(records), n);
	if (verify(records, &e) != 0)
		fail_msg("%s", e.text);
	json_decref(records);
}

static void test_records_have_everything(void **state)
{
	struct fixture *f = *state;
	append(f->audit, "denied", 1);
	json_t *records = read_all(f->audit, 10), *r = json_array_get(records, 0);
	assert_int_equal(json_integer_value(json_object_get(r, "seq")), 1);
	assert_string_equal(json_string_value(json_object_get(r, "event")), "denied");
	assert_string_equal(json_string_value(json_object_get(r, "node")), "n1");
	assert_string_equal(json_string_value(json_object_get(r, "prev")), audit_first_prev);
	assert_int_equal(strlen(json_string_value(json_object_get(r, "at"))), 24);
	assert_int_equal(json_integer_value(json_object_get(r, "i")), 1);
	json_decref(records);
}

/* A hash that was worked out elsewhere (sha256sum), so that the form of what is hashed cannot drift. */
static void test_hash_is_what_the_manual_says(void **state)
{
	(void)state;
	char hash[AUDIT_HASH_TEXT];
	json_t *r = json_pack("{s:i, s:s, s:s, s:{s:[i,n], s:b}}", "seq", 7, "node", "n1", "hash", "x", "a", "z", 1,
			      "b", 1);
	assert_int_equal(audit_record_hash(r, hash, NULL), 0);
	/* printf '%s' '{"a":{"b":true,"z":[1,null]},"node":"n1"}' | sha256sum */
	assert_string_equal(hash, "67ff159902b1804a24bae3005e39b1091bb7414d10f8839a67b7e8f8bfbcb9ff");
	json_decref(r);
}

static void test_pages_and_nodes_verify(void **state)
{
	struct fixture *f = *state;
	struct audit *other = open_as(f, "n2");
	for (int i = 0; i < 150; i++)
		append(i % 3 ? f->audit : other, "e", i);
	expect_whole(f->audit, 150);
	/* the same, page by page, and from the middle */
	struct audit_check c;
	for (uint64_t start = 1; start <= 75; start += 74) {
		audit_check_init(&c);
		uint64_t from = start;
		for (json_t *page; audit_read_blocking(f->audit, from, 7, &page, &from, NULL) == 0;) {
			bool last = json_array_size(page) == 0;
			struct err e = { 0 };
			if (audit_check_records(&c, page, &e) != 0)
				fail_msg("%s", e.text);
			json_decref(page);
			if (last)
				break;
		}
		assert_int_equal(c.records, 151 - start);
		audit_check_free(&c);
	}
	audit_close(&other);
}

static void test_tampering_is_found(void **state)
{
	struct fixture *f = *state;
	struct audit *other = open_as(f, "n2");
	for (int i = 0; i < 10; i++)
		append(i % 2 ? f->audit : other, "e", i);
	static const struct {
		const char *what, *complaint;
	} rows[] = {
		{ "change", "record 5: was changed" },
		{ "hash", "record 5: was changed" },
		{ "rehash", "record 7: does not follow the record of node n2" },
		{ "remove", "record 5: missing" },
		{ "renumber", "record 6: does not follow the record of node n2" },
		{ "swap", "record 5: missing" },
		{ "twice", "record 5: comes behind record 5" },
		{ "first", "record 1: does not follow" },
		{ "seq", "record behind 4: it has no sequence number" },
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		json_t *records = read_all(f->audit, 100), *r = json_array_get(records, 4);
		const char *what = rows[i].what;
		char hash[AUDIT_HASH_TEXT];
		struct err e = { 0 };
		if (strcmp(what, "change") == 0 || strcmp(what, "rehash") == 0)
			json_object_set_new(r, "i", json_integer(99));
		if (strcmp(what, "hash") == 0)
			json_object_set_new(r, "hash", json_string(audit_first_prev));
		if (strcmp(what, "rehash") == 0) {
			assert_int_equal(audit_record_hash(r, hash, NULL), 0);
			json_object_set_new(r, "hash", json_string(hash));
		}
		if (strcmp(what, "remove") == 0 || strcmp(what, "renumber") == 0)
			json_array_remove(records, 4);
		for (size_t k = 4; strcmp(what, "renumber") == 0 && k < 9; k++)
			json_object_set_new(json_array_get(records, k), "seq", json_integer((json_int_t)k + 1));
		if (strcmp(what, "swap") == 0) {
			json_array_append(records, r);
			json_array_remove(records, 4);
		}
		if (strcmp(what, "twice") == 0)
			json_array_insert(records, 4, r);
		if (strcmp(what, "first") == 0) {
			/* cut the oldest two off and pretend */
			json_array_remove(records, 0);
			json_array_remove(records, 0);
			for (size_t k = 0; k < 8; k++)
				json_object_set_new(json_array_get(records, k), "seq", json_integer((json_int_t)k + 1));
		}
		if (strcmp(what, "seq") == 0)
			json_object_del(r, "seq");
		assert_int_equal(verify(records, &e), ERR_INVALID);
		if (strncmp(e.text, rows[i].complaint, strlen(rows[i].complaint)) != 0)
			fail_msg("%s: %s", what, e.text);
		json_decref(records);
	}
	audit_close(&other);
}

static void test_restart_goes_on_with_the_chain(void **state)
{
	struct fixture *f = *state;
	append(f->audit, "e", 1);
	append(f->audit, "e", 2);
	audit_close(&f->audit);
	f->store->rows_read = 0;
	f->audit = open_as(f, "n1");
	assert_int_equal(f->store->rows_read, 0); /* a clean close leaves nothing to read */
	append(f->audit, "e", 3);
	expect_whole(f->audit, 3);
}

/* As after kill -9: nobody closes. */
static void test_crash_reads_only_the_tail(void **state)
{
	struct fixture *f = *state;
	struct audit *other = open_as(f, "n2");
	for (int i = 0; i < 1000; i++)
		append(f->audit, "e", i);
	for (int i = 0; i < 20; i++)
		append(other, "e", i);
	append(f->audit, "e", 7);
	json_t *docs = json_deep_copy(f->store->docs); /* what the store holds at this moment */
	audit_close(&f->audit);
	json_decref(f->store->docs);
	f->store->docs = docs;
	f->store->rows_read = 0;
	f->audit = open_as(f, "n1");
	assert_in_range(f->store->rows_read, 21, 21 + 64);
	append(f->audit, "e", 8);
	expect_whole(f->audit, 1022);
	audit_close(&other);
}

static void test_crash_with_a_long_tail_and_no_head(void **state)
{
	struct fixture *f = *state;
	for (int i = 0; i < 2500; i++)
		append(f->audit, "e", i);
	audit_close(&f->audit);
	json_object_clear(f->store->docs);
	f->audit = open_as(f, "n1");
	append(f->audit, "e", 1);
	expect_whole(f->audit, 2501);
}

static void test_append_without_answer(void **state)
{
	struct fixture *f = *state;
	struct err e = { 0 };
	append(f->audit, "e", 1);
	for (int written = 0; written < 2; written++) {
		f->store->fail_append = ERR_TIMEOUT;
		f->store->append_anyway = written;
		assert_int_equal(audit_append_blocking(f->audit, "lost", json_object(), &e), ERR_TIMEOUT);
		assert_non_null(strstr(e.text, "audit lost: "));
		f->store->fail_append = 0;
		append(f->audit, "e", 2);
	}
	expect_whole(f->audit, 4);
	/* and when even the reading fails, nothing is appended on a guess */
	f->store->fail_append = ERR_TIMEOUT;
	assert_int_equal(audit_append_blocking(f->audit, "lost", json_object(), &e), ERR_TIMEOUT);
	f->store->fail_append = 0;
	f->store->fail_read = ERR_UNAVAILABLE;
	assert_int_equal(audit_append_blocking(f->audit, "lost", json_object(), &e), ERR_UNAVAILABLE);
	f->store->fail_read = 0;
	append(f->audit, "e", 3);
	expect_whole(f->audit, 6);
}

/* The disk takes longer than a call may: the record is on its way while the next ones come. */
static void test_append_that_comes_late(void **state)
{
	struct fixture *f = *state;
	struct err e = { 0 };
	bool there = false;
	append(f->audit, "e", 1);
	f->store->fail_append = ERR_TIMEOUT;
	f->store->append_late = true;
	assert_int_equal(audit_append_blocking(f->audit, "late", json_object(), &e), ERR_TIMEOUT);
	f->store->fail_append = 0;
	append(f->audit, "e", 2);
	append(f->audit, "e", 3);
	expect_whole(f->audit, 4);
	/* who asks whether it is there gets a final answer */
	f->store->fail_append = ERR_TIMEOUT;
	json_t *fields = json_pack("{s:s}", "session", "s-1");
	assert_int_equal(audit_append_blocking(f->audit, "session.end", fields, &e), ERR_TIMEOUT);
	f->store->fail_append = 0;
	fields = json_pack("{s:s, s:n}", "session", "s-1", "target");
	assert_int_equal(audit_has_blocking(f->audit, 1, "session.end", fields, &there, &e), 0);
	assert_true(there);
	json_object_set_new(fields, "target", json_string("web-1"));
	assert_int_equal(audit_has_blocking(f->audit, 1, "session.end", fields, &there, &e), 0);
	assert_false(there);
	json_decref(fields);
	append(f->audit, "e", 4);
	expect_whole(f->audit, 6);
	/* and as long as nothing is answered, nothing is appended on a guess */
	f->store->fail_append = ERR_TIMEOUT;
	assert_int_equal(audit_append_blocking(f->audit, "late", json_object(), &e), ERR_TIMEOUT);
	f->store->fail_append = 0;
	f->store->fail_put = ERR_TIMEOUT;
	assert_int_equal(audit_append_blocking(f->audit, "e", json_object(), &e), ERR_TIMEOUT);
	f->store->fail_put = 0;
	append(f->audit, "e", 5);
	expect_whole(f->audit, 8);
}

static void test_head_that_cannot_be_saved_is_no_failure(void **state)
{
	struct fixture *f = *state;
	f->store->fail_put = ERR_UNAVAILABLE;
	for (int i = 0; i < 200; i++)
		append(f->audit, "e", i);
	f->store->fail_put = 0;
	expect_whole(f->audit, 200);
}

static void test_names_of_the_log_are_refused(void **state)
{
	struct fixture *f = *state;
	static const char *const names[] = { "seq", "at", "node", "event", "prev", "hash" };
	for (size_t i = 0; i < 6; i++) {
		struct err e = { 0 };
		assert_int_equal(audit_append_blocking(f->audit, "e", json_pack("{s:i}", names[i], 1), &e),
				 ERR_INVALID);
		assert_non_null(strstr(e.text, names[i]));
	}
	struct err e = { 0 };
	assert_int_equal(audit_append_blocking(f->audit, "e", NULL, &e), ERR_INVALID);
	assert_int_equal(audit_append_blocking(f->audit, "e", json_array(), &e), ERR_INVALID);
	expect_whole(f->audit, 0);
	json_t *records;
	uint64_t next;
	assert_int_equal(audit_read_blocking(f->audit, 1, 1001, &records, &next, &e), ERR_INVALID);
	assert_int_equal(audit_read_blocking(f->audit, 1, 0, &records, &next, &e), ERR_INVALID);
}

/* --- searching --- */

static struct audit_found search(struct fixture *f, struct audit_query q)
{
	struct audit_found found;
	struct err e = { 0 };
	if (audit_search_blocking(f->audit, &q, &found, &e) != 0)
		fail_msg("%s", e.text);
	return found;
}

static json_int_t seq_at(const struct audit_found *found, size_t i)
{
	return json_integer_value(json_object_get(json_array_get(found->records, i), "seq"));
}

static void append_of(struct audit *audit, const char *event, json_t *fields)
{
	struct err e = { 0 };
	if (audit_append_blocking(audit, event, fields, &e) != 0)
		fail_msg("%s", e.text);
}

static void test_the_newest_are_found_from_behind(void **state)
{
	struct fixture *f = *state;
	struct audit_found found =
		search(f, (struct audit_query){ .backward = true, .before = UINT64_MAX, .limit = 5 });
	assert_int_equal(json_array_size(found.records), 0);
	assert_int_equal(found.next_from, 1);
	assert_int_equal(found.next_before, 0);
	json_decref(found.records);
	struct audit *other = open_as(f, "n2");
	for (int i = 0; i < 1500; i++) /* of which n1 learns nothing */
		append(other, "e", i);
	f->store->rows_read = 0;
	uint64_t before = UINT64_MAX, expected = 1500;
	for (int page = 0; page < 3; page++) {
		found = search(f, (struct audit_query){ .backward = true, .before = before, .limit = 500 });
		assert_int_equal(json_array_size(found.records), 500);
		assert_int_equal(seq_at(&found, 0), expected - 499);
		assert_int_equal(seq_at(&found, 499), expected);
		assert_int_equal(found.next_from, expected + 1);
		assert_int_equal(found.next_before, page == 2 ? 0 : expected - 499);
		before = found.next_before;
		expected -= 500;
		json_decref(found.records);
	}
	assert_in_range(f->store->rows_read, 1500, 1530); /* to find the end takes few */
	audit_close(&other);
}

static void test_filters(void **state)
{
	struct fixture *f = *state;
	append_of(f->audit, "session.start",
		  json_pack("{s:s, s:s, s:s}", "session", "s-1", "principal", "ann", "target", "web-1"));
	append_of(f->audit, "denied", json_pack("{s:s, s:s}", "resource", "target/web-1", "subject", "bob"));
	append_of(f->audit, "denied", json_pack("{s:s, s:s}", "resource", "session/s-1", "subject", "bob"));
	append_of(f->audit, "session.end", json_pack("{s:s, s:s}", "session", "s-1", "by", "eve"));
	append_of(f->audit, "session.end", json_pack("{s:s, s:s}", "session", "s-11", "target", "web-11"));
	int64_t now_ms = clock_wall_ms();
	const struct {
		struct audit_query q;
		const char *seqs;
	} rows[] = {
		{ { .session = "s-1" }, "1 3 4 " },
		{ { .principal = "bob" }, "2 3 " },
		{ { .principal = "eve" }, "4 " },
		{ { .target = "web-1" }, "1 2 " },
		{ { .target = "web-*" }, "" },
		{ { .event = "denied" }, "2 3 " },
		{ { .event = "session.*" }, "1 4 5 " },
		{ { .event = "session.*", .session = "s-1", .principal = "ann" }, "1 " },
		{ { .has_since = true, .since_ms = now_ms - 60000 }, "1 2 3 4 5 " },
		{ { .has_since = true, .since_ms = now_ms + 60000 }, "" },
		{ { .has_until = true, .until_ms = now_ms - 60000 }, "" },
		{ { .has_until = true, .until_ms = now_ms + 60000 }, "1 2 3 4 5 " },
		{ { .has_until = true, .until_ms = 0 }, "" },
		{ { .has_since = true, .since_ms = -1 }, "1 2 3 4 5 " },
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
		for (int back = 0; back < 2; back++) {
			char got[64] = "";
			struct audit_query q = rows[i].q;
			q.backward = back;
			q.before = UINT64_MAX;
			q.limit = 10;
			struct audit_found found = search(f, q);
			for (size_t k = 0; k < json_array_size(found.records); k++)
				snprintf(got + strlen(got), sizeof got - strlen(got), "%d ", (int)seq_at(&found, k));
			assert_string_equal(got, rows[i].seqs);
			assert_int_equal(found.next_from, 6);
			assert_true(back ? found.next_before == 0 : found.at_end);
			json_decref(found.records);
		}
}

/* What is looked for is rare: each call goes a long way and says where it stopped. */
static void test_a_search_has_a_bound_and_goes_on(void **state)
{
	struct fixture *f = *state;
	append(f->audit, "rare", 0);
	for (int i = 0; i < 40000; i++)
		append(f->audit, "e", i);
	append(f->audit, "rare", 1);
	uint64_t from = 1;
	size_t n = 0, calls = 0;
	for (bool end = false; !end; calls++) {
		struct audit_found found =
			search(f, (struct audit_query){ .event = "rare", .from = from, .limit = 10 });
		from = found.next_from;
		end = found.at_end;
		n += json_array_size(found.records);
		json_decref(found.records);
	}
	assert_int_equal(n, 2);
	assert_int_equal(calls, 2);
	assert_int_equal(from, 40003);
	uint64_t before = UINT64_MAX;
	for (n = calls = 0; before; calls++) {
		struct audit_found found = search(
			f, (struct audit_query){ .event = "rare", .backward = true, .before = before, .limit = 10 });
		before = found.next_before;
		n += json_array_size(found.records);
		json_decref(found.records);
	}
	assert_int_equal(n, 2);
	assert_int_equal(calls, 2);
	/* and what is too old is not looked for behind what is too old */
	f->store->rows_read = 0;
	struct audit_found found = search(f, (struct audit_query){ .backward = true,
								   .before = UINT64_MAX,
								   .limit = 10,
								   .has_since = true,
								   .since_ms = clock_wall_ms() + 2 * 86400000LL });
	assert_int_equal(json_array_size(found.records), 0);
	assert_int_equal(found.next_before, 0);
	assert_in_range(f->store->rows_read, 1000, 1001);
	json_decref(found.records);
}

/* A thousand records may be more than a client takes. */
static void test_an_answer_has_a_bound(void **state)
{
	struct fixture *f = *state;
	char text[30000];
	memset(text, 'x', sizeof text - 1);
	text[sizeof text - 1] = '\0';
	for (int i = 0; i < 150; i++)
		append_of(f->audit, "long", json_pack("{s:s}", "text", text));
	uint64_t from = 1, before = UINT64_MAX;
	size_t n = 0, calls = 0;
	for (bool end = false; !end; calls++) {
		struct audit_found found = search(f, (struct audit_query){ .from = from, .limit = 1000 });
		assert_int_equal(found.next_from, from + json_array_size(found.records));
		assert_true(json_dumpb(found.records, NULL, 0, JSON_COMPACT) < LIMIT_HTTP_RESPONSE);
		n += json_array_size(found.records);
		from = found.next_from;
		end = found.at_end;
		json_decref(found.records);
	}
	assert_int_equal(n, 150);
	assert_int_equal(calls, 3);
	for (n = 0; before;) {
		struct audit_found found =
			search(f, (struct audit_query){ .backward = true, .before = before, .limit = 1000 });
		assert_true(json_array_size(found.records) > 0 && json_array_size(found.records) < 100);
		n += json_array_size(found.records);
		before = found.next_before;
		json_decref(found.records);
	}
	assert_int_equal(n, 150);
}

/* An exporter that was killed says its last words again. */
static void test_repetitions_are_passed_over_where_allowed(void **state)
{
	struct fixture *f = *state;
	for (int i = 0; i < 10; i++)
		append(f->audit, "e", i);
	json_t *records = read_all(f->audit, 100);
	for (size_t i = 3; i < 8; i++) /* 1 to 8, 4 to 8 again, 9, 10 */
		json_array_insert(records, i + 5, json_array_get(records, i));
	struct err e = { 0 };
	assert_int_equal(verify(records, &e), ERR_INVALID);
	struct audit_check c;
	audit_check_init(&c);
	assert_int_equal(audit_check_allow_repeats(&c, &e), 0);
	assert_int_equal(audit_check_records(&c, records, &e), 0);
	assert_int_equal(c.records, 10);
	assert_int_equal(c.repeated, 5);
	audit_check_free(&c);
	/* another record under a number that was there, or the same with other words, is none */
	for (int forged = 0; forged < 2; forged++) {
		char hash[AUDIT_HASH_TEXT];
		json_t *copy = json_deep_copy(records), *r = json_array_get(copy, 9);
		json_object_set_new(r, "i", json_integer(99));
		assert_int_equal(audit_record_hash(r, hash, NULL), 0);
		if (forged)
			json_object_set_new(r, "hash", json_string(hash));
		audit_check_init(&c);
		assert_int_equal(audit_check_allow_repeats(&c, &e), 0);
		assert_int_equal(audit_check_records(&c, copy, &e), ERR_INVALID);
		assert_non_null(strstr(e.text, forged ? "comes behind" : "was changed"));
		audit_check_free(&c);
		json_decref(copy);
	}
	json_decref(records);
}

static void *append_many(void *arg)
{
	int rc = 0;
	for (int i = 0; i < 200 && rc == 0; i++)
		rc = audit_append_blocking(arg, "e", json_pack("{s:i}", "i", i), NULL);
	return rc ? arg : NULL;
}

static void test_threads_make_one_chain(void **state)
{
	struct fixture *f = *state;
	pthread_t threads[4];
	for (size_t i = 0; i < 4; i++)
		pthread_create(&threads[i], NULL, append_many, f->audit);
	for (size_t i = 0; i < 4; i++) {
		void *failed;
		pthread_join(threads[i], &failed);
		assert_null(failed);
	}
	expect_whole(f->audit, 800);
}

/* --- many at once --- */

static void make_entries(struct audit_entry *entries, size_t n)
{
	for (size_t i = 0; i < n; i++)
		entries[i] = (struct audit_entry){ "e", json_pack("{s:i}", "i", (int)i) };
}

static void test_many_are_one_writing(void **state)
{
	struct fixture *f = *state;
	struct audit_entry entries[AUDIT_TOGETHER];
	struct err e = { 0 };
	append(f->audit, "first", 0);
	make_entries(entries, AUDIT_TOGETHER);
	assert_int_equal(audit_append_many_blocking(f->audit, entries, AUDIT_TOGETHER, &e), 0);
	assert_int_equal(f->store->appends, 2);
	expect_whole(f->audit, 1 + AUDIT_TOGETHER);
	json_t *records = read_all(f->audit, 1000);
	for (size_t i = 0; i < AUDIT_TOGETHER; i++) {
		assert_null(entries[i].fields);
		assert_int_equal(json_integer_value(json_object_get(json_array_get(records, 1 + i), "i")), i);
	}
	json_decref(records);
	assert_int_equal(audit_append_many_blocking(f->audit, entries, 0, &e), 0);
	expect_whole(f->audit, 1 + AUDIT_TOGETHER);
}

static void test_many_of_which_one_is_wrong_are_not_written(void **state)
{
	struct fixture *f = *state;
	struct audit_entry entries[4];
	struct err e = { 0 };
	make_entries(entries, 4);
	json_object_set_new(entries[2].fields, "hash", json_string("mine"));
	assert_int_equal(audit_append_many_blocking(f->audit, entries, 4, &e), ERR_INVALID);
	f->store->fail_append = ERR_UNAVAILABLE;
	make_entries(entries, 4);
	assert_int_equal(audit_append_many_blocking(f->audit, entries, 4, &e), ERR_UNAVAILABLE);
	assert_non_null(strstr(e.text, "audit e: "));
	f->store->fail_append = 0;
	make_entries(entries, 4);
	assert_int_equal(audit_append_many_blocking(f->audit, entries, 4, &e), 0);
	expect_whole(f->audit, 4);
}

#define APPENDERS 8u

struct appender {
	struct audit *audit;
	struct err e;
	_Atomic pid_t thread;
	int n, rc;
};

static void *append_once(void *arg)
{
	struct appender *a = arg;
	json_t *fields = json_pack("{s:i}", "i", a->n);
	a->thread = gettid();
	a->rc = audit_append_blocking(a->audit, "e", fields, &a->e);
	return NULL;
}

static bool sleeps(pid_t thread)
{
	char path[64], line[512] = "";
	snprintf(path, sizeof path, "/proc/self/task/%d/stat", (int)thread);
	FILE *f = fopen(path, "r");
	const char *name_end = f && fgets(line, sizeof line, f) ? strrchr(line, ')') : NULL;
	if (f)
		fclose(f);
	return name_end && strncmp(name_end, ") S", 3) == 0;
}

/* The first append takes until all the others wait for their turn. */
static void until_others_wait(void *arg)
{
	struct appender *all = arg;
	static atomic_bool came;
	if (atomic_exchange(&came, true))
		return;
	for (size_t i = 0; i < APPENDERS; i++)
		while (all[i].thread != gettid() && (!all[i].thread || !sleeps(all[i].thread)))
			sched_yield();
}

static void test_those_who_wait_are_written_together(void **state)
{
	struct fixture *f = *state;
	struct appender all[APPENDERS] = { 0 };
	pthread_t threads[APPENDERS];
	f->store->on_append = until_others_wait;
	f->store->arg = all;
	for (size_t i = 0; i < APPENDERS; i++)
		all[i] = (struct appender){ .audit = f->audit, .n = (int)i };
	for (size_t i = 0; i < APPENDERS; i++)
		pthread_create(&threads[i], NULL, append_once, &all[i]);
	for (size_t i = 0; i < APPENDERS; i++) {
		pthread_join(threads[i], NULL);
		assert_int_equal(all[i].rc, 0);
	}
	assert_int_equal(f->store->appends, 2);
	expect_whole(f->audit, APPENDERS);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_records_have_everything, setup, teardown),
		cmocka_unit_test(test_hash_is_what_the_manual_says),
		cmocka_unit_test_setup_teardown(test_pages_and_nodes_verify, setup, teardown),
		cmocka_unit_test_setup_teardown(test_tampering_is_found, setup, teardown),
		cmocka_unit_test_setup_teardown(test_restart_goes_on_with_the_chain, setup, teardown),
		cmocka_unit_test_setup_teardown(test_crash_reads_only_the_tail, setup, teardown),
		cmocka_unit_test_setup_teardown(test_crash_with_a_long_tail_and_no_head, setup, teardown),
		cmocka_unit_test_setup_teardown(test_append_without_answer, setup, teardown),
		cmocka_unit_test_setup_teardown(test_append_that_comes_late, setup, teardown),
		cmocka_unit_test_setup_teardown(test_head_that_cannot_be_saved_is_no_failure, setup, teardown),
		cmocka_unit_test_setup_teardown(test_names_of_the_log_are_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(test_the_newest_are_found_from_behind, setup, teardown),
		cmocka_unit_test_setup_teardown(test_filters, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_search_has_a_bound_and_goes_on, setup, teardown),
		cmocka_unit_test_setup_teardown(test_an_answer_has_a_bound, setup, teardown),
		cmocka_unit_test_setup_teardown(test_repetitions_are_passed_over_where_allowed, setup, teardown),
		cmocka_unit_test_setup_teardown(test_threads_make_one_chain, setup, teardown),
		cmocka_unit_test_setup_teardown(test_those_who_wait_are_written_together, setup, teardown),
		cmocka_unit_test_setup_teardown(test_many_are_one_writing, setup, teardown),
		cmocka_unit_test_setup_teardown(test_many_of_which_one_is_wrong_are_not_written, setup, teardown),
	};
	return RUN_CASES(tests);
}
