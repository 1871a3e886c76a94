/* Records of what has happened, while the store takes none. */
#include "support/case.h"

#include "base/audit_chain.h"
#include "base/log.h"
#include "fake_store.h"
#include "server/audit.h"
#include "server/metrics.h"
#include "server/server.h"

#include <pthread.h>

struct fixture {
	struct settings settings;
	struct server server;
	struct store *store;
	struct audit *audit;
};

static void open_log(struct fixture *f)
{
	struct err e = { 0 };
	if (audit_open_blocking(&f->server, &f->audit, &e) != 0)
		fail_msg("%s", e.text);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof *f);
	f->server.node = "n1";
	f->server.settings = &f->settings;
	f->server.metrics = metrics_new();
	f->store = f->server.store = fake_store_new();
	log_set_level(LOG_LEVEL_ERROR);
	open_log(f);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	audit_close(&f->audit);
	metrics_free(&f->server.metrics);
	fake_store_free(f->store);
	free(f);
	return 0;
}

static size_t waiting(struct fixture *f)
{
	bool stops;
	return audit_waiting_anythread(f->audit, &stops);
}

static void note(struct fixture *f, const char *event, int i)
{
	audit_note_blocking(f->audit, event, json_pack("{s:i}", "i", i));
}

/* What the log has: "i" of each record, then a whole chain. */
static void expect_log(struct fixture *f, const char *expected)
{
	char got[128] = "";
	struct audit_check c;
	struct err e = { 0 };
	json_t *records;
	uint64_t next;
	assert_int_equal(audit_read_blocking(f->audit, 1, 1000, &records, &next, &e), 0);
	for (size_t i = 0; i < json_array_size(records); i++)
		snprintf(got + strlen(got), sizeof got - strlen(got), "%d ",
			 (int)json_integer_value(json_object_get(json_array_get(records, i), "i")));
	assert_string_equal(got, expected);
	audit_check_init(&c);
	if (audit_check_records(&c, records, &e) != 0)
		fail_msg("%s", e.text);
	audit_check_free(&c);
	json_decref(records);
}

static void test_what_cannot_be_written_waits_its_turn(void **state)
{
	struct fixture *f = *state;
	struct err e = { 0 };
	note(f, "session.attach", 1);
	f->store->fail_append = ERR_UNAVAILABLE;
	for (int i = 2; i <= 4; i++)
		note(f, "session.detach", i);
	assert_int_equal(waiting(f), 3);
	assert_int_equal(metrics_get(f->server.metrics, METRIC_AUDIT_WAITING), 3);
	audit_flush_blocking(f->audit);
	assert_int_equal(waiting(f), 3);
	/* nothing that needs its record gets past them */
	assert_int_equal(audit_announce_blocking(f->audit, "session.start", json_pack("{s:i}", "i", 9), &e),
			 ERR_UNAVAILABLE);
	f->store->fail_append = 0;
	note(f, "session.attach", 5); /* the store is not asked by everybody: that is the keeper's */
	assert_int_equal(waiting(f), 4);
	assert_int_equal(audit_announce_blocking(f->audit, "session.start", json_pack("{s:i}", "i", 6), &e), 0);
	assert_int_equal(waiting(f), 0);
	assert_int_equal(metrics_get(f->server.metrics, METRIC_AUDIT_WAITING), 0);
	note(f, "session.attach", 7);
	expect_log(f, "1 2 3 4 5 6 7 ");
}

static void test_the_keeper_writes_what_waits(void **state)
{
	struct fixture *f = *state;
	f->store->fail_append = ERR_UNAVAILABLE;
	note(f, "denied", 1);
	note(f, "denied", 2);
	f->store->fail_append = 0;
	audit_flush_blocking(f->audit);
	assert_int_equal(waiting(f), 0);
	note(f, "denied", 3);
	expect_log(f, "1 2 3 ");
}

/* The store did not answer, and wrote it, or writes it later, or never does: it is there once. */
static void test_what_was_written_without_an_answer_is_there_once(void **state)
{
	struct fixture *f = *state;
	for (int how = 0; how < 3; how++) {
		f->store->fail_append = ERR_TIMEOUT;
		f->store->append_anyway = how == 0;
		f->store->append_late = how == 1;
		note(f, "denied", 2 * how + 1);
		assert_int_equal(waiting(f), 1);
		f->store->fail_append = 0;
		f->store->append_anyway = f->store->append_late = false;
		note(f, "denied", 2 * how + 2);
		audit_flush_blocking(f->audit);
		assert_int_equal(waiting(f), 0);
	}
	expect_log(f, "1 2 3 4 5 6 ");
}

