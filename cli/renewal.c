/* The first attempt leaves room for many more: a source of credentials may give a fresh one only shortly before the old
 * one ends, or a server may be away. Each further one comes when a third of what is left has gone by, with a random
 * factor, so they get denser towards the end and a thousand clients do not ask in step. */
#include "cli/renewal.h"

#include "base/secret.h"

#define LEAD_MAX_MS (10 * 60 * 1000LL)
#define URGENT_MAX_MS (5 * 60 * 1000LL)
#define WAIT_MIN_MS 1000
#define WAIT_LATE_MS 30000 /* behind the end, if the server's clock is behind ours */
#define LOOK_MS 30000      /* a machine may sleep, and its clock be set */

/* At least half of it. */
static int64_t shortened(int64_t ms)
{
	uint32_t random;
	secret_random(&random, sizeof random);
	return ms / 2 + (int64_t)(random % (uint64_t)(ms - ms / 2 + 1));
}

void renewal_begin(struct renewal *r, int64_t end_ms, int64_t wall_ms)
{
	int64_t left_ms = end_ms - wall_ms;
	*r = (struct renewal){ .end_ms = end_ms };
	if (!end_ms)
		return;
	left_ms = left_ms > 0 ? left_ms : 0;
	r->lead_ms = left_ms * 2 / 3 < LEAD_MAX_MS ? left_ms * 2 / 3 : LEAD_MAX_MS;
	r->due_ms = end_ms - r->lead_ms + r->lead_ms / 5 - shortened(r->lead_ms / 5);
}

void renewal_hurry(struct renewal *r, int64_t wall_ms)
{
	if (r->due_ms > wall_ms)
		r->due_ms = wall_ms;
}

void renewal_failed(struct renewal *r, int64_t wall_ms)
{
	int64_t left_ms = r->end_ms - wall_ms, wait_ms = left_ms > 0 ? left_ms / 3 : WAIT_LATE_MS;
	r->due_ms = wall_ms + shortened(wait_ms > 2 * WAIT_MIN_MS ? wait_ms : 2 * WAIT_MIN_MS);
}

int64_t renewal_wait_ms(const struct renewal *r, int64_t wall_ms)
{
	int64_t wait_ms = r->due_ms - wall_ms;
	if (!r->end_ms)
		return -1;
	return wait_ms <= 0 ? 0 : wait_ms < LOOK_MS ? wait_ms : LOOK_MS;
}

bool renewal_is_urgent(const struct renewal *r, int64_t wall_ms)
{
	int64_t urgent_ms = r->lead_ms / 2 < URGENT_MAX_MS ? r->lead_ms / 2 : URGENT_MAX_MS;
	return r->end_ms && r->end_ms - wall_ms <= urgent_ms;
}
