/* Two links over real TLS: what callers see. */
#include "link/internal.h"
#include "support/case.h"
#include "wire.h"

static void test_bytes_both_ways(void **state)
{
	(void)state;
	struct wire w;
	wire_up(&w, NULL);
	uint32_t id = wire_stream(&w);
	wire_write(&w, LINK_CLIENT, id, "to the target");
	wire_write(&w, LINK_TARGET, id, "to the client");
	wire_run(&w);
	assert_int_equal(wire_expect(&w, LINK_TARGET, LINK_EVENT_READABLE).stream, id);
	assert_int_equal(wire_expect(&w, LINK_CLIENT, LINK_EVENT_READABLE).stream, id);
	assert_string_equal(wire_read(&w, LINK_TARGET, id), "to the target");
	assert_string_equal(wire_read(&w, LINK_CLIENT, id), "to the client");
	struct link_stats stats;
	link_get_stats(w.end[LINK_CLIENT], &stats);
	assert_int_equal(stats.bytes_in, 13);
	assert_int_equal(stats.bytes_out, 13);
	assert_int_equal(stats.streams, 1);
	assert_int_equal(stats.epochs, 1);
	wire_free(&w);
}

static void test_destination_arrives(void **state)
{
	(void)state;
	struct wire w;
	wire_up(&w, NULL);
	struct link_dest dest = { .kind = LINK_KIND_TCP, .host = "db.internal", .port = 5432 };
	uint32_t id;
	assert_int_equal(link_stream_open(w.end[LINK_TARGET], &dest, &id, NULL), 0);
	assert_int_equal(id, 2);
	wire_run(&w);
	struct link_event ev = wire_expect(&w, LINK_CLIENT, LINK_EVENT_OPEN);
	assert_int_equal(ev.stream, 2);
	assert_int_equal(ev.dest.kind, LINK_KIND_TCP);
	assert_string_equal(ev.dest.host, "db.internal");
	assert_int_equal(ev.dest.port, 5432);
	wire_free(&w);
}

static void test_half_close(void **state)
{
	(void)state;
	struct wire w;
	wire_up(&w, NULL);
	uint32_t id = wire_stream(&w);
	wire_write(&w, LINK_CLIENT, id, "question");
	link_stream_finish(w.end[LINK_CLIENT], id);
	assert_int_equal(link_stream_room(w.end[LINK_CLIENT], id), 0);
	wire_run(&w);
	wire_expect(&w, LINK_TARGET, LINK_EVENT_READABLE);
	wire_expect_none(&w, LINK_TARGET); /* EOF comes behind the last byte */
	link_stream_eof_done(w.end[LINK_TARGET], id);
	assert_string_equal(wire_read(&w, LINK_TARGET, id), "question");
	wire_expect(&w, LINK_TARGET, LINK_EVENT_EOF);
	link_stream_eof_done(w.end[LINK_TARGET], id);
	wire_write(&w, LINK_TARGET, id, "answer");
	link_stream_finish(w.end[LINK_TARGET], id);
	wire_run(&w);
	wire_expect(&w, LINK_CLIENT, LINK_EVENT_READABLE);
	assert_string_equal(wire_read(&w, LINK_CLIENT, id), "answer");
	wire_expect(&w, LINK_CLIENT, LINK_EVENT_EOF);
	link_stream_eof_done(w.end[LINK_CLIENT], id);
	assert_int_equal(wire_expect(&w, LINK_CLIENT, LINK_EVENT_CLOSED).code, LINK_OK);
	uint64_t in, out;
	assert_int_equal(link_stream_bytes(w.end[LINK_CLIENT], id, &in, &out), 0);
	assert_int_equal(in, 6);
	assert_int_equal(out, 8);
	wire_run(&w);
	assert_int_equal(wire_expect(&w, LINK_TARGET, LINK_EVENT_CLOSED).code, LINK_OK);
	wire_expect_none(&w, LINK_TARGET);
	wire_expect_none(&w, LINK_CLIENT);
	assert_int_equal(w.end[0]->n_streams + w.end[1]->n_streams, 0); /* tombstones are confirmed */
	wire_free(&w);
}

