#include "agent/lease.h"

static void set_frozen(struct lease *l, bool frozen)
{
	if (l->frozen == frozen)
		return;
	l->frozen = frozen;
	l->changed(l->user, frozen);
}

static void on_over(uv_timer_t *timer)
{
	set_frozen(timer->data, true);
}

void lease_init(struct lease *l, uv_loop_t *loop, void (*changed)(void *user, bool frozen), void *user)
{
	*l = (struct lease){ .in_touch = true, .changed = changed, .user = user };
	uv_timer_init(loop, &l->timer);
	l->timer.data = l;
}

void lease_touch(struct lease *l, bool in_touch)
{
	if (l->in_touch == in_touch || l->ms == 0)
		return;
	l->in_touch = in_touch;
	if (in_touch) {
		uv_timer_stop(&l->timer);
		set_frozen(l, false);
	} else {
		uv_timer_start(&l->timer, on_over, (uint64_t)l->ms, 0);
	}
}

void lease_end(struct lease *l)
{
	uv_close((uv_handle_t *)&l->timer, NULL);
}
