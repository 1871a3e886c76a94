/* The relay is a number, the newest epoch, and two byte queues of that epoch. A cut raises the number and empties the
 * queues; each end hears of it at a moment of its own, with or without having lost its leg before. Until then what it
 * writes is dropped and it gets nothing, as PROTOCOL.md 3 has it.
 *
 * Model: every byte of a direction is a function of stream, direction and offset, so a lost, doubled or moved byte is
 * seen where it is read. */
#include "sim.h"

#include "link/internal.h"
#include "support/case.h"
#include "wire.h"

#define MAX_STREAMS 64
#define QUEUE (48 * 1024)

enum fate {
	FATE_NONE, /* this end never heard of the stream */
	FATE_ASKED,
	FATE_OPENING,
	FATE_OPEN,
	FATE_CLEAN,
	FATE_LOCAL, /* reset or refused by this end */
	FATE_PEER,  /* by the other */
};

struct model_end {
	enum fate fate;
	unsigned code;
	bool opened, refused, finished, eof;
	bool waits; /* for WRITABLE, as a real application does */
	uint64_t written, read;
};

struct model_stream {
	uint32_t id;
	int opener;
	struct link_dest dest;
	struct model_end end[2];
};

struct sim {
	const struct sim_options *options;
	uint64_t random;
	struct link *link[2];
	int64_t now;
	unsigned epoch;     /* of the relay */
	unsigned joined[2]; /* the epoch that an end is in */
	unsigned cuts;
	struct buf queue[2]; /* by sender */
	struct model_stream streams[MAX_STREAMS];
	unsigned n_streams;
	bool draining;
	char wrong[512];
};

/* ---- chance ---- */

static uint64_t next_random(struct sim *sim)
{
	uint64_t z = sim->random += 0x9e3779b97f4a7c15u;
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return z ^ z >> 31;
}

static unsigned below(struct sim *sim, unsigned n)
{
	return (unsigned)(next_random(sim) % n);
}

/* Small as often as large. */
static unsigned size_below(struct sim *sim, unsigned max)
{
	unsigned bits = 1 + below(sim, 17);
	unsigned n = 1 + below(sim, 1u << bits);
	return n < max ? n : max;
}

static void PRINTF_LIKE(2, 3) wrong(struct sim *sim, const char *fmt, ...)
{
	if (*sim->wrong)
		return;
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(sim->wrong, sizeof(sim->wrong), fmt, ap);
	va_end(ap);
}

static uint8_t byte_at(uint32_t id, int from, uint64_t offset)
{
	return (uint8_t)(id * 31 + (unsigned)from * 101 + offset * 7 + (offset >> 8) * 13 + (offset >> 16));
}

static struct model_stream *find(struct sim *sim, uint32_t id)
{
	for (unsigned i = 0; i < sim->n_streams; i++)
		if (sim->streams[i].id == id)
			return &sim->streams[i];
	return NULL;
}

/* ---- what the applications do ---- */

static void open_stream(struct sim *sim, int at)
{
	if (sim->n_streams >= sim->options->streams || sim->n_streams >= MAX_STREAMS)
		return;
	struct link_dest dest = { .kind = LINK_KIND_SSH };
	if (below(sim, 2)) {
		dest.kind = LINK_KIND_TCP;
		dest.port = (uint16_t)(1 + below(sim, 65535));
		snprintf(dest.host, sizeof(dest.host), "host-%u", below(sim, 1000));
	}
	uint32_t id;
	struct err e;
	int rc = link_stream_open(sim->link[at], &dest, &id, &e);
	if (rc == ERR_LIMIT)
		return;
	if (rc != 0) {
		wrong(sim, "open: %s", e.text);
		return;
	}
	if (find(sim, id))
		wrong(sim, "id %u given twice", id);
	struct model_stream *m = &sim->streams[sim->n_streams++];
	*m = (struct model_stream){ .id = id, .opener = at, .dest = dest };
	m->end[at].fate = FATE_OPENING;
}

