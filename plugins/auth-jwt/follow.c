/* One thread fetches, soon after open, every refresh_ms, sooner and sooner again after a failure, and when follow_look
 * asks. A set that cannot be used changes nothing: the last good one stays, however long, since a server that forgot
 * its keys would shut everybody out because somebody else's is away. Without any keys every token is refused.
 *
 * Tokens with invented kids make it ask the issuer again; so that is allowed a few times, and then once in LOOK_MS, and
 * few callers wait at once. */
#include "follow.h"

#include "fetch.h"
#include "keycache.h"
#include "text.h"

#include <curl/curl.h>
#include <jansson.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define LOOKS_MAX 4u  /* fetches for unknown kids in a row */
#define LOOK_MS 15000 /* then one in this time */
#define WAITERS_MAX 4u
#define START_MS 300 /* so an instance that is opened to be checked, and closed, asks nobody */
#define RETRY_MIN_MS 1000
#define RETRY_MAX_MS 60000
#define WHY_MAX 320u

struct follow {
	const struct tunnel_host *host;
	struct follow_settings settings;
	struct keystore *keys;
	char *last; /* the text that keys has; the thread's alone */
	size_t last_len;
	atomic_bool stop;
	pthread_t thread;
	pthread_mutex_t lock; /* all below */
	pthread_cond_t turn;  /* something was asked for, or a fetch is over */
	int running, asked;
	uint64_t rounds; /* fetches that are over */
	unsigned waiters, looks;
	int64_t looked_ms; /* when a look was added to looks last */
	unsigned failures; /* in a row */
	char why[WHY_MAX];
};

static int64_t now_ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void wait_until(struct follow *f, int64_t at_ms)
{
	struct timespec t = { .tv_sec = at_ms / 1000, .tv_nsec = at_ms % 1000 * 1000000 };
	pthread_cond_timedwait(&f->turn, &f->lock, &t);
}

void follow_settings_clear(struct follow_settings *s)
{
	free(s->jwks_url);
	free(s->issuer);
	free(s->ca_file);
	free(s->cache_path);
	memset(s, 0, sizeof *s);
}

/* The jwks_uri of the discovery document, if that is the issuer's own. */
static int read_discovery(const struct follow *f, const char *text, size_t len, char **out, char *err, size_t err_len)
{
	char a[SHOWN_MAX];
	json_t *json = json_loadb(text, len, JSON_REJECT_DUPLICATES, NULL);
	const char *issuer = json_string_value(json_object_get(json, "issuer"));
	const char *uri = json_string_value(json_object_get(json, "jwks_uri"));
	int rc = -1;
	if (!json)
		say(0, err, err_len, "it is not JSON");
	else if (!issuer || strcmp(issuer, f->settings.issuer) != 0)
		say(0, err, err_len, "it is that of the issuer \"%s\"", shown(issuer ? issuer : "", a));
	else if (!uri || !fetch_url_is_fit(uri))
		say(0, err, err_len, "its jwks_uri is not an https URL");
	else if (!(*out = strdup(uri)))
		say(0, err, err_len, "out of memory");
	else
		rc = 0;
	json_decref(json);
	return rc;
}

static int discover(struct follow *f, char **out, char *err, size_t err_len)
{
	char url[FETCH_URL_MAX + 64], why[WHY_MAX];
	char *text = NULL;
	size_t len = strlen(f->settings.issuer), text_len = 0;
	while (len && f->settings.issuer[len - 1] == '/')
		len--;
	snprintf(url, sizeof url, "%.*s/.well-known/openid-configuration", (int)len, f->settings.issuer);
	int rc = fetch_blocking(url, f->settings.ca_file, &f->stop, &text, &text_len, err, err_len);
	if (rc == 0 && read_discovery(f, text, text_len, out, why, sizeof why) != 0)
		rc = say(-1, err, err_len, "%s: %s", url, why);
	free(text);
	return rc;
}

static const char *source_of(const struct follow *f)
{
	return f->settings.jwks_url ? f->settings.jwks_url : f->settings.issuer;
}

/* Takes the text over. */
static int use(struct follow *f, const char *url, char *text, size_t len, char *err, size_t err_len)
{
	char words[WHY_MAX];
	if (f->last && len == f->last_len && memcmp(f->last, text, len) == 0) {
		free(text);
		return 0;
	}
	if (keystore_put_published(f->keys, url, text, len, err, err_len) != 0) {
		free(text);
		return -1;
	}
	free(f->last);
	f->last = text;
	f->last_len = len;
	f->host->log(f->host->ctx, TUNNEL_LOG_INFO, "the issuer's keys are read");
	if (f->settings.cache_path &&
	    keycache_write(f->settings.cache_path, source_of(f), text, len, words, sizeof words) != 0)
		f->host->log(f->host->ctx, TUNNEL_LOG_WARN, words);
	return 0;
}

static int fetch(struct follow *f, char *err, size_t err_len)
{
	char *url = f->settings.jwks_url, *found = NULL, *text = NULL;
	size_t len = 0;
	if (!url && discover(f, &found, err, err_len) != 0)
		return -1;
	url = url ? url : found;
	int rc = fetch_blocking(url, f->settings.ca_file, &f->stop, &text, &len, err, err_len);
	if (rc == 0)
		rc = use(f, url, text, len, err, err_len);
	free(found);
	return rc;
}

/* Once for an outage and each new reason of it, and once when it is over. f->why, which this thread alone writes, is
 * the one before. */
