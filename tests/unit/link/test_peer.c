/* One link against a peer that is written by hand, frame by frame: what breaks the protocol ends the session with code
 * 7 and says why, at both ends; nothing else does. */
#include "peer.h"
#include "support/case.h"
#include "wire.h"

/* ---- order of an epoch ---- */

static void data_first(struct peer *p)
{
	send_data(p, 1, 0, 1);
}
static void resume_first(struct peer *p)
{
	send_resume(p, NULL, 0, false);
}
static void hello_twice(struct peer *p)
{
	send_hello(p);
	send_hello(p);
}
static void open_before_resume(struct peer *p)
{
	send_hello(p);
	send_open(p, 1);
}
static void ping_between_resumes(struct peer *p)
{
	send_hello(p);
	send_resume(p, NULL, 0, true);
	send_number(p, FRAME_PING, 0, 1);
}
static void resume_of_own_unknown(struct peer *p)
{
	send_hello(p);
	send_resume(p, &(struct frame_entry){ .stream = 2 }, 1, false);
}
static void bad_entry(struct peer *p)
{
	send_hello(p);
	send_resume(p, &(struct frame_entry){ .stream = 1, .state = 0x80 }, 1, false);
}
static void unknown_type(struct peer *p)
{
	peer_feed(p, "\x63\0\0\0\0\0\0\0\0\0\0\0", 12);
}

struct bad {
	const char *name;
	void (*act)(struct peer *p);
	const char *text;
};

static void test_order_of_an_epoch(void **state)
{
	(void)state;
	static const struct bad cases[] = {
		{ "data first", data_first, "DATA at the wrong time" },
		{ "resume first", resume_first, "RESUME at the wrong time" },
		{ "hello twice", hello_twice, "HELLO at the wrong time" },
		{ "open before resume", open_before_resume, "OPEN at the wrong time" },
		{ "ping between", ping_between_resumes, "PING at the wrong time" },
		{ "own unknown", resume_of_own_unknown, "stream 2, which was never opened" },
		{ "bad entry", bad_entry, "state 0x80" },
		{ "unknown type", unknown_type, "type 99 is unknown" },
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct peer p = peer_new(LINK_TARGET);
		peer_start(&p);
		cases[i].act(&p);
		expect_over(&p, cases[i].name, cases[i].text);
		peer_free(&p);
	}
}

/* ---- frames; the link under test is the target, the peer has opened 1 and it was accepted ---- */

static void hello_again(struct peer *p)
{
	send_hello(p);
}
static void resume_again(struct peer *p)
{
	send_resume(p, NULL, 0, false);
}
static void open_same(struct peer *p)
{
	send_open(p, 1);
}
static void open_lower(struct peer *p)
{
	send_open(p, 7);
	send_open(p, 5);
}
static void open_ours(struct peer *p)
{
	send_open(p, 2);
}
static void data_unopened(struct peer *p)
{
	send_data(p, 3, 0, 1);
}
static void data_unopened_ours(struct peer *p)
{
	send_data(p, 2, 0, 1);
}
static void reset_unopened(struct peer *p)
{
	send_reason(p, FRAME_RESET, 99, 1);
}
static void data_gap(struct peer *p)
{
	send_data(p, 1, 1, 1);
}
static void data_again(struct peer *p)
{
	send_data(p, 1, 0, 10);
	send_data(p, 1, 0, 10);
}
static void data_over_credit(struct peer *p)
{
	send_data(p, 1, 0, 1000);
	send_data(p, 1, 1000, 1);
}
static void data_far_over_credit(struct peer *p)
{
	send_data(p, 1, 0, 65000);
}
static void data_after_fin(struct peer *p)
{
	send_number(p, FRAME_FIN, 1, 0);
	send_data(p, 1, 0, 1);
}
static void fin_gap(struct peer *p)
{
	send_number(p, FRAME_FIN, 1, 7);
}
static void fin_twice(struct peer *p)
{
	send_number(p, FRAME_FIN, 1, 0);
	send_number(p, FRAME_FIN, 1, 0);
}
static void ack_too_much(struct peer *p)
{
	send_ack(p, 1, 101, 1000, false);
}
static void ack_back(struct peer *p)
{
	send_ack(p, 1, 50, 1000, false);
	send_ack(p, 1, 49, 1000, false);
}
static void credit_back(struct peer *p)
{
	send_ack(p, 1, 50, 1200, false);
	send_ack(p, 1, 60, 1199, false);
}
static void ack_no_fin(struct peer *p)
{
	send_ack(p, 1, 100, 1000, true);
}
static void opened_by_opener(struct peer *p)
{
	send_opened(p, 1);
}
static void refused_by_opener(struct peer *p)
{
	send_reason(p, FRAME_REFUSED, 1, 1);
}
static void pong_alone(struct peer *p)
{
	send_number(p, FRAME_PONG, 0, 0);
}
static void bad_text(struct peer *p)
{
	uint8_t bytes[FRAME_CONTROL_MAX];
	size_t n = frame_write_reason(bytes, FRAME_RESET, 1, 1, "abc");
	bytes[n - 1] = 0xff;
	peer_feed(p, bytes, n);
}
static void ping_again(struct peer *p)
{
	send_number(p, FRAME_PING, 0, 5);
	send_number(p, FRAME_PING, 0, 5);
}
static void ping_zero(struct peer *p)
{
	send_number(p, FRAME_PING, 0, 0);
}
static void pong_twice(struct peer *p)
{
	p->now += 10000;
	link_tick(p->link, p->now);
	peer_hear(p);
	send_number(p, FRAME_PONG, 0, p->link->ping_number);
	send_number(p, FRAME_PONG, 0, p->link->ping_number);
}
static void pong_ahead(struct peer *p)
{
	p->now += 10000;
	link_tick(p->link, p->now);
	peer_hear(p);
	send_number(p, FRAME_PONG, 0, p->link->ping_number + 1);
}
static void open_flood(struct peer *p)
{
	for (uint32_t id = 3; id < 10000 && p->rc == 0; id += 2)
		send_open(p, id);
}

