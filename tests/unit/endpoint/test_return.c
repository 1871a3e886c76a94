/* Coming back: how soon, through what, and what is left alone. */
#include "harness.h"

#include "endpoint/internal.h"

#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

static uint64_t epochs(const struct end *end)
{
	struct link_stats s;
	endpoint_get_stats(end->ep, &s);
	return s.epochs;
}

static bool both_up(const struct harness *h)
{
	return h->client.up && h->target.up;
}

#define NEXT_MOST_MS 300 /* the longest delay of an outage's first half minute (PROTOCOL.md) */
#define HOLD_MOST_MS 500 /* while attempts have not connected */

/* In an outage the next attempt is always near. This reads what the timer was set to, so no busy machine can make it
 * look late. */
static bool is_eager(const struct end *end)
{
	const struct endpoint *ep = end->ep;
	const struct redial *r = &ep->redial;
	if (ep->leg || r->pace.since_ms == 0 || clock_mono_ms() - r->pace.since_ms >= PACE_EAGER_MS)
		return true;
	for (size_t i = 0; i < r->count; i++)
		if (leg_phase(r->tries[i]) != LEG_DIALING)
			return true; /* its answer may be waited for */
	uv_update_time(ep->loop);    /* due is counted from there */
	uint64_t most = r->count ? HOLD_MOST_MS : NEXT_MOST_MS, due = uv_timer_get_due_in(&ep->retry_timer);
	if (!uv_is_active((const uv_handle_t *)&ep->retry_timer))
		fail_msg("no attempt is to come");
	if (due > most)
		fail_msg("with %zu under way, the next attempt is due in %llu ms", r->count, (unsigned long long)due);
	return true;
}

static bool both_eager(const struct harness *h)
{
	return is_eager(&h->client) && is_eager(&h->target);
}

/* Until both are up that were not; the time since the relay listened. */
static int64_t relay_up(struct harness *h)
{
	int64_t from = strtoll(harness_tell(h, "up"), NULL, 10);
	assert_true(from > 0);
	HARNESS_UNTIL(h, both_eager(h) && both_up(h));
	return clock_mono_ms() - from;
}

static void relay_down(struct harness *h)
{
	harness_tell(h, "down");
	HARNESS_UNTIL(h, !h->client.up && !h->target.up);
}

static void pass(struct harness *h, int64_t ms)
{
	for (int64_t until = clock_mono_ms() + ms; clock_mono_ms() < until;)
		harness_turn(h);
}

static void pass_in_outage(struct harness *h, int64_t ms)
{
	int64_t until = clock_mono_ms() + ms;
	HARNESS_UNTIL(h, both_eager(h) && clock_mono_ms() >= until);
}

static void expect_nothing_is_tried(const struct end *end)
{
	assert_int_equal(end->ep->redial.count, 0);
	assert_null(end->ep->call);
	assert_false(uv_is_active((const uv_handle_t *)&end->ep->retry_timer));
}

static int compare(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
	return (x > y) - (x < y);
}

/* The median. */
static int64_t report(const char *what, int64_t *ms, size_t n)
{
	qsort(ms, n, sizeof *ms, compare);
	printf("%s: %zu rounds: p50 %lld ms, p99 %lld ms\n", what, n, (long long)ms[n / 2],
	       (long long)ms[n * 99 / 100]);
	return ms[n / 2];
}

/* From one leg to the next over a relay that is there all along: what coming back costs without any delay. */
static int64_t cut_and_back(struct harness *h)
{
	unsigned losts = h->client.losts;
	int64_t from = clock_mono_ms();
	harness_tell(h, "cut both");
	HARNESS_UNTIL(h, h->client.losts > losts && both_up(h));
	return clock_mono_ms() - from;
}

static void expect_streams_work(struct harness *h)
{
	struct app app;
	uint32_t id = harness_open_app(h, &app, 100000, 3);
	HARNESS_UNTIL(h, app.done);
	app_join(&app);
	HARNESS_UNTIL(h, h->client.streams[id].done && h->target.streams[id].done);
}

static void test_a_restarted_relay_is_found_soon(void **state)
{
	enum { ROUNDS = 50 };
	struct harness *h = *state;
	int64_t ms[ROUNDS], there[ROUNDS];
	h->no_servers = true;
	harness_start_both(h);
	for (int i = 0; i < ROUNDS; i++) {
		there[i] = cut_and_back(h);
		relay_down(h);
		pass_in_outage(h, (i * 37) % 400);
		ms[i] = relay_up(h);
	}
	int64_t least = report("relay there all along", there, ROUNDS);
	/* One delay, and as much again for each end to be about in its own; the rest is the machine's. */
	assert_in_range(report("relay back on its port", ms, ROUNDS), 0, 2 * NEXT_MOST_MS + 3 * least);
	expect_streams_work(h);
}

