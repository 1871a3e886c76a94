/* Two links over a line of some bytes a second that may go dead, in made-up time: slow lines get their bytes through,
 * and a line that is not slow is given up at once when it is dead. */
#include "link/internal.h"
#include "support/case.h"
#include "wire.h"

#define TICK_MS 10
#define QUEUE (64 * 1024) /* bytes that wait in a direction: sockets and relay */
#define REATTACH_MS 300

struct line {
	struct wire w;
	int64_t rate; /* bytes a second, each way */
	bool dead;
	struct buf queue[2]; /* by sender */
	int64_t due[2];      /* thousandths of a byte that the line may carry now */
	int64_t again_at;    /* a new epoch, after a stall; 0: none is due */
	unsigned stalls[2];
	uint32_t id;
	uint64_t read[2];
	int64_t stalled_at[2];
};

static void line_init(struct line *l, int64_t rate)
{
	*l = (struct line){ .rate = rate };
	wire_up(&l->w, NULL);
	l->id = wire_stream(&l->w);
	for (int i = 0; i < 2; i++)
		buf_init(&l->queue[i], QUEUE);
}

static void line_free(struct line *l)
{
	wire_free(&l->w);
	for (int i = 0; i < 2; i++)
		buf_free(&l->queue[i]);
}

static void carry(struct line *l, int from)
{
	static uint8_t bytes[QUEUE];
	struct buf *q = &l->queue[from];
	size_t n = link_output(l->w.end[from], bytes, buf_room(q), l->w.now);
	assert_int_equal(buf_add(q, bytes, n), 0);
	l->due[from] += l->rate * TICK_MS;
	n = (size_t)(l->due[from] / 1000);
	if (n > q->len)
		n = q->len;
	l->due[from] = q->len == n ? 0 : l->due[from] - (int64_t)n * 1000;
	if (!l->dead && n)
		assert_int_equal(link_input(l->w.end[!from], buf_data(q), n, l->w.now, NULL), 0);
	buf_consume(q, n);
}

static void read_all(struct line *l, int at)
{
	const void *data;
	size_t n;
	while ((n = link_stream_peek(l->w.end[at], l->id, &data)) > 0) {
		for (size_t i = 0; i < n; i++)
			if (((const uint8_t *)data)[i] != (uint8_t)((l->read[at] + i) * 7))
				fail_msg("wrong byte at %llu", (unsigned long long)(l->read[at] + i));
		l->read[at] += n;
		link_stream_consume(l->w.end[at], l->id, n);
	}
}

static void take_events(struct line *l, int at)
{
	struct link_event ev;
	while (link_next_event(l->w.end[at], &ev)) {
		assert_true(ev.type != LINK_EVENT_CLOSED && ev.type != LINK_EVENT_OVER);
		if (ev.type != LINK_EVENT_STALLED)
			continue;
		l->stalls[at]++;
		l->stalled_at[at] = l->w.now;
		if (!l->again_at)
			l->again_at = l->w.now + REATTACH_MS;
	}
}

static void line_tick(struct line *l)
{
	l->w.now += TICK_MS;
	for (int i = 0; i < 2; i++) {
		carry(l, i);
		read_all(l, i);
		link_tick(l->w.end[i], l->w.now);
		take_events(l, i);
	}
	if (!l->again_at || l->w.now < l->again_at || l->dead)
		return;
	l->again_at = 0;
	buf_clear(&l->queue[0]);
	buf_clear(&l->queue[1]);
	wire_start(&l->w);
}

static void write_bulk(struct line *l, int at, size_t len)
{
	uint8_t *bytes = malloc(len);
	for (size_t i = 0; i < len; i++)
		bytes[i] = (uint8_t)(i * 7);
	assert_int_equal(link_stream_write(l->w.end[at], l->id, bytes, len), len);
	free(bytes);
}

/* All of it arrives within that many times of what the line needs for it, and the first minutes are not repeated. */
static void expect_progress(int64_t rate, size_t len, bool both, unsigned times)
{
	struct line l;
	line_init(&l, rate);
	write_bulk(&l, LINK_CLIENT, len);
	if (both)
		write_bulk(&l, LINK_TARGET, len);
	int64_t until = l.w.now + (int64_t)len * 1000 / rate * times;
	while (l.read[LINK_TARGET] < len || (both && l.read[LINK_CLIENT] < len)) {
		if (l.w.now >= until)
			fail_msg("%lld bytes a second: %llu and %llu of %zu bytes, stalls %u and %u", (long long)rate,
				 (unsigned long long)l.read[LINK_TARGET], (unsigned long long)l.read[LINK_CLIENT], len,
				 l.stalls[0], l.stalls[1]);
		line_tick(&l);
	}
	assert_in_range(l.stalls[LINK_CLIENT], rate < 5000 && !both, LINK_DEAD_DOUBLINGS);
	assert_in_range(l.stalls[LINK_TARGET], 0, LINK_DEAD_DOUBLINGS);
	line_free(&l);
}

static void test_bulk_at_4_kb_a_second(void **state)
{
	(void)state;
	expect_progress(4000, 200 * 1024, false, 2);
}

static void test_bulk_both_ways_at_1_kb_a_second(void **state)
{
	(void)state;
	expect_progress(1000, 200 * 1024, true, 2);
}

static void test_bulk_at_500_bytes_a_second(void **state)
{
	(void)state;
	expect_progress(500, 100 * 1024, false, 2);
}

static void test_bulk_at_20_kb_a_second_never_stalls(void **state)
{
	(void)state;
	expect_progress(20000, 200 * 1024, true, 2);
}

/* What the line carried until then was heard; from the moment it is dead the sender needs 3 s, the reader 13. */
static void test_black_hole_under_bulk(void **state)
{
	(void)state;
	struct line l;
	line_init(&l, 50000);
	write_bulk(&l, LINK_CLIENT, 250 * 1024);
	while (l.read[LINK_TARGET] < 100 * 1024)
		line_tick(&l);
	l.dead = true;
	int64_t from = l.w.now;
	while (l.w.now < from + 20000)
		line_tick(&l);
	assert_int_equal(l.stalls[LINK_CLIENT], 1);
	assert_int_equal(l.stalls[LINK_TARGET], 1);
	assert_in_range(l.stalled_at[LINK_CLIENT] - from, 1, 3000);
	assert_in_range(l.stalled_at[LINK_TARGET] - from, 1, 13000 + 2 * TICK_MS);
	line_free(&l);
}

static void test_black_hole_when_idle(void **state)
{
	(void)state;
	for (int64_t before = 0; before < 30000; before += 730) {
		struct line l;
		line_init(&l, 1000000);
		for (int64_t until = l.w.now + before; l.w.now < until;)
			line_tick(&l);
		l.dead = true;
		int64_t from = l.w.now;
		while (!l.stalls[0] || !l.stalls[1])
			line_tick(&l);
		assert_in_range(l.w.now - from, 3000, 13000 + 2 * TICK_MS);
		line_free(&l);
	}
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bulk_at_4_kb_a_second),
		cmocka_unit_test(test_bulk_both_ways_at_1_kb_a_second),
		cmocka_unit_test(test_bulk_at_500_bytes_a_second),
		cmocka_unit_test(test_bulk_at_20_kb_a_second_never_stalls),
		cmocka_unit_test(test_black_hole_under_bulk),
		cmocka_unit_test(test_black_hole_when_idle),
	};
	return RUN_CASES(tests);
}