static void test_frames(void **state)
{
	(void)state;
	static const struct bad cases[] = {
		{ "HELLO again", hello_again, "HELLO at the wrong time" },
		{ "RESUME again", resume_again, "RESUME at the wrong time" },
		{ "same id", open_same, "OPEN with id 1 after 1" },
		{ "lower id", open_lower, "OPEN with id 5 after 7" },
		{ "our id", open_ours, "this end's to give" },
		{ "unopened", data_unopened, "stream 3, which was never opened" },
		{ "unopened, ours", data_unopened_ours, "stream 2, which was never opened" },
		{ "reset of unopened", reset_unopened, "stream 99, which was never opened" },
		{ "gap", data_gap, "DATA for stream 1 at 1, expected 0" },
		{ "again", data_again, "DATA for stream 1 at 0, expected 10" },
		{ "over credit", data_over_credit, "over its credit" },
		{ "far over credit", data_far_over_credit, "over its credit" },
		{ "after FIN", data_after_fin, "after FIN" },
		{ "FIN too far", fin_gap, "FIN for stream 1 at 7, expected 0" },
		{ "FIN twice", fin_twice, "after FIN" },
		{ "more than sent", ack_too_much, "more was delivered than sent" },
		{ "ACK back", ack_back, "delivered goes back" },
		{ "credit back", credit_back, "credit goes back" },
		{ "FIN not sent", ack_no_fin, "FIN delivered that was not sent" },
		{ "OPENED by opener", opened_by_opener, "which the peer opened" },
		{ "REFUSED by opener", refused_by_opener, "which the peer opened" },
		{ "PONG alone", pong_alone, "PONG without its PING" },
		{ "bad text", bad_text, "not UTF-8" },
		{ "PONG twice", pong_twice, "PONG without its PING" },
		{ "PONG ahead", pong_ahead, "PONG without its PING" },
		{ "PING again", ping_again, "PING 5 after 5" },
		{ "PING 0", ping_zero, "PING 0 after 0" },
		{ "OPEN flood", open_flood, "not confirmed" },
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct peer p = peer_up(LINK_TARGET);
		send_open(&p, 1);
		assert_int_equal(link_stream_accept(p.link, 1), 0);
		assert_int_equal(link_stream_write(p.link, 1, (const uint8_t[100]){ 0 }, 100), 100);
		peer_hear(&p);
		buf_clear(&p.heard);
		cases[i].act(&p);
		expect_over(&p, cases[i].name, cases[i].text);
		peer_free(&p);
	}
}

/* ---- frames for a stream that the link opened ---- */