/* The same of several at once; of a store that takes them singly only the first is. */
static void test_what_was_written_together_is_there_once(void **state)
{
	struct fixture *f = *state;
	for (int singly = 0; singly < 2; singly++) {
		f->store->fail_append = ERR_UNAVAILABLE;
		for (int i = 1; i <= 3; i++)
			note(f, "denied", 4 * singly + i);
		f->store->fail_append = ERR_TIMEOUT;
		f->store->append_anyway = true;
		f->store->singly = singly;
		audit_flush_blocking(f->audit);
		assert_int_equal(waiting(f), 3);
		f->store->fail_append = 0;
		f->store->append_anyway = false;
		f->store->appends = 0;
		note(f, "denied", 4 * singly + 4);
		audit_flush_blocking(f->audit);
		assert_int_equal(waiting(f), 0);
		assert_int_equal(f->store->appends, singly ? 3 : 1);
	}
	expect_log(f, "1 2 3 4 5 6 7 8 ");
}

static void test_what_finds_no_room_is_counted(void **state)
{
	struct fixture *f = *state;
	f->store->fail_append = ERR_UNAVAILABLE;
	for (int i = 0; i < 5000; i++)
		note(f, i % 2 ? "denied" : "session.detach", i);
	assert_int_equal(waiting(f), 4096);
	assert_int_equal(metrics_get(f->server.metrics, METRIC_AUDIT_LOST), 904);
	f->store->fail_append = 0;
	audit_flush_blocking(f->audit);
	audit_flush_blocking(f->audit);
	assert_int_equal(waiting(f), 0);
	json_t *last = json_array_get(f->store->log, json_array_size(f->store->log) - 1);
	assert_int_equal(json_array_size(f->store->log), 4097);
	assert_string_equal(json_string_value(json_object_get(last, "event")), "audit.lost");
	assert_int_equal(json_integer_value(json_object_get(last, "count")), 904);
	json_t *events = json_object_get(last, "events");
	assert_int_equal(json_integer_value(json_object_get(events, "denied")), 452);
	assert_int_equal(json_integer_value(json_object_get(events, "session.detach")), 452);
	/* told once */
	note(f, "denied", 1);
	assert_int_equal(json_array_size(f->store->log), 4098);
}

static void test_sessions_go_on_where_the_settings_say_so(void **state)
{
	struct fixture *f = *state;
	struct err e = { 0 };
	bool stops = true;
	audit_close(&f->audit);
	f->settings.audit_on_failure = AUDIT_CONTINUE;
	open_log(f);
	f->store->fail_append = ERR_UNAVAILABLE;
	assert_int_equal(audit_announce_blocking(f->audit, "session.start", json_pack("{s:i}", "i", 1), &e), 0);
	assert_int_equal(audit_append_blocking(f->audit, "policy.put", json_pack("{s:i}", "i", 9), &e),
			 ERR_UNAVAILABLE);
	assert_int_equal(audit_waiting_anythread(f->audit, &stops), 1);
	assert_false(stops);
	f->store->fail_append = 0;
	audit_flush_blocking(f->audit);
	expect_log(f, "1 ");
}

/* What still waits when the server stops is written then, when that can be. */
static void test_a_stop_writes_what_waits(void **state)
{
	struct fixture *f = *state;
	f->store->fail_append = ERR_UNAVAILABLE;
	note(f, "agent.disconnect", 1);
	f->store->fail_append = 0;
	audit_close(&f->audit);
	open_log(f);
	expect_log(f, "1 ");
}

static void *note_many(void *arg)
{
	for (int i = 0; i < 200; i++)
		note(arg, "e", i);
	return NULL;
}

/* Four who note, one who appends and flushes. */
static void test_threads(void **state)
{
	struct fixture *f = *state;
	pthread_t threads[4];
	for (size_t i = 0; i < 4; i++)
		pthread_create(&threads[i], NULL, note_many, f);
	for (int i = 0; i < 50; i++) {
		struct err e;
		audit_append_blocking(f->audit, "x", json_object(), &e);
		audit_flush_blocking(f->audit);
	}
	for (size_t i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	audit_flush_blocking(f->audit);
	assert_int_equal(json_array_size(f->store->log), 850);
	struct audit_check c;
	struct err e = { 0 };
	json_t *records;
	uint64_t next;
	assert_int_equal(audit_read_blocking(f->audit, 1, 1000, &records, &next, &e), 0);
	audit_check_init(&c);
	assert_int_equal(audit_check_records(&c, records, &e), 0);
	audit_check_free(&c);
	json_decref(records);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_what_cannot_be_written_waits_its_turn, setup, teardown),
		cmocka_unit_test_setup_teardown(test_the_keeper_writes_what_waits, setup, teardown),
		cmocka_unit_test_setup_teardown(test_what_was_written_without_an_answer_is_there_once, setup, teardown),
		cmocka_unit_test_setup_teardown(test_what_was_written_together_is_there_once, setup, teardown),
		cmocka_unit_test_setup_teardown(test_what_finds_no_room_is_counted, setup, teardown),
		cmocka_unit_test_setup_teardown(test_sessions_go_on_where_the_settings_say_so, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_stop_writes_what_waits, setup, teardown),
		cmocka_unit_test_setup_teardown(test_threads, setup, teardown),
	};
	return RUN_CASES(tests);
}