static void test_early_data_waits_for_accept(void **state)
{
	(void)state;
	struct wire w;
	wire_init(&w, NULL);
	struct link_dest dest = { .kind = LINK_KIND_SSH };
	uint32_t id;
	assert_int_equal(link_stream_open(w.end[LINK_CLIENT], &dest, &id, NULL), 0);
	wire_write(&w, LINK_CLIENT, id, "SSH-2.0-");
	link_stream_finish(w.end[LINK_CLIENT], id);
	wire_start(&w);
	wire_run(&w);
	wire_expect(&w, LINK_TARGET, LINK_EVENT_UP);
	assert_int_equal(wire_expect(&w, LINK_TARGET, LINK_EVENT_OPEN).stream, id);
	wire_expect_none(&w, LINK_TARGET);
	assert_int_equal(link_stream_accept(w.end[LINK_TARGET], id), 0);
	assert_int_equal(link_stream_accept(w.end[LINK_TARGET], id), ERR_NOT_FOUND);
	wire_expect(&w, LINK_TARGET, LINK_EVENT_READABLE);
	assert_string_equal(wire_read(&w, LINK_TARGET, id), "SSH-2.0-");
	wire_expect(&w, LINK_TARGET, LINK_EVENT_EOF);
	wire_free(&w);
}

/* Handshake flights: client, server, then client's Finished carries HELLO, RESUME and OPEN. */
static void test_open_rides_with_the_handshake(void **state)
{
	(void)state;
	struct wire w;
	wire_init(&w, NULL);
	uint32_t id;
	link_stream_open(w.end[LINK_CLIENT], &(struct link_dest){ .kind = LINK_KIND_SSH }, &id, NULL);
	wire_start(&w);
	uint8_t bytes[16384];
	for (int flight = 0; flight < 3; flight++) {
		size_t n = link_output(w.end[flight % 2], bytes, sizeof(bytes), w.now);
		assert_int_equal(link_input(w.end[!(flight % 2)], bytes, n, w.now, NULL), 0);
	}
	wire_expect(&w, LINK_TARGET, LINK_EVENT_UP);
	wire_expect(&w, LINK_TARGET, LINK_EVENT_OPEN);
	wire_free(&w);
}

static void test_refused(void **state)
{
	(void)state;
	struct wire w;
	wire_up(&w, NULL);
	uint32_t id;
	link_stream_open(w.end[LINK_CLIENT], &(struct link_dest){ .kind = LINK_KIND_SSH }, &id, NULL);
	wire_run(&w);
	wire_expect(&w, LINK_TARGET, LINK_EVENT_OPEN);
	assert_int_equal(link_stream_refuse(w.end[LINK_TARGET], id, LINK_NOT_ALLOWED, "the grant says no"), 0);
	wire_run(&w);
	struct link_event ev = wire_expect(&w, LINK_CLIENT, LINK_EVENT_CLOSED);
	assert_int_equal(ev.code, LINK_NOT_ALLOWED);
	assert_string_equal(ev.text, "the grant says no");
	wire_expect_none(&w, LINK_TARGET);
	wire_expect_none(&w, LINK_CLIENT);
	assert_int_equal(w.end[0]->n_streams + w.end[1]->n_streams, 0);
	wire_free(&w);
}

static void test_reset_drops_what_was_not_read(void **state)
{
	(void)state;
	struct wire w;
	wire_up(&w, NULL);
	uint32_t id = wire_stream(&w);
	wire_write(&w, LINK_CLIENT, id, "never read");
	wire_run(&w);
	wire_expect(&w, LINK_TARGET, LINK_EVENT_READABLE);
	link_stream_reset(w.end[LINK_CLIENT], id, LINK_IO, "connection reset");
	wire_run(&w);
	struct link_event ev = wire_expect(&w, LINK_TARGET, LINK_EVENT_CLOSED);
	assert_int_equal(ev.code, LINK_IO);
	assert_string_equal(ev.text, "connection reset");
	const void *data;
	assert_int_equal(link_stream_peek(w.end[LINK_TARGET], id, &data), 0);
	wire_expect_none(&w, LINK_CLIENT);
	struct link_stats stats;
	link_get_stats(w.end[LINK_TARGET], &stats);
	assert_int_equal(stats.buffered, 0);
	wire_free(&w);
}

