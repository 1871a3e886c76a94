/* Legs and the relay, as PROTOCOL.md 3 has them: an end's leg knocks, is attached, may be replaced by a newer one; two
 * attached legs are paired in a new epoch; each end hears of it at a moment of its own, behind what is on its leg
 * already, and the relay drops what an end sends before it says `ready`.
 *
 * What can happen: a leg is cut in the middle of what it carries, with or without the relay or the end noticing soon;
 * it is stuck for a while; it swallows everything; the relay dies; an end attaches anew, once or several times, with
 * its old leg still there. */
#include "sim_parts.h"
#include "support/case.h"

#define HOLE_NOTICED_MS 40000 /* longer than the link ever needs: 10 s of silence and a dead time of 24 s */

/* ---- what is on a leg ---- */

static struct item *last_item(struct pipe *p)
{
	return p->n_items ? &p->items[p->n_items - 1] : NULL;
}

static void drop_first(struct pipe *p)
{
	memmove(p->items, p->items + 1, --p->n_items * sizeof(*p->items));
}

static void put_word(struct leg *leg, enum direction way, enum word word, unsigned epoch)
{
	struct pipe *p = &leg->pipe[way];
	if (leg->cut || p->hole)
		return;
	if (p->n_items >= SIM_ITEMS - 1) { /* nobody reads: the relay would close it */
		leg->cut = true;
		return;
	}
	p->items[p->n_items++] = (struct item){ word, epoch };
}

static void put_bytes(struct leg *leg, enum direction way, const uint8_t *bytes, size_t n)
{
	struct pipe *p = &leg->pipe[way];
	if (leg->cut || p->hole || n == 0)
		return;
	struct item *last = last_item(p);
	if (!last || last->word != WORD_BYTES) {
		put_word(leg, way, WORD_BYTES, 0);
		last = last_item(p);
	}
	if (leg->cut)
		return;
	assert_int_equal(buf_add(&p->bytes, bytes, n), 0);
	last->n += n;
}

static void empty(struct pipe *p)
{
	p->n_items = 0;
	buf_clear(&p->bytes);
}

/* Some of what is under way never arrives. */
static void lose_tail(struct sim *sim, struct pipe *p)
{
	unsigned keep = sim_below(sim, p->n_items + 1);
	while (p->n_items > keep) {
		struct item *last = last_item(p);
		if (last->word == WORD_BYTES)
			p->bytes.len -= last->n;
		p->n_items--;
	}
	struct item *last = last_item(p);
	if (!last || last->word != WORD_BYTES)
		return;
	size_t lost = sim_below(sim, (unsigned)last->n);
	last->n -= lost;
	p->bytes.len -= lost;
}

/* ---- legs ---- */

static struct leg *leg_in_use(struct sim *sim, int at)
{
	struct sim_end *end = &sim->end[at];
	return end->leg >= 0 ? &end->legs[end->leg] : NULL;
}

static struct leg *leg_at_relay(struct sim *sim, int at)
{
	return sim->relay.leg[at] >= 0 ? &sim->end[at].legs[sim->relay.leg[at]] : NULL;
}

static bool is_at_relay(const struct sim *sim, int at, const struct leg *leg)
{
	return sim->relay.leg[at] >= 0 && leg == &sim->end[at].legs[sim->relay.leg[at]];
}

static bool knocking(const struct sim *sim, int at, int i)
{
	const struct leg *leg = &sim->end[at].legs[i];
	return leg->open && !leg->cut && i != sim->end[at].leg && !is_at_relay(sim, at, leg) &&
	       leg->pipe[DOWN].n_items == 0;
}

bool net_knocks(const struct sim *sim, int at)
{
	const struct sim_end *end = &sim->end[at];
	for (int i = 0; i < SIM_LEGS; i++)
		if (end->legs[i].open && i != end->leg)
			return true;
	return false;
}

void net_attach(struct sim *sim, int at)
{
	struct sim_end *end = &sim->end[at];
	for (int i = 0; i < SIM_LEGS; i++) {
		struct leg *leg = &end->legs[i];
		if (leg->open || is_at_relay(sim, at, leg))
			continue;
		sim_trace(sim, "end %d: leg %d knocks", at, i);
		leg->open = true;
		leg->cut = false;
		for (int way = 0; way < 2; way++) {
			empty(&leg->pipe[way]);
			leg->pipe[way].stuck = leg->pipe[way].hole = false;
		}
		return;
	}
}

