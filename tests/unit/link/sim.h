/* A random session between two links, with a wire that is cut, delayed and chopped up, judged by a model that knows
 * what every stream must have carried and how it must have ended. Everything follows from the seed. */
#ifndef TESTS_LINK_SIM_H
#define TESTS_LINK_SIM_H

#include <stdbool.h>
#include <stdint.h>

struct sim_options {
	unsigned steps, streams, cuts; /* at most */
	bool tamper;                   /* flip bytes on the wire; needs real TLS */
};

/* NULL, or what went wrong (static storage). */
const char *sim_run(uint64_t seed, const struct sim_options *options);

/* LINK_SIM_SEED=n: that seed alone; LINK_SIM_RUNS=n: so many instead of runs. Fails the case at the first bad seed. */
void sim_run_many(uint64_t first_seed, unsigned runs, const struct sim_options *options);

#endif