static void test_streams_outlive_legs(void **state)
{
	(void)state;
	struct wire w;
	wire_up(&w, NULL);
	uint32_t id = wire_stream(&w);
	wire_write(&w, LINK_CLIENT, id, "before ");
	uint8_t lost[65536];
	assert_true(link_output(w.end[LINK_CLIENT], lost, sizeof(lost), w.now) > 0); /* on its way when the leg dies */
	wire_lost(&w);
	assert_false(link_is_up(w.end[LINK_CLIENT]));
	wire_write(&w, LINK_CLIENT, id, "during");
	wire_write(&w, LINK_TARGET, id, "answer");
	link_stream_finish(w.end[LINK_TARGET], id);
	w.now += 800;
	wire_start(&w);
	wire_run(&w);
	assert_int_equal(wire_expect(&w, LINK_CLIENT, LINK_EVENT_UP).outage_ms, 800);
	assert_int_equal(wire_expect(&w, LINK_TARGET, LINK_EVENT_UP).outage_ms, 800);
	assert_string_equal(wire_read(&w, LINK_TARGET, id), "before during");
	assert_string_equal(wire_read(&w, LINK_CLIENT, id), "answer");
	struct link_stats stats;
	link_get_stats(w.end[LINK_CLIENT], &stats);
	assert_int_equal(stats.epochs, 2);
	wire_free(&w);
}

static void test_opened_while_down(void **state)
{
	(void)state;
	struct wire w;
	wire_up(&w, NULL);
	wire_lost(&w);
	struct link_dest dest = { .kind = LINK_KIND_SSH };
	uint32_t first, second;
	assert_int_equal(link_stream_open(w.end[LINK_CLIENT], &dest, &first, NULL), 0);
	assert_int_equal(link_stream_open(w.end[LINK_CLIENT], &dest, &second, NULL), 0);
	link_stream_reset(w.end[LINK_CLIENT], first, LINK_OK, NULL); /* nobody ever heard of it */
	assert_int_equal(w.end[LINK_CLIENT]->n_streams, 1);
	wire_start(&w);
	wire_run(&w);
	wire_expect(&w, LINK_TARGET, LINK_EVENT_UP);
	assert_int_equal(wire_expect(&w, LINK_TARGET, LINK_EVENT_OPEN).stream, second);
	wire_expect_none(&w, LINK_TARGET);
	wire_free(&w);
}

static void test_bye(void **state)
{
	(void)state;
	struct wire w;
	wire_up(&w, NULL);
	uint32_t id = wire_stream(&w);
	wire_write(&w, LINK_CLIENT, id, "lost");
	link_bye(w.end[LINK_CLIENT], LINK_TERMINATED, "an operator said so");
	assert_int_equal(link_stream_room(w.end[LINK_CLIENT], id), 0);
	assert_true(link_has_output(w.end[LINK_CLIENT]));
	wire_run(&w);
	struct link_event ev = wire_expect(&w, LINK_TARGET, LINK_EVENT_OVER);
	assert_int_equal(ev.code, LINK_TERMINATED);
	assert_string_equal(ev.text, "an operator said so");
	wire_expect_none(&w, LINK_TARGET);
	wire_expect_none(&w, LINK_CLIENT);
	assert_false(link_has_output(w.end[LINK_CLIENT]));
	assert_false(link_is_up(w.end[LINK_TARGET]));
	uint32_t other;
	assert_int_equal(
		link_stream_open(w.end[LINK_TARGET], &(struct link_dest){ .kind = LINK_KIND_SSH }, &other, NULL),
		ERR_CLOSED);
	assert_int_equal(link_epoch_start(w.end[LINK_TARGET], w.now, NULL), ERR_CLOSED);
	wire_free(&w);
}

static void test_bye_while_down_is_silent(void **state)
{
	(void)state;
	struct wire w;
	wire_up(&w, NULL);
	wire_lost(&w);
	link_bye(w.end[LINK_CLIENT], LINK_OK, NULL);
	assert_false(link_has_output(w.end[LINK_CLIENT]));
	wire_expect_none(&w, LINK_CLIENT);
	wire_free(&w);
}

static void test_writer_stops_at_the_credit(void **state)
{
	(void)state;
	struct link_config limits = { .role = LINK_CLIENT, .initial_window = 1000, .window = 1000 };
	struct wire w;
	wire_up(&w, &limits);
	uint32_t id = wire_stream(&w);
	static const uint8_t zeros[5000];
	assert_int_equal(link_stream_write(w.end[LINK_CLIENT], id, zeros, sizeof(zeros)), 1000);
	assert_int_equal(link_stream_write(w.end[LINK_CLIENT], id, zeros, sizeof(zeros)), 0);
	wire_run(&w);
	wire_expect_none(&w, LINK_CLIENT); /* received is not delivered */
	link_stream_consume(w.end[LINK_TARGET], id, 400);
	wire_run(&w);
	assert_int_equal(wire_expect(&w, LINK_CLIENT, LINK_EVENT_WRITABLE).stream, id);
	assert_int_equal(link_stream_room(w.end[LINK_CLIENT], id), 400);
	wire_free(&w);
}

