/* Timers that follow each other closely do not keep a loop from its sockets, and none fires early. */
#include "support/case.h"

#include "net/timer.h"

#include <sys/eventfd.h>
#include <unistd.h>

#define FAR_TOO_MANY 200

struct busy {
	uv_loop_t loop;
	uv_timer_t timers[2];
	uv_poll_t poll;
	int due, due_before_poll;
};

static void spend_ms(int64_t ms)
{
	int64_t until = clock_mono_us() + ms * 1000;
	while (clock_mono_us() < until)
		;
}

static void stop(struct busy *b)
{
	for (int i = 0; i < 2; i++)
		uv_close((uv_handle_t *)&b->timers[i], NULL);
	uv_close((uv_handle_t *)&b->poll, NULL);
}

static void on_due(uv_timer_t *t)
{
	struct busy *b = t->data;
	spend_ms(2); /* so the other one is due when this one is done */
	if (++b->due == FAR_TOO_MANY)
		stop(b);
	else
		timer_at(t, on_due, clock_mono_ms() + 1);
}

static void on_readable(uv_poll_t *p, int status, int events)
{
	struct busy *b = p->data;
	(void)status, (void)events;
	b->due_before_poll = b->due;
	stop(b);
}

static void test_a_busy_loop_looks_at_its_sockets(void **state)
{
	(void)state;
	struct busy b = { .due_before_poll = -1 };
	int fd = eventfd(1, EFD_CLOEXEC);
	uv_loop_init(&b.loop);
	uv_poll_init(&b.loop, &b.poll, fd);
	b.poll.data = &b;
	uv_poll_start(&b.poll, UV_READABLE, on_readable);
	for (int i = 0; i < 2; i++) {
		uv_timer_init(&b.loop, &b.timers[i]);
		b.timers[i].data = &b;
		timer_in(&b.timers[i], on_due, 0);
	}
	spend_ms(5);
	uv_run(&b.loop, UV_RUN_DEFAULT);
	assert_in_range(b.due_before_poll, 0, 10);
	assert_int_equal(uv_loop_close(&b.loop), 0);
	close(fd);
}

static void on_late(uv_timer_t *t)
{
	*(int64_t *)t->data = clock_mono_us();
	uv_close((uv_handle_t *)t, NULL);
}

static void test_a_loop_that_is_behind_fires_none_early(void **state)
{
	(void)state;
	uv_loop_t loop;
	uv_timer_t timer;
	int64_t fired_us = 0;
	uv_loop_init(&loop);
	uv_timer_init(&loop, &timer);
	timer.data = &fired_us;
	spend_ms(50); /* the loop does not know of it */
	int64_t begun_us = clock_mono_us();
	timer_in(&timer, on_late, 40);
	uv_run(&loop, UV_RUN_DEFAULT);
	assert_true(fired_us - begun_us >= 38 * 1000);
	assert_int_equal(uv_loop_close(&loop), 0);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_busy_loop_looks_at_its_sockets),
		cmocka_unit_test(test_a_loop_that_is_behind_fires_none_early),
	};
	return RUN_CASES(tests);
}
