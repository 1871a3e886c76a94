/* The applications at both ends, and the model: every byte of a direction is a function of stream, direction and
 * offset, so a lost, doubled or moved byte is seen where it is read; how a stream ended is compared at both ends. */
#include "sim_parts.h"
#include "support/case.h"
#include "wire.h"

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

void app_open(struct sim *sim, int at)
{
	if (sim->n_streams >= sim->options->streams || sim->n_streams >= SIM_STREAMS)
		return;
	struct link_dest dest = { .kind = LINK_KIND_SSH };
	if (sim_below(sim, 2)) {
		dest.kind = LINK_KIND_TCP;
		dest.port = (uint16_t)(1 + sim_below(sim, 65535));
		snprintf(dest.host, sizeof(dest.host), "host-%u", sim_below(sim, 1000));
	} else if (sim_below(sim, 2)) {
		dest.kind = LINK_KIND_UNIX;
		snprintf(dest.host, sizeof(dest.host), "/run/%u", sim_below(sim, 1000));
	} else if (sim_below(sim, 2)) {
		dest.kind = LINK_KIND_LISTEN;
		snprintf(dest.host, sizeof(dest.host), "127.0.0.%u", sim_below(sim, 256));
	} else if (sim_below(sim, 2)) {
		dest.kind = LINK_KIND_ACCEPTED;
		snprintf(dest.host, sizeof(dest.host), "%u", 1 + sim_below(sim, 1000));
	}
	uint32_t id;
	struct err e;
	int rc = link_stream_open(sim->end[at].link, &dest, &id, &e);
	if (rc == ERR_LIMIT)
		return;
	if (rc != 0) {
		sim_wrong(sim, "open: %s", e.text);
		return;
	}
	if (find(sim, id))
		sim_wrong(sim, "id %u given twice", id);
	struct model_stream *m = &sim->streams[sim->n_streams++];
	*m = (struct model_stream){ .id = id, .opener = at, .dest = dest };
	m->end[at].fate = FATE_OPENING;
}

/* Without a copy, as bulk is: some room is asked for and given back, the rest is filled piece by piece. */
static size_t write_in_place(struct link *link, uint32_t id, const uint8_t *bytes, size_t len)
{
	size_t done = 0, room;
	void *space;
	if (link_stream_space(link, id, len, &room))
		link_stream_commit(link, id, 0);
	while (done < len && (space = link_stream_space(link, id, len - done, &room))) {
		size_t n = room < len - done ? room : len - done;
		memcpy(space, bytes + done, n);
		link_stream_commit(link, id, n);
		done += n;
	}
	return done;
}

void app_write(struct sim *sim, struct model_stream *m, int at, unsigned len)
{
	struct model_end *me = &m->end[at];
	static uint8_t bytes[1 << 17];
	if ((me->fate != FATE_OPEN && me->fate != FATE_OPENING) || me->finished || me->failing || me->waits)
		return;
	for (unsigned i = 0; i < len; i++)
		bytes[i] = byte_at(m->id, at, me->written + i);
	size_t room = link_stream_room(sim->end[at].link, m->id);
	size_t n = len % 2 ? write_in_place(sim->end[at].link, m->id, bytes, len)
			   : link_stream_write(sim->end[at].link, m->id, bytes, len);
	/* The first piece may fill up the session's window. */
	bool cut_short = len % 2 && n > 0 && link_stream_room(sim->end[at].link, m->id) == 0;
	if (n != (len < room ? len : room) && !cut_short)
		sim_wrong(sim, "stream %u: wrote %zu of %u with room for %zu", m->id, n, len, room);
	me->written += n;
	me->waits = link_stream_room(sim->end[at].link, m->id) == 0;
}

void app_finish(struct sim *sim, struct model_stream *m, int at)
{
	struct model_end *me = &m->end[at];
	if ((me->fate != FATE_OPEN && me->fate != FATE_OPENING) || me->finished || me->failing || me->waits)
		return;
	link_stream_finish(sim->end[at].link, m->id);
	me->finished = true;
}

void app_reset(struct sim *sim, struct model_stream *m, int at)
{
	struct model_end *me = &m->end[at];
	if (me->fate != FATE_OPEN && me->fate != FATE_OPENING)
		return;
	me->fate = FATE_LOCAL;
	me->code = 9 + sim_below(sim, 3);
	link_stream_reset(sim->end[at].link, m->id, me->code, "by the simulator");
}

/* It goes on consuming, as a pump does. */
void app_fail(struct sim *sim, struct model_stream *m, int at)
{
	struct model_end *me = &m->end[at];
	if ((me->fate != FATE_OPEN && me->fate != FATE_OPENING) || me->failing)
		return;
	me->failing = true;
	me->code = SIM_FAILED + (unsigned)at;
	link_stream_fail(sim->end[at].link, m->id, me->code, "by the simulator");
	if (link_stream_room(sim->end[at].link, m->id) != 0)
		sim_wrong(sim, "stream %u: room after it has failed", m->id);
}

