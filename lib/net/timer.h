/* Starting libuv timers from the real time. A loop counts from the time at which its turn began; to bring that up to
 * date with uv_update_time inside a timer's callback lets a busy loop go from timer to timer and never look at its
 * sockets. Here the difference is added instead. Loop's thread. */
#ifndef NET_TIMER_H
#define NET_TIMER_H

#include "base/clock.h"

#include <stdint.h>
#include <uv.h>

static inline void timer_in(uv_timer_t *timer, uv_timer_cb cb, int64_t ms)
{
	uint64_t now = uv_hrtime() / 1000000, turn = uv_now(timer->loop);
	uv_timer_start(timer, cb, (ms > 0 ? (uint64_t)ms : 0) + (now > turn ? now - turn : 0), 0);
}

/* due_ms: by clock_mono_ms() */
static inline void timer_at(uv_timer_t *timer, uv_timer_cb cb, int64_t due_ms)
{
	timer_in(timer, cb, due_ms - clock_mono_ms());
}

#endif
