/* The file is read into a set that never changes; a verification holds a reference to the one that was current when
 * it began. Whoever asks for it and finds the last look older than a second looks again: inode, size and times say
 * whether the file changed. A file that cannot be read is logged once per change, and the old set stays. */
#include "credentials.h"

#include "mask.h"
#include "text.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <openssl/crypto.h>

struct print {
	dev_t dev;
	ino_t ino;
	off_t size;
	struct timespec modified, changed;
	int error;
};

struct credential_store {
	const struct tunnel_host *host;
	char *path;
	pthread_mutex_t lock; /* current, next_check_ms, checking */
	pthread_mutex_t load; /* one loader at a time; print */
	struct credentials *current;
	int64_t next_check_ms;
	int checking;
	struct print print;
};

static void credential_clear(struct credential *c)
{
	free(c->key_id);
	free(c->subject);
	free(c->groups);
	secret_free(c->secret);
	memset(c, 0, sizeof *c);
}

void credentials_unref(struct credentials *set)
{
	if (!set || atomic_fetch_sub(&set->refs, 1) != 1)
		return;
	for (size_t i = 0; i < set->n; i++)
		credential_clear(&set->at[i]);
	free(set->at);
	free(set);
}

const struct credential *credentials_find(const struct credentials *set, const char *key_id)
{
	size_t low = 0, high = set->n;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		int order = strcmp(set->at[middle].key_id, key_id);
		if (order == 0)
			return &set->at[middle];
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return NULL;
}

static struct print print_of(const char *path)
{
	struct stat st;
	struct print p = { .error = 0 };
	if (stat(path, &st) != 0) {
		p.error = errno;
		return p;
	}
	p.dev = st.st_dev;
	p.ino = st.st_ino;
	p.size = st.st_size;
	p.modified = st.st_mtim;
	p.changed = st.st_ctim;
	return p;
}

static int same_time(struct timespec a, struct timespec b)
{
	return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

static int same_print(const struct print *a, const struct print *b)
{
	return a->dev == b->dev && a->ino == b->ino && a->size == b->size && a->error == b->error &&
	       same_time(a->modified, b->modified) && same_time(a->changed, b->changed);
}

/* With s->load held. */
static int load_and_swap(struct credential_store *s, char *err, size_t err_len)
{
	struct credentials *set = calloc(1, sizeof *set);
	if (!set)
		return say(TUNNEL_INTERNAL, err, err_len, "out of memory");
	atomic_init(&set->refs, 1);
	int rc = credentials_read_file(s->path, set, err, err_len);
	if (rc != 0) {
		credentials_unref(set);
		return TUNNEL_CONFIG;
	}
	pthread_mutex_lock(&s->lock);
	struct credentials *old = s->current;
	s->current = set;
	pthread_mutex_unlock(&s->lock);
	credentials_unref(old);
	return 0;
}

static void look(struct credential_store *s)
{
	char err[512], line[640];
	pthread_mutex_lock(&s->load);
	struct print now = print_of(s->path);
	if (!same_print(&now, &s->print)) {
		s->print = now;
		if (load_and_swap(s, err, sizeof err) == 0) {
			s->host->log(s->host->ctx, TUNNEL_LOG_INFO, "credentials read again after a change");
			s->host->count(s->host->ctx, "credential_reloads", 1);
		} else {
			snprintf(line, sizeof line, "changed credentials are not used, the earlier ones stay: %s", err);
			s->host->log(s->host->ctx, TUNNEL_LOG_ERROR, line);
			s->host->count(s->host->ctx, "credential_reload_failures", 1);
		}
	}
	pthread_mutex_unlock(&s->load);
}

struct credentials *credential_store_get(struct credential_store *s)
{
	int64_t now = s->host->mono_ms(s->host->ctx);
	pthread_mutex_lock(&s->lock);
	if (now >= s->next_check_ms && !s->checking) {
		s->checking = 1;
		pthread_mutex_unlock(&s->lock);
		look(s);
		pthread_mutex_lock(&s->lock);
		s->checking = 0;
		s->next_check_ms = now + CREDENTIALS_CHECK_MS;
	}
	struct credentials *set = s->current;
	atomic_fetch_add(&set->refs, 1);
	pthread_mutex_unlock(&s->lock);
	return set;
}

int credential_store_reload(struct credential_store *s, char *err, size_t err_len)
{
	pthread_mutex_lock(&s->load);
	s->print = print_of(s->path);
	int rc = load_and_swap(s, err, err_len);
	pthread_mutex_unlock(&s->load);
	return rc;
}

int credential_store_open(const struct tunnel_host *host, const char *path, struct credential_store **out, char *err,
			  size_t err_len)
{
	struct credential_store *s = calloc(1, sizeof *s);
	if (!s)
		return say(TUNNEL_INTERNAL, err, err_len, "out of memory");
	pthread_mutex_init(&s->lock, NULL);
	pthread_mutex_init(&s->load, NULL);
	s->host = host;
	s->next_check_ms = host->mono_ms(host->ctx) + CREDENTIALS_CHECK_MS;
	s->path = strdup(path);
	int rc = s->path ? credential_store_reload(s, err, err_len)
			 : say(TUNNEL_INTERNAL, err, err_len, "out of memory");
	if (rc != 0)
		credential_store_close(&s);
	else
		*out = s;
	return rc;
}

void credential_store_close(struct credential_store **store)
{
	struct credential_store *s = *store;
	if (!s)
		return;
	credentials_unref(s->current);
	free(s->path);
	pthread_mutex_destroy(&s->load);
	pthread_mutex_destroy(&s->lock);
	free(s);
	*store = NULL;
}