/* Where a round trip takes no time, more than what keeps two cores busy could only stand in a queue. */
static void test_window_stays_small_on_a_short_way(void **state)
{
	(void)state;
	struct wire w;
	wire_up(&w, NULL);
	uint32_t id = wire_stream(&w);
	static const uint8_t zeros[LIMIT_LINK_WINDOW];
	for (int i = 0; i < 50; i++) {
		while (link_stream_write(w.end[LINK_CLIENT], id, zeros, sizeof(zeros)) > 0)
			;
		wire_run(&w);
		const void *data;
		size_t n;
		while ((n = link_stream_peek(w.end[LINK_TARGET], id, &data)) > 0)
			link_stream_consume(w.end[LINK_TARGET], id, n);
		wire_run(&w);
		w.now += 20;
	}
	assert_int_equal(link_stream_room(w.end[LINK_CLIENT], id), LIMIT_LINK_SMALL_WINDOW);
	wire_free(&w);
}

/* A reader that found nothing to read keeps no memory for it. */
static void test_room_that_is_not_used(void **state)
{
	(void)state;
	struct wire w;
	wire_up(&w, NULL);
	uint32_t id = wire_stream(&w);
	struct link_stats stats;
	size_t room = 0;
	assert_non_null(link_stream_space(w.end[LINK_CLIENT], id, 65536, &room));
	assert_true(room > 0);
	link_stream_commit(w.end[LINK_CLIENT], id, 0);
	link_get_stats(w.end[LINK_CLIENT], &stats);
	assert_int_equal(stats.buffered, 0);
	wire_free(&w);
}

/* Moves what one end says, which arrives much later than it was said; the other consumes at once and answers, too. */
static void long_way(struct wire *w, uint32_t id)
{
	static uint8_t there[2 * LIMIT_LINK_WINDOW], back[1 << 20];
	size_t n, len = 0, answered = 0;
	while ((n = link_output(w->end[LINK_CLIENT], there + len, sizeof(there) - len, w->now)) > 0)
		len += n;
	w->now += 50;
	for (size_t at = 0; at < len; at += n) {
		const void *data;
		size_t got;
		n = len - at < 20000 ? len - at : 20000;
		assert_int_equal(link_input(w->end[LINK_TARGET], there + at, n, w->now, NULL), 0);
		while ((got = link_stream_peek(w->end[LINK_TARGET], id, &data)) > 0)
			link_stream_consume(w->end[LINK_TARGET], id, got);
		answered += link_output(w->end[LINK_TARGET], back + answered, sizeof(back) - answered, w->now);
	}
	w->now += 50;
	assert_int_equal(link_input(w->end[LINK_CLIENT], back, answered, w->now, NULL), 0);
}

/* The reader tells new credit all the time, and the writer waits for it all the same. */
static void test_window_grows_on_a_long_way(void **state)
{
	(void)state;
	struct wire w;
	wire_up(&w, NULL);
	uint32_t id = wire_stream(&w);
	static const uint8_t zeros[LIMIT_LINK_WINDOW];
	for (int i = 0; i < 20; i++) {
		while (link_stream_write(w.end[LINK_CLIENT], id, zeros, sizeof(zeros)) > 0)
			;
		long_way(&w, id);
	}
	assert_true(link_stream_room(w.end[LINK_CLIENT], id) > LIMIT_LINK_WINDOW / 2);
	wire_free(&w);
}

/* A writer that has less to say than it may leaves the window as it is. */
static void test_window_stays_for_a_slow_writer(void **state)
{
	(void)state;
	struct wire w;
	wire_up(&w, NULL);
	uint32_t id = wire_stream(&w);
	static const uint8_t zeros[LIMIT_LINK_INITIAL_WINDOW];
	for (int i = 0; i < 50; i++) {
		link_stream_write(w.end[LINK_CLIENT], id, zeros, LIMIT_LINK_INITIAL_WINDOW / 2 + 1000 + (size_t)i);
		long_way(&w, id);
	}
	assert_true(link_stream_room(w.end[LINK_CLIENT], id) <= LIMIT_LINK_INITIAL_WINDOW);
	wire_free(&w);
}