/* The end has done with it, and what is still under way to the relay may arrive or not. */
static void end_drops(struct sim *sim, int at, struct leg *leg)
{
	leg->open = false;
	leg->cut = true;
	empty(&leg->pipe[DOWN]);
	if (sim_below(sim, 2))
		lose_tail(sim, &leg->pipe[UP]);
	if (leg != leg_in_use(sim, at))
		return;
	sim->end[at].leg = -1;
	sim->end[at].epoch = 0;
}

static void end_loses(struct sim *sim, int at, struct leg *leg)
{
	bool used = leg == leg_in_use(sim, at);
	sim_trace(sim, "end %d: leg %d is lost", at, (int)(leg - sim->end[at].legs));
	end_drops(sim, at, leg);
	/* It may also keep the epoch until it is paired again; there is nobody to talk to. */
	if (used && sim_below(sim, 2))
		link_epoch_lost(sim->end[at].link, sim->now);
}

/* ---- the relay ---- */

static void relay_loses(struct sim *sim, int at)
{
	struct sim_relay *relay = &sim->relay;
	sim_trace(sim, "relay: the leg of end %d is gone", at);
	leg_at_relay(sim, at)->cut = true;
	relay->leg[at] = -1;
	if (relay->paired && relay->leg[!at] >= 0)
		put_word(leg_at_relay(sim, !at), DOWN, WORD_UNPAIRED, 0);
	relay->paired = false;
}

static void relay_pairs(struct sim *sim)
{
	struct sim_relay *relay = &sim->relay;
	relay->epoch++;
	relay->paired = true;
	relay->ready[0] = relay->ready[1] = false;
	sim_trace(sim, "relay: epoch %u", relay->epoch);
	for (int i = 0; i < 2; i++)
		put_word(leg_at_relay(sim, i), DOWN, WORD_PAIRED, relay->epoch);
}

void net_admit(struct sim *sim, int at)
{
	struct sim_relay *relay = &sim->relay;
	int first = (int)sim_below(sim, SIM_LEGS);
	for (int n = 0; n < SIM_LEGS; n++) {
		int i = (first + n) % SIM_LEGS;
		if (!knocking(sim, at, i))
			continue;
		sim_trace(sim, "relay: leg %d of end %d is in", i, at);
		if (relay->leg[at] >= 0)
			leg_at_relay(sim, at)->cut = true; /* 4001 */
		relay->leg[at] = i;
		put_word(leg_at_relay(sim, at), DOWN, WORD_ATTACHED, 0);
		if (relay->leg[!at] >= 0)
			relay_pairs(sim);
		sim->moved = true;
		return;
	}
}

static void forward_bytes(struct sim *sim, int at, struct pipe *from, size_t most)
{
	struct item *run = &from->items[0];
	size_t n = most < run->n ? most : run->n;
	if (sim->relay.paired && sim->relay.ready[at]) {
		struct leg *to = leg_at_relay(sim, !at);
		size_t room = SIM_QUEUE - to->pipe[DOWN].bytes.len;
		if (n > room)
			n = room;
		put_bytes(to, DOWN, buf_data(&from->bytes), n);
	} else {
		sim_totals.gated += n;
	}
	buf_consume(&from->bytes, n);
	run->n -= n;
	if (n)
		sim->moved = true;
	if (run->n == 0)
		drop_first(from);
}

void net_forward(struct sim *sim, int at, size_t most)
{
	struct leg *leg = leg_at_relay(sim, at);
	if (!leg || leg->pipe[UP].stuck)
		return;
	struct pipe *from = &leg->pipe[UP];
	if (from->n_items == 0) {
		if (leg->cut && !from->hole) {
			relay_loses(sim, at);
			sim->moved = true;
		}
		return;
	}
	if (from->items[0].word == WORD_BYTES) {
		forward_bytes(sim, at, from, most);
		return;
	}
	if (from->items[0].n == sim->relay.epoch)
		sim->relay.ready[at] = true;
	drop_first(from);
	sim->moved = true;
}

/* ---- the ends ---- */

