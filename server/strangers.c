/* A row for each origin that has a connection at the moment, in chained buckets: so there are never more rows than
 * connections. A place is the row's key; which bucket it is in nobody can aim at, since a secret goes into it. */
#include "server/strangers.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/secret.h"
#include "server/metrics.h"
#include "server/origin.h"
#include "server/settings.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#define BUCKETS 4096u
#define SHARE 16u /* an origin may have one of so many free places */
#define TELL_AGAIN_MS 10000

struct row {
	struct row *next;
	uint64_t key;
	size_t count;
};

struct strangers {
	struct metrics *metrics;
	pthread_mutex_t lock;
	unsigned char secret[32];
	size_t most, most_each; /* 0: any number */
	struct origins except;
	size_t count;
	int64_t told_ms;
	struct row *buckets[BUCKETS];
};

/* Half of the descriptors at most. */
static size_t most_of(const struct settings *s)
{
	struct rlimit files;
	size_t most = (size_t)s->limit_strangers;
	if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur != RLIM_INFINITY && most > files.rlim_cur / 2)
		most = (size_t)files.rlim_cur / 2;
	return most;
}

static void set_limits(struct strangers *s, const struct settings *from, struct origins *except)
{
	struct origins old = s->except;
	s->most = most_of(from);
	s->most_each = (size_t)from->limit_strangers_per_address;
	s->except = *except;
	origins_free(&old);
}

int strangers_new(const struct settings *from, struct metrics *metrics, struct strangers **out_strangers, struct err *e)
{
	struct strangers *s = calloc(1, sizeof *s);
	struct origins except;
	if (!s)
		return err_set(e, ERR_NOMEM, "out of memory");
	int rc = origins_parse("limits.except", &from->limit_except, &except, e);
	if (rc) {
		free(s);
		return rc;
	}
	s->metrics = metrics;
	pthread_mutex_init(&s->lock, NULL);
	secret_random(s->secret, sizeof s->secret);
	set_limits(s, from, &except);
	*out_strangers = s;
	return 0;
}

void strangers_free(struct strangers **strangers)
{
	struct strangers *s = *strangers;
	if (!s)
		return;
	for (size_t i = 0; i < BUCKETS; i++)
		while (s->buckets[i]) {
			struct row *row = s->buckets[i];
			s->buckets[i] = row->next;
			free(row);
		}
	origins_free(&s->except);
	pthread_mutex_destroy(&s->lock);
	free(s);
	*strangers = NULL;
}

int strangers_reload(struct strangers *s, const struct settings *fresh, struct err *e)
{
	struct origins except;
	int rc = origins_parse("limits.except", &fresh->limit_except, &except, e);
	if (rc)
		return rc;
	pthread_mutex_lock(&s->lock);
	set_limits(s, fresh, &except);
	pthread_mutex_unlock(&s->lock);
	return 0;
}

/* Never 0. */
static uint64_t key_of(const struct strangers *s, const struct origin *from)
{
	unsigned char parts[32 + sizeof *from], hash[32];
	uint64_t key;
	memcpy(parts, s->secret, 32);
	memcpy(parts + 32, from, sizeof *from);
	secret_sha256(parts, sizeof parts, hash);
	memcpy(&key, hash, sizeof key);
	return key ? key : 1;
}

/* The link that leads to the row, or to where it would be. */
static struct row **link_of(struct strangers *s, uint64_t key)
{
	struct row **at = &s->buckets[key % BUCKETS];
	while (*at && (*at)->key != key)
		at = &(*at)->next;
	return at;
}

static bool has_room(const struct strangers *s, size_t here)
{
	if (s->most && s->count >= s->most)
		return false;
	/* The first of an origin has no share to keep to. */
	if (s->most && here > 0 && here >= (s->most - s->count) / SHARE)
		return false;
	return !s->most_each || here < s->most_each;
}

static bool add_locked(struct strangers *s, uint64_t key)
{
	struct row **at = link_of(s, key);
	if (!has_room(s, *at ? (*at)->count : 0))
		return false;
	if (!*at) {
		*at = calloc(1, sizeof **at);
		if (!*at)
			return false;
		(*at)->key = key;
	}
	(*at)->count++;
	s->count++;
	return true;
}

static void tell_refused(struct strangers *s, const char *address)
{
	int64_t now_ms = clock_mono_ms();
	metrics_add(s->metrics, METRIC_CONNECTIONS_REFUSED, 1);
	pthread_mutex_lock(&s->lock);
	bool tell = !s->told_ms || now_ms - s->told_ms >= TELL_AGAIN_MS;
	if (tell)
		s->told_ms = now_ms;
	pthread_mutex_unlock(&s->lock);
	if (tell)
		log_with(LOG_LEVEL_WARN, FIELDS({ "remote", address }),
			 "too many connections that have shown no credential: some are closed at once "
			 "(limits.strangers, limits.strangers_per_address)");
}

bool strangers_enter(struct strangers *s, const char *address, uint64_t *out_place)
{
	struct origin from;
	uint64_t key = 0;
	bool in = true;
	if (s) {
		pthread_mutex_lock(&s->lock);
		if ((s->most || s->most_each) && origin_of(address, &from) && !origins_hold(&s->except, address)) {
			key = key_of(s, &from);
			in = add_locked(s, key);
		}
		pthread_mutex_unlock(&s->lock);
	}
	if (in)
		*out_place = key;
	else
		tell_refused(s, address);
	return in;
}

void strangers_leave(struct strangers *s, uint64_t *place)
{
	if (!s || !*place)
		return;
	pthread_mutex_lock(&s->lock);
	struct row **at = link_of(s, *place), *row = *at;
	*place = 0;
	if (row) {
		s->count--;
		if (--row->count == 0) {
			*at = row->next;
			free(row);
		}
	}
	pthread_mutex_unlock(&s->lock);
}

size_t strangers_count(struct strangers *s)
{
	pthread_mutex_lock(&s->lock);
	size_t count = s->count;
	pthread_mutex_unlock(&s->lock);
	return count;
}