static void test_window_stays_for_a_slow_reader(void **state)
{
	(void)state;
	struct wire w;
	wire_up(&w, NULL);
	uint32_t id = wire_stream(&w);
	static const uint8_t zeros[LIMIT_LINK_WINDOW];
	for (int i = 0; i < 50; i++) {
		link_stream_write(w.end[LINK_CLIENT], id, zeros, sizeof(zeros));
		wire_run(&w);
		link_stream_consume(w.end[LINK_TARGET], id, 30000);
		wire_run(&w);
	}
	struct link_stats stats;
	link_get_stats(w.end[LINK_TARGET], &stats);
	assert_true(stats.buffered < LIMIT_LINK_INITIAL_WINDOW + 2 * 65536);
	wire_free(&w);
}

/* Stuck bulk streams use the session window up; another stream still gets its initial window. */
static void test_stuck_streams_do_not_silence_others(void **state)
{
	(void)state;
	struct link_config limits = {
		.role = LINK_CLIENT, .initial_window = 1000, .window = 100000, .session_window = 3000
	};
	struct wire w;
	wire_up(&w, &limits);
	uint32_t stuck[4];
	static const uint8_t zeros[100000];
	for (int i = 0; i < 4; i++)
		stuck[i] = wire_stream(&w);
	uint32_t shell = wire_stream(&w);
	for (int i = 0; i < 4; i++)
		assert_int_equal(link_stream_write(w.end[LINK_CLIENT], stuck[i], zeros, sizeof(zeros)), 1000);
	wire_run(&w);
	wire_write(&w, LINK_CLIENT, shell, "ls\n");
	wire_run(&w);
	assert_string_equal(wire_read(&w, LINK_TARGET, shell), "ls\n");
	assert_int_equal(link_stream_room(w.end[LINK_CLIENT], shell), 997);
	assert_true(w.end[LINK_CLIENT]->retained_full);
	wire_free(&w);
}

static void test_keystroke_passes_bulk(void **state)
{
	(void)state;
	struct wire w;
	wire_up(&w, NULL);
	uint32_t bulk = wire_stream(&w), shell = wire_stream(&w);
	static const uint8_t zeros[200000];
	static uint8_t bytes[16384];
	assert_int_equal(link_stream_write(w.end[LINK_CLIENT], bulk, zeros, sizeof(zeros)), sizeof(zeros));
	size_t n = link_output(w.end[LINK_CLIENT], bytes, sizeof(bytes), w.now);
	assert_int_equal(link_input(w.end[LINK_TARGET], bytes, n, w.now, NULL), 0);
	wire_write(&w, LINK_CLIENT, shell, "x");
	n = link_output(w.end[LINK_CLIENT], bytes, 200, w.now); /* little room: what is urgent */
	assert_int_equal(link_input(w.end[LINK_TARGET], bytes, n, w.now, NULL), 0);
	assert_string_equal(wire_read(&w, LINK_TARGET, shell), "x");
	wire_free(&w);
}

/* A stream that always has little to say must not hold bulk up for ever. */
static void test_bulk_is_not_starved(void **state)
{
	(void)state;
	struct wire w;
	wire_up(&w, NULL);
	uint32_t bulk = wire_stream(&w), chatty = wire_stream(&w);
	static const uint8_t zeros[100000];
	static uint8_t bytes[65536];
	link_stream_write(w.end[LINK_CLIENT], bulk, zeros, sizeof(zeros));
	const void *data;
	for (int i = 0; i < 40; i++) {
		link_stream_write(w.end[LINK_CLIENT], chatty, zeros, 2000);
		size_t n = link_output(w.end[LINK_CLIENT], bytes, 2100, w.now);
		assert_int_equal(link_input(w.end[LINK_TARGET], bytes, n, w.now, NULL), 0);
	}
	assert_true(link_stream_peek(w.end[LINK_TARGET], bulk, &data) > 0);
	wire_free(&w);
}