void net_send(struct sim *sim, int at, size_t most)
{
	static uint8_t bytes[1 << 17];
	struct sim_end *end = &sim->end[at];
	struct leg *leg = leg_in_use(sim, at);
	if (!leg || !end->epoch)
		return;
	size_t room = SIM_QUEUE - leg->pipe[UP].bytes.len;
	if (most > room)
		most = room;
	if (most == 0)
		return;
	bool had = link_has_output(end->link);
	size_t n = link_output(end->link, bytes, most, sim->now);
	if (n > most || (had && n == 0))
		sim_wrong(sim, "end %d: output of %zu bytes into %zu", at, n, most);
	put_bytes(leg, UP, bytes, n);
	if (n)
		sim->moved = true;
}

static void read_bytes(struct sim *sim, int at, struct leg *leg, size_t most)
{
	struct pipe *from = &leg->pipe[DOWN];
	struct item *run = &from->items[0];
	size_t n = most < run->n ? most : run->n;
	if (sim->options->tamper && !sim->draining && sim_below(sim, 40) == 0)
		from->bytes.bytes[from->bytes.head + sim_below(sim, (unsigned)n)] ^= (uint8_t)(1u << sim_below(sim, 8));
	/* of exactly its size, so that a sanitizer sees a read behind it */
	uint8_t *copy = malloc(n);
	memcpy(copy, buf_data(&from->bytes), n);
	buf_consume(&from->bytes, n);
	run->n -= n;
	if (run->n == 0)
		drop_first(from);
	struct err e;
	int rc = sim->end[at].epoch ? link_input(sim->end[at].link, copy, n, sim->now, &e) : 0;
	free(copy);
	if (rc == 0)
		return;
	if (!sim->options->tamper)
		sim_wrong(sim, "input at end %d: %s", at, e.text);
	end_loses(sim, at, leg);
}

static void read_paired(struct sim *sim, int at, struct leg *leg, unsigned epoch)
{
	struct err e;
	sim_trace(sim, "end %d: paired %u", at, epoch);
	if (link_epoch_start(sim->end[at].link, sim->now, &e) != 0)
		sim_wrong(sim, "epoch start: %s", e.text);
	sim->end[at].epoch = epoch;
	sim->end[at].want_new = false;
	put_word(leg, UP, WORD_READY, epoch);
}

/* The first that is attached wins: the others are dropped. */
static void read_attached(struct sim *sim, int at, int i)
{
	struct sim_end *end = &sim->end[at];
	sim_trace(sim, "end %d: leg %d is attached", at, i);
	for (int k = 0; k < SIM_LEGS; k++)
		if (k != i && end->legs[k].open)
			end_drops(sim, at, &end->legs[k]);
	if (sim_below(sim, 2))
		link_epoch_lost(end->link, sim->now);
	end->leg = i;
	end->epoch = 0;
	end->want_new = false;
}

static void read_leg(struct sim *sim, int at, int i, size_t most)
{
	struct leg *leg = &sim->end[at].legs[i];
	struct pipe *from = &leg->pipe[DOWN];
	if (!leg->open || from->stuck)
		return;
	if (from->n_items == 0) {
		if (!leg->cut || from->hole)
			return;
		end_loses(sim, at, leg);
	} else if (from->items[0].word == WORD_BYTES) {
		read_bytes(sim, at, leg, most);
	} else {
		struct item item = from->items[0];
		drop_first(from);
		if (item.word == WORD_ATTACHED) {
			read_attached(sim, at, i);
		} else if (item.word == WORD_PAIRED) {
			read_paired(sim, at, leg, (unsigned)item.n);
		} else {
			sim_trace(sim, "end %d: unpaired", at);
			link_epoch_lost(sim->end[at].link, sim->now);
			sim->end[at].epoch = 0;
		}
	}
	sim->moved = true;
}

void net_read(struct sim *sim, int at, size_t most)
{
	unsigned first = sim_below(sim, SIM_LEGS);
	for (unsigned n = 0; n < SIM_LEGS; n++)
		read_leg(sim, at, (int)((first + n) % SIM_LEGS), most);
}

/* ---- faults ---- */

/* One of an end's legs, in use or knocking. */
static struct leg *any_leg(struct sim *sim, int at)
{
	struct leg *leg = &sim->end[at].legs[sim_below(sim, SIM_LEGS)];
	if (sim_below(sim, 4) || !leg->open)
		leg = leg_in_use(sim, at);
	return leg;
}

static void cut_leg(struct sim *sim, int at, struct leg *leg)
{
	sim_trace(sim, "leg %d of end %d is cut", (int)(leg - sim->end[at].legs), at);
	sim->cuts += leg == leg_in_use(sim, at);
	leg->cut = true;
	for (int way = 0; way < 2; way++) {
		lose_tail(sim, &leg->pipe[way]);
		leg->pipe[way].stuck = leg->pipe[way].hole = false;
	}
}