static void write_some(struct sim *sim, struct model_stream *m, int at, unsigned len)
{
	struct model_end *me = &m->end[at];
	static uint8_t bytes[1 << 17];
	if ((me->fate != FATE_OPEN && me->fate != FATE_OPENING) || me->finished || me->waits)
		return;
	for (unsigned i = 0; i < len; i++)
		bytes[i] = byte_at(m->id, at, me->written + i);
	size_t room = link_stream_room(sim->link[at], m->id);
	size_t n = link_stream_write(sim->link[at], m->id, bytes, len);
	if (n != (len < room ? len : room))
		wrong(sim, "stream %u: wrote %zu of %u with room for %zu", m->id, n, len, room);
	me->written += n;
	me->waits = link_stream_room(sim->link[at], m->id) == 0;
}

static void finish(struct sim *sim, struct model_stream *m, int at)
{
	struct model_end *me = &m->end[at];
	if ((me->fate != FATE_OPEN && me->fate != FATE_OPENING) || me->finished || me->waits)
		return;
	link_stream_finish(sim->link[at], m->id);
	me->finished = true;
}

static void reset(struct sim *sim, struct model_stream *m, int at)
{
	struct model_end *me = &m->end[at];
	if (me->fate != FATE_OPEN && me->fate != FATE_OPENING)
		return;
	me->fate = FATE_LOCAL;
	me->code = 9 + below(sim, 3);
	link_stream_reset(sim->link[at], m->id, me->code, "by the simulator");
}

static void answer(struct sim *sim, struct model_stream *m, int at)
{
	struct model_end *me = &m->end[at];
	if (me->fate != FATE_ASKED)
		return;
	int rc;
	if (below(sim, 5)) {
		rc = link_stream_accept(sim->link[at], m->id);
		me->fate = FATE_OPEN;
		me->opened = true;
	} else {
		me->fate = FATE_LOCAL;
		me->refused = true;
		me->code = 1 + below(sim, 4);
		rc = link_stream_refuse(sim->link[at], m->id, me->code, "not today");
	}
	if (rc != 0)
		wrong(sim, "stream %u: answer: %d", m->id, rc);
}

static void consume(struct sim *sim, struct model_stream *m, int at, size_t most)
{
	struct model_end *me = &m->end[at];
	if (me->fate != FATE_OPEN)
		return;
	const void *data;
	size_t n;
	while (most && (n = link_stream_peek(sim->link[at], m->id, &data)) > 0) {
		if (n > most)
			n = most;
		for (size_t i = 0; i < n; i++)
			if (((const uint8_t *)data)[i] != byte_at(m->id, !at, me->read + i)) {
				wrong(sim, "stream %u: wrong byte at %llu for end %d", m->id,
				      (unsigned long long)(me->read + i), at);
				return;
			}
		me->read += n;
		most -= n;
		link_stream_consume(sim->link[at], m->id, n);
	}
	if (me->read > m->end[!at].written)
		wrong(sim, "stream %u: more read than written", m->id);
}

static void eof_done(struct sim *sim, struct model_stream *m, int at)
{
	struct model_end *me = &m->end[at];
	if (me->fate == FATE_OPEN && me->eof)
		link_stream_eof_done(sim->link[at], m->id);
}

/* ---- events ---- */

static void on_open(struct sim *sim, int at, const struct link_event *ev)
{
	struct model_stream *m = find(sim, ev->stream);
	if (!m || m->opener == at || m->end[at].fate != FATE_NONE) {
		wrong(sim, "OPEN of stream %u at end %d", ev->stream, at);
		return;
	}
	if (ev->dest.kind != m->dest.kind || ev->dest.port != m->dest.port || strcmp(ev->dest.host, m->dest.host) != 0)
		wrong(sim, "stream %u: wrong destination", m->id);
	m->end[at].fate = FATE_ASKED;
}