static void test_bulk_streams_take_turns(void **state)
{
	(void)state;
	struct wire w;
	wire_up(&w, NULL);
	uint32_t id[3];
	static const uint8_t zeros[200000];
	static uint8_t bytes[3 * 16384 + 100];
	for (int i = 0; i < 3; i++)
		id[i] = wire_stream(&w);
	for (int i = 0; i < 3; i++)
		link_stream_write(w.end[LINK_CLIENT], id[i], zeros, sizeof(zeros));
	size_t n = link_output(w.end[LINK_CLIENT], bytes, sizeof(bytes), w.now);
	assert_int_equal(link_input(w.end[LINK_TARGET], bytes, n, w.now, NULL), 0);
	for (int i = 0; i < 3; i++) {
		const void *data;
		size_t got = link_stream_peek(w.end[LINK_TARGET], id[i], &data);
		assert_true(got > 16000 && got <= 16384);
	}
	wire_free(&w);
}

/* The ACK of a keystroke waits for something to ride with, but not long. */
static void test_ack_of_little_waits(void **state)
{
	(void)state;
	struct wire w;
	wire_up(&w, NULL);
	uint32_t id = wire_stream(&w);
	wire_write(&w, LINK_CLIENT, id, "x");
	wire_run(&w);
	wire_read(&w, LINK_TARGET, id);
	assert_false(link_has_output(w.end[LINK_TARGET]));
	assert_int_equal(link_deadline(w.end[LINK_TARGET]), w.now + LINK_ACK_DELAY_MS);
	w.now += LINK_ACK_DELAY_MS;
	link_tick(w.end[LINK_TARGET], w.now);
	assert_true(link_has_output(w.end[LINK_TARGET]));
	wire_run(&w);
	assert_int_equal(w.end[LINK_CLIENT]->retained, 0);
	wire_free(&w);
}

static void test_limits_of_opening(void **state)
{
	(void)state;
	struct link_config limits = { .role = LINK_CLIENT, .max_streams = 2 };
	struct wire w;
	wire_up(&w, &limits);
	uint32_t id;
	struct err e;
	wire_stream(&w);
	wire_stream(&w);
	struct link_dest dest = { .kind = LINK_KIND_SSH };
	assert_int_equal(link_stream_open(w.end[LINK_CLIENT], &dest, &id, &e), ERR_LIMIT);
	dest = (struct link_dest){ .kind = LINK_KIND_TCP, .host = "a b", .port = 1 };
	assert_int_equal(link_stream_open(w.end[LINK_CLIENT], &dest, &id, &e), ERR_INVALID);
	wire_free(&w);
}

static void test_calls_for_unknown_streams_do_nothing(void **state)
{
	(void)state;
	struct wire w;
	wire_up(&w, NULL);
	const void *data;
	uint64_t in, out;
	struct link *l = w.end[LINK_CLIENT];
	assert_int_equal(link_stream_write(l, 77, "x", 1), 0);
	assert_int_equal(link_stream_room(l, 77), 0);
	assert_int_equal(link_stream_peek(l, 77, &data), 0);
	assert_int_equal(link_stream_accept(l, 77), ERR_NOT_FOUND);
	assert_int_equal(link_stream_refuse(l, 77, 1, NULL), ERR_NOT_FOUND);
	assert_int_equal(link_stream_bytes(l, 77, &in, &out), ERR_NOT_FOUND);
	link_stream_consume(l, 77, 5);
	link_stream_finish(l, 77);
	link_stream_reset(l, 77, 1, "x");
	link_stream_eof_done(l, 77);
	link_stream_fail(l, 77, 1, "x");
	wire_run(&w);
	wire_expect_none(&w, LINK_TARGET);
	wire_free(&w);
}

static void test_bad_configuration(void **state)
{
	(void)state;
	struct link *l = NULL;
	struct err e;
	struct link_config c = { .role = LINK_CLIENT, .key = wire_keys()->key[0], .max_streams = 257 };
	assert_int_equal(link_new(&c, &l, &e), ERR_INVALID);
	assert_string_equal(e.text, "link max_streams is 257, must be 1 to 256");
	c = (struct link_config){ .role = LINK_CLIENT };
	assert_int_equal(link_new(&c, &l, &e), ERR_INVALID);
	EVP_PKEY *other = EVP_EC_gen("P-384");
	c.key = other;
	assert_int_equal(link_new(&c, &l, &e), ERR_INVALID);
	EVP_PKEY_free(other);
	assert_null(l);
	link_free(&l);
}