static void tell(struct follow *f, int rc, unsigned failures_before, const char *why)
{
	char line[WHY_MAX + 96];
	f->host->count(f->host->ctx, rc == 0 ? "key_fetches" : "key_fetch_failures", 1);
	if (rc != 0 && (failures_before == 0 || strcmp(why, f->why) != 0)) {
		snprintf(line, sizeof line, "the issuer's keys cannot be fetched, those from before stay: %s", why);
		f->host->log(f->host->ctx, TUNNEL_LOG_WARN, line);
	} else if (rc == 0 && failures_before) {
		f->host->log(f->host->ctx, TUNNEL_LOG_INFO, "the issuer's keys can be fetched again");
	}
}

/* Called and left with the lock. When the next one is due. */
static int64_t one_round(struct follow *f)
{
	char why[WHY_MAX] = "";
	unsigned before = f->failures;
	f->asked = 0;
	f->running = 1;
	pthread_mutex_unlock(&f->lock);
	int rc = fetch(f, why, sizeof why);
	if (!atomic_load(&f->stop))
		tell(f, rc, before, why);
	pthread_mutex_lock(&f->lock);
	f->running = 0;
	f->rounds++;
	f->failures = rc == 0 ? 0 : before + 1;
	snprintf(f->why, sizeof f->why, "%s", why);
	pthread_cond_broadcast(&f->turn);
	int64_t wait_ms = f->settings.refresh_ms;
	if (rc != 0) {
		wait_ms = (int64_t)RETRY_MIN_MS << (before < 6 ? before : 6);
		wait_ms = wait_ms < RETRY_MAX_MS ? wait_ms : RETRY_MAX_MS;
	}
	return now_ms() + wait_ms;
}

static void *run(void *arg)
{
	struct follow *f = arg;
	int64_t due_ms = now_ms() + START_MS;
	pthread_mutex_lock(&f->lock);
	while (!atomic_load(&f->stop)) {
		if (f->asked || now_ms() >= due_ms)
			due_ms = one_round(f);
		else
			wait_until(f, due_ms);
	}
	pthread_mutex_unlock(&f->lock);
	return NULL;
}

/* With the lock. */
static int may_look(struct follow *f)
{
	int64_t now = now_ms();
	while (f->looks < LOOKS_MAX && now - f->looked_ms >= LOOK_MS) {
		f->looks++;
		f->looked_ms += LOOK_MS;
	}
	if (f->looks == 0)
		return 0;
	if (f->looks-- == LOOKS_MAX)
		f->looked_ms = now;
	return 1;
}

int follow_look(struct follow *f, int64_t wait_ms)
{
	int64_t until_ms = now_ms() + wait_ms;
	pthread_mutex_lock(&f->lock);
	uint64_t wanted = f->rounds + 1;
	int waits = f->waiters < WAITERS_MAX && (f->running || f->asked || may_look(f));
	if (waits) {
		f->waiters++;
		if (!f->running)
			f->asked = 1;
		pthread_cond_broadcast(&f->turn);
		while (f->rounds < wanted && now_ms() < until_ms)
			wait_until(f, until_ms);
		f->waiters--;
	}
	int done = f->rounds >= wanted;
	pthread_mutex_unlock(&f->lock);
	return done;
}

int follow_failed(struct follow *f, char *why, size_t size)
{
	pthread_mutex_lock(&f->lock);
	int failed = f->failures > 0 || f->rounds == 0;
	snprintf(why, size, "%s", f->rounds == 0 ? "they are being fetched" : f->why);
	pthread_mutex_unlock(&f->lock);
	return failed;
}

/* What was fetched before the server was started. */
static void use_cache(struct follow *f)
{
	char words[WHY_MAX];
	char *text = NULL;
	size_t len = 0;
	const struct follow_settings *s = &f->settings;
	if (!s->cache_path)
		return;
	int rc = keycache_read(s->cache_path, source_of(f), &text, &len, words, sizeof words);
	if (rc == 0)
		rc = keystore_put_published(f->keys, s->cache_path, text, len, words, sizeof words);
	if (rc < 0)
		f->host->log(f->host->ctx, TUNNEL_LOG_WARN, words);
	free(text);
}

int follow_open(const struct tunnel_host *host, struct follow_settings *settings, struct keystore *keys,
		struct follow **out, char *err, size_t err_len)
{
	pthread_condattr_t attributes;
	struct follow *f = calloc(1, sizeof *f);
	if (!f || curl_global_init(CURL_GLOBAL_DEFAULT) != 0) {
		free(f);
		return say(TUNNEL_INTERNAL, err, err_len, "out of memory");
	}
	f->host = host;
	f->settings = *settings;
	f->keys = keys;
	f->looks = LOOKS_MAX;
	atomic_init(&f->stop, false);
	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	pthread_cond_init(&f->turn, &attributes);
	pthread_condattr_destroy(&attributes);
	pthread_mutex_init(&f->lock, NULL);
	use_cache(f);
	if (pthread_create(&f->thread, NULL, run, f) != 0) {
		pthread_mutex_destroy(&f->lock);
		pthread_cond_destroy(&f->turn);
		free(f);
		return say(TUNNEL_INTERNAL, err, err_len, "no thread to fetch the issuer's keys");
	}
	memset(settings, 0, sizeof *settings);
	*out = f;
	return 0;
}

void follow_close(struct follow **follow)
{
	struct follow *f = *follow;
	if (!f)
		return;
	atomic_store(&f->stop, true);
	pthread_mutex_lock(&f->lock);
	pthread_cond_broadcast(&f->turn);
	pthread_mutex_unlock(&f->lock);
	pthread_join(f->thread, NULL);
	pthread_cond_destroy(&f->turn);
	pthread_mutex_destroy(&f->lock);
	follow_settings_clear(&f->settings);
	free(f->last);
	free(f);
	*follow = NULL;
}
