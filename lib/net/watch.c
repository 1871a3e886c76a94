/* Two descriptors. A netlink socket that hears of addresses, routes and links; what they say is not read, because only
 * the kernel's answer to "how would you send now" counts, and that is asked for when needed. And a timer that the
 * kernel cancels when the wall clock is set, which it also does when the machine wakes; whether it slept is told by the
 * distance of the clock that counts sleep from the one that does not. */
#include "net/watch.h"

#include "base/clock.h"

#include <errno.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

struct source {
	uv_poll_t poll;
	int fd; /* -1: none */
};

struct watch {
	void (*changed)(void *user, enum watch_event event);
	void *user;
	struct source netlink, clock;
	uv_timer_t burst;
	bool more; /* since the burst's first */
	bool freed;
	int64_t asleep_ms; /* boot clock minus monotonic clock */
	unsigned handles;
};

static void on_handle_closed(uv_handle_t *h)
{
	struct watch *w = h->data;
	if (--w->handles == 0)
		free(w);
}

static void tell(struct watch *w, enum watch_event event)
{
	if (!w->freed)
		w->changed(w->user, event);
}

static void on_burst_over(uv_timer_t *timer)
{
	struct watch *w = timer->data;
	if (!w->more)
		return;
	w->more = false;
	uv_timer_start(timer, on_burst_over, WATCH_BURST_MS, 0);
	tell(w, WATCH_NETWORK);
}

static void on_netlink(uv_poll_t *poll, int status, int events)
{
	struct watch *w = poll->data;
	char ignored[8192];
	ssize_t n;
	(void)events;
	do
		n = recv(w->netlink.fd, ignored, sizeof ignored, MSG_DONTWAIT | MSG_TRUNC);
	while (n > 0 || (n < 0 && errno == ENOBUFS));
	/* More came than the socket holds: an error, for which libuv has stopped the handle. */
	if (status < 0 && n < 0 && errno == EAGAIN)
		uv_poll_start(poll, UV_READABLE, on_netlink);
	if (uv_is_active((uv_handle_t *)&w->burst)) {
		w->more = true;
		return;
	}
	uv_timer_start(&w->burst, on_burst_over, WATCH_BURST_MS, 0);
	tell(w, WATCH_NETWORK);
}

void watch_note_clocks(struct watch *w, int64_t boot_ms, int64_t mono_ms)
{
	int64_t slept = boot_ms - mono_ms - w->asleep_ms;
	w->asleep_ms = boot_ms - mono_ms;
	if (slept >= WATCH_SLEPT_MS)
		tell(w, WATCH_WOKE);
}

static int64_t waking_ms(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static bool arm_clock(int fd)
{
	struct itimerspec never = { .it_value = { .tv_sec = INT32_MAX } };
	return timerfd_settime(fd, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &never, NULL) == 0;
}

static void on_clock(uv_poll_t *poll, int status, int events)
{
	struct watch *w = poll->data;
	uint64_t ignored;
	(void)status;
	(void)events;
	if (read(w->clock.fd, &ignored, sizeof ignored) < 0 && errno == EAGAIN)
		return;
	if (!arm_clock(w->clock.fd))
		uv_poll_stop(poll);
	watch_note_clocks(w, clock_mono_ms(), waking_ms());
}

static bool add_source(struct watch *w, uv_loop_t *loop, struct source *s, int fd, uv_poll_cb cb)
{
	s->fd = -1;
	if (fd < 0)
		return false;
	if (uv_poll_init(loop, &s->poll, fd) != 0) {
		close(fd);
		return false;
	}
	s->fd = fd;
	s->poll.data = w;
	w->handles++;
	uv_poll_start(&s->poll, UV_READABLE, cb);
	return true;
}

static int open_netlink(void)
{
	struct sockaddr_nl address = { .nl_family = AF_NETLINK,
				       .nl_groups = RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR |
						    RTMGRP_IPV4_ROUTE | RTMGRP_IPV6_ROUTE };
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, NETLINK_ROUTE);
	if (fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof address) != 0) {
		close(fd);
		fd = -1;
	}
	return fd;
}

static int open_clock(void)
{
	int fd = timerfd_create(CLOCK_REALTIME, TFD_NONBLOCK | TFD_CLOEXEC);
	if (fd >= 0 && !arm_clock(fd)) {
		close(fd);
		fd = -1;
	}
	return fd;
}

int watch_start(uv_loop_t *loop, void (*changed)(void *user, enum watch_event event), void *user,
		struct watch **out_watch, struct err *e)
{
	struct watch *w = calloc(1, sizeof *w);
	if (!w)
		return err_set(e, ERR_NOMEM, "out of memory");
	w->changed = changed;
	w->user = user;
	w->asleep_ms = clock_mono_ms() - waking_ms();
	uv_timer_init(loop, &w->burst);
	w->burst.data = w;
	w->handles = 1;
	bool hears = add_source(w, loop, &w->netlink, open_netlink(), on_netlink);
	bool wakes = add_source(w, loop, &w->clock, open_clock(), on_clock);
	if (!hears && !wakes) {
		watch_free(&w);
		return err_set(e, ERR_UNAVAILABLE, "neither netlink nor a timer: %s", strerror(errno));
	}
	*out_watch = w;
	return 0;
}

static void close_source(struct source *s)
{
	if (s->fd < 0)
		return;
	uv_poll_stop(&s->poll);
	uv_close((uv_handle_t *)&s->poll, on_handle_closed);
	close(s->fd);
	s->fd = -1;
}

void watch_free(struct watch **watch)
{
	if (!watch || !*watch)
		return;
	struct watch *w = *watch;
	*watch = NULL;
	w->freed = true;
	close_source(&w->netlink);
	close_source(&w->clock);
	uv_close((uv_handle_t *)&w->burst, on_handle_closed);
}

static bool same_ip(const struct sockaddr_storage *a, const struct sockaddr_storage *b)
{
	const struct sockaddr_in *a4 = (const void *)a, *b4 = (const void *)b;
	const struct sockaddr_in6 *a6 = (const void *)a, *b6 = (const void *)b;
	if (a->ss_family == AF_INET)
		return a4->sin_addr.s_addr == b4->sin_addr.s_addr;
	return memcmp(&a6->sin6_addr, &b6->sin6_addr, sizeof a6->sin6_addr) == 0;
}

bool watch_is_misrouted(int fd)
{
	struct sockaddr_storage local, peer, now;
	socklen_t local_len = sizeof local, peer_len = sizeof peer, now_len = sizeof now;
	memset(&now, 0, sizeof now);
	if (getsockname(fd, (struct sockaddr *)&local, &local_len) != 0 ||
	    getpeername(fd, (struct sockaddr *)&peer, &peer_len) != 0)
		return false;
	if (peer.ss_family != AF_INET && peer.ss_family != AF_INET6)
		return false;
	/* A datagram socket's connect sends nothing: it asks the routing table. */
	int probe = socket(peer.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (probe < 0)
		return false;
	bool same = connect(probe, (struct sockaddr *)&peer, peer_len) == 0 &&
		    getsockname(probe, (struct sockaddr *)&now, &now_len) == 0 && same_ip(&local, &now);
	close(probe);
	return !same;
}