void app_answer(struct sim *sim, struct model_stream *m, int at)
{
	struct model_end *me = &m->end[at];
	if (me->fate != FATE_ASKED)
		return;
	int rc;
	if (sim_below(sim, 5)) {
		rc = link_stream_accept(sim->end[at].link, m->id);
		me->fate = FATE_OPEN;
		me->opened = true;
	} else {
		me->fate = FATE_LOCAL;
		me->refused = true;
		me->code = 1 + sim_below(sim, 4);
		rc = link_stream_refuse(sim->end[at].link, m->id, me->code, "not today");
	}
	if (rc != 0)
		sim_wrong(sim, "stream %u: answer: %d", m->id, rc);
}

void app_consume(struct sim *sim, struct model_stream *m, int at, size_t most)
{
	struct model_end *me = &m->end[at];
	if (me->fate != FATE_OPEN)
		return;
	const void *data;
	size_t n;
	while (most && (n = link_stream_peek(sim->end[at].link, m->id, &data)) > 0) {
		if (n > most)
			n = most;
		for (size_t i = 0; i < n; i++)
			if (((const uint8_t *)data)[i] != byte_at(m->id, !at, me->read + i)) {
				sim_wrong(sim, "stream %u: wrong byte at %llu for end %d", m->id,
					  (unsigned long long)(me->read + i), at);
				return;
			}
		me->read += n;
		most -= n;
		link_stream_consume(sim->end[at].link, m->id, n);
	}
	if (me->read > m->end[!at].written)
		sim_wrong(sim, "stream %u: more read than written", m->id);
}

void app_eof_done(struct sim *sim, struct model_stream *m, int at)
{
	struct model_end *me = &m->end[at];
	if (me->fate == FATE_OPEN && me->eof)
		link_stream_eof_done(sim->end[at].link, m->id);
}

/* ---- events ---- */

static void on_open(struct sim *sim, int at, const struct link_event *ev)
{
	struct model_stream *m = find(sim, ev->stream);
	if (!m || m->opener == at || m->end[at].fate != FATE_NONE) {
		sim_wrong(sim, "OPEN of stream %u at end %d", ev->stream, at);
		return;
	}
	if (ev->dest.kind != m->dest.kind || ev->dest.port != m->dest.port || strcmp(ev->dest.host, m->dest.host) != 0)
		sim_wrong(sim, "stream %u: wrong destination", m->id);
	m->end[at].fate = FATE_ASKED;
}

/* An end that failed has reset the stream, but not before the other had all. Which of the two is heard of first is
 * chance. */
static void check_failed(struct sim *sim, int failed, const struct model_stream *m)
{
	if (!m->end[failed].failing || m->end[!failed].read != m->end[failed].written)
		sim_wrong(sim, "stream %u: end %d failed, %llu of %llu bytes were delivered", m->id, failed,
			  (unsigned long long)m->end[!failed].read, (unsigned long long)m->end[failed].written);
}

static void on_closed(struct sim *sim, int at, struct model_stream *m, const struct link_event *ev)
{
	struct model_end *me = &m->end[at], *other = &m->end[!at];
	if (me->fate != FATE_OPEN && me->fate != FATE_OPENING && me->fate != FATE_ASKED)
		sim_wrong(sim, "stream %u: CLOSED at end %d, fate %d", m->id, at, me->fate);
	if (ev->code == SIM_FAILED + (unsigned)at) {
		check_failed(sim, at, m);
		me->fate = FATE_LOCAL;
		sim_totals.failed++;
		return;
	}
	if (ev->code == SIM_FAILED + (unsigned)!at)
		check_failed(sim, !at, m);
	me->code = ev->code;
	if (ev->code == LINK_OK) {
		if (me->read != other->written || !me->eof || !me->finished || !other->finished)
			sim_wrong(sim, "stream %u: closed clean at end %d with %llu of %llu bytes", m->id, at,
				  (unsigned long long)me->read, (unsigned long long)other->written);
		me->fate = FATE_CLEAN;
		uint64_t in, out;
		if (link_stream_bytes(sim->end[at].link, m->id, &in, &out) != 0 || in != me->read || out != me->written)
			sim_wrong(sim, "stream %u: byte counts", m->id);
		return;
	}
	me->fate = FATE_PEER;
	if (ev->code == LINK_LIMIT && other->fate == FATE_NONE) { /* refused by the link itself */
		other->fate = FATE_LOCAL;
		other->code = LINK_LIMIT;
	}
	if ((other->fate != FATE_LOCAL && !other->failing) || other->code != ev->code)
		sim_wrong(sim, "stream %u: closed with %u (%s) at end %d, but fate %d code %u", m->id, ev->code,
			  ev->text, at, other->fate, other->code);
}