static void data_before_opened(struct peer *p)
{
	send_data(p, 1, 0, 1);
}
static void fin_before_opened(struct peer *p)
{
	send_number(p, FRAME_FIN, 1, 0);
}
static void opened_twice(struct peer *p)
{
	send_opened(p, 1);
	send_opened(p, 1);
}
static void refused_after_opened(struct peer *p)
{
	send_opened(p, 1);
	send_reason(p, FRAME_REFUSED, 1, 1);
}

static void test_answers(void **state)
{
	(void)state;
	static const struct bad cases[] = {
		{ "DATA first", data_before_opened, "before OPENED" },
		{ "FIN first", fin_before_opened, "before OPENED" },
		{ "OPENED twice", opened_twice, "OPENED twice" },
		{ "REFUSED late", refused_after_opened, "after OPENED" },
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct peer p = peer_up(LINK_CLIENT);
		open_at_link(&p);
		cases[i].act(&p);
		expect_over(&p, cases[i].name, cases[i].text);
		peer_free(&p);
	}
}

/* ---- RESUME of a second epoch; the link has sent 100 bytes and a FIN, of which 40 are delivered, credit 1040 ---- */

static void test_bad_resumes(void **state)
{
	(void)state;
	static const struct {
		struct frame_entry entry;
		const char *text;
	} cases[] = {
		{ { 1, FRAME_STATE_OPENED, 101, 40, 1040 }, "received more than was sent" },
		{ { 1, FRAME_STATE_OPENED, 50, 39, 1040 }, "delivered goes back" },
		{ { 1, FRAME_STATE_OPENED, 50, 40, 1039 }, "credit goes back" },
		{ { 1, FRAME_STATE_OPENED | FRAME_STATE_FIN, 99, 40, 1040 }, "FIN received that was not sent" },
		{ { 1, FRAME_STATE_OPENED | FRAME_STATE_FIN | FRAME_STATE_FIN_DONE, 100, 99, 1040 },
		  "FIN delivered before the bytes" },
		{ { 1, 0, 50, 40, 1040 }, "not the state that OPENED has made" },
		{ { 1, FRAME_STATE_OPENED | FRAME_STATE_DONE, 100, 100, 1040 }, "done at the peer, but not here" },
		{ { 3, FRAME_STATE_OPENED, 0, 0, 1000 }, "stream 3, which was never opened" },
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct peer p = peer_up(LINK_CLIENT);
		open_at_link(&p);
		send_opened(&p, 1);
		assert_int_equal(link_stream_write(p.link, 1, (const uint8_t[100]){ 0 }, 100), 100);
		link_stream_finish(p.link, 1);
		peer_hear(&p);
		send_ack(&p, 1, 40, 1040, false);
		peer_start(&p);
		send_hello(&p);
		send_resume(&p, &cases[i].entry, 1, false);
		expect_over(&p, cases[i].text, cases[i].text);
		peer_free(&p);
	}
}

/* All of it is delivered, FIN included, and the peer has said so. */
static void test_a_delivered_fin_stays_delivered(void **state)
{
	(void)state;
	static const struct frame_entry entries[] = {
		{ 1, FRAME_STATE_OPENED | FRAME_STATE_FIN | FRAME_STATE_FIN_DONE, 100, 100, 1100 },
		{ 1, FRAME_STATE_OPENED | FRAME_STATE_FIN, 100, 100, 1100 },
	};
	for (size_t i = 0; i < sizeof(entries) / sizeof(*entries); i++) {
		struct peer p = peer_up(LINK_CLIENT);
		open_at_link(&p);
		send_opened(&p, 1);
		assert_int_equal(link_stream_write(p.link, 1, (const uint8_t[100]){ 0 }, 100), 100);
		link_stream_finish(p.link, 1);
		peer_hear(&p);
		send_ack(&p, 1, 100, 1100, true);
		peer_start(&p);
		send_hello(&p);
		send_resume(&p, &entries[i], 1, false);
		if (i == 0)
			assert_int_equal(p.rc, 0);
		else
			expect_over(&p, "FIN goes back", "delivered FIN goes back");
		peer_free(&p);
	}
}

