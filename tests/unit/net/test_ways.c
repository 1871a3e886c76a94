/* Names while the resolver hangs, addresses that change, and what is known of this machine's ways out. */
#include "support/case.h"

#include "base/clock.h"
#include "net/dial.h"
#include "net/resolve.h"
#include "net/watch.h"

#include <arpa/inet.h>
#include <net/if.h>
#include <netdb.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define POOL 8 /* more than libuv's pool has threads */

struct ways {
	uv_loop_t loop;
	pthread_mutex_t lock; /* held: the pool hangs */
	uv_work_t hanging[POOL];
};

static int setup(void **state)
{
	struct ways *w = calloc(1, sizeof *w);
	pthread_mutex_init(&w->lock, NULL);
	uv_loop_init(&w->loop);
	*state = w;
	return 0;
}

static int teardown(void **state)
{
	struct ways *w = *state;
	uv_run(&w->loop, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(&w->loop), 0);
	free(w);
	return 0;
}

static void hang_blocking(uv_work_t *work)
{
	struct ways *w = work->data;
	pthread_mutex_lock(&w->lock);
	pthread_mutex_unlock(&w->lock);
}

static void on_hung(uv_work_t *work, int status)
{
	(void)work;
	(void)status;
}

static void hang_the_pool(struct ways *w)
{
	pthread_mutex_lock(&w->lock);
	for (int i = 0; i < POOL; i++) {
		w->hanging[i].data = w;
		uv_queue_work(&w->loop, &w->hanging[i], hang_blocking, on_hung);
	}
}

static void free_the_pool(struct ways *w)
{
	pthread_mutex_unlock(&w->lock);
}

struct answer {
	bool done;
	size_t count;
	struct dial_address addresses[DIAL_ADDRESSES];
	char why[200];
};

static void on_answer(void *user, const struct dial_address *addresses, size_t count, const char *why_not)
{
	struct answer *a = user;
	assert_false(a->done);
	a->done = true;
	a->count = count;
	for (size_t i = 0; i < count; i++)
		a->addresses[i] = addresses[i];
	snprintf(a->why, sizeof a->why, "%s", why_not ? why_not : "");
}

static void until(struct ways *w, const bool *flag)
{
	while (!*flag)
		uv_run(&w->loop, UV_RUN_ONCE);
}

static void test_a_hanging_lookup_holds_up_only_the_first(void **state)
{
	struct ways *w = *state;
	struct answer first = { 0 }, second = { 0 }, third = { 0 }, stranger = { 0 }, gone = { 0 };
	struct resolve *r = NULL;
	assert_int_equal(resolve_start(&w->loop, "localhost", 80, on_answer, &first, &r, NULL), 0);
	until(w, &first.done);
	assert_true(first.count >= 1);
	hang_the_pool(w);
	assert_int_equal(resolve_start(&w->loop, "localhost", 443, on_answer, &second, &r, NULL), 0);
	until(w, &second.done);
	assert_int_equal(second.count, first.count);
	assert_int_equal(ntohs(((struct sockaddr_in *)(void *)&second.addresses[0].address)->sin_port), 443);
	assert_int_equal(resolve_start(&w->loop, "LOCALHOST", 443, on_answer, &third, &r, NULL), 0);
	until(w, &third.done); /* whoever comes while it hangs has the addresses at once */
	/* A name that nobody knows yet must wait, and may be left. */
	assert_int_equal(resolve_start(&w->loop, "ip6-localhost", 443, on_answer, &stranger, &r, NULL), 0);
	assert_int_equal(resolve_start(&w->loop, "ip6-localhost", 443, on_answer, &gone, &r, NULL), 0);
	resolve_cancel(&r);
	for (int i = 0; i < 20; i++) {
		uv_run(&w->loop, UV_RUN_NOWAIT);
		usleep(10000);
	}
	assert_false(stranger.done);
	free_the_pool(w);
	until(w, &stranger.done);
	assert_false(gone.done);
}

static void test_lookups_of_a_name_are_shared(void **state)
{
	struct ways *w = *state;
	struct answer a[200] = { { 0 } };
	struct resolve *r = NULL;
	for (size_t i = 0; i < 200; i++)
		assert_int_equal(resolve_start(&w->loop, "shared.invalid", 1, on_answer, &a[i], &r, NULL), 0);
	for (size_t i = 0; i < 200; i++) {
		until(w, &a[i].done);
		assert_int_equal(a[i].count, 0);
		assert_true(a[i].why[0]);
	}
}

