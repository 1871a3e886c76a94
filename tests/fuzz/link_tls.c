/* Two links, and a relay that may do anything to the bytes between them but has none of their keys. It may break an
 * epoch, or stall it; it must never end the session, end a stream, or change a byte of one.
 *
 * The input is a script of steps, one letter each; '<' and '>' say which way the step goes.
 *   D:way n   delivers n * 16 bytes   K:way n throws n * 16 away     T:way n throws away all but the first n
 *   F:way n   changes byte n          R:way   repeats what there is  X:way hex… adds whatever it likes
 *   C:way     cuts the wire           S       both begin a new epoch t       time passes
 *   L:way     that end alone loses its leg; E:way  it alone begins a new epoch: what is under way stays, and comes
 *   w:way     that end writes to the stream; H:way  it writes no more
 * What is read is what was written, all of it when the end comes. */
#include "fuzz.h"
#include "unit/link/wire.h"

#include "base/buf.h"

#include <stdlib.h>
#include <string.h>

#define STEPS_MAX 200u
#define QUEUE_MAX (256u * 1024)

struct relay {
	struct fuzz_input in;
	struct wire wire;
	struct buf queue[2]; /* by the end that the bytes come from */
	bool cut[2];
	uint32_t stream;
	uint64_t written[2], read[2];
	bool open[2], finished[2], eof[2], closed[2];
};

static uint8_t byte_at(int from, uint64_t offset)
{
	return (uint8_t)((unsigned)from * 101 + offset * 7 + (offset >> 8) * 13);
}

/* ---- the ends ---- */

static void read_stream(struct relay *r, int at)
{
	const void *data = NULL;
	size_t n;
	while ((n = link_stream_peek(r->wire.end[at], r->stream, &data)) > 0) {
		for (size_t i = 0; i < n; i++)
			FUZZ_CHECK(((const uint8_t *)data)[i] == byte_at(!at, r->read[at] + i));
		r->read[at] += n;
		link_stream_consume(r->wire.end[at], r->stream, n);
	}
	FUZZ_CHECK(r->read[at] <= r->written[!at]);
}

static void take_open(struct relay *r, int at, uint32_t stream)
{
	FUZZ_CHECK(at == LINK_TARGET && stream == r->stream && !r->open[at]);
	FUZZ_CHECK(link_stream_accept(r->wire.end[at], stream) == 0);
	r->open[at] = true;
}

static void take_end(struct relay *r, int at)
{
	FUZZ_CHECK(r->finished[!at] && !r->eof[at] && r->read[at] == r->written[!at]);
	r->eof[at] = true;
	link_stream_eof_done(r->wire.end[at], r->stream);
}

static void take_close(struct relay *r, int at, const struct link_event *ev)
{
	FUZZ_CHECK(r->finished[0] && r->finished[1] && r->eof[at] && !r->closed[at] && ev->code == LINK_OK);
	r->closed[at] = true;
}

static void take_events(struct relay *r, int at)
{
	struct link_event ev;
	while (link_next_event(r->wire.end[at], &ev)) {
		FUZZ_CHECK(ev.type != LINK_EVENT_OVER);
		if (ev.type == LINK_EVENT_OPEN)
			take_open(r, at, ev.stream);
		else if (ev.type == LINK_EVENT_EOF)
			take_end(r, at);
		else if (ev.type == LINK_EVENT_CLOSED)
			take_close(r, at, &ev);
	}
	read_stream(r, at);
}

static void write_stream(struct relay *r, int at)
{
	uint8_t bytes[100];
	if (r->finished[at])
		return;
	for (size_t i = 0; i < sizeof bytes; i++)
		bytes[i] = byte_at(at, r->written[at] + i);
	r->written[at] += link_stream_write(r->wire.end[at], r->stream, bytes, sizeof bytes);
}

static void finish_stream(struct relay *r, int at)
{
	if (!r->open[at] || r->finished[at])
		return;
	link_stream_finish(r->wire.end[at], r->stream);
	r->finished[at] = true;
}

/* ---- the relay ---- */

static void collect(struct relay *r, int from)
{
	static uint8_t bytes[32768];
	size_t n;
	while ((n = link_output(r->wire.end[from], bytes, sizeof bytes, r->wire.now)) > 0)
		buf_add(&r->queue[from], bytes, n);
}

static void begin(struct relay *r)
{
	buf_clear(&r->queue[0]);
	buf_clear(&r->queue[1]);
	r->cut[0] = r->cut[1] = false;
	wire_start(&r->wire);
}