static void on_stream_event(struct sim *sim, int at, const struct link_event *ev)
{
	struct model_stream *m = find(sim, ev->stream);
	if (!m) {
		sim_wrong(sim, "event %d for stream %u", ev->type, ev->stream);
		return;
	}
	struct model_end *me = &m->end[at];
	if (me->fate == FATE_LOCAL || me->fate == FATE_CLEAN || me->fate == FATE_PEER)
		sim_wrong(sim, "stream %u: event %d after its end", m->id, ev->type);
	if (ev->type == LINK_EVENT_OPENED) {
		if (me->fate != FATE_OPENING || !m->end[!at].opened)
			sim_wrong(sim, "stream %u: OPENED", m->id);
		me->fate = FATE_OPEN;
	} else if (ev->type == LINK_EVENT_EOF) {
		if (me->eof || me->read != m->end[!at].written || !m->end[!at].finished)
			sim_wrong(sim, "stream %u: EOF at end %d", m->id, at);
		me->eof = true;
	} else if (ev->type == LINK_EVENT_WRITABLE) {
		if (me->failing || link_stream_room(sim->end[at].link, m->id) == 0)
			sim_wrong(sim, "stream %u: WRITABLE without room", m->id);
		me->waits = false;
	} else if (ev->type == LINK_EVENT_CLOSED) {
		on_closed(sim, at, m, ev);
	}
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
		sim_wrong(sim, "stream %u: fates %d/%u and %d/%u do not agree", m->id, a->fate, a->code, b->fate,
			  b->code);
}

static void on_stalled(struct sim *sim, int at)
{
	sim->end[at].want_new = true;
	sim_totals.stalls++;
}

void app_take_events(struct sim *sim, int at)
{
	static const char *const names[] = { "none", "up",  "stalled",  "open",   "opened",
					     "data", "eof", "writable", "closed", "over" };
	struct link_event ev;
	while (!*sim->wrong && link_next_event(sim->end[at].link, &ev)) {
		sim->moved = true;
		sim_trace(sim, "end %d: %s, stream %u, code %u %s", at, names[ev.type], ev.stream, ev.code, ev.text);
		if (ev.type == LINK_EVENT_OPEN)
			on_open(sim, at, &ev);
		else if (ev.type == LINK_EVENT_OVER)
			sim_wrong(sim, "session over at end %d: %u %s", at, ev.code, ev.text);
		else if (ev.type == LINK_EVENT_STALLED)
			on_stalled(sim, at);
		else if (ev.type == LINK_EVENT_UP)
			sim_totals.epochs++;
		else
			on_stream_event(sim, at, &ev);
	}
}

/* Bytes that wait are bounded by the windows, allocations by the bytes and two half-used chunks a direction. */
void app_check_memory(struct sim *sim, int at)
{
	const struct link *l = sim->end[at].link;
	const struct link_config *c = &l->config;
	const uint64_t chunk = 66 * 1024;
	uint64_t most = (uint64_t)c->session_window + c->window + (uint64_t)l->n_live * c->initial_window;
	if (l->retained > most || l->promised > most || l->held > 2 * most + l->n_live * 4 * chunk ||
	    l->n_streams > (size_t)2 * LIMIT_LINK_TABLE || (l->tls && link_tls_waiting(l->tls) > LIMIT_LINK_OUTPUT))
		sim_wrong(sim, "end %d holds too much: %zu bytes, retained %llu, promised %llu, %zu streams", at,
			  l->held, (unsigned long long)l->retained, (unsigned long long)l->promised, l->n_streams);
}

static void count(const struct model_stream *m)
{
	bool clean = m->end[0].fate == FATE_CLEAN && m->end[1].fate == FATE_CLEAN;
	bool refused = m->end[!m->opener].refused;
	sim_totals.clean += clean;
	sim_totals.refused += refused;
	sim_totals.reset += !clean && !refused;
	sim_totals.bytes += m->end[0].read + m->end[1].read;
}

void app_check_books(struct sim *sim, int at)
{
	const char *bad = wire_check_books(sim->end[at].link);
	if (bad)
		sim_wrong(sim, "end %d: %s do not add up", at, bad);
}

void app_check_end(struct sim *sim)
{
	for (unsigned i = 0; i < sim->n_streams; i++) {
		check_fates(sim, &sim->streams[i]);
		count(&sim->streams[i]);
	}
	for (int at = 0; at < 2; at++) {
		const struct link *l = sim->end[at].link;
		if (l->n_live || l->held || l->retained || l->promised || l->flight || l->asking ||
		    !list_empty(&l->control) || !list_empty(&l->lazy))
			sim_wrong(sim,
				  "end %d keeps: live %zu, held %zu, retained %llu, promised %llu, in flight %llu, "
				  "asking %zu",
				  at, l->n_live, l->held, (unsigned long long)l->retained,
				  (unsigned long long)l->promised, (unsigned long long)l->flight, l->asking);
	}
}