static void test_literals_need_no_lookup(void **state)
{
	struct ways *w = *state;
	struct answer four = { 0 }, six = { 0 };
	struct resolve *r = NULL;
	hang_the_pool(w);
	assert_int_equal(resolve_start(&w->loop, "127.0.0.1", 7, on_answer, &four, &r, NULL), 0);
	assert_int_equal(resolve_start(&w->loop, "::1", 7, on_answer, &six, &r, NULL), 0);
	until(w, &four.done);
	until(w, &six.done);
	assert_int_equal(four.addresses[0].address.ss_family, AF_INET);
	assert_int_equal(six.addresses[0].address.ss_family, AF_INET6);
	assert_int_equal(ntohs(((struct sockaddr_in6 *)(void *)&six.addresses[0].address)->sin6_port), 7);
	free_the_pool(w);
}

/* What connected last goes first; and what is known is used when the resolver says that there is no such name. */
static void test_the_address_that_worked_goes_first(void **state)
{
	struct ways *w = *state;
	struct answer before = { 0 }, after = { 0 };
	struct resolve *r = NULL;
	struct sockaddr_in a[3];
	struct addrinfo list[3];
	memset(list, 0, sizeof list);
	for (int i = 0; i < 3; i++) {
		a[i] = (struct sockaddr_in){ .sin_family = AF_INET,
					     .sin_addr.s_addr = htonl(0x7f000001u + (unsigned)i) };
		list[i] = (struct addrinfo){ .ai_family = AF_INET, .ai_addrlen = sizeof a[i] };
		list[i].ai_addr = (struct sockaddr *)&a[i];
		list[i].ai_next = i < 2 ? &list[i + 1] : NULL;
	}
	resolve_note("several.invalid", list);
	assert_int_equal(resolve_start(&w->loop, "several.invalid", 80, on_answer, &before, &r, NULL), 0);
	until(w, &before.done);
	assert_int_equal(before.count, 3);
	resolve_prefer("several.invalid", &before.addresses[2]);
	resolve_note("several.invalid", list);
	assert_int_equal(resolve_start(&w->loop, "several.invalid", 80, on_answer, &after, &r, NULL), 0);
	until(w, &after.done);
	assert_int_equal(after.count, 3);
	assert_memory_equal(&after.addresses[0], &before.addresses[2], sizeof after.addresses[0]);
	assert_memory_equal(&after.addresses[1], &before.addresses[0], sizeof after.addresses[0]);
}

struct told {
	unsigned network, woke;
	struct watch *watch;
	bool free_in_it;
};

static void on_changed(void *user, enum watch_event event)
{
	struct told *t = user;
	if (event == WATCH_WOKE)
		t->woke++;
	else
		t->network++;
	if (t->free_in_it)
		watch_free(&t->watch);
}

static void test_sleep_is_noticed(void **state)
{
	struct ways *w = *state;
	struct told t = { 0 };
	int64_t boot = clock_mono_ms();
	assert_int_equal(watch_start(&w->loop, on_changed, &t, &t.watch, NULL), 0);
	watch_note_clocks(t.watch, boot, boot); /* these are the clocks from here on */
	t.woke = 0;
	watch_note_clocks(t.watch, boot + 1000000, boot + 1000000); /* much time passed, awake */
	watch_note_clocks(t.watch, boot + 2000000, boot + 2000000 - WATCH_SLEPT_MS + 1);
	assert_int_equal(t.woke, 0);
	watch_note_clocks(t.watch, boot + 3000000, boot + 3000000 - 9000);
	assert_int_equal(t.woke, 1);
	watch_note_clocks(t.watch, boot + 3000500, boot + 3000500 - 9000);
	assert_int_equal(t.woke, 1);
	t.free_in_it = true;
	watch_note_clocks(t.watch, boot + 4000000, boot + 4000000 - 90000);
	assert_null(t.watch);
}

static void set_up_loopback(const char *address)
{
	struct ifreq up = { .ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING }, r = { .ifr_name = "lo" };
	struct sockaddr_in a = { .sin_family = AF_INET };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	inet_pton(AF_INET, address, &a.sin_addr);
	memcpy(&r.ifr_addr, &a, sizeof a);
	if (ioctl(fd, SIOCSIFFLAGS, &up) != 0 || ioctl(fd, SIOCSIFADDR, &r) != 0)
		_exit(3);
	close(fd);
}