static void test_resume_lists_a_stream_twice(void **state)
{
	(void)state;
	struct peer p = peer_up(LINK_CLIENT);
	open_at_link(&p);
	send_opened(&p, 1);
	peer_start(&p);
	send_hello(&p);
	struct frame_entry entry = { 1, FRAME_STATE_OPENED, 0, 0, 1000 };
	send_resume(&p, &entry, 1, true);
	assert_int_equal(p.rc, 0);
	send_resume(&p, &entry, 1, false);
	expect_over(&p, "twice", "RESUME lists stream 1 twice");
	peer_free(&p);
}

static void test_second_hello_differs(void **state)
{
	(void)state;
	struct peer p = peer_up(LINK_CLIENT);
	peer_start(&p);
	uint8_t bytes[FRAME_CONTROL_MAX];
	peer_feed(&p, bytes, frame_write_hello(bytes, &(struct frame_hello){ 4, 999 }));
	expect_over(&p, "hello", "HELLO differs");
	peer_free(&p);
}

/* ---- what is legal, though rare ---- */

static void test_resume_in_several_frames(void **state)
{
	(void)state;
	struct peer p = peer_up(LINK_CLIENT);
	for (int i = 0; i < 3; i++)
		send_opened(&p, open_at_link(&p));
	peer_start(&p);
	send_hello(&p);
	for (uint32_t i = 0; i < 3; i++) {
		struct frame_entry entry = { 1 + 2 * i, FRAME_STATE_OPENED, 0, 0, 1000 };
		assert_false(link_is_up(p.link));
		send_resume(&p, &entry, 1, i < 2);
	}
	assert_true(link_is_up(p.link));
	expect_no_frame(&p);
	peer_free(&p);
}

static void test_established_stream_that_the_peer_forgot(void **state)
{
	(void)state;
	struct peer p = peer_up(LINK_CLIENT);
	send_opened(&p, open_at_link(&p));
	uint32_t asked = open_at_link(&p); /* no OPENED: OPEN is repeated */
	peer_start(&p);
	send_hello(&p);
	send_resume(&p, NULL, 0, false);
	expect_frame(&p, FRAME_OPEN, asked);
	expect_no_frame(&p);
	struct link_event ev;
	bool closed = false;
	while (link_next_event(p.link, &ev))
		if (ev.type == LINK_EVENT_CLOSED) {
			assert_int_equal(ev.stream, 1);
			assert_int_equal(ev.code, LINK_UNKNOWN_STREAM);
			closed = true;
		}
	assert_true(closed);
	assert_int_equal(p.link->n_streams, 1);
	peer_free(&p);
}

/* It cannot answer an OPEN that it forgot and that is not repeated yet. */
static void test_opened_before_open_is_repeated(void **state)
{
	(void)state;
	struct peer p = peer_up(LINK_CLIENT);
	uint32_t id = open_at_link(&p);
	peer_start(&p);
	send_hello(&p);
	send_resume(&p, NULL, 0, false);
	send_opened(&p, id);
	expect_over(&p, "forgotten", "OPENED for stream 1, which the peer does not know");
	peer_free(&p);
}

static void test_frames_for_a_done_stream_are_ignored(void **state)
{
	(void)state;
	struct peer p = peer_up(LINK_TARGET);
	send_open(&p, 1);
	assert_int_equal(link_stream_accept(p.link, 1), 0);
	link_stream_reset(p.link, 1, LINK_IO, "gone");
	expect_frame(&p, FRAME_RESET, 1);
	send_data(&p, 1, 0, 60000); /* not even its numbers matter */
	send_ack(&p, 1, 5, 5, true);
	send_number(&p, FRAME_FIN, 1, 9);
	if (p.rc != 0)
		fail_msg("%s", p.e.text);
	send_reason(&p, FRAME_RESET, 1, 2); /* the peer is done as well: nothing to remember */
	assert_int_equal(p.rc, 0);
	assert_int_equal(p.link->n_streams, 0);
	send_data(&p, 1, 0, 10);
	assert_int_equal(p.rc, 0);
	expect_no_frame(&p);
	peer_free(&p);
}