static void on_closed(struct sim *sim, int at, struct model_stream *m, const struct link_event *ev)
{
	struct model_end *me = &m->end[at], *other = &m->end[!at];
	if (me->fate != FATE_OPEN && me->fate != FATE_OPENING && me->fate != FATE_ASKED)
		wrong(sim, "stream %u: CLOSED at end %d, fate %d", m->id, at, me->fate);
	me->code = ev->code;
	if (ev->code == LINK_OK) {
		if (me->read != other->written || !me->eof || !me->finished || !other->finished)
			wrong(sim, "stream %u: closed clean at end %d with %llu of %llu bytes", m->id, at,
			      (unsigned long long)me->read, (unsigned long long)other->written);
		me->fate = FATE_CLEAN;
		uint64_t in, out;
		if (link_stream_bytes(sim->link[at], m->id, &in, &out) != 0 || in != me->read || out != me->written)
			wrong(sim, "stream %u: byte counts", m->id);
		return;
	}
	me->fate = FATE_PEER;
	if (ev->code == LINK_LIMIT && other->fate == FATE_NONE) { /* refused by the link itself */
		other->fate = FATE_LOCAL;
		other->code = LINK_LIMIT;
	}
	if (other->fate != FATE_LOCAL || other->code != ev->code)
		wrong(sim, "stream %u: closed with %u (%s) at end %d, but fate %d code %u", m->id, ev->code, ev->text,
		      at, other->fate, other->code);
}

static void on_stream_event(struct sim *sim, int at, const struct link_event *ev)
{
	struct model_stream *m = find(sim, ev->stream);
	if (!m) {
		wrong(sim, "event %d for stream %u", ev->type, ev->stream);
		return;
	}
	struct model_end *me = &m->end[at];
	if (me->fate == FATE_LOCAL || me->fate == FATE_CLEAN || me->fate == FATE_PEER)
		wrong(sim, "stream %u: event %d after its end", m->id, ev->type);
	if (ev->type == LINK_EVENT_OPENED) {
		if (me->fate != FATE_OPENING || !m->end[!at].opened)
			wrong(sim, "stream %u: OPENED", m->id);
		me->fate = FATE_OPEN;
	} else if (ev->type == LINK_EVENT_EOF) {
		if (me->eof || me->read != m->end[!at].written || !m->end[!at].finished)
			wrong(sim, "stream %u: EOF at end %d", m->id, at);
		me->eof = true;
	} else if (ev->type == LINK_EVENT_WRITABLE) {
		if (link_stream_room(sim->link[at], m->id) == 0)
			wrong(sim, "stream %u: WRITABLE without room", m->id);
		me->waits = false;
	} else if (ev->type == LINK_EVENT_CLOSED) {
		on_closed(sim, at, m, ev);
	}
}

static void cut(struct sim *sim)
{
	sim->epoch++;
	for (int i = 0; i < 2; i++)
		buf_clear(&sim->queue[i]);
}

static void take_events(struct sim *sim, int at)
{
	struct link_event ev;
	while (!*sim->wrong && link_next_event(sim->link[at], &ev)) {
		if (ev.type == LINK_EVENT_OPEN)
			on_open(sim, at, &ev);
		else if (ev.type == LINK_EVENT_OVER)
			wrong(sim, "session over at end %d: %u %s", at, ev.code, ev.text);
		else if (ev.type == LINK_EVENT_STALLED)
			cut(sim);
		else if (ev.type != LINK_EVENT_UP)
			on_stream_event(sim, at, &ev);
	}
}

/* ---- the wire ---- */

static void join(struct sim *sim, int at)
{
	struct err e;
	if (sim->joined[at] == sim->epoch)
		return;
	if (link_epoch_start(sim->link[at], sim->now, &e) != 0)
		wrong(sim, "epoch start: %s", e.text);
	sim->joined[at] = sim->epoch;
}

static void send_some(struct sim *sim, int at, size_t most)
{
	static uint8_t bytes[1 << 17];
	struct buf *queue = &sim->queue[at];
	bool dropped = sim->joined[at] != sim->epoch;
	size_t room = dropped ? QUEUE : QUEUE - queue->len;
	if (most > room)
		most = room;
	if (most == 0)
		return;
	bool had = link_has_output(sim->link[at]);
	size_t n = link_output(sim->link[at], bytes, most, sim->now);
	if (n > most || (had && n == 0))
		wrong(sim, "end %d: output of %zu bytes into %zu", at, n, most);
	if (!dropped)
		buf_add(queue, bytes, n);
}

