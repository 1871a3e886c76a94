/* Each single allocation of two links that set out, carry a stream, lose their leg and come back fails once. Then all
 * arrives all the same, over another leg if need be, or the stream or the session is over with a reason; what has
 * arrived is what was sent. */
#include "support/case.h"
#include "support/failing_alloc.h"
#include "wire.h"

#define TOTAL (200 * 1024) /* bytes */
#define TURNS 400          /* of both ends; it takes a tenth of them */

struct trip {
	struct wire w;
	uint32_t id; /* 0: not yet open */
	size_t sent, arrived;
	bool finished, complete, over, cut;
};

static unsigned char byte_at(size_t i)
{
	return (unsigned char)(i * 31 + i / 251);
}

static void send_some(struct trip *t)
{
	struct link_dest dest = { .kind = LINK_KIND_TCP, .host = "127.0.0.1", .port = 5432 };
	unsigned char some[4096];
	if (!t->id && link_stream_open(t->w.end[LINK_CLIENT], &dest, &t->id, NULL) != 0)
		t->id = 0;

	while (t->id && t->sent < TOTAL) {
		size_t n = TOTAL - t->sent < sizeof some ? TOTAL - t->sent : sizeof some;
		for (size_t i = 0; i < n; i++)
			some[i] = byte_at(t->sent + i);
		n = link_stream_write(t->w.end[LINK_CLIENT], t->id, some, n);
		if (n == 0)
			return;
		t->sent += n;
	}
	if (t->id && !t->finished)
		link_stream_finish(t->w.end[LINK_CLIENT], t->id);
	t->finished = t->id != 0;
}

static void take_some(struct trip *t, uint32_t id)
{
	const void *data;
	size_t n;
	while ((n = link_stream_peek(t->w.end[LINK_TARGET], id, &data)) > 0) {
		for (size_t i = 0; i < n; i++)
			assert_int_equal(((const unsigned char *)data)[i], byte_at(t->arrived + i));
		t->arrived += n;
		link_stream_consume(t->w.end[LINK_TARGET], id, n);
	}
}

static void take_events(struct trip *t, int end)
{
	struct link_event event;
	while (link_next_event(t->w.end[end], &event)) {
		switch (event.type) {
		case LINK_EVENT_OPEN:
			link_stream_accept(t->w.end[end], event.stream);
			break;
		case LINK_EVENT_READABLE:
			take_some(t, event.stream);
			break;
		case LINK_EVENT_EOF:
			assert_int_equal(t->arrived, TOTAL);
			t->complete = true;
			link_stream_eof_done(t->w.end[end], event.stream);
			break;
		case LINK_EVENT_CLOSED:
			t->over = t->over || event.code != LINK_OK;
			assert_true(event.code == LINK_OK || event.code == LINK_INTERNAL);
			break;
		case LINK_EVENT_OVER:
			t->over = true;
			assert_string_not_equal(event.text, "");
			break;
		default:
			break;
		}
	}
}

/* false: an end gave the epoch up. */
static bool exchange(struct trip *t)
{
	static uint8_t bytes[65536];
	bool well = true;
	for (int i = 0; i < 2; i++) {
		size_t n = link_output(t->w.end[i], bytes, sizeof bytes, t->w.now);
		if (n && link_input(t->w.end[!i], bytes, n, t->w.now, NULL) != 0)
			well = false;
		take_events(t, i);
	}
	return well;
}

static bool set_out(struct trip *t)
{
	bool well = true;
	for (int i = 0; i < 2; i++)
		well = link_epoch_start(t->w.end[i], t->w.now, NULL) == 0 && well;
	return well;
}

static int both_new(struct wire *w)
{
	int rc = 0;
	*w = (struct wire){ .now = 1000 };
	for (int i = 0; rc == 0 && i < 2; i++) {
		struct err e = { 0 };
		struct link_config c = { .role = i ? LINK_TARGET : LINK_CLIENT, .key = wire_keys()->key[i] };
		memcpy(c.peer_pin, wire_keys()->pin[!i], sizeof c.peer_pin);
		rc = link_new(&c, &w->end[i], &e);
		assert_true(rc == 0 || (e.code == ERR_NOMEM && e.text[0]));
	}
	return rc;
}

static void travel(struct trip *t)
{
	bool up = false;
	for (int turn = 0; turn < TURNS && !t->complete && !t->over; turn++) {
		if (!up) {
			wire_lost(&t->w);
			up = set_out(t);
		}
		send_some(t);
		up = exchange(t) && up;
		if (!t->cut && t->arrived > TOTAL / 2) {
			t->cut = true;
			up = false;
		}
		t->w.now += 100;
		for (int i = 0; i < 2; i++)
			link_tick(t->w.end[i], t->w.now);
	}
}

static bool trip_once(void *arg)
{
	struct trip t = { .id = 0 };
	size_t *complete = arg;
	int rc = both_new(&t.w);
	if (rc == 0)
		travel(&t);
	bool failed = failing_alloc_over();
	if (rc == 0)
		assert_true(t.complete || (failed && t.over));
	else
		assert_true(failed);
	for (int i = 0; rc == 0 && i < 2; i++)
		if (!t.over)
			assert_null(wire_check_books(t.w.end[i]));
	*complete += t.complete;
	wire_free(&t.w);
	return failed;
}

static void test_each_allocation(void **state)
{
	(void)state;
	size_t complete = 0;
	wire_keys();
	size_t n = failing_alloc_sweep(trip_once, &complete);
	assert_true(n > 20);
	print_message("%zu allocations; all arrived in %zu cases\n", n, complete);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_each_allocation),
	};
	return RUN_CASES(tests);
}
