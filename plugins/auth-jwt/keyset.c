/* Keys are read into a set that never changes; verifications hold a reference to the one that was current when they
 * began. Whoever asks for it and finds the last look at the files older than a second looks again (others go on with
 * the set there is): a print over name, inode, size and times of every file says whether anything changed. A set that
 * cannot be read is logged once per change, and the old one stays. What an issuer publishes (follow.h) is one more
 * source, put in place whenever it changes. */
#include "keyset.h"

#include "text.h"

#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <openssl/evp.h>

/* A JWKS that came from elsewhere. */
struct published {
	char *text, *where; /* NULL: none yet */
	size_t len;
};

struct keystore {
	const struct tunnel_host *host;
	struct key_source *sources;
	size_t n;
	char *jwks;
	struct published published; /* under load */
	pthread_mutex_t lock;       /* current, next_check_ms, checking */
	pthread_mutex_t load;       /* one loader at a time; print, generation */
	struct keyset *current;
	int64_t next_check_ms;
	int checking;
	uint64_t generation;
	unsigned char print[32];
};

struct names {
	char *at[KEYSET_FILES_MAX];
	size_t n;
};

static void names_clear(struct names *names)
{
	for (size_t i = 0; i < names->n; i++)
		free(names->at[i]);
	names->n = 0;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static int ends_with(const char *text, const char *end)
{
	size_t n = strlen(text), m = strlen(end);
	return n > m && strcmp(text + n - m, end) == 0;
}

/* The JWKS files: the path itself, or *.json and *.jwks of the folder, sorted. */
static int list_jwks(const char *path, struct names *out, char *err, size_t err_len)
{
	struct stat st;
	struct dirent *entry;
	int rc = 0;
	out->n = 0;
	if (stat(path, &st) != 0)
		return say(-1, err, err_len, "%s: %s", path, strerror(errno));
	if (!S_ISDIR(st.st_mode)) {
		out->at[0] = strdup(path);
		out->n = out->at[0] ? 1 : 0;
		return out->n ? 0 : say(-1, err, err_len, "out of memory");
	}
	DIR *dir = opendir(path);
	if (!dir)
		return say(-1, err, err_len, "%s: %s", path, strerror(errno));
	while (rc == 0 && (entry = readdir(dir))) {
		const char *name = entry->d_name;
		if (name[0] == '.' || !(ends_with(name, ".json") || ends_with(name, ".jwks")))
			continue;
		if (out->n == KEYSET_FILES_MAX)
			rc = say(-1, err, err_len, "%s: more than %u JWKS files", path, KEYSET_FILES_MAX);
		else if (asprintf(&out->at[out->n], "%s/%s", path, name) < 0)
			rc = say(-1, err, err_len, "out of memory");
		else
			out->n++;
	}
	closedir(dir);
	if (rc != 0)
		names_clear(out);
	else
		qsort(out->at, out->n, sizeof *out->at, by_name);
	return rc;
}

static void print_file(EVP_MD_CTX *md, const char *path)
{
	struct stat st;
	int64_t facts[8] = { 0 };
	if (stat(path, &st) != 0) {
		facts[0] = errno;
	} else {
		facts[1] = (int64_t)st.st_dev;
		facts[2] = (int64_t)st.st_ino;
		facts[3] = (int64_t)st.st_size;
		facts[4] = (int64_t)st.st_mtim.tv_sec;
		facts[5] = (int64_t)st.st_mtim.tv_nsec;
		facts[6] = (int64_t)st.st_ctim.tv_sec;
		facts[7] = (int64_t)st.st_ctim.tv_nsec;
	}
	EVP_DigestUpdate(md, path, strlen(path) + 1);
	EVP_DigestUpdate(md, facts, sizeof facts);
}

/* What the files look like from outside. */
static int print_files(const struct keystore *s, unsigned char out[32])
{
	struct names names = { .n = 0 };
	char err[8];
	EVP_MD_CTX *md = EVP_MD_CTX_new();
	if (!md || EVP_DigestInit_ex(md, EVP_sha256(), NULL) != 1) {
		EVP_MD_CTX_free(md);
		return -1;
	}
	for (size_t i = 0; i < s->n; i++)
		print_file(md, s->sources[i].path);
	if (s->jwks) {
		if (list_jwks(s->jwks, &names, err, sizeof err) != 0)
			print_file(md, s->jwks);
		for (size_t i = 0; i < names.n; i++)
			print_file(md, names.at[i]);
	}
	names_clear(&names);
	int rc = EVP_DigestFinal_ex(md, out, NULL) == 1 ? 0 : -1;
	EVP_MD_CTX_free(md);
	return rc;
}

void keyset_unref(struct keyset *set)
{
	if (!set || atomic_fetch_sub(&set->refs, 1) != 1)
		return;
	for (size_t i = 0; i < set->n; i++)
		key_clear(&set->keys[i]);
	free(set->keys);
	free(set);
}

static const struct key *find_kid(const struct keyset *set, const char *kid)
{
	for (size_t i = 0; i < set->n; i++)
		if (set->keys[i].kid && strcmp(set->keys[i].kid, kid) == 0)
			return &set->keys[i];
	return NULL;
}

/* Takes the key over, or clears it. */
static int keyset_add(struct keyset *set, struct key *key, char *err, size_t err_len)
{
	char a[SHOWN_MAX];
	struct key *more = NULL;
	const struct key *before = key->kid ? find_kid(set, key->kid) : NULL;
	if (before)
		say(0, err, err_len, "%s: the kid \"%s\" is already taken by a key of %s; each key needs its own",
		    key->where, shown(key->kid, a), before->where);
	else if (set->n == KEYSET_KEYS_MAX)
		say(0, err, err_len, "%s: more than %u keys", key->where, KEYSET_KEYS_MAX);
	else if (!(more = realloc(set->keys, (set->n + 1) * sizeof *more)))
		say(0, err, err_len, "out of memory");
	if (!more) {
		key_clear(key);
		return -1;
	}
	set->keys = more;
	set->keys[set->n++] = *key;
	return 0;
}

/* One member of "keys". In a file of ours a faulty key is an error; of a set that somebody else publishes, only that
 * key is not used (RFC 7517, 5); one that memory lacks for is asked for again with all others. */
static int add_jwk(const struct keystore *s, const json_t *jwk, size_t i, const char *where, int ours,
		   struct keyset *set, char *err, size_t err_len)
{
	struct key key;
	char why[256], line[512], a[SHOWN_MAX];
	int rc = key_from_jwk(jwk, where, &key, why, sizeof why);
	if (rc == 0 && !ours && key.kid && find_kid(set, key.kid)) {
		rc = say(1, why, sizeof why, "has a kid that another key has already");
		key_clear(&key);
		set->twice++;
	}
	if (rc == 0)
		return keyset_add(set, &key, err, err_len);
	if (rc == KEY_NO_MEMORY || (rc < 0 && ours))
		return say(-1, err, err_len, "%s: keys[%zu] %s", where, i, why);
	const char *kid = json_string_value(json_object_get(jwk, "kid"));
	snprintf(line, sizeof line, "%s: keys[%zu] (kid \"%s\") is passed over: it %s", where, i,
		 shown(kid ? kid : "", a), why);
	s->host->log(s->host->ctx, TUNNEL_LOG_WARN, line);
	return 0;
}

static int add_jwks(const struct keystore *s, const char *text, size_t len, const char *where, int ours,
		    struct keyset *set, char *err, size_t err_len)
{
	size_t i;
	json_error_t bad;
	json_t *jwk;
	char a[SHOWN_MAX];
	int rc = 0;
	json_t *root = json_loadb(text, len, JSON_REJECT_DUPLICATES, &bad);
	json_t *keys = json_object_get(root, "keys");
	if (!root)
		rc = say(-1, err, err_len, "%s:%d: not JSON: %s", where, bad.line, shown(bad.text, a));
	else if (!json_is_array(keys))
		rc = say(-1, err, err_len, "%s: not a JWKS; expected {\"keys\": [ … ]}", where);
	json_array_foreach(keys, i, jwk) if (rc == 0) rc = add_jwk(s, jwk, i, where, ours, set, err, err_len);
	json_decref(root);
	return rc;
}

static int load_jwks_file(const struct keystore *s, const char *path, struct keyset *set, char *err, size_t err_len)
{
	unsigned char *text = NULL;
	size_t len = 0;
	if (key_read_file(path, 0, &text, &len, err, err_len) != 0)
		return -1;
	int rc = add_jwks(s, (const char *)text, len, path, 1, set, err, err_len);
	secret_free(text, len);
	return rc;
}

static int load_jwks(const struct keystore *s, struct keyset *set, char *err, size_t err_len)
{
	struct names names = { .n = 0 };
	char why[512];
	size_t before = set->n;
	if (!s->jwks)
		return 0;
	if (list_jwks(s->jwks, &names, why, sizeof why) != 0)
		return say(-1, err, err_len, "jwks: %s", why);
	int rc = 0;
	for (size_t i = 0; rc == 0 && i < names.n; i++)
		if (load_jwks_file(s, names.at[i], set, why, sizeof why) != 0)
			rc = say(-1, err, err_len, "jwks: %s", why);
	names_clear(&names);
	if (rc == 0 && set->n == before)
		rc = say(-1, err, err_len, "jwks: %s: no usable key in it", s->jwks);
	return rc;
}

static int load_published(const struct keystore *s, struct keyset *set, char *err, size_t err_len)
{
	size_t before = set->n;
	if (!s->published.text)
		return 0;
	int rc = add_jwks(s, s->published.text, s->published.len, s->published.where, 0, set, err, err_len);
	if (rc == 0 && set->n == before && !set->twice)
		rc = say(-1, err, err_len, "%s: no usable key in it", s->published.where);
	return rc;
}

static int load_all(const struct keystore *s, struct keyset *set, char *err, size_t err_len)
{
	char why[512];
	for (size_t i = 0; i < s->n; i++) {
		const struct key_source *from = &s->sources[i];
		struct key key;
		if (key_from_file(from->alg, from->kid, from->path, from->where, &key, why, sizeof why) != 0)
			return say(-1, err, err_len, "%s: key: %s", from->where, why);
		if (keyset_add(set, &key, err, err_len) != 0)
			return -1;
	}
	int rc = load_jwks(s, set, err, err_len);
	return rc == 0 ? load_published(s, set, err, err_len) : rc;
}

/* With s->load held. */
static int load_and_swap(struct keystore *s, char *err, size_t err_len)
{
	struct keyset *set = calloc(1, sizeof *set);
	if (!set)
		return say(TUNNEL_INTERNAL, err, err_len, "out of memory");
	atomic_init(&set->refs, 1);
	set->generation = ++s->generation;
	if (load_all(s, set, err, err_len) != 0) {
		keyset_unref(set);
		return TUNNEL_CONFIG;
	}
	pthread_mutex_lock(&s->lock);
	struct keyset *old = s->current;
	s->current = set;
	pthread_mutex_unlock(&s->lock);
	keyset_unref(old);
	return 0;
}

/* Looks at the files; loads when they differ from the last look. */
static void look(struct keystore *s)
{
	unsigned char print[32];
	char err[512], line[640];
	pthread_mutex_lock(&s->load);
	if (print_files(s, print) == 0 && memcmp(print, s->print, sizeof print) != 0) {
		memcpy(s->print, print, sizeof print);
		if (load_and_swap(s, err, sizeof err) == 0) {
			s->host->log(s->host->ctx, TUNNEL_LOG_INFO, "keys read again after a change");
			s->host->count(s->host->ctx, "key_reloads", 1);
		} else {
			snprintf(line, sizeof line, "changed keys are not used, the earlier ones stay: %s", err);
			s->host->log(s->host->ctx, TUNNEL_LOG_ERROR, line);
			s->host->count(s->host->ctx, "key_reload_failures", 1);
		}
	}
	pthread_mutex_unlock(&s->load);
}

struct keyset *keystore_get(struct keystore *s)
{
	int64_t now = s->host->mono_ms(s->host->ctx);
	pthread_mutex_lock(&s->lock);
	if (now >= s->next_check_ms && !s->checking) {
		s->checking = 1;
		pthread_mutex_unlock(&s->lock);
		look(s);
		pthread_mutex_lock(&s->lock);
		s->checking = 0;
		s->next_check_ms = now + KEYSET_CHECK_MS;
	}
	struct keyset *set = s->current;
	atomic_fetch_add(&set->refs, 1);
	pthread_mutex_unlock(&s->lock);
	return set;
}

int keystore_reload(struct keystore *s, char *err, size_t err_len)
{
	unsigned char print[32];
	pthread_mutex_lock(&s->load);
	if (print_files(s, print) == 0)
		memcpy(s->print, print, sizeof print);
	int rc = load_and_swap(s, err, err_len);
	pthread_mutex_unlock(&s->load);
	return rc;
}

static void published_clear(struct published *p)
{
	free(p->text);
	free(p->where);
	memset(p, 0, sizeof *p);
}

int keystore_put_published(struct keystore *s, const char *where, const char *text, size_t len, char *err,
			   size_t err_len)
{
	struct published given = { .text = malloc(len + 1), .where = strdup(where), .len = len };
	if (!given.text || !given.where) {
		published_clear(&given);
		return say(TUNNEL_INTERNAL, err, err_len, "out of memory");
	}
	memcpy(given.text, text, len);
	given.text[len] = '\0';
	pthread_mutex_lock(&s->load);
	struct published before = s->published;
	s->published = given;
	int rc = load_and_swap(s, err, err_len);
	if (rc != 0) {
		s->published = before;
		before = given;
	}
	pthread_mutex_unlock(&s->load);
	published_clear(&before);
	return rc;
}

int keystore_open(const struct tunnel_host *host, struct key_source *sources, size_t n, char *jwks,
		  struct keystore **out, char *err, size_t err_len)
{
	struct keystore *s = calloc(1, sizeof *s);
	if (!s)
		return say(TUNNEL_INTERNAL, err, err_len, "out of memory");
	pthread_mutex_init(&s->lock, NULL);
	pthread_mutex_init(&s->load, NULL);
	s->host = host;
	s->sources = sources;
	s->n = n;
	s->jwks = jwks;
	s->next_check_ms = host->mono_ms(host->ctx) + KEYSET_CHECK_MS;
	int rc = keystore_reload(s, err, err_len);
	if (rc != 0) {
		s->sources = NULL; /* still the caller's */
		s->n = 0;
		s->jwks = NULL;
		keystore_close(&s);
		return rc;
	}
	*out = s;
	return 0;
}

void keystore_close(struct keystore **store)
{
	struct keystore *s = *store;
	if (!s)
		return;
	keyset_unref(s->current);
	for (size_t i = 0; i < s->n; i++)
		key_source_clear(&s->sources[i]);
	free(s->sources);
	free(s->jwks);
	published_clear(&s->published);
	pthread_mutex_destroy(&s->load);
	pthread_mutex_destroy(&s->lock);
	free(s);
	*store = NULL;
}

void key_source_clear(struct key_source *source)
{
	free(source->kid);
	free(source->path);
	free(source->where);
	memset(source, 0, sizeof *source);
}

/* Where ":/" begins the path; the last one, since a kid may be a URL. */
static const char *path_of(const char *text)
{
	const char *found = NULL;
	for (const char *p = text; (p = strstr(p, ":/")); p++)
		found = p + 1;
	return found;
}

int key_source_parse(const char *text, const char *where, struct key_source *out, char *err, size_t err_len)
{
	static const char form[] = "expected \"ALG:/absolute/path\" or \"ALG:kid=ID:/absolute/path\"";
	struct key_source s = { 0 };
	char why[256];
	const char *colon = strchr(text, ':');
	const char *path = colon ? colon + 1 : NULL;
	int has_kid = path && strncmp(path, "kid=", 4) == 0;
	if (!path)
		return say(-1, err, err_len, "%s: key: %s", where, form);
	s.alg = key_alg_find(text, (size_t)(colon - text), why, sizeof why);
	if (!s.alg)
		return say(-1, err, err_len, "%s: key: %s", where, why);
	if (has_kid) {
		const char *kid = path + 4;
		path = path_of(kid);
		if (path)
			s.kid = strndup(kid, (size_t)(path - 1 - kid));
	}
	if (!path || path[0] != '/' || (s.kid && !text_is_name(s.kid, KEY_KID_MAX))) {
		key_source_clear(&s);
		return say(-1, err, err_len, "%s: key: %s; a kid has 1 to %u characters", where, form, KEY_KID_MAX - 1);
	}
	s.path = strdup(path);
	s.where = strdup(where);
	if (!s.path || !s.where || (has_kid && !s.kid)) {
		key_source_clear(&s);
		return say(-1, err, err_len, "out of memory");
	}
	*out = s;
	return 0;
}

int keyset_has(const struct keyset *set, const char *kid)
{
	return kid ? find_kid(set, kid) != NULL : set->n > 0;
}

/* What to say when the token's kid or algorithm leads to no key. */
static void explain_none(const char *kid, const char *alg, const struct key *named, char *err, size_t err_len)
{
	char a[SHOWN_MAX], b[SHOWN_MAX];

	if (named)
		say(0, err, err_len, "the token says alg \"%s\", but the key \"%s\" is for %s", shown(alg, a),
		    shown(kid, b), named->alg->name);
	else if (kid)
		say(0, err, err_len, "no key with kid \"%s\" is known for alg \"%s\"", shown(kid, b), shown(alg, a));
	else
		say(0, err, err_len, "no key is known for alg \"%s\"", shown(alg, a));
}

size_t keyset_select(const struct keyset *set, const char *kid, const char *alg,
		     const struct key *out[KEYSET_CANDIDATES_MAX], char *err, size_t err_len)
{
	size_t n = 0;
	const struct key *named = kid ? find_kid(set, kid) : NULL;
	for (size_t i = 0; i < set->n; i++) {
		const struct key *k = &set->keys[i];
		int fits = named ? k == named : !kid || !k->kid;
		if (!fits || strcmp(k->alg->name, alg) != 0)
			continue;
		if (n == KEYSET_CANDIDATES_MAX) {
			say(0, err, err_len, "the token has no kid, and more than %u keys are for %s",
			    KEYSET_CANDIDATES_MAX, k->alg->name);
			return 0;
		}
		out[n++] = k;
	}
	if (n == 0)
		explain_none(kid, alg, named, err, err_len);
	return n;
}
