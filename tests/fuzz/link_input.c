/* A link whose peer is hostile behind an honest handshake: frames as plaintext, with plain_tls.c in the place of TLS.
 *
 * The input is a script of steps, one letter each with one letter an argument, so that seeds can be read; other
 * characters mean nothing. A first 'c' makes the link a client, else it is a target. An id is a digit. A number is
 * '=' what is right here, '+' one more, '-' one less, '0' none, 'M' 2^64-1, 'H' 2^63, or right plus the character.
 *
 *   the peer says  h:n HELLO   r:k(id state n n n) RESUME, R: more follow   o:id OPEN   O:id OPENED   z:id RESET
 *                  Z:id REFUSED   d:id n len DATA   a:id n n fin ACK   f:id n FIN   p:n PING   q:n PONG   b BYE
 *                  x:hex… whatever it likes
 *   the link's end >  opens   w:id len writes   e:id finishes   k:id resets   j:id fails   y:id accepts   u:id refuses
 *                  g:id len consumes   E:id has seen EOF   B ends the session
 *   the world      S new epoch   L leg lost   t:n time passes   l:n the link's output is taken, by n bytes at once
 *
 * Each script runs twice, with frames fed whole and byte by byte: all that can be seen must be the same. */
#include "fuzz.h"
#include "unit/link/wire.h"

#include "link/internal.h"

#include <stdlib.h>
#include <string.h>

#define STEPS_MAX 600u
#define SEEN_MAX (8u << 20)

struct run {
	struct fuzz_input in;
	struct link *link;
	int64_t now;
	size_t piece; /* bytes that the link is fed at once */
	size_t greeted;
	struct buf heard; /* plaintext of this epoch that is not taken apart yet */
	struct buf seen;  /* everything that could be observed */
};

static uint8_t byte_at(uint32_t id, uint64_t offset)
{
	return (uint8_t)(id * 31 + offset * 7 + (offset >> 8) * 13);
}

/* ---- arguments ---- */

static uint32_t take_id(struct run *r)
{
	return fuzz_byte(&r->in) & 15;
}

static uint64_t take_number(struct run *r, uint64_t right)
{
	uint8_t c = fuzz_byte(&r->in);
	switch (c) {
	case '=':
		return right;
	case '+':
		return right + 1;
	case '-':
		return right - 1;
	case '0':
		return 0;
	case 'M':
		return UINT64_MAX;
	case 'H':
		return 1ull << 63;
	default:
		return right + c;
	}
}

static size_t take_length(struct run *r)
{
	static const size_t lengths[] = { 1, 7, 64, 500, 1000, 1001, 2000, 3000 };
	return lengths[fuzz_byte(&r->in) & 7];
}

/* ---- what the link says ---- */

/* Payload must be what was written at that offset, however often it is repeated. */
static void check_data(const struct frame_head *head, const uint8_t *body)
{
	uint64_t offset = frame_read_u64(body);
	for (size_t i = 8; i < head->length; i++)
		FUZZ_CHECK(body[i] == byte_at(head->stream, offset + i - 8));
}

static void take_frames_apart(struct run *r)
{
	struct frame_head head;
	struct err e;
	while (r->heard.len >= FRAME_HEAD) {
		FUZZ_CHECK(frame_read_head(buf_data(&r->heard), &head, &e) == 0);
		if (r->heard.len < FRAME_HEAD + head.length)
			return;
		if (head.type == FRAME_DATA)
			check_data(&head, buf_data(&r->heard) + FRAME_HEAD);
		buf_consume(&r->heard, FRAME_HEAD + head.length);
	}
}

static void hear(struct run *r, size_t at_once)
{
	static uint8_t bytes[65536];
	const size_t greeting = r->link->config.role == LINK_CLIENT ? 2 : 1;
	size_t n;
	while ((n = link_output(r->link, bytes, at_once, r->now)) > 0) {
		FUZZ_CHECK(n <= at_once);
		buf_add(&r->seen, bytes, n);
		size_t skip = n < greeting - r->greeted ? n : greeting - r->greeted;
		r->greeted += skip;
		FUZZ_CHECK(buf_add(&r->heard, bytes + skip, n - skip) == 0);
	}
	if (at_once >= FRAME_CONTROL_MAX)
		FUZZ_CHECK(!link_has_output(r->link) || r->link->epoch == EPOCH_BROKEN);
	take_frames_apart(r);
}

