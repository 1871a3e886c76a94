/* A run: some hundred random steps, after which everything that was begun is brought to its end over legs that fail no
 * more of themselves. Between the steps of that end time leaps to the next moment that anybody waits for, so what the
 * links notice late (black holes) costs nothing. */
#include "sim_parts.h"
#include "support/case.h"
#include "wire.h"

#include <unistd.h>

#define MAX_ROUNDS 20000

struct sim_totals sim_totals;

/* ---- chance, words ---- */

static uint64_t next_random(struct sim *sim)
{
	uint64_t z = sim->random += 0x9e3779b97f4a7c15u;
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return z ^ z >> 31;
}

unsigned sim_below(struct sim *sim, unsigned n)
{
	return (unsigned)(next_random(sim) % n);
}

unsigned sim_size(struct sim *sim, unsigned max)
{
	unsigned bits = 1 + sim_below(sim, 17);
	unsigned n = 1 + sim_below(sim, 1u << bits);
	return n < max ? n : max;
}

void sim_wrong(struct sim *sim, const char *fmt, ...)
{
	if (*sim->wrong)
		return;
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(sim->wrong, sizeof(sim->wrong), fmt, ap);
	va_end(ap);
}

void sim_trace(const struct sim *sim, const char *fmt, ...)
{
	if (!sim->trace)
		return;
	va_list ap;
	va_start(ap, fmt);
	fprintf(stderr, "%8lld ms  ", (long long)sim->now);
	vfprintf(stderr, fmt, ap);
	fputc('\n', stderr);
	va_end(ap);
}

/* ---- steps ---- */

static void pass_time(struct sim *sim, int64_t ms)
{
	sim->now += ms;
	for (int at = 0; at < 2; at++)
		link_tick(sim->end[at].link, sim->now);
	net_tick(sim);
}

static struct model_stream *any_stream(struct sim *sim)
{
	return sim->n_streams ? &sim->streams[sim_below(sim, sim->n_streams)] : NULL;
}

static void step_write(struct sim *sim, int at)
{
	struct model_stream *m = any_stream(sim);
	if (m)
		app_write(sim, m, at, sim_size(sim, 1 << 17));
}

static void step_consume(struct sim *sim, int at)
{
	struct model_stream *m = any_stream(sim);
	if (m)
		app_consume(sim, m, at, sim_size(sim, 1 << 17));
}

static void step_stream(struct sim *sim, int at)
{
	static void (*const acts[])(struct sim *, struct model_stream *, int) = {
		app_answer, app_answer, app_answer, app_finish, app_eof_done, app_eof_done,
	};
	struct model_stream *m = any_stream(sim);
	if (!m)
		return;
	unsigned n = sim_below(sim, 24);
	if (n == 0)
		app_reset(sim, m, at);
	else if (n == 1)
		app_fail(sim, m, at);
	else
		acts[sim_below(sim, sizeof(acts) / sizeof(*acts))](sim, m, at);
}

static void step_send(struct sim *sim, int at)
{
	net_send(sim, at, sim_size(sim, 1 << 17));
}

static void step_forward(struct sim *sim, int at)
{
	net_forward(sim, at, sim_size(sim, 1 << 17));
}

static void step_read(struct sim *sim, int at)
{
	net_read(sim, at, sim_size(sim, 1 << 17));
}

static bool needs_leg(const struct sim *sim, int at)
{
	return (sim->end[at].leg < 0 || sim->end[at].want_new) && !net_knocks(sim, at);
}

static void step_connect(struct sim *sim, int at)
{
	if (needs_leg(sim, at))
		net_attach(sim, at);
	else
		net_admit(sim, at);
}

/* Whatever is to be moved, moves. */
static void step_flow(struct sim *sim, int at)
{
	for (unsigned n = 1 + sim_below(sim, 6); n > 0; n--, at = !at) {
		step_connect(sim, at);
		net_send(sim, at, SIM_QUEUE);
		net_forward(sim, at, SIM_QUEUE);
		net_read(sim, !at, SIM_QUEUE);
	}
}

