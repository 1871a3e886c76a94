/* A row holds one time (the "theoretical arrival time" of the generic cell rate algorithm): each refusal moves it on by
 * what the limit gives it to wait, and when it is a minute ahead there is a wait until it is less. So a burst of the
 * limit passes, then one each so and so many seconds, and forgetting is the clock's business. Rows lie in sets of a
 * few; which set a caller is in nobody can aim at, since a secret goes into it. */
#include "server/guesses.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/secret.h"
#include "base/text.h"
#include "server/audit.h"
#include "server/metrics.h"
#include "server/origin.h"
#include "server/server.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define SETS 8192u
#define WAYS 8u                                    /* rows a set: 2 MiB in all */
#define MINUTE_MS 60000                            /* what the limits are for */
#define RIGHT_MS (24 * 3600 * (int64_t)1000)       /* who was right is remembered */
#define TELL_AGAIN_MS (10 * 60 * (int64_t)1000)    /* a row's limit is told again */
#define TELL_EACH_MS 10000                         /* and over all rows one each so many ms, */
#define TELL_BURST_MS (10 * (int64_t)TELL_EACH_MS) /* or ten at once */

struct row {
	uint64_t key; /* 0: free */
	int64_t until_ms, right_until_ms, told_ms;
};

struct guesses {
	pthread_mutex_t lock;
	unsigned char secret[32];
	int64_t per_credential, per_address; /* a minute; 0: any number */
	struct origins except;
	int64_t tell_until_ms;
	struct row rows[SETS][WAYS];
};

static void set_limits(struct guesses *g, const struct settings *s, struct origins *except)
{
	struct origins old = g->except;
	g->per_credential = s->limit_per_credential;
	g->per_address = s->limit_per_address;
	g->except = *except;
	origins_free(&old);
}

int guesses_new(const struct settings *s, struct guesses **out_guesses, struct err *e)
{
	struct guesses *g = calloc(1, sizeof *g);
	struct origins except;
	if (!g)
		return err_set(e, ERR_NOMEM, "out of memory");
	int rc = origins_parse("limits.except", &s->limit_except, &except, e);
	if (rc) {
		free(g);
		return rc;
	}
	pthread_mutex_init(&g->lock, NULL);
	secret_random(g->secret, sizeof g->secret);
	set_limits(g, s, &except);
	*out_guesses = g;
	return 0;
}

void guesses_free(struct guesses **guesses)
{
	struct guesses *g = *guesses;
	if (!g)
		return;
	origins_free(&g->except);
	pthread_mutex_destroy(&g->lock);
	free(g);
	*guesses = NULL;
}

int guesses_reload(struct guesses *g, const struct settings *fresh, struct err *e)
{
	struct origins except;
	int rc = origins_parse("limits.except", &fresh->limit_except, &except, e);
	if (rc)
		return rc;
	pthread_mutex_lock(&g->lock);
	set_limits(g, fresh, &except);
	pthread_mutex_unlock(&g->lock);
	return 0;
}

static bool counts_locked(const struct guesses *g, const char *address)
{
	return (g->per_credential || g->per_address) && !origins_hold(&g->except, address);
}

bool guesses_count(struct guesses *g, const char *address)
{
	if (!g)
		return false;
	pthread_mutex_lock(&g->lock);
	bool counts = counts_locked(g, address);
	pthread_mutex_unlock(&g->lock);
	return counts;
}

/* ---- rows ---- */

/* credential NULL: of the origin itself. Never 0. */
static uint64_t key_of(const struct guesses *g, const struct origin *from, enum guess_kind kind, const char *credential)
{
	unsigned char parts[32 + sizeof *from + 2 + 32] = { 0 }, hash[32];
	uint64_t key;
	memcpy(parts, g->secret, 32);
	memcpy(parts + 32, from, sizeof *from);
	parts[32 + sizeof *from] = (unsigned char)kind;
	if (credential) {
		parts[32 + sizeof *from + 1] = 1;
		secret_sha256(credential, strlen(credential), parts + sizeof parts - 32);
	}
	secret_sha256(parts, sizeof parts, hash);
	memcpy(&key, hash, sizeof key);
	return key ? key : 1;
}

static struct row *find(struct guesses *g, uint64_t key)
{
	struct row *set = g->rows[key % SETS];
	for (size_t i = 0; i < WAYS; i++)
		if (set[i].key == key)
			return &set[i];
	return NULL;
}

/* How little a row would be missed: 0 not at all. */
static unsigned worth(const struct row *r, int64_t now_ms)
{
	return r->key == 0 ? 0 : r->right_until_ms > now_ms ? 2 : r->until_ms > now_ms ? 1 : 0;
}

static struct row *find_or_make(struct guesses *g, uint64_t key, int64_t now_ms)
{
	struct row *r = find(g, key), *set = g->rows[key % SETS];
	if (r)
		return r;
	unsigned char first;
	secret_random(&first, sizeof first);
	r = &set[first % WAYS];
	for (size_t i = 1; i < WAYS; i++) {
		struct row *other = &set[(first + i) % WAYS];
		if (worth(other, now_ms) < worth(r, now_ms))
			r = other;
	}
	*r = (struct row){ .key = key };
	return r;
}