static size_t hanging_tries(const struct end *end)
{
	const struct redial *r = &end->ep->redial;
	size_t n = 0;
	for (size_t i = 0; i < r->count; i++)
		n += leg_phase(r->tries[i]) == LEG_CONNECTED;
	return n;
}

/* A relay that takes connections and then says nothing: tries are made beside the one that hangs. */
static void test_a_relay_that_says_nothing_holds_up_nothing(void **state)
{
	struct harness *h = *state;
	h->no_servers = true;
	harness_start_both(h);
	relay_down(h);
	harness_tell(h, "mute");
	HARNESS_UNTIL(h, hanging_tries(&h->client) >= 2 && hanging_tries(&h->target) >= 2);
	int64_t ms = relay_up(h); /* the connections that hang still do */
	printf("after a mute relay: %lld ms\n", (long long)ms);
	expect_streams_work(h);
}

static void test_a_relay_that_slams_the_door(void **state)
{
	struct harness *h = *state;
	h->no_servers = true;
	harness_start_both(h);
	relay_down(h);
	harness_tell(h, "slam");
	HARNESS_UNTIL(h, harness_stat(h, "taken") >= 6);
	relay_up(h);
	expect_streams_work(h);
}

/* Connections to port that wait for an answer to their SYN. */
static unsigned hanging_dials(unsigned port)
{
	char line[400];
	unsigned n = 0, remote, what;
	FILE *f = fopen("/proc/net/tcp", "r");
	while (f && fgets(line, sizeof line, f))
		n += sscanf(line, " %*d: %*8[0-9A-F]:%*4[0-9A-F] %*8[0-9A-F]:%4X %2X", &remote, &what) == 2 &&
		     remote == port && what == 2;
	if (f)
		fclose(f);
	return n;
}

#define FILLERS 8