static void deliver_some(struct sim *sim, int to, size_t most)
{
	struct buf *queue = &sim->queue[!to];
	if (sim->joined[to] != sim->epoch || queue->len == 0)
		return;
	size_t n = most < queue->len ? most : queue->len;
	if (sim->options->tamper && !sim->draining && below(sim, 40) == 0)
		queue->bytes[queue->head + below(sim, (unsigned)n)] ^= (uint8_t)(1u << below(sim, 8));
	/* of exactly its size, so that a sanitizer sees a read behind it */
	uint8_t *copy = malloc(n);
	memcpy(copy, buf_data(queue), n);
	buf_consume(queue, n);
	struct err e;
	int rc = link_input(sim->link[to], copy, n, sim->now, &e);
	free(copy);
	if (rc == 0)
		return;
	if (!sim->options->tamper)
		wrong(sim, "input at end %d: %s", to, e.text);
	cut(sim);
}

static void lose_or_cut(struct sim *sim)
{
	if (sim->cuts >= sim->options->cuts)
		return;
	sim->cuts++;
	cut(sim);
	for (int i = 0; i < 2; i++)
		if (below(sim, 2))
			link_epoch_lost(sim->link[i], sim->now);
}

static void pass_time(struct sim *sim, unsigned ms)
{
	sim->now += ms;
	for (int i = 0; i < 2; i++)
		link_tick(sim->link[i], sim->now);
}

/* ---- one run ---- */

static struct model_stream *any_stream(struct sim *sim)
{
	return sim->n_streams ? &sim->streams[below(sim, sim->n_streams)] : NULL;
}

static void stream_step(struct sim *sim, int at, unsigned what)
{
	struct model_stream *m = any_stream(sim);
	if (!m)
		return;
	if (what < 30)
		write_some(sim, m, at, size_below(sim, 1 << 17));
	else if (what < 55)
		consume(sim, m, at, size_below(sim, 1 << 17));
	else if (what < 62)
		answer(sim, m, at);
	else if (what < 66)
		finish(sim, m, at);
	else if (what < 70)
		eof_done(sim, m, at);
	else if (what < 71)
		reset(sim, m, at);
}

static void step(struct sim *sim)
{
	int at = (int)below(sim, 2);
	unsigned what = below(sim, 200);
	if (what < 71)
		stream_step(sim, at, what);
	else if (what < 77)
		open_stream(sim, at);
	else if (what < 130)
		send_some(sim, at, size_below(sim, 1 << 17));
	else if (what < 180)
		deliver_some(sim, at, size_below(sim, 1 << 17));
	else if (what < 190)
		join(sim, at);
	else if (what < 194)
		pass_time(sim, below(sim, 40));
	else if (what < 197)
		lose_or_cut(sim);
}

/* Everything that was begun is brought to its end over a good wire. */
static void drain_step(struct sim *sim)
{
	for (int at = 0; at < 2; at++) {
		join(sim, at);
		for (unsigned i = 0; i < sim->n_streams; i++) {
			struct model_stream *m = &sim->streams[i];
			answer(sim, m, at);
			finish(sim, m, at);
			consume(sim, m, at, SIZE_MAX);
			take_events(sim, at);
			eof_done(sim, m, at);
		}
		send_some(sim, at, QUEUE);
		deliver_some(sim, !at, QUEUE);
		take_events(sim, at);
		take_events(sim, !at);
	}
	pass_time(sim, 10);
}

static bool is_settled(struct sim *sim)
{
	for (int i = 0; i < 2; i++)
		if (link_has_output(sim->link[i]) || sim->queue[i].len || sim->link[i]->n_streams)
			return false;
	return true;
}