/* Milliseconds until it has room for one more; limit 0: none. */
static int64_t wait_of(const struct row *r, int64_t limit, int64_t now_ms)
{
	if (!r || limit == 0)
		return 0;
	int64_t wait_ms = r->until_ms - now_ms - (MINUTE_MS - MINUTE_MS / limit);
	return wait_ms > 0 ? wait_ms : 0;
}

/* True: that reached the limit, and it is to be told. */
static bool add(struct row *r, int64_t limit, int64_t now_ms)
{
	if (limit == 0)
		return false;
	r->until_ms = (r->until_ms > now_ms ? r->until_ms : now_ms) + MINUTE_MS / limit;
	if (wait_of(r, limit, now_ms) == 0 || (r->told_ms && now_ms - r->told_ms < TELL_AGAIN_MS))
		return false;
	r->told_ms = now_ms;
	return true;
}

static bool may_tell(struct guesses *g, int64_t now_ms)
{
	if (g->tell_until_ms < now_ms)
		g->tell_until_ms = now_ms;
	if (g->tell_until_ms - now_ms >= TELL_BURST_MS)
		return false;
	g->tell_until_ms += TELL_EACH_MS;
	return true;
}

/* ---- what callers ask ---- */

int64_t guesses_wait_ms(struct guesses *g, const struct guess *who, int64_t now_mono_ms)
{
	struct origin from;
	int64_t wait_ms = 0;
	if (!g)
		return 0;
	pthread_mutex_lock(&g->lock);
	if (counts_locked(g, who->address) && origin_of(who->address, &from)) {
		const struct row *pair = who->credential ? find(g, key_of(g, &from, who->kind, who->credential)) : NULL;
		wait_ms = wait_of(pair, g->per_credential, now_mono_ms);
		if (wait_ms == 0 && !(pair && pair->right_until_ms > now_mono_ms))
			wait_ms = wait_of(find(g, key_of(g, &from, who->kind, NULL)), g->per_address, now_mono_ms);
	}
	pthread_mutex_unlock(&g->lock);
	return wait_ms;
}

void guesses_right(struct guesses *g, const struct guess *who, int64_t now_mono_ms)
{
	struct origin from;
	if (!g || !who->credential)
		return;
	pthread_mutex_lock(&g->lock);
	if (counts_locked(g, who->address) && origin_of(who->address, &from))
		find_or_make(g, key_of(g, &from, who->kind, who->credential), now_mono_ms)->right_until_ms =
			now_mono_ms + RIGHT_MS;
	pthread_mutex_unlock(&g->lock);
}

enum guess_limit guesses_wrong(struct guesses *g, const struct guess *who, int64_t now_mono_ms)
{
	struct origin from;
	enum guess_limit reached = GUESS_NO_LIMIT;
	if (!g)
		return reached;
	pthread_mutex_lock(&g->lock);
	if (counts_locked(g, who->address) && origin_of(who->address, &from)) {
		if (who->credential && add(find_or_make(g, key_of(g, &from, who->kind, who->credential), now_mono_ms),
					   g->per_credential, now_mono_ms))
			reached = GUESS_LIMIT_CREDENTIAL;
		if (add(find_or_make(g, key_of(g, &from, who->kind, NULL), now_mono_ms), g->per_address, now_mono_ms))
			reached = GUESS_LIMIT_ADDRESS;
		if (reached != GUESS_NO_LIMIT && !may_tell(g, now_mono_ms))
			reached = GUESS_NO_LIMIT;
	}
	pthread_mutex_unlock(&g->lock);
	return reached;
}

int64_t guess_wait_s(struct server *server, const struct guess *who)
{
	int64_t wait_ms = guesses_wait_ms(server->guesses, who, clock_mono_ms());
	if (wait_ms)
		metrics_add(server->metrics, METRIC_AUTH_LIMITED, 1);
	return (wait_ms + 999) / 1000;
}

void guess_right(struct server *server, const struct guess *who)
{
	guesses_right(server->guesses, who, clock_mono_ms());
}

static const char *const kinds[] = {
	[GUESS_IDENTITY] = "identity",
	[GUESS_SESSION] = "session",
	[GUESS_AGENT] = "agent",
	[GUESS_ENROLLMENT] = "enrollment",
};

void guess_wrong_blocking(struct server *server, const struct guess *who)
{
	enum guess_limit limit = guesses_wrong(server->guesses, who, clock_mono_ms());
	if (limit == GUESS_NO_LIMIT)
		return;
	const char *which =
		limit == GUESS_LIMIT_ADDRESS ? "limits.failures_per_address" : "limits.failures_per_credential";
	const char *credential = who->credential && !who->secret ? who->credential : NULL;
	log_with(LOG_LEVEL_WARN,
		 FIELDS({ "remote", who->address }, { "kind", kinds[who->kind] },
			{ "credential", credential ? credential : "" }, { "limit", which }),
		 "too many refused credentials: who tries more has to wait");
	audit_note_blocking(server->audit, "auth.limited",
			    json_pack("{s:s, s:s, s:s, s:s?}", "remote_address", who->address, "kind", kinds[who->kind],
				      "limit", which, "credential", credential));
}

const char *guess_wait_text(int64_t wait_s, char *out, unsigned size)
{
	text_print(out, size,
		   "too many credentials from this address were refused; the next one is looked at in %lld s",
		   (long long)wait_s);
	return out;
}
