#include "store_user.h"

#include "base/clock.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct inbox {
	pthread_mutex_t lock;
	pthread_cond_t came;
	unsigned count, inside;
	bool overlapped, closed;
	char last_channel[80], last[64];
	size_t last_len;
};

static void inbox_init(struct inbox *in)
{
	memset(in, 0, sizeof *in);
	pthread_mutex_init(&in->lock, NULL);
	pthread_cond_init(&in->came, NULL);
}

static void on_event(void *arg, const char *channel, const char *message, size_t len)
{
	struct inbox *in = arg;
	pthread_mutex_lock(&in->lock);
	in->overlapped = in->overlapped || in->inside++;
	pthread_mutex_unlock(&in->lock);
	nanosleep(&(struct timespec){ .tv_nsec = 20000 }, NULL); /* room for a second call to show */
	pthread_mutex_lock(&in->lock);
	in->inside--;
	in->count++;
	snprintf(in->last_channel, sizeof in->last_channel, "%s", channel);
	in->last_len = len;
	snprintf(in->last, sizeof in->last, "%.*s", len < 60 ? (int)len : 60, message);
	pthread_cond_broadcast(&in->came);
	pthread_mutex_unlock(&in->lock);
}

static unsigned wait_for(struct inbox *in, unsigned count)
{
	struct timespec until;
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += 60;
	pthread_mutex_lock(&in->lock);
	while (in->count < count && pthread_cond_timedwait(&in->came, &in->lock, &until) == 0)
		;
	unsigned have = in->count;
	pthread_mutex_unlock(&in->lock);
	return have;
}

static int publish(struct user *u, const char *channel, const char *message, size_t len)
{
	struct tunnel_call call = suite_call(u->words, sizeof u->words);
	return plugin_store_publish_blocking(u->p, &call, channel, message, len);
}

static void subscribe(struct user *u, struct inbox *in)
{
	struct tunnel_call call = suite_call(u->words, sizeof u->words);
	EXPECT_RESULT(u, plugin_store_subscribe_blocking(u->p, &call, on_event, in), TUNNEL_OK);
}

/* Delivery is at most once, and a subscription may take a moment to be in force: repeat until one comes. */
static void publish_until_heard(struct user *u, struct inbox *in, const char *channel, const char *message, size_t len)
{
	unsigned before = wait_for(in, 0);
	for (int64_t until = clock_mono_ms() + 60000;;) {
		EXPECT(clock_mono_ms() < until);
		EXPECT_RESULT(u, publish(u, channel, message, len), TUNNEL_OK);
		struct timespec soon;
		clock_gettime(CLOCK_REALTIME, &soon);
		soon.tv_sec += 1;
		pthread_mutex_lock(&in->lock);
		if (in->count == before)
			pthread_cond_timedwait(&in->came, &in->lock, &soon);
		bool heard = in->count > before;
		pthread_mutex_unlock(&in->lock);
		if (heard)
			return;
	}
}

static void publish_reaches_the_subscriber(void)
{
	struct user u = user_open();
	struct inbox in;
	inbox_init(&in);
	EXPECT_RESULT(&u, publish(&u, "offers", "{}", 2), TUNNEL_OK); /* nobody listens: fine */
	subscribe(&u, &in);
	publish_until_heard(&u, &in, "offers", "{\"to\":\"web-1\"}", 14);
	pthread_mutex_lock(&in.lock);
	EXPECT(strcmp(in.last_channel, "offers") == 0);
	EXPECT(in.last_len == 14 && strcmp(in.last, "{\"to\":\"web-1\"}") == 0);
	pthread_mutex_unlock(&in.lock);
	publish_until_heard(&u, &in, "other_channel", "", 0);
	char *big = malloc(256 * 1024);
	EXPECT(big != NULL);
	memset(big, 'b', 256 * 1024);
	publish_until_heard(&u, &in, "big", big, 256 * 1024);
	EXPECT(in.last_len == 256 * 1024);
	free(big);
	user_close(&u);
}

static void publish_some(void *arg, size_t i)
{
	struct user mine = *(struct user *)arg;
	(void)i;
	for (int n = 0; n < 50; n++)
		EXPECT_RESULT(&mine, publish(&mine, "many", "1", 1), TUNNEL_OK);
}

static void events_come_one_at_a_time(void)
{
	struct user u = user_open();
	struct inbox in;
	inbox_init(&in);
	subscribe(&u, &in);
	publish_until_heard(&u, &in, "first", "1", 1);
	suite_threads(4, publish_some, &u);
	EXPECT(wait_for(&in, 201) >= 201); /* none is lost while nothing goes wrong */
	EXPECT(!in.overlapped);
	user_close(&u);
}

static void second_subscriber_is_refused(void)
{
	struct user u = user_open();
	struct inbox in;
	inbox_init(&in);
	subscribe(&u, &in);
	struct tunnel_call call = suite_call(u.words, sizeof u.words);
	EXPECT_RESULT(&u, plugin_store_subscribe_blocking(u.p, &call, on_event, &in), TUNNEL_INVALID);
	user_close(&u);
}

/* Tells that it is inside, stays there for a while, and must not come again after close. */
static void on_event_slowly(void *arg, const char *channel, const char *message, size_t len)
{
	struct inbox *in = arg;
	(void)channel, (void)message, (void)len;
	pthread_mutex_lock(&in->lock);
	EXPECT(!in->closed);
	in->inside++;
	in->count++;
	pthread_cond_broadcast(&in->came);
	pthread_mutex_unlock(&in->lock);
	nanosleep(&(struct timespec){ .tv_nsec = 200000000 }, NULL);
	pthread_mutex_lock(&in->lock);
	in->inside--;
	pthread_mutex_unlock(&in->lock);
}

/* close returns with no callback running or to come, whatever is still in the queue. It is called while one runs. */
static void close_ends_events(void)
{
	static struct inbox in;
	struct user u = user_open();
	inbox_init(&in);
	struct tunnel_call call = suite_call(u.words, sizeof u.words);
	EXPECT_RESULT(&u, plugin_store_subscribe_blocking(u.p, &call, on_event_slowly, &in), TUNNEL_OK);
	publish_until_heard(&u, &in, "last", "1", 1);
	for (int i = 0; i < 50; i++)
		EXPECT_RESULT(&u, publish(&u, "last", "1", 1), TUNNEL_OK);
	EXPECT(wait_for(&in, 2) >= 2); /* one of these has just begun */
	user_close(&u);
	pthread_mutex_lock(&in.lock);
	in.closed = true;
	unsigned inside = in.inside;
	pthread_mutex_unlock(&in.lock);
	EXPECT(inside == 0);
}

static void events_reach_other_nodes(void)
{
	struct user u = user_open(), other = { .words = "" };
	struct inbox here, there;
	struct err e = { 0 };
	other.p = suite_open(&e);
	if (!other.p)
		suite_skip("a store of one node: a second instance is refused");
	inbox_init(&here);
	inbox_init(&there);
	subscribe(&u, &here);
	subscribe(&other, &there);
	publish_until_heard(&u, &there, "offers", "1", 1);
	publish_until_heard(&other, &here, "offers", "1", 1);
	user_close(&other);
	user_close(&u);
}

const struct suite_case store_event_cases[] = {
	CASE(publish_reaches_the_subscriber), CASE(events_come_one_at_a_time),
	CASE(second_subscriber_is_refused),   CASE(close_ends_events),
	CASE(events_reach_other_nodes),       CASES_END,
};
