/* Agents first, as many at once as calls may be under way; then, when all are connected, sessions at the rate asked
 * for. One timer looks what is due, so that starting never holds up what runs. */
#include "swarm.h"

#include "base/clock.h"

#define LOOK_MS 5
#define STARTS_A_LOOK 20 /* making keys and TLS settings takes a millisecond a session */

static bool agents_ready(const struct swarm *s)
{
	for (size_t i = 0; i < s->agents_begun; i++)
		if (s->agents[i].state != AGENT_UP)
			return false;
	return s->agents_begun == (size_t)s->options.agents;
}

static size_t sessions_due(const struct swarm *s)
{
	size_t all = (size_t)s->options.sessions;
	if (s->options.rate == 0)
		return all;
	size_t due = (size_t)((clock_mono_ms() - s->paced_from_ms) * s->options.rate / 1000) + 1;
	return due < all ? due : all;
}

static void look(uv_timer_t *timer)
{
	struct swarm *s = timer->data;
	while (s->agents_begun < (size_t)s->options.agents && s->calls < SWARM_CALLS)
		agent_start(s, s->agents_begun++);
	if (!s->paced_from_ms && !s->options.hold && agents_ready(s))
		s->paced_from_ms = clock_mono_ms();
	if (!s->paced_from_ms)
		return;
	size_t due = sessions_due(s);
	for (int i = 0; i < STARTS_A_LOOK && s->sessions_begun < due && s->calls < SWARM_CALLS; i++)
		session_start(s, s->sessions_begun++);
	if (s->sessions_begun == (size_t)s->options.sessions)
		uv_timer_stop(timer);
}

void start_begin(struct swarm *s)
{
	uv_timer_start(&s->pace, look, 0, LOOK_MS);
}

void start_stop(struct swarm *s)
{
	uv_timer_stop(&s->pace);
}
