/* For how long a session goes on without the control plane: while the supervisor is there and its control connection is
 * up it is in touch, and when it has not been for the lease's time the session freezes until it is again. */
#ifndef AGENT_LEASE_H
#define AGENT_LEASE_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

struct lease {
	uv_timer_t timer;
	int64_t ms; /* 0: for ever */
	bool in_touch, frozen;
	void (*changed)(void *user, bool frozen);
	void *user;
};

/* In touch from the start; ms is set by the caller before that changes. timer is a handle of the loop's from here on.
 */
void lease_init(struct lease *l, uv_loop_t *loop, void (*changed)(void *user, bool frozen), void *user);
void lease_touch(struct lease *l, bool in_touch);
void lease_end(struct lease *l); /* closes the timer */

#endif
