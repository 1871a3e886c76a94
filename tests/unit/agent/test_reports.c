#include "support/case.h"

#include "agent/exits.h"
#include "agent/reports.h"

#include <signal.h>
#include <string.h>
#include <sys/socket.h>

/* A supervisor at the other end of the worker's channel. */
struct supervisor {
	uv_loop_t loop;
	struct reports *reports;
	struct channel *worker, *here;
	json_int_t last; /* number of the newest report */
	size_t count;
	bool acks;
};

static json_t *closed_stream(size_t stream)
{
	return json_pack("{s:s, s:s, s:I, s:s}", "type", "stream-closed", "session", "s-1", "stream",
			 (json_int_t)stream, "reason", "io: read: Connection reset by peer, and more that takes room");
}

static void on_report(void *user, json_t *message)
{
	struct supervisor *s = user;
	json_int_t n = json_integer_value(json_object_get(message, "n"));
	if (n != s->last + 1)
		fail_msg("report %lld comes behind %lld", (long long)n, (long long)s->last);
	s->last = n;
	s->count++;
	if (s->acks && n % 1000 == 0)
		reports_ack(s->reports, (uint64_t)n);
}

static void on_nothing(void *user, json_t *message)
{
	(void)user, (void)message;
}

static void on_closed(void *user, const char *why)
{
	(void)user;
	fail_msg("closed: %s", why);
}

static void connect_to(struct supervisor *s)
{
	const struct channel_callbacks there = { .message = on_nothing, .closed = on_closed };
	const struct channel_callbacks here = { .message = on_report, .closed = on_closed };
	int fds[2];
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	assert_int_equal(channel_new(&s->loop, fds[0], &there, s, &s->worker, NULL), 0);
	assert_int_equal(channel_new(&s->loop, fds[1], &here, s, &s->here, NULL), 0);
}

static void disconnect(struct supervisor *s)
{
	reports_attach(s->reports, NULL);
	channel_free(&s->here);
	channel_free(&s->worker);
}

static void run_until(struct supervisor *s, size_t count)
{
	while (s->count < count)
		uv_run(&s->loop, UV_RUN_ONCE);
}

/* More than a channel takes at once, and a new one comes before the queue is empty. */
static void test_a_long_queue_goes_out_in_order(void **state)
{
	(void)state;
	const size_t total = 60000, early = 5000;
	struct supervisor s = { .reports = reports_new("s-1") };
	uv_loop_init(&s.loop);
	for (size_t i = 0; i < total; i++)
		reports_add(s.reports, closed_stream(i));
	connect_to(&s);
	reports_attach(s.reports, s.worker);
	reports_add(s.reports, closed_stream(total));
	run_until(&s, early);
	reports_ack(s.reports, 1000);
	disconnect(&s);

	s.last = 1000;
	s.acks = true;
	connect_to(&s);
	reports_attach(s.reports, s.worker);
	while (s.last < (json_int_t)total + 1)
		uv_run(&s.loop, UV_RUN_ONCE);
	reports_ack(s.reports, total + 1);
	assert_true(reports_empty(s.reports));
	reports_add(s.reports, closed_stream(total + 1));
	while (s.last < (json_int_t)total + 2)
		uv_run(&s.loop, UV_RUN_ONCE);
	disconnect(&s);
	reports_free(&s.reports);
	uv_run(&s.loop, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(&s.loop), 0);
}

/* What no supervisor came for is read from the exit record, however much it is. */
static void test_all_that_can_wait_fits_the_exit_record(void **state)
{
	(void)state;
	char folder[64], note[301];
	json_t *read = NULL;
	struct err e = { 0 };
	struct reports *r = reports_new("s-1");
	memset(note, '\1', 300);
	note[300] = '\0'; /* as text six times as long */
	case_folder(folder);
	for (size_t i = 0, before = (size_t)-1; json_array_size(reports_waiting(r)) != before; i++) {
		before = json_array_size(reports_waiting(r));
		reports_add(r, i % 2 ? closed_stream(i) : json_pack("{s:s, s:s}", "type", "x", "reason", note));
	}
	reports_add(r, json_pack("{s:s, s:s}", "type", "session-closed", "text", note));
	size_t count = json_array_size(reports_waiting(r));
	assert_int_equal(exits_write(folder, "s-1", reports_waiting(r), &e), 0);
	if (exits_read(folder, "s-1", &read, &e) != 0)
		fail_msg("%s", e.text);
	assert_int_equal(json_array_size(read), count);
	json_decref(read);
	reports_free(&r);
	case_folder_remove(folder);
}

int main(int argc, char **argv)
{
	signal(SIGPIPE, SIG_IGN); /* as the worker does */
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_long_queue_goes_out_in_order),
		cmocka_unit_test(test_all_that_can_wait_fits_the_exit_record),
	};
	return RUN_CASES(tests);
}