/* ---- what the link is told ---- */

static void check_link(struct run *r)
{
	const struct link *l = r->link;
	const uint64_t most =
		(uint64_t)l->config.session_window + l->config.window + (uint64_t)l->n_live * l->config.initial_window;
	FUZZ_CHECK(!wire_check_books(l));
	FUZZ_CHECK(l->retained <= most && l->promised <= most && l->n_streams <= 2 * LIMIT_LINK_TABLE);
	FUZZ_CHECK(l->held <= 2 * most + l->n_live * 4 * 66 * 1024);
	FUZZ_CHECK(!l->over || l->n_live == 0);
}

static void feed(struct run *r, const uint8_t *bytes, size_t len)
{
	struct err e;
	int rc = 0;
	for (size_t at = 0; at < len && rc == 0; at += r->piece) {
		size_t n = len - at < r->piece ? len - at : r->piece;
		uint8_t *copy = malloc(n);
		memcpy(copy, bytes + at, n);
		rc = link_input(r->link, copy, n, r->now, &e);
		free(copy);
	}
	FUZZ_CHECK(rc == 0 || rc == ERR_PROTOCOL || rc == ERR_CLOSED);
	FUZZ_CHECK(rc == 0 || (e.code == rc && e.text[0]));
	FUZZ_CHECK(rc != ERR_PROTOCOL || r->link->over);
	buf_printf(&r->seen, "[%d]", rc);
}

static void start_epoch(struct run *r)
{
	static const uint8_t handshake[] = "CFS";
	bool is_client = r->link->config.role == LINK_CLIENT;
	if (link_epoch_start(r->link, r->now, NULL) != 0)
		return;
	r->greeted = 0;
	buf_clear(&r->heard);
	feed(r, handshake + (is_client ? 2 : 0), is_client ? 1 : 2);
}

static struct stream *stream_of(struct run *r, uint32_t id)
{
	static struct stream none;
	struct stream *s = stream_find(r->link, id);
	return s ? s : &none;
}

static void say_entries(struct run *r, unsigned flags)
{
	uint8_t bytes[FRAME_HEAD + 20 * FRAME_ENTRY];
	size_t n = fuzz_byte(&r->in) & 15;
	frame_write_head(bytes, FRAME_RESUME, flags, 0, n * FRAME_ENTRY);
	for (size_t i = 0; i < n; i++) {
		struct frame_entry entry = { .stream = take_id(r) };
		const struct stream *s = stream_of(r, entry.stream);
		entry.state = (uint8_t)((fuzz_byte(&r->in) - '0') & 31);
		entry.received = take_number(r, s->sent_max);
		entry.delivered = take_number(r, s->out.start);
		entry.credit = take_number(r, s->peer_credit);
		frame_write_entry(bytes + FRAME_HEAD + i * FRAME_ENTRY, &entry);
	}
	feed(r, bytes, FRAME_HEAD + n * FRAME_ENTRY);
}

static void say_resume(struct run *r)
{
	say_entries(r, 0);
}

static void say_resume_more(struct run *r)
{
	say_entries(r, FRAME_FLAG_MORE);
}

static void say_data(struct run *r)
{
	static uint8_t bytes[FRAME_DATA_HEAD + 65536];
	uint32_t id = take_id(r);
	uint64_t offset = take_number(r, stream_of(r, id)->in.end);
	size_t len = take_length(r);
	frame_write_data_head(bytes, id, offset, len);
	for (size_t i = 0; i < len; i++)
		bytes[FRAME_DATA_HEAD + i] = byte_at(id, offset + i);
	feed(r, bytes, FRAME_DATA_HEAD + len);
}