static void check_fates(struct sim *sim, const struct model_stream *m)
{
	const struct model_end *a = &m->end[m->opener], *b = &m->end[!m->opener];
	bool ok;
	if (a->fate == FATE_CLEAN)
		ok = b->fate == FATE_CLEAN || (b->fate == FATE_LOCAL && b->opened);
	else if (a->fate == FATE_PEER)
		ok = b->fate == FATE_LOCAL && a->code == b->code;
	else /* the other end may have finished, reset it too, or never have heard of it */
		ok = a->fate == FATE_LOCAL && b->fate != FATE_OPEN && b->fate != FATE_ASKED;
	if (!ok)
		wrong(sim, "stream %u: fates %d/%u and %d/%u do not agree", m->id, a->fate, a->code, b->fate, b->code);
}

static void check_rest(struct sim *sim)
{
	for (unsigned i = 0; i < sim->n_streams; i++)
		check_fates(sim, &sim->streams[i]);
	for (int i = 0; i < 2; i++) {
		const struct link *l = sim->link[i];
		if (l->n_live || l->held || l->retained || l->promised || l->flight || l->asking ||
		    !list_empty(&l->control) || !list_empty(&l->lazy))
			wrong(sim,
			      "end %d keeps: live %zu, held %zu, retained %llu, promised %llu, in flight %llu, asking "
			      "%zu",
			      i, l->n_live, l->held, (unsigned long long)l->retained, (unsigned long long)l->promised,
			      (unsigned long long)l->flight, l->asking);
	}
}

static void set_up(struct sim *sim, uint64_t seed, const struct sim_options *options)
{
	static const uint32_t windows[] = { 256, 1000, 4096, 20000, 65536 };
	*sim = (struct sim){ .options = options, .random = seed, .now = 1000, .epoch = 1 };
	for (int i = 0; i < 2; i++) {
		struct link_config c = { .role = i ? LINK_TARGET : LINK_CLIENT, .key = wire_keys()->key[i] };
		c.initial_window = windows[below(sim, 5)];
		c.window = c.initial_window * (1 + below(sim, 8));
		c.session_window = c.window * (1 + below(sim, 3));
		c.max_streams = 1 + below(sim, 12);
		memcpy(c.peer_pin, wire_keys()->pin[!i], sizeof(c.peer_pin));
		struct err e;
		if (link_new(&c, &sim->link[i], &e) != 0)
			fail_msg("%s", e.text);
		buf_init(&sim->queue[i], QUEUE);
	}
}

const char *sim_run(uint64_t seed, const struct sim_options *options)
{
	static struct sim sim;
	set_up(&sim, seed, options);
	unsigned steps = 1 + below(&sim, options->steps);
	for (unsigned i = 0; i < steps && !*sim.wrong; i++) {
		step(&sim);
		take_events(&sim, 0);
		take_events(&sim, 1);
	}
	sim.draining = true;
	unsigned rounds = 0;
	do {
		drain_step(&sim);
	} while (!*sim.wrong && !is_settled(&sim) && ++rounds < 20000);
	if (rounds >= 20000)
		wrong(&sim, "does not come to an end");
	if (!*sim.wrong)
		check_rest(&sim);
	for (int i = 0; i < 2; i++) {
		link_free(&sim.link[i]);
		buf_free(&sim.queue[i]);
	}
	return *sim.wrong ? sim.wrong : NULL;
}

void sim_run_many(uint64_t first_seed, unsigned runs, const struct sim_options *options)
{
	const char *only = getenv("LINK_SIM_SEED"), *more = getenv("LINK_SIM_RUNS");
	if (more)
		runs = (unsigned)strtoul(more, NULL, 10);
	if (only) {
		first_seed = strtoull(only, NULL, 10);
		runs = 1;
	}
	for (uint64_t seed = first_seed; seed < first_seed + runs; seed++) {
		const char *bad = sim_run(seed, options);
		if (bad)
			fail_msg("LINK_SIM_SEED=%llu: %s", (unsigned long long)seed, bad);
	}
}