static void test_a_window_is_never_below_its_beginning(void **state)
{
	(void)state;
	struct link *l = NULL;
	struct err e;
	const struct link_config c = { .role = LINK_CLIENT, .key = wire_keys()->key[0], .window = 2000 };
	assert_int_equal(link_new(&c, &l, &e), 0);
	assert_int_equal(l->config.initial_window, LIMIT_LINK_INITIAL_WINDOW);
	assert_int_equal(l->config.window, LIMIT_LINK_INITIAL_WINDOW);
	link_free(&l);
}

/* As if so much had gone through it before, both ways. */
static void shift_offsets(struct link *link, uint32_t id, uint64_t by)
{
	struct stream *s = stream_find(link, id);
	uint64_t *offsets[] = { &s->out.start, &s->out.end, &s->sent,   &s->sent_max,       &s->peer_credit,
				&s->in.start,  &s->in.end,  &s->credit, &s->told_delivered, &s->told_credit };
	for (size_t i = 0; i < sizeof(offsets) / sizeof(*offsets); i++)
		*offsets[i] += by;
}

/* Bytes both ways across that offset, with a cut in the middle of a record. */
static void cross(uint64_t offset)
{
	static uint8_t sent[100000], bytes[4096];
	struct wire w;
	wire_up(&w, &(struct link_config){ .initial_window = 4000, .window = 9000 });
	uint32_t id = wire_stream(&w);
	for (int i = 0; i < 2; i++)
		shift_offsets(w.end[i], id, offset - sizeof(sent) / 2);
	for (size_t i = 0; i < sizeof(sent); i++)
		sent[i] = (uint8_t)(i * 13 + (i >> 8));
	size_t out[2] = { 0 }, in[2] = { 0 };
	for (unsigned round = 0; in[0] < sizeof(sent) || in[1] < sizeof(sent); round++) {
		assert_true(round < 10000);
		for (int i = 0; i < 2; i++) {
			out[i] += link_stream_write(w.end[i], id, sent + out[i], sizeof(sent) - out[i]);
			size_t n = link_output(w.end[i], bytes, sizeof(bytes), w.now);
			assert_int_equal(link_input(w.end[!i], bytes, round % 7 ? n : n / 2, w.now, NULL), 0);
			const void *data;
			while ((n = link_stream_peek(w.end[i], id, &data)) > 0) {
				assert_memory_equal(data, sent + in[i], n);
				in[i] += n;
				link_stream_consume(w.end[i], id, n);
			}
			assert_null(wire_check_books(w.end[i]));
		}
		w.now += 30;
		link_tick(w.end[0], w.now);
		link_tick(w.end[1], w.now);
		if (round % 7 == 0) {
			wire_start(&w);
			wire_run(&w);
		}
	}
	wire_free(&w);
}

static void test_large_offsets(void **state)
{
	(void)state;
	cross(1ull << 31);
	cross(1ull << 32);
	cross(1ull << 63);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bytes_both_ways),
		cmocka_unit_test(test_destination_arrives),
		cmocka_unit_test(test_half_close),
		cmocka_unit_test(test_early_data_waits_for_accept),
		cmocka_unit_test(test_open_rides_with_the_handshake),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_reset_drops_what_was_not_read),
		cmocka_unit_test(test_streams_outlive_legs),
		cmocka_unit_test(test_opened_while_down),
		cmocka_unit_test(test_bye),
		cmocka_unit_test(test_bye_while_down_is_silent),
		cmocka_unit_test(test_writer_stops_at_the_credit),
		cmocka_unit_test(test_window_stays_small_on_a_short_way),
		cmocka_unit_test(test_room_that_is_not_used),
		cmocka_unit_test(test_window_grows_on_a_long_way),
		cmocka_unit_test(test_window_stays_for_a_slow_writer),
		cmocka_unit_test(test_window_stays_for_a_slow_reader),
		cmocka_unit_test(test_stuck_streams_do_not_silence_others),
		cmocka_unit_test(test_keystroke_passes_bulk),
		cmocka_unit_test(test_bulk_is_not_starved),
		cmocka_unit_test(test_bulk_streams_take_turns),
		cmocka_unit_test(test_ack_of_little_waits),
		cmocka_unit_test(test_limits_of_opening),
		cmocka_unit_test(test_calls_for_unknown_streams_do_nothing),
		cmocka_unit_test(test_bad_configuration),
		cmocka_unit_test(test_a_window_is_never_below_its_beginning),
		cmocka_unit_test(test_large_offsets),
	};
	return RUN_CASES(tests);
}