static void say_ack(struct run *r)
{
	uint8_t bytes[FRAME_CONTROL_MAX];
	uint32_t id = take_id(r);
	const struct stream *s = stream_of(r, id);
	uint64_t delivered = take_number(r, s->sent), credit = take_number(r, s->peer_credit);
	feed(r, bytes, frame_write_ack(bytes, id, delivered, credit, fuzz_byte(&r->in) == '1'));
}

static void say_number(struct run *r, enum frame_type type, uint32_t id, uint64_t right)
{
	uint8_t bytes[FRAME_CONTROL_MAX];
	feed(r, bytes, frame_write_number(bytes, type, id, take_number(r, right)));
}

static void say_fin(struct run *r)
{
	uint32_t id = take_id(r);
	say_number(r, FRAME_FIN, id, stream_of(r, id)->in.end);
}

static void say_ping(struct run *r)
{
	say_number(r, FRAME_PING, 0, r->link->ping_in + 1);
}

static void say_pong(struct run *r)
{
	say_number(r, FRAME_PONG, 0, r->link->ping_number);
}

static void say_reason(struct run *r, enum frame_type type, uint32_t id)
{
	uint8_t bytes[FRAME_CONTROL_MAX];
	feed(r, bytes, frame_write_reason(bytes, type, id, LINK_REFUSED, "because"));
}

static void say_reset(struct run *r)
{
	say_reason(r, FRAME_RESET, take_id(r));
}

static void say_refused(struct run *r)
{
	say_reason(r, FRAME_REFUSED, take_id(r));
}

static void say_bye(struct run *r)
{
	say_reason(r, FRAME_BYE, 0);
}

static void say_hello(struct run *r)
{
	uint8_t bytes[FRAME_CONTROL_MAX];
	struct frame_hello hello = { 4, (uint32_t)take_number(r, 1000) };
	feed(r, bytes, frame_write_hello(bytes, &hello));
}

static void say_open(struct run *r)
{
	static const struct link_dest dest = { .kind = LINK_KIND_TCP, .host = "db", .port = 5432 };
	uint8_t bytes[FRAME_CONTROL_MAX];
	feed(r, bytes, frame_write_open(bytes, take_id(r), &dest));
}

static void say_opened(struct run *r)
{
	uint8_t bytes[FRAME_CONTROL_MAX];
	feed(r, bytes, frame_write_opened(bytes, take_id(r)));
}