static void step_time(struct sim *sim, int at)
{
	(void)at;
	pass_time(sim, sim_below(sim, sim->pace));
}

static void step_cut(struct sim *sim, int at)
{
	net_cut(sim, at);
	if (sim_below(sim, 3) == 0)
		net_cut(sim, !at);
}

static void step_restart(struct sim *sim, int at)
{
	(void)at;
	net_restart(sim);
}

static void step_leap(struct sim *sim, int at)
{
	(void)at;
	pass_time(sim, sim_below(sim, 15 * 60 * 1000));
}

static const struct {
	unsigned weight;
	void (*act)(struct sim *, int at);
	enum sim_fault fault; /* 0: none */
} steps[] = {
	{ 30, step_write, 0 },         { 25, step_consume, 0 },
	{ 16, step_stream, 0 },        { 6, app_open, 0 },
	{ 45, step_send, 0 },          { 45, step_forward, 0 },
	{ 45, step_read, 0 },          { 12, step_connect, 0 },
	{ 25, step_flow, 0 },          { 5, step_time, 0 },
	{ 3, net_unstick, 0 },         { 2, step_cut, SIM_CUT },
	{ 1, net_hole, SIM_HOLE },     { 2, net_stick, SIM_STICK },
	{ 2, net_attach, SIM_ATTACH }, { 1, step_restart, SIM_RESTART },
	{ 1, step_leap, SIM_LEAP },
};
#define N_STEPS (sizeof(steps) / sizeof(*steps))

static void step(struct sim *sim)
{
	unsigned total = 0, i = 0;
	for (unsigned k = 0; k < N_STEPS; k++)
		total += steps[k].weight;
	unsigned n = sim_below(sim, total);
	int at = (int)sim_below(sim, 2);
	while (n >= steps[i].weight)
		n -= steps[i++].weight;
	if (steps[i].fault) {
		if (!(sim->options->kinds & steps[i].fault) || sim->faults >= sim->options->faults ||
		    sim_below(sim, sim->calm))
			return;
		sim->faults++;
	}
	steps[i].act(sim, at);
}

/* ---- the end of a run ---- */

static void drain_end(struct sim *sim, int at)
{
	if (needs_leg(sim, at)) {
		net_attach(sim, at);
		sim->moved = true;
	}
	net_admit(sim, at);
	for (unsigned i = 0; i < sim->n_streams; i++) {
		struct model_stream *m = &sim->streams[i];
		app_answer(sim, m, at);
		app_finish(sim, m, at);
		app_consume(sim, m, at, SIZE_MAX);
		app_take_events(sim, at);
		app_eof_done(sim, m, at);
	}
	net_send(sim, at, SIM_QUEUE);
	net_forward(sim, at, SIM_QUEUE);
	net_read(sim, !at, SIM_QUEUE);
	app_take_events(sim, at);
	app_take_events(sim, !at);
}

static void leap_to_next(struct sim *sim)
{
	int64_t next = net_deadline(sim);
	for (int at = 0; at < 2; at++)
		if (link_deadline(sim->end[at].link) < next)
			next = link_deadline(sim->end[at].link);
	pass_time(sim, next > sim->now && next < INT64_MAX ? next - sim->now : 1);
}

static bool is_settled(const struct sim *sim)
{
	for (int at = 0; at < 2; at++)
		if (sim->end[at].link->n_streams || link_has_output(sim->end[at].link))
			return false;
	return net_idle(sim);
}

static void drain(struct sim *sim)
{
	sim_trace(sim, "--- from here on all is brought to its end");
	sim->draining = true;
	sim->draining_since = sim->now;
	net_unstick(sim, 0);
	net_unstick(sim, 1);
	unsigned rounds = 0;
	do {
		sim->moved = false;
		drain_end(sim, 0);
		drain_end(sim, 1);
		if (!sim->moved)
			leap_to_next(sim);
	} while (!*sim->wrong && !is_settled(sim) && ++rounds < MAX_ROUNDS);
	if (rounds >= MAX_ROUNDS)
		sim_wrong(sim, "does not come to an end");
	if (!*sim->wrong)
		app_check_end(sim);
}