static void deliver(struct relay *r, int from, size_t most)
{
	struct buf *q = &r->queue[from];
	struct err e;
	size_t n = q->len < most ? q->len : most;
	if (n == 0 || r->cut[from])
		return;
	uint8_t *copy = (uint8_t *)fuzz_text(buf_data(q), n);
	int rc = link_input(r->wire.end[!from], copy, n, r->wire.now, &e);
	FUZZ_CHECK(rc == 0 || (e.code == rc && e.text[0]));
	free(copy);
	buf_consume(q, n);
}

static int hex(uint8_t c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static void inject(struct relay *r, int from)
{
	while (r->in.left >= 2 && hex(r->in.at[0]) >= 0 && hex(r->in.at[1]) >= 0) {
		int high = hex(fuzz_byte(&r->in));
		buf_add_u8(&r->queue[from], (uint8_t)(high << 4 | hex(fuzz_byte(&r->in))));
	}
}

static void change(struct relay *r, int from, size_t at)
{
	struct buf *q = &r->queue[from];
	if (at < q->len)
		q->bytes[q->head + at] ^= (uint8_t)(1u << (at & 7));
}

static void repeat(struct relay *r, int from)
{
	struct buf *q = &r->queue[from];
	char *copy = fuzz_text(buf_data(q), q->len);
	buf_add(q, copy, q->len);
	free(copy);
}

static void step_on_way(struct relay *r, char step)
{
	int from = fuzz_byte(&r->in) == '<' ? LINK_TARGET : LINK_CLIENT;
	struct buf *q = &r->queue[from];
	size_t n;
	switch (step) {
	case 'D':
		deliver(r, from, (size_t)fuzz_byte(&r->in) * 16);
		break;
	case 'K':
		n = (size_t)fuzz_byte(&r->in) * 16;
		buf_consume(q, n < q->len ? n : q->len);
		break;
	case 'T':
		n = (size_t)fuzz_byte(&r->in);
		if (n < q->len)
			q->len = n;
		break;
	case 'L':
		link_epoch_lost(r->wire.end[from], r->wire.now);
		break;
	case 'E':
		FUZZ_CHECK(link_epoch_start(r->wire.end[from], r->wire.now, NULL) == 0);
		break;
	case 'H':
		finish_stream(r, from);
		break;
	case 'F':
		change(r, from, fuzz_byte(&r->in));
		break;
	case 'R':
		repeat(r, from);
		break;
	case 'X':
		inject(r, from);
		break;
	case 'C':
		r->cut[from] = true;
		break;
	default:
		write_stream(r, from);
	}
}

static void take_step(struct relay *r)
{
	char step = (char)fuzz_byte(&r->in);
	if (step == 'S')
		begin(r);
	else if (step == 't')
		r->wire.now += 1500;
	else if (step && strchr("DKTLEHFRXCw", step))
		step_on_way(r, step);
	for (int at = 0; at < 2; at++) {
		link_tick(r->wire.end[at], r->wire.now);
		collect(r, at);
		take_events(r, at);
		FUZZ_CHECK(!wire_check_books(r->wire.end[at]));
	}
}

/* With an honest relay all that was written arrives. */
static void check_recovery(struct relay *r)
{
	begin(r);
	for (int round = 0; round < 4; round++) {
		wire_run(&r->wire);
		take_events(r, LINK_CLIENT);
		take_events(r, LINK_TARGET);
	}
	FUZZ_CHECK(link_is_up(r->wire.end[0]) && link_is_up(r->wire.end[1]));
	FUZZ_CHECK(r->read[0] == r->written[1] && r->read[1] == r->written[0]);
	FUZZ_CHECK(r->eof[0] == r->finished[1] && r->eof[1] == r->finished[0]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct relay r = { .in = { data, size } };
	const struct link_dest dest = { .kind = LINK_KIND_SSH };
	wire_init(&r.wire, NULL);
	buf_init(&r.queue[0], QUEUE_MAX);
	buf_init(&r.queue[1], QUEUE_MAX);
	FUZZ_CHECK(link_stream_open(r.wire.end[LINK_CLIENT], &dest, &r.stream, NULL) == 0);
	r.open[LINK_CLIENT] = true;
	write_stream(&r, LINK_CLIENT);
	begin(&r);
	for (size_t i = 0; i < STEPS_MAX && r.in.left; i++)
		take_step(&r);
	check_recovery(&r);
	wire_free(&r.wire);
	buf_free(&r.queue[0]);
	buf_free(&r.queue[1]);
	return 0;
}