static int hex(uint8_t c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static void say_anything(struct run *r)
{
	uint8_t bytes[512];
	size_t n = 0;
	for (; n < sizeof bytes && r->in.left >= 2 && hex(r->in.at[0]) >= 0 && hex(r->in.at[1]) >= 0; n++) {
		int high = hex(fuzz_byte(&r->in));
		bytes[n] = (uint8_t)(high << 4 | hex(fuzz_byte(&r->in)));
	}
	feed(r, bytes, n);
}

/* ---- what the link's own end does ---- */

static void open_here(struct run *r)
{
	struct link_dest dest = { .kind = LINK_KIND_SSH };
	uint32_t id = 0;
	buf_printf(&r->seen, "[open %d]", link_stream_open(r->link, &dest, &id, NULL));
}

static void write_here(struct run *r)
{
	static uint8_t bytes[65536];
	uint32_t id = take_id(r);
	size_t len = take_length(r), room = link_stream_room(r->link, id);
	uint64_t offset = stream_of(r, id)->out.end;
	for (size_t i = 0; i < len; i++)
		bytes[i] = byte_at(id, offset + i);
	FUZZ_CHECK(link_stream_write(r->link, id, bytes, len) == (len < room ? len : room));
}

static void consume_here(struct run *r)
{
	uint32_t id = take_id(r);
	size_t most = take_length(r), n;
	const void *data = NULL;
	while (most > 0 && (n = link_stream_peek(r->link, id, &data)) > 0) {
		n = n < most ? n : most;
		buf_add(&r->seen, data, n);
		link_stream_consume(r->link, id, n);
		most -= n;
	}
}

static void pass_time(struct run *r)
{
	r->now += (fuzz_byte(&r->in) & 63) * 100;
	link_tick(r->link, r->now);
}

static void take_events(struct run *r)
{
	struct link_event ev;
	for (size_t n = 0; link_next_event(r->link, &ev); n++) {
		FUZZ_CHECK(n < 64 && ev.type > LINK_EVENT_NONE && ev.type <= LINK_EVENT_OVER);
		buf_printf(&r->seen, "[event %d %u %u %s]", ev.type, ev.stream, ev.code, ev.text);
		uint64_t in, out;
		if (ev.type == LINK_EVENT_CLOSED)
			FUZZ_CHECK(link_stream_bytes(r->link, ev.stream, &in, &out) == 0);
		if (ev.type == LINK_EVENT_OVER)
			FUZZ_CHECK(r->link->over);
	}
}

static void finish_here(struct run *r)
{
	link_stream_finish(r->link, take_id(r));
}

static void reset_here(struct run *r)
{
	link_stream_reset(r->link, take_id(r), LINK_IO, "killed");
}

static void fail_here(struct run *r)
{
	link_stream_fail(r->link, take_id(r), LINK_IO, "failed");
}

static void accept_here(struct run *r)
{
	link_stream_accept(r->link, take_id(r));
}

static void refuse_here(struct run *r)
{
	link_stream_refuse(r->link, take_id(r), LINK_NOT_ALLOWED, "not today");
}

static void eof_done_here(struct run *r)
{
	link_stream_eof_done(r->link, take_id(r));
}

static void bye_here(struct run *r)
{
	link_bye(r->link, LINK_OK, "done");
}

static void lose_leg(struct run *r)
{
	link_epoch_lost(r->link, r->now);
}

static void hear_some(struct run *r)
{
	hear(r, 1 + (size_t)fuzz_byte(&r->in) * 64);
}

/* ---- the script ---- */

static void (*const steps[128])(struct run *) = {
	['h'] = say_hello,    ['r'] = say_resume,    ['R'] = say_resume_more, ['o'] = say_open,     ['O'] = say_opened,
	['z'] = say_reset,    ['Z'] = say_refused,   ['d'] = say_data,        ['a'] = say_ack,      ['f'] = say_fin,
	['p'] = say_ping,     ['q'] = say_pong,      ['b'] = say_bye,         ['x'] = say_anything, ['>'] = open_here,
	['w'] = write_here,   ['e'] = finish_here,   ['k'] = reset_here,      ['y'] = accept_here,  ['u'] = refuse_here,
	['g'] = consume_here, ['E'] = eof_done_here, ['B'] = bye_here,        ['S'] = start_epoch,  ['L'] = lose_leg,
	['t'] = pass_time,    ['l'] = hear_some,     ['j'] = fail_here,
};

static void run_script(struct run *r, const uint8_t *data, size_t size, size_t piece)
{
	*r = (struct run){ .in = { data, size }, .now = 1000, .piece = piece };
	struct link_config c = { .initial_window = 1000, .window = 2000, .session_window = 4000, .max_streams = 4 };
	c.role = size && data[0] == 'c' ? LINK_CLIENT : LINK_TARGET;
	FUZZ_CHECK(link_new(&c, &r->link, NULL) == 0);
	buf_init(&r->heard, SEEN_MAX);
	buf_init(&r->seen, SEEN_MAX);
	for (size_t i = 0; i < STEPS_MAX && r->in.left; i++) {
		void (*step)(struct run *) = steps[fuzz_byte(&r->in) & 127];
		if (step)
			step(r);
		take_events(r);
		check_link(r);
	}
	hear(r, 16384);
	check_link(r);
	link_free(&r->link);
	buf_free(&r->heard);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct run whole, cut;
	run_script(&whole, data, size, SIZE_MAX / 2);
	run_script(&cut, data, size, 1);
	FUZZ_CHECK(whole.seen.len == cut.seen.len &&
		   memcmp(buf_data(&whole.seen), buf_data(&cut.seen), cut.seen.len) == 0);
	buf_free(&whole.seen);
	buf_free(&cut.seen);
	return 0;
}
