#include "traffic.h"

#include "base/clock.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define PING_WINDOW 64u           /* blocks without an answer; then a tick sends nothing */
#define BULK_WINDOW (512u * 1024) /* bytes without an answer */
#define CHUNK 16384u              /* bytes a read or write */
#define WORDS_A_BLOCK (TRAFFIC_BLOCK / 8)

struct traffic {
	struct traffic_config config;
	struct traffic_callbacks callbacks;
	void *user;
	int fd;
	uv_poll_t poll;
	uv_timer_t ping;
	unsigned handles;
	bool paused, freed, blocked;
	uint64_t due; /* bytes that may be sent by now: pings that ticked */
	struct traffic_numbers n;
	int64_t sent_at_us[PING_WINDOW]; /* by block number */
};

static uint64_t mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15u;
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
	x = (x ^ x >> 27) * 0x94d049bb133111ebu;
	return x ^ x >> 31;
}

static void fill(uint64_t seed, uint64_t offset, uint8_t *out, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		uint64_t at = (offset + i) / 8, word = at % WORDS_A_BLOCK ? mix(seed ^ mix(at)) : at / WORDS_A_BLOCK;
		out[i] = (uint8_t)(word >> 8 * ((offset + i) % 8));
	}
}

static void fail(struct traffic *t, const char *text)
{
	if (t->n.failed || t->freed)
		return;
	t->n.failed = true;
	uv_poll_stop(&t->poll);
	uv_timer_stop(&t->ping);
	t->callbacks.failed(t->user, text);
}

static void watch(struct traffic *t);

static uint64_t send_limit(const struct traffic *t)
{
	if (t->config.bulk)
		return t->paused ? t->n.sent : t->n.checked + BULK_WINDOW;
	return t->due;
}

static void send_due(struct traffic *t)
{
	uint8_t data[CHUNK];
	uint64_t limit;
	t->blocked = false;
	while (!t->n.failed && (limit = send_limit(t)) > t->n.sent) {
		size_t len = limit - t->n.sent < sizeof data ? (size_t)(limit - t->n.sent) : sizeof data;
		fill(t->config.seed, t->n.sent, data, len);
		ssize_t n = send(t->fd, data, len, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
			t->blocked = true;
			break;
		}
		if (n < 0) {
			fail(t, strerror(errno));
			return;
		}
		t->n.sent += (uint64_t)n;
	}
	watch(t);
}

static void tell_mismatch(struct traffic *t, const uint8_t *got, const uint8_t *expected, size_t len)
{
	char text[160];
	size_t at = 0;
	while (at < len && got[at] == expected[at])
		at++;
	t->n.mismatch = true;
	snprintf(text, sizeof text, "byte %llu (block %llu) is %02x, expected %02x",
		 (unsigned long long)(t->n.checked + at), (unsigned long long)((t->n.checked + at) / TRAFFIC_BLOCK),
		 got[at], expected[at]);
	fail(t, text);
}

static void tell_round_trips(struct traffic *t, uint64_t from, uint64_t to)
{
	int64_t now = clock_mono_us();
	for (uint64_t block = from / TRAFFIC_BLOCK; block < to / TRAFFIC_BLOCK; block++)
		t->callbacks.round_trip(t->user, now - t->sent_at_us[block % PING_WINDOW]);
}

/* false: no more now. */
static bool check_some(struct traffic *t)
{
	uint8_t got[CHUNK], expected[CHUNK];
	ssize_t n = recv(t->fd, got, sizeof got, MSG_DONTWAIT);
	if (n <= 0) {
		if (n == 0 || (errno != EAGAIN && errno != EINTR))
			fail(t, n == 0 ? "the stream ended" : strerror(errno));
		return false;
	}
	uint64_t from = t->n.checked;
	if ((uint64_t)n > t->n.sent - from) {
		t->n.mismatch = true;
		fail(t, "more bytes came back than were sent");
		return false;
	}
	fill(t->config.seed, from, expected, (size_t)n);
	if (memcmp(got, expected, (size_t)n) != 0) {
		tell_mismatch(t, got, expected, (size_t)n);
		return false;
	}
	t->n.checked += (uint64_t)n;
	if (!t->config.bulk)
		tell_round_trips(t, from, t->n.checked);
	return (size_t)n == sizeof got;
}

static void on_ready(uv_poll_t *poll, int status, int events)
{
	struct traffic *t = poll->data;
	if (status < 0) {
		fail(t, uv_strerror(status));
		return;
	}
	if (events & UV_READABLE)
		for (int i = 0; i < 8 && !t->n.failed && check_some(t); i++)
			;
	if (!t->n.failed)
		send_due(t);
}

static void watch(struct traffic *t)
{
	if (!t->n.failed)
		uv_poll_start(&t->poll, UV_READABLE | (t->blocked ? UV_WRITABLE : 0), on_ready);
}

static void on_ping(uv_timer_t *timer)
{
	struct traffic *t = timer->data;
	if (t->paused || t->due - t->n.checked >= (uint64_t)PING_WINDOW * TRAFFIC_BLOCK)
		return;
	t->sent_at_us[t->due / TRAFFIC_BLOCK % PING_WINDOW] = clock_mono_us();
	t->due += TRAFFIC_BLOCK;
	send_due(t);
}

static void on_closed(uv_handle_t *h)
{
	struct traffic *t = h->data;
	if (--t->handles == 0)
		free(t);
}

int traffic_new(uv_loop_t *loop, int fd, const struct traffic_config *config, const struct traffic_callbacks *callbacks,
		void *user, struct traffic **out_traffic, struct err *e)
{
	struct traffic *t = calloc(1, sizeof *t);
	int rc = t ? uv_poll_init(loop, &t->poll, fd) : UV_ENOMEM;
	if (rc != 0) {
		free(t);
		close(fd);
		return err_set(e, ERR_IO, "watch a socket: %s", uv_strerror(rc));
	}
	uv_timer_init(loop, &t->ping);
	t->poll.data = t->ping.data = t;
	t->handles = 2;
	t->config = *config;
	t->callbacks = *callbacks;
	t->user = user;
	t->fd = fd;
	t->paused = true;
	watch(t);
	*out_traffic = t;
	return 0;
}

void traffic_pause(struct traffic *t, bool paused)
{
	if (t->paused == paused || t->n.failed)
		return;
	t->paused = paused;
	if (t->config.bulk) {
		send_due(t);
	} else if (!paused) {
		/* Sessions that start together do not tick together. */
		uint64_t every = (uint64_t)t->config.ping_ms;
		uv_timer_start(&t->ping, on_ping, mix(t->config.seed) % every, every);
	} else {
		uv_timer_stop(&t->ping);
	}
}

struct traffic_numbers traffic_numbers(const struct traffic *t)
{
	return t->n;
}

void traffic_free(struct traffic **out_t)
{
	struct traffic *t = *out_t;
	*out_t = NULL;
	if (!t)
		return;
	t->freed = true;
	uv_poll_stop(&t->poll);
	uv_close((uv_handle_t *)&t->poll, on_closed);
	uv_close((uv_handle_t *)&t->ping, on_closed);
	close(t->fd);
}