static void test_reset_in_the_middle_of_data(void **state)
{
	(void)state;
	struct peer p = peer_up(LINK_TARGET);
	send_open(&p, 1);
	assert_int_equal(link_stream_accept(p.link, 1), 0);
	uint8_t bytes[FRAME_DATA_HEAD + 500];
	memset(bytes, 'x', sizeof(bytes));
	frame_write_data_head(bytes, 1, 0, 500);
	peer_feed_ok(&p, bytes, 100);
	link_stream_reset(p.link, 1, LINK_IO, NULL);
	peer_feed_ok(&p, bytes + 100, sizeof(bytes) - 100);
	send_number(&p, FRAME_PING, 0, 77);
	peer_hear(&p);
	const uint8_t *body = expect_frame(&p, FRAME_PONG, 0);
	assert_int_equal(frame_read_u64(body), 77);
	struct link_stats stats;
	link_get_stats(p.link, &stats);
	assert_int_equal(stats.buffered, 0);
	peer_free(&p);
}

/* However many there are, only the newest is remembered. */
static void test_pings_that_were_not_answered_yet(void **state)
{
	(void)state;
	struct peer p = peer_up(LINK_TARGET);
	for (unsigned i = 1; i <= 5000; i++)
		send_number(&p, FRAME_PING, 0, i);
	assert_int_equal(p.rc, 0);
	assert_int_equal(frame_read_u64(expect_frame(&p, FRAME_PONG, 0)), 5000);
	expect_no_frame(&p);
	peer_start(&p); /* numbers are the epoch's */
	send_hello(&p);
	send_resume(&p, NULL, 0, false);
	send_number(&p, FRAME_PING, 0, 1);
	assert_int_equal(frame_read_u64(expect_frame(&p, FRAME_PONG, 0)), 1);
	peer_free(&p);
}

static void test_too_many_streams_are_refused(void **state)
{
	(void)state;
	struct peer p = peer_up(LINK_TARGET);
	for (uint32_t id = 1; id <= 9; id += 2)
		send_open(&p, id);
	const uint8_t *body = expect_frame(&p, FRAME_REFUSED, 9);
	assert_int_equal(body[1], LINK_LIMIT);
	expect_no_frame(&p);
	peer_free(&p);
}

static void test_open_and_reset_leave_nothing(void **state)
{
	(void)state;
	struct peer p = peer_up(LINK_TARGET);
	for (uint32_t id = 1; id < 20001; id += 2) {
		send_open(&p, id);
		send_reason(&p, FRAME_RESET, id, 1);
	}
	assert_int_equal(p.rc, 0);
	assert_int_equal(p.link->n_streams, 0);
	struct link_event ev;
	assert_true(link_next_event(p.link, &ev));
	assert_int_equal(ev.type, LINK_EVENT_UP);
	assert_false(link_next_event(p.link, &ev));
	peer_free(&p);
}

/* Each opener has a table of its own. */
static void test_own_tombstones_are_not_the_peers_fault(void **state)
{
	(void)state;
	struct peer p = peer_up(LINK_CLIENT);
	uint32_t id;
	struct err e;
	int rc;
	unsigned n = 0;
	while ((rc = link_stream_open(p.link, &(struct link_dest){ .kind = LINK_KIND_SSH }, &id, &e)) == 0) {
		peer_hear(&p);
		buf_clear(&p.heard);
		link_stream_reset(p.link, id, LINK_IO, NULL);
		n++;
	}
	assert_int_equal(rc, ERR_LIMIT);
	assert_int_equal(n, LIMIT_LINK_TABLE);
	for (id = 2; id <= 8; id += 2)
		send_open(&p, id);
	if (p.rc != 0)
		fail_msg("%s", p.e.text);
	assert_int_equal(p.link->n_live, 4);
	while (p.link->ping_answered < p.link->ping_number) { /* each PONG makes way for the next PING */
		send_number(&p, FRAME_PONG, 0, p.link->ping_number);
		peer_hear(&p);
	}
	assert_int_equal(p.link->n_streams, 4);
	peer_free(&p);
}

static uint32_t chance(uint32_t *x, uint32_t n)
{
	*x = *x * 1664525 + 1013904223;
	return (*x >> 8) % n;
}

/* RESUMEs that list any streams in any state with any numbers, often possible ones. */
static void random_resume(struct peer *p, uint32_t *x)
{
	static const uint64_t numbers[] = {
		0, 1, 1000, 1040, 2000, UINT64_MAX, UINT64_MAX - 1, 1ull << 63, 1ull << 32
	};
	struct frame_entry entries[8];
	uint32_t n = chance(x, 8);
	for (uint32_t i = 0; i < n; i++) {
		struct frame_entry *in = &entries[i];
		const struct stream *s = NULL;
		*in = (struct frame_entry){ 1 + chance(x, 12), (uint8_t)chance(x, 32), 0, 0, 0 };
		s = stream_find(p->link, in->stream);
		in->delivered = s && chance(x, 8) ? s->out.start : numbers[chance(x, 9)];
		in->received = s && chance(x, 8) ? s->sent_max : numbers[chance(x, 9)];
		in->credit = s && chance(x, 8) ? s->peer_credit + chance(x, 2000) : numbers[chance(x, 9)];
	}
	send_resume(p, entries, n, false);
}