static void expect_told(struct ways *w, struct told *t, unsigned more_than)
{
	while (t->network <= more_than)
		uv_run(&w->loop, UV_RUN_ONCE);
}

static int connect_to_itself(const char *address, int *out_listener)
{
	struct sockaddr_in a = { .sin_family = AF_INET };
	socklen_t len = sizeof a;
	inet_pton(AF_INET, address, &a.sin_addr);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	*out_listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (bind(*out_listener, (struct sockaddr *)&a, len) != 0 || listen(*out_listener, 1) != 0 ||
	    getsockname(*out_listener, (struct sockaddr *)&a, &len) != 0 ||
	    connect(fd, (struct sockaddr *)&a, len) != 0)
		_exit(4);
	return fd;
}

/* In a network of its own, whose only address comes and goes. The exit status says where it went wrong. */
static int live_in_a_network_of_our_own(void)
{
	struct ways *w;
	struct told t = { 0 };
	int listener;
	const char *here = "10.1.2.3", *there = "192.168.77.1";
	/* The second for who is not root: a program with several threads (a sanitizer makes one) may not. */
	if (unshare(CLONE_NEWNET) != 0 && unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0)
		return 77;
	setup((void **)&w);
	if (watch_start(&w->loop, on_changed, &t, &t.watch, NULL) != 0)
		return 2;
	set_up_loopback(here);
	expect_told(w, &t, 0);
	int fd = connect_to_itself(here, &listener);
	if (watch_is_misrouted(fd))
		return 5;
	unsigned before = t.network;
	set_up_loopback(there);
	expect_told(w, &t, before);
	if (!watch_is_misrouted(fd))
		return 6;
	before = t.network;
	set_up_loopback(here);
	expect_told(w, &t, before);
	if (watch_is_misrouted(fd))
		return 7;
	/* A burst is not told change by change. */
	before = t.network;
	int64_t from = clock_mono_ms();
	for (int i = 0; i < 50; i++) {
		set_up_loopback(i % 2 ? here : there);
		uv_run(&w->loop, UV_RUN_NOWAIT);
	}
	expect_told(w, &t, before);
	if (t.network - before > 2 + (clock_mono_ms() - from) / WATCH_BURST_MS)
		return 8;
	/* Nor is it the last word when more comes than the socket holds. */
	before = t.network;
	for (int i = 0; i < 2000; i++)
		set_up_loopback(i % 2 ? here : there);
	expect_told(w, &t, before);
	for (int i = 0; i < 3; i++) {
		before = t.network;
		set_up_loopback(i % 2 ? here : there);
		expect_told(w, &t, before);
	}
	watch_free(&t.watch);
	teardown((void **)&w);
	return 0;
}

static void test_links_and_routes_are_watched(void **state)
{
	int status = 0;
	(void)state;
	pid_t child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		alarm(60);
		_exit(live_in_a_network_of_our_own());
	}
	waitpid(child, &status, 0);
	assert_true(WIFEXITED(status));
	if (WEXITSTATUS(status) == 77)
		skip(); /* this machine lets nobody have a network of their own */
	assert_int_equal(WEXITSTATUS(status), 0);
}

static void test_what_is_no_connection_is_not_misrouted(void **state)
{
	(void)state;
	int pair[2];
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	assert_false(watch_is_misrouted(pair[0]));
	assert_false(watch_is_misrouted(-1));
	close(pair[0]);
	close(pair[1]);
}

int main(int argc, char **argv)
{
	/* clang-format off */
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_a_hanging_lookup_holds_up_only_the_first, setup, teardown),
		cmocka_unit_test_setup_teardown(test_lookups_of_a_name_are_shared, setup, teardown),
		cmocka_unit_test_setup_teardown(test_literals_need_no_lookup, setup, teardown),
		cmocka_unit_test_setup_teardown(test_the_address_that_worked_goes_first, setup, teardown),
		cmocka_unit_test_setup_teardown(test_sleep_is_noticed, setup, teardown),
		cmocka_unit_test(test_links_and_routes_are_watched),
		cmocka_unit_test(test_what_is_no_connection_is_not_misrouted),
	};
	/* clang-format on */
	return RUN_CASES(tests);
}