void net_cut(struct sim *sim, int at)
{
	struct leg *leg = any_leg(sim, at);
	if (leg)
		cut_leg(sim, at, leg);
}

void net_hole(struct sim *sim, int at)
{
	struct leg *leg = any_leg(sim, at);
	if (!leg || leg->cut || leg->pipe[UP].hole || leg->pipe[DOWN].hole)
		return;
	unsigned ways = 1 + sim_below(sim, 3);
	sim_trace(sim, "leg %d of end %d swallows everything (%s%s)", (int)(leg - sim->end[at].legs), at,
		  ways & 1u << UP ? "up" : "", ways & 1u << DOWN ? "down" : "");
	leg->hole_at = sim->now;
	for (int way = 0; way < 2; way++) {
		if (!(ways & 1u << way))
			continue;
		lose_tail(sim, &leg->pipe[way]);
		leg->pipe[way].hole = true;
	}
}

void net_stick(struct sim *sim, int at)
{
	struct leg *leg = any_leg(sim, at);
	if (leg)
		leg->pipe[sim_below(sim, 2)].stuck = true;
}

void net_unstick(struct sim *sim, int at)
{
	for (int i = 0; i < SIM_LEGS; i++)
		for (int way = 0; way < 2; way++)
			sim->end[at].legs[i].pipe[way].stuck = false;
}

void net_restart(struct sim *sim)
{
	sim_trace(sim, "the relay dies");
	for (int at = 0; at < 2; at++) {
		for (int i = 0; i < SIM_LEGS; i++)
			if (sim->end[at].legs[i].open)
				cut_leg(sim, at, &sim->end[at].legs[i]);
		sim->relay.leg[at] = -1;
	}
	sim->relay.paired = false;
	sim->relay.epoch = 0;
}

/* ---- time ---- */

static int64_t hole_end(const struct sim *sim, const struct leg *leg)
{
	if (!leg->open || (!leg->pipe[UP].hole && !leg->pipe[DOWN].hole))
		return INT64_MAX;
	int64_t from = leg->hole_at > sim->draining_since ? leg->hole_at : sim->draining_since;
	return from + HOLE_NOTICED_MS;
}

int64_t net_deadline(const struct sim *sim)
{
	int64_t at = INT64_MAX;
	for (int i = 0; i < 2 * SIM_LEGS; i++) {
		int64_t due = hole_end(sim, &sim->end[i / SIM_LEGS].legs[i % SIM_LEGS]);
		if (due < at)
			at = due;
	}
	return at;
}

void net_tick(struct sim *sim)
{
	for (int at = 0; at < 2; at++)
		for (int i = 0; i < SIM_LEGS; i++) {
			struct sim_end *end = &sim->end[at];
			struct leg *leg = &end->legs[i];
			if (sim->now < hole_end(sim, leg))
				continue;
			if (sim->draining && i == end->leg && leg->pipe[DOWN].hole && link_is_up(end->link) &&
			    end->epoch && !end->link->stalled_told)
				sim_wrong(sim, "end %d does not notice that it hears nothing", at);
			end_loses(sim, at, leg);
		}
}

/* ---- birth and death ---- */

bool net_idle(const struct sim *sim)
{
	for (int i = 0; i < 2 * SIM_LEGS; i++) {
		const struct leg *leg = &sim->end[i / SIM_LEGS].legs[i % SIM_LEGS];
		if ((is_at_relay(sim, i / SIM_LEGS, leg) && leg->pipe[UP].n_items) ||
		    (leg->open && leg->pipe[DOWN].n_items))
			return false;
	}
	return true;
}

void net_birth(struct sim *sim)
{
	for (int at = 0; at < 2; at++) {
		sim->relay.leg[at] = sim->end[at].leg = -1;
		for (int i = 0; i < 2 * SIM_LEGS; i++)
			buf_init(&sim->end[at].legs[i / 2].pipe[i % 2].bytes, SIM_QUEUE);
	}
}

void net_death(struct sim *sim)
{
	for (int at = 0; at < 2; at++)
		for (int i = 0; i < 2 * SIM_LEGS; i++)
			buf_free(&sim->end[at].legs[i / 2].pipe[i % 2].bytes);
}