static void test_random_resumes(void **state)
{
	(void)state;
	uint32_t x = 4711;
	unsigned up = 0;
	for (int run = 0; run < 20000; run++) {
		struct peer p = peer_up(run % 2 ? LINK_CLIENT : LINK_TARGET);
		for (uint32_t i = 0; i < 3; i++) {
			uint32_t id;
			link_stream_open(p.link, &(struct link_dest){ .kind = LINK_KIND_SSH }, &id, NULL);
			link_stream_write(p.link, id, "some bytes", 10);
			peer_hear(&p);
			if (chance(&x, 2))
				send_opened(&p, id);
			if (chance(&x, 3) == 0)
				link_stream_finish(p.link, id);
			if (chance(&x, 6) == 0)
				link_stream_reset(p.link, id, LINK_IO, NULL);
		}
		peer_hear(&p);
		for (int epoch = 0; epoch < 3 && !p.link->over; epoch++) {
			peer_start(&p);
			send_hello(&p);
			random_resume(&p, &x);
			const char *bad = wire_check_books(p.link);
			if (bad)
				fail_msg("run %d: %s do not add up", run, bad);
			assert_true(p.rc == 0 ? link_is_up(p.link) : p.rc == ERR_PROTOCOL && p.link->over);
			up += p.rc == 0;
			peer_hear(&p);
			buf_clear(&p.heard);
		}
		peer_free(&p);
	}
	assert_true(up > 1000);
}

/* Random bytes, and legal frames with a flipped bit: over with code 7 at most, or bytes that wait for more. */
static void test_garbage(void **state)
{
	(void)state;
	uint32_t x = 12345;
	for (int run = 0; run < 5000; run++) {
		struct peer p = peer_up(LINK_TARGET);
		send_open(&p, 1);
		link_stream_accept(p.link, 1);
		for (int i = 0; i < 20 && p.rc == 0; i++) {
			uint8_t bytes[64];
			size_t n = frame_write_ack(bytes, 1, 0, 1000, false);
			for (size_t at = 0; at < sizeof(bytes); at++) {
				x = x * 1664525 + 1013904223;
				if (run % 2)
					bytes[at] = (uint8_t)(x >> 24);
			}
			bytes[(x >> 8) % n] ^= (uint8_t)(1u << (x >> 29));
			if (run % 3 == 0)
				bytes[0] = (uint8_t)(1 + (x >> 16) % 12);
			peer_feed(&p, bytes, run % 2 ? sizeof(bytes) : n);
		}
		assert_true(p.rc == 0 || p.rc == ERR_PROTOCOL || p.rc == ERR_CLOSED);
		peer_hear(&p);
		peer_free(&p);
	}
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_order_of_an_epoch),
		cmocka_unit_test(test_frames),
		cmocka_unit_test(test_answers),
		cmocka_unit_test(test_bad_resumes),
		cmocka_unit_test(test_a_delivered_fin_stays_delivered),
		cmocka_unit_test(test_resume_lists_a_stream_twice),
		cmocka_unit_test(test_second_hello_differs),
		cmocka_unit_test(test_resume_in_several_frames),
		cmocka_unit_test(test_established_stream_that_the_peer_forgot),
		cmocka_unit_test(test_opened_before_open_is_repeated),
		cmocka_unit_test(test_frames_for_a_done_stream_are_ignored),
		cmocka_unit_test(test_reset_in_the_middle_of_data),
		cmocka_unit_test(test_pings_that_were_not_answered_yet),
		cmocka_unit_test(test_too_many_streams_are_refused),
		cmocka_unit_test(test_open_and_reset_leave_nothing),
		cmocka_unit_test(test_own_tombstones_are_not_the_peers_fault),
		cmocka_unit_test(test_random_resumes),
		cmocka_unit_test(test_garbage),
	};
	return RUN_CASES(tests);
}