/* Listens on the port with a full queue: the kernel drops what comes. */
static int start_black_hole(unsigned port, int fillers[FILLERS])
{
	struct sockaddr_in a = { .sin_family = AF_INET,
				 .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
				 .sin_port = htons((uint16_t)port) };
	int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
	assert_int_equal(listen(fd, 0), 0);
	for (int i = 0; i < FILLERS; i++) {
		fillers[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		(void)connect(fillers[i], (struct sockaddr *)&a, sizeof a);
	}
	return fd;
}

static void stop_black_hole(int fd, const int fillers[FILLERS])
{
	for (int i = 0; i < FILLERS; i++)
		close(fillers[i]);
	close(fd);
}

static void test_dropped_packets_hold_up_nothing(void **state)
{
	enum { ROUNDS = 6 };
	struct harness *h = *state;
	int fillers[FILLERS];
	int64_t ms[ROUNDS];
	h->no_servers = true;
	harness_start_both(h);
	for (int i = 0; i < ROUNDS; i++) {
		relay_down(h);
		int hole = start_black_hole(h->port_a, fillers);
		unsigned own = hanging_dials(h->port_a);
		HARNESS_UNTIL(h, hanging_dials(h->port_a) >= own + 5); /* three of one, two of the other */
		pass_in_outage(h, i * 150);
		stop_black_hole(hole, fillers);
		ms[i] = relay_up(h);
	}
	report("after dropped packets", ms, ROUNDS);
	expect_streams_work(h);
}

/* The relay is slow to answer, and is asked by one try of an end at a time. What an end has just given up may be seen
 * a moment longer, but not each time. */
static void test_one_try_at_a_time_asks(void **state)
{
	struct harness *h = *state;
	unsigned most = 2;
	h->no_servers = true;
	harness_start_both(h);
	for (int i = 0; i < 6 && most > 1; i++) {
		relay_down(h);
		harness_tell(h, "slow 1500");
		relay_up(h);
		most = harness_stat(h, "asking");
	}
	assert_int_equal(most, 1);
}

/* No attempt failed, as one does that runs into its own limit of 10 s. */
static bool untroubled(const struct end *end)
{
	assert_string_equal(end->ep->trouble, "");
	return true;
}

static void test_an_upgrade_without_answer_is_left_for_another(void **state)
{
	struct harness *h = *state;
	h->no_servers = true;
	harness_start_both(h);
	for (unsigned i = 1; i <= 2; i++) {
		harness_tell(h, "swallow 2");
		harness_tell(h, "cut both");
		HARNESS_UNTIL(h, untroubled(&h->client) && untroubled(&h->target) &&
					 harness_stat(h, "swallowed") == 2 * i && both_up(h));
	}
	expect_streams_work(h);
}

/* The link held the leg for dead, and nothing is there to replace it; then it goes on. */
static void test_a_leg_that_lives_again_is_kept(void **state)
{
	struct harness *h = *state;
	struct app app;
	h->no_servers = true;
	harness_start_both(h);
	unsigned legs = harness_stat(h, "legs");
	harness_tell(h, "deaf");
	for (unsigned round = 1; round <= 2; round++) {
		uint32_t id = harness_open_app(h, &app, 3000000, 1);
		HARNESS_UNTIL(h, app.read > 0);
		harness_tell(h, "freeze both");
		HARNESS_UNTIL(h, h->client.losts == round && h->target.losts == round);
		assert_string_equal(h->client.lost, "the other end does not answer");
		harness_tell(h, "thaw both");
		HARNESS_UNTIL(h, both_up(h));
		HARNESS_UNTIL(h, app.done);
		app_join(&app);
		HARNESS_UNTIL(h, h->client.streams[id].done && h->target.streams[id].done);
	}
	assert_true(h->client.outage_ms > 0);
	assert_int_equal(epochs(&h->client), 1);
	expect_nothing_is_tried(&h->client);
	expect_nothing_is_tried(&h->target);
	assert_int_equal(harness_stat(h, "legs"), legs);
}

/* The network changed in the meantime, so another leg is wanted all the same; but none is to be had. */
static void test_a_leg_that_lives_again_on_another_network(void **state)
{
	struct harness *h = *state;
	struct app app;
	h->no_servers = true;
	harness_start_both(h);
	harness_tell(h, "deaf");
	uint32_t id = harness_open_app(h, &app, 3000000, 1);
	HARNESS_UNTIL(h, app.read > 0);
	harness_tell(h, "freeze both");
	HARNESS_UNTIL(h, h->client.losts == 1);
	path_watch_event(h->client.ep, WATCH_NETWORK);
	harness_tell(h, "thaw both");
	HARNESS_UNTIL(h, both_up(h));
	assert_true(h->client.ep->want_new);
	HARNESS_UNTIL(h, app.done);
	app_join(&app);
	HARNESS_UNTIL(h, h->client.streams[id].done && h->target.streams[id].done);
	assert_int_equal(epochs(&h->client), 1);
}

static void test_a_leg_that_lives_again_while_another_was_asked_for(void **state)
{
	struct harness *h = *state;
	struct app app;
	h->no_servers = true;
	harness_start_both(h);
	uint32_t id = harness_open_app(h, &app, 3000000, 1);
	HARNESS_UNTIL(h, app.read > 0);
	harness_tell(h, "swallow 100");
	harness_tell(h, "freeze both");
	HARNESS_UNTIL(h, harness_stat(h, "swallowed") >= 2 && redial_is_asking(h->client.ep));
	harness_tell(h, "thaw both");
	HARNESS_UNTIL(h, both_up(h));
	HARNESS_UNTIL(h, app.done);
	app_join(&app);
	HARNESS_UNTIL(h, h->client.streams[id].done && h->target.streams[id].done);
	assert_int_equal(epochs(&h->client), 1);
	/* It made way for the other one, whose answer never comes. */
	harness_tell(h, "close client 4001");
	HARNESS_UNTIL(h, !h->client.ep->leg);
	assert_false(h->client.over);
	assert_true(uv_is_active((const uv_handle_t *)&h->client.ep->retry_timer));
	harness_tell(h, "swallow 0");
	HARNESS_UNTIL(h, epochs(&h->client) == 2);
}

/* A new leg took over without a loss, but the other end had gone in the meantime. */
static void test_nobody_at_the_other_end_of_a_new_leg(void **state)
{
	struct harness *h = *state;
	harness_start_both(h);
	harness_tell(h, "hole client"); /* so it hears of nothing */
	endpoint_free(&h->target.ep);
	pass(h, 300);
	endpoint_network_changed(h->client.ep);
	HARNESS_UNTIL(h, h->client.losts == 1);
	assert_string_equal(h->client.lost, "the other end is away");
	memset(&h->target, 0, sizeof h->target);
	harness_start(h, &h->target, LINK_TARGET, h->url_a);
	HARNESS_UNTIL(h, both_up(h));
	assert_true(h->client.outage_ms > 0);
}

#define STEADY_MS 5000 /* a leg that was attached for so long ends a row of failures (path.c) */

static void test_what_the_relay_says_to_an_old_leg(void **state)
{
	struct harness *h = *state;
	harness_start_both(h);
	pass(h, STEADY_MS + 100);
	harness_tell(h, "answer 200 B");
	int64_t from = clock_mono_ms();
	harness_tell(h, "close target 4503");
	harness_tell(h, "close client 4002");
	HARNESS_UNTIL(h, h->client.ups == 2 && h->target.ups == 2);
	assert_true(clock_mono_ms() - from >= 240);
	assert_string_equal(h->client.ep->relay_url, h->url_b); /* a server was asked first */
}

static void hang_blocking(uv_work_t *work)
{
	pthread_mutex_lock(work->data);
	pthread_mutex_unlock(work->data);
}

static void on_hung(uv_work_t *work, int status)
{
	(void)work;
	(void)status;
}

static void test_a_resolver_that_hangs_holds_up_nothing(void **state)
{
	enum { POOL = 8 };
	struct harness *h = *state;
	pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	uv_work_t work[POOL];
	harness_start_both(h);
	pthread_mutex_lock(&lock);
	for (int i = 0; i < POOL; i++) {
		work[i].data = &lock;
		uv_queue_work(&h->loop, &work[i], hang_blocking, on_hung);
	}
	for (unsigned i = 1; i <= 3; i++) {
		harness_tell(h, "cut both");
		HARNESS_UNTIL(h, h->client.losts >= i && both_up(h));
	}
	pthread_mutex_unlock(&lock);
	endpoint_free(&h->client.ep);
	endpoint_free(&h->target.ep);
	uv_run(&h->loop, UV_RUN_DEFAULT);
}

/* What the kernel tells about other ways leaves a leg alone; sleep, and word of a change, do not. */
static void test_what_the_machine_tells(void **state)
{
	struct harness *h = *state;
	harness_start_both(h);
	unsigned legs = harness_stat(h, "legs");
	for (int i = 0; i < 10; i++)
		path_watch_event(h->client.ep, WATCH_NETWORK);
	expect_nothing_is_tried(&h->client);
	assert_int_equal(harness_stat(h, "legs"), legs);
	path_watch_event(h->client.ep, WATCH_WOKE);
	HARNESS_UNTIL(h, harness_stat(h, "legs") == legs + 1 && epochs(&h->client) == 2);
	assert_int_equal(h->client.losts, 0); /* made before broken */
	relay_down(h);
	h->client.ep->redial.next_at = INT64_MAX / 2; /* asleep, as good as */
	h->target.ep->redial.next_at = INT64_MAX / 2;
	harness_tell(h, "up");
	path_watch_event(h->client.ep, WATCH_NETWORK); /* with no leg any word will do */
	path_watch_event(h->target.ep, WATCH_WOKE);
	HARNESS_UNTIL(h, both_up(h));
}

static void test_a_relay_that_is_busy_is_not_pressed(void **state)
{
	struct harness *h = *state;
	h->no_servers = true;
	harness_start_both(h);
	int64_t from = clock_mono_ms();
	harness_tell(h, "close client 4503");
	HARNESS_UNTIL(h, h->client.losts == 1 && both_up(h));
	assert_true(clock_mono_ms() - from >= 240);
}

static void test_a_relay_that_drops_legs_at_each_step(void **state)
{
	static const char *const steps[] = { "open", "attached", "paired" };
	struct harness *h = *state;
	unsigned stumbled = 0;
	harness_start_both(h);
	for (size_t i = 0; i < 3; i++) {
		harness_tell(h, "stumble %s 4", steps[i]);
		harness_tell(h, "cut both");
		stumbled += 4;
		HARNESS_UNTIL(h, harness_stat(h, "stumbled") == stumbled && both_up(h));
	}
	expect_streams_work(h);
}

/* Sees that the one who frees its end in a callback gets there, and hears nothing more. */
static void live_until(struct harness *h, enum moment moment)
{
	struct app app;
	bool is_target = moment == AT_OPEN;
	struct end *leaver = is_target ? &h->target : &h->client;
	memset(&h->client, 0, sizeof h->client);
	memset(&h->target, 0, sizeof h->target);
	leaver->free_at = moment;
	if (moment == AT_CONNECTING)
		harness_tell(h, "refuse 1000 502"); /* whoever comes first */
	harness_start(h, &h->client, LINK_CLIENT, h->url_a);
	harness_start(h, &h->target, LINK_TARGET, h->url_a);
	uint32_t id = harness_open_app(h, &app, 1u << 30, 1);
	if (moment > AT_UP)
		HARNESS_UNTIL(h, !leaver->ep || h->client.up);
	if (moment == AT_LOST)
		harness_tell(h, "cut client");
	if (moment == AT_CLOSED) {
		HARNESS_UNTIL(h, h->target.asked == 1);
		endpoint_reset_stream(h->client.ep, id, LINK_IO, "");
	}
	if (moment == AT_NOTICE)
		harness_tell(h, "say client {\"type\":\"notice\",\"code\":4005,\"at_ms\":1,\"reason\":\"\"}");
	if (moment == AT_OVER)
		harness_tell(h, "close client 4003");
	HARNESS_UNTIL(h, !leaver->ep);
	for (int i = 0; i < 5; i++)
		harness_turn(h);
	endpoint_free(&h->client.ep);
	endpoint_free(&h->target.ep);
	harness_tell(h, "refuse 0 0");
	pthread_join(app.thread, NULL);
}

static void test_freed_in_each_callback(void **state)
{
	for (enum moment m = AT_CONNECTING; m < MOMENTS; m++)
		live_until(*state, m);
}

/* In the middle of coming back, with tries in each of their phases. */
static void test_freed_while_coming_back(void **state)
{
	static const char *const faults[] = { "down", "mute", "slam", "slow 300", "swallow 2", "refuse 2 503" };
	struct harness *h = *state;
	for (unsigned i = 0; i < 24; i++) {
		memset(&h->client, 0, sizeof h->client);
		memset(&h->target, 0, sizeof h->target);
		harness_start_both(h);
		harness_tell(h, "%s", faults[i % 6]);
		harness_tell(h, "cut both");
		pass(h, (i / 6) * 200);
		endpoint_free(&h->client.ep);
		endpoint_free(&h->target.ep);
		harness_tell(h, "slow 0");
		harness_tell(h, "swallow 0");
		harness_tell(h, "refuse 0 0");
		harness_tell(h, "up");
	}
}

int main(int argc, char **argv)
{
	/* clang-format off */
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_a_restarted_relay_is_found_soon, harness_setup, harness_teardown),
		cmocka_unit_test_setup_teardown(test_a_relay_that_says_nothing_holds_up_nothing, harness_setup, harness_teardown),
		cmocka_unit_test_setup_teardown(test_a_relay_that_slams_the_door, harness_setup, harness_teardown),
		cmocka_unit_test_setup_teardown(test_dropped_packets_hold_up_nothing, harness_setup, harness_teardown),
		cmocka_unit_test_setup_teardown(test_one_try_at_a_time_asks, harness_setup, harness_teardown),
		cmocka_unit_test_setup_teardown(test_an_upgrade_without_answer_is_left_for_another, harness_setup, harness_teardown),
		cmocka_unit_test_setup_teardown(test_a_leg_that_lives_again_is_kept, harness_setup, harness_teardown),
		cmocka_unit_test_setup_teardown(test_a_leg_that_lives_again_on_another_network, harness_setup, harness_teardown),
		cmocka_unit_test_setup_teardown(test_a_leg_that_lives_again_while_another_was_asked_for, harness_setup, harness_teardown),
		cmocka_unit_test_setup_teardown(test_nobody_at_the_other_end_of_a_new_leg, harness_setup, harness_teardown),
		cmocka_unit_test_setup_teardown(test_what_the_relay_says_to_an_old_leg, harness_setup, harness_teardown),
		cmocka_unit_test_setup_teardown(test_a_resolver_that_hangs_holds_up_nothing, harness_setup, harness_teardown),
		cmocka_unit_test_setup_teardown(test_what_the_machine_tells, harness_setup, harness_teardown),
		cmocka_unit_test_setup_teardown(test_a_relay_that_is_busy_is_not_pressed, harness_setup, harness_teardown),
		cmocka_unit_test_setup_teardown(test_a_relay_that_drops_legs_at_each_step, harness_setup, harness_teardown),
		cmocka_unit_test_setup_teardown(test_freed_in_each_callback, harness_setup, harness_teardown),
		cmocka_unit_test_setup_teardown(test_freed_while_coming_back, harness_setup, harness_teardown),
	};
	/* clang-format on */
	return RUN_CASES(tests);
}
