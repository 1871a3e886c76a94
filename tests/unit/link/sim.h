/* A random session between two links, with legs and a relay that fail in every way they can, judged by a model that
 * knows what every stream must have carried and how it must have ended. Everything follows from the seed. */
#ifndef TESTS_LINK_SIM_H
#define TESTS_LINK_SIM_H

#include <stdbool.h>
#include <stdint.h>

enum sim_fault {
	SIM_CUT = 1,      /* a leg, or the legs of both ends at once, at any byte */
	SIM_HOLE = 2,     /* a leg swallows one direction or both until it is cut or given up */
	SIM_STICK = 4,    /* a direction stands still for a while */
	SIM_ATTACH = 8,   /* an end takes a new leg, or two, though the old one is fine */
	SIM_RESTART = 16, /* the relay dies */
	SIM_LEAP = 32,    /* time leaps by minutes, as after a suspend */
	SIM_ALL = 63,
};

struct sim_options {
	unsigned steps, streams, faults; /* at most */
	unsigned kinds;                  /* of faults, enum sim_fault */
	bool tamper;                     /* flip bytes on the wire; needs real TLS */
	bool surely_cut;                 /* once at least, at a random step, if there is a leg to cut */
	unsigned cut_runs;               /* of the runs, so many at least must have had a leg in use cut */
};

/* NULL, or what went wrong (static storage). */
const char *sim_run(uint64_t seed, const struct sim_options *options);

/* Fails the case at the first bad seed, with the command that replays it.
 * LINK_SIM_SEED=n: that seed alone; LINK_SIM_RUNS=n: so many instead of runs; LINK_SIM_TRACE=1: tell what happens. */
#define SIM_RUN_MANY(first_seed, runs, ...) \
	sim_run_many(__func__, first_seed, runs, &(struct sim_options){ __VA_ARGS__ })
void sim_run_many(const char *name, uint64_t first_seed, unsigned runs, const struct sim_options *options);

#endif