/* ---- one run, many runs ---- */

static void set_up(struct sim *sim, uint64_t seed, const struct sim_options *options)
{
	static const uint32_t windows[] = { 256, 1000, 4096, 20000, 65536 };
	*sim = (struct sim){ .options = options, .random = seed, .now = 1000, .trace = getenv("LINK_SIM_TRACE") };
	for (int i = 0; i < 2; i++) {
		struct link_config c = { .role = i ? LINK_TARGET : LINK_CLIENT, .key = wire_keys()->key[i] };
		c.initial_window = windows[sim_below(sim, 5)];
		c.window = c.initial_window * (1 + sim_below(sim, 8));
		c.session_window = c.window * (1 + sim_below(sim, 3));
		c.max_streams = 1 + sim_below(sim, 12);
		memcpy(c.peer_pin, wire_keys()->pin[!i], sizeof(c.peer_pin));
		struct err e;
		if (link_new(&c, &sim->end[i].link, &e) != 0)
			fail_msg("%s", e.text);
	}
	sim->calm = 1u << sim_below(sim, 6);
	sim->pace = 10u << sim_below(sim, 8);
	net_birth(sim);
}

const char *sim_run(uint64_t seed, const struct sim_options *options)
{
	static struct sim sim;
	set_up(&sim, seed, options);
	unsigned steps_left = 1 + sim_below(&sim, options->steps);
	unsigned cut_from = options->surely_cut ? sim_below(&sim, steps_left) : 0;
	while (steps_left-- && !*sim.wrong) {
		step(&sim);
		if (options->surely_cut && !sim.cuts && steps_left <= cut_from)
			step_cut(&sim, (int)sim_below(&sim, 2));
		for (int at = 0; at < 2; at++) {
			app_take_events(&sim, at);
			app_check_memory(&sim, at);
			app_check_books(&sim, at);
		}
	}
	if (!*sim.wrong)
		drain(&sim);
	for (int at = 0; at < 2; at++)
		link_free(&sim.end[at].link);
	net_death(&sim);
	sim_totals.cut_runs += sim.cuts > 0;
	return *sim.wrong ? sim.wrong : NULL;
}

static void tell_failure(const char *name, uint64_t seed, const char *bad)
{
	char program[512];
	ssize_t n = readlink("/proc/self/exe", program, sizeof(program) - 1);
	program[n > 0 ? n : 0] = '\0';
	fail_msg("%s\nreplay (LINK_SIM_TRACE=1 as well: what happens): LINK_SIM_SEED=%llu %s %s", bad,
		 (unsigned long long)seed, program, name);
}

void sim_run_many(const char *name, uint64_t first_seed, unsigned runs, const struct sim_options *options)
{
	const char *only = getenv("LINK_SIM_SEED"), *more = getenv("LINK_SIM_RUNS");
	if (more)
		runs = (unsigned)strtoul(more, NULL, 10);
	sim_totals = (struct sim_totals){ 0 };
	if (only) {
		first_seed = strtoull(only, NULL, 10);
		runs = 1;
	}
	for (uint64_t seed = first_seed; seed < first_seed + runs; seed++) {
		const char *bad = sim_run(seed, options);
		if (bad)
			tell_failure(name, seed, bad);
	}
	const struct sim_totals *t = &sim_totals;
	if (!only && !more && t->cut_runs < options->cut_runs)
		fail_msg("a leg was cut in %u of %u runs; expected %u or more", t->cut_runs, runs, options->cut_runs);
	if (more)
		print_message("%u runs (%u with a cut): %llu epochs, %llu stalls, %llu MB in streams (%llu closed, "
			      "%llu reset, %llu refused, %llu failed), %llu kB of old epochs\n",
			      runs, t->cut_runs, (unsigned long long)t->epochs, (unsigned long long)t->stalls,
			      (unsigned long long)t->bytes / 1000000, (unsigned long long)t->clean,
			      (unsigned long long)t->reset, (unsigned long long)t->refused,
			      (unsigned long long)t->failed, (unsigned long long)t->gated / 1000);
}
