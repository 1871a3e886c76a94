/* The keys of auth-jwt over time: what an issuer answers who is asked for its keys, what is kept of that, and files.
 * Parts of the input end with '~'; the first byte says what they are:
 *   U   answers of the issuer's jwks_url     D   of its discovery document, and then of what that names
 *   F   what a JWKS file has one time after the other     G   the same of one of the files of a folder, named by a
 *       letter in front: a, b are read, h and t are not; - removes
 *   C   one part: what is in the cache file at the start
 * An answer begins with + (status 200), 4 (404), ! (none), or > (more than is read). A part "|" is a server that starts
 * anew. Whatever comes: the keys are those of the last set that could be used, as a slow reader has them. */
#include "fuzz.h"

#include "base/text.h"
#include "plugins/auth-jwt/fetch.h"
#include "plugins/auth-jwt/follow.h"
#include "plugins/auth-jwt/keycache.h"

#include <curl/curl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define ISSUER "https://issuer.example/"
#define WELL_KNOWN "https://issuer.example/.well-known/openid-configuration"
#define JWKS_URL "https://issuer.example/keys"
#define LOOKS 4 /* that a follower makes in a row */

/* ---- the issuer, behind curl ---- */

struct asked {
	char url[FETCH_URL_MAX + 64];
	char *body; /* NULL: no good answer */
	size_t len;
};

static struct fuzz_input coming;
static struct asked asked[LOOKS * 2];
static size_t asked_n;
static long status;
static curl_write_callback write_to;
static void *write_arg;

CURL *__wrap_curl_easy_init(void);
void __wrap_curl_easy_cleanup(CURL *curl);
CURLcode __wrap_curl_easy_setopt(CURL *curl, CURLoption option, ...);
CURLcode __wrap_curl_easy_getinfo(CURL *curl, CURLINFO info, ...);
CURLcode __wrap_curl_easy_perform(CURL *curl);
int __wrap_clock_gettime(clockid_t id, struct timespec *out);

CURL *__wrap_curl_easy_init(void)
{
	return asked;
}

void __wrap_curl_easy_cleanup(CURL *curl)
{
	(void)curl;
}

CURLcode __wrap_curl_easy_setopt(CURL *curl, CURLoption option, ...)
{
	va_list more;
	(void)curl;
	va_start(more, option);
	if (option == CURLOPT_URL)
		snprintf(asked[asked_n].url, sizeof asked->url, "%s", va_arg(more, const char *));
	else if (option == CURLOPT_WRITEFUNCTION)
		write_to = va_arg(more, curl_write_callback);
	else if (option == CURLOPT_WRITEDATA)
		write_arg = va_arg(more, void *);
	va_end(more);
	return CURLE_OK;
}

CURLcode __wrap_curl_easy_getinfo(CURL *curl, CURLINFO info, ...)
{
	va_list more;
	(void)curl;
	va_start(more, info);
	if (info == CURLINFO_RESPONSE_CODE)
		*va_arg(more, long *) = status;
	va_end(more);
	return CURLE_OK;
}

/* In two pieces, as it comes. */
static CURLcode give(char *bytes, size_t len)
{
	size_t first = len / 2;
	bool taken = (!first || write_to(bytes, 1, first, write_arg) == first) &&
		     (len == first || write_to(bytes + first, 1, len - first, write_arg) == len - first);
	return taken ? CURLE_OK : CURLE_WRITE_ERROR;
}

CURLcode __wrap_curl_easy_perform(CURL *curl)
{
	static char much[KEY_FILE_MAX + 1];
	(void)curl;
	FUZZ_CHECK(asked_n < LOOKS * 2);
	struct asked *a = &asked[asked_n++];
	const uint8_t *start = coming.at;
	char *text = fuzz_part(&coming, '~');
	size_t len = (size_t)(coming.at - start);
	char kind = *text;
	len -= len > 0 && coming.at[-1] == '~';
	status = kind == '4' ? 404 : 200;
	CURLcode code = kind == '!' || !kind ? CURLE_COULDNT_CONNECT
			: kind == '>'        ? give(much, sizeof much)
					     : give(text + 1, len - 1);
	if (kind == '>')
		FUZZ_CHECK(code != CURLE_OK);
	if (code == CURLE_OK && status == 200 && len > 1) {
		a->len = len - 1;
		a->body = fuzz_text((const uint8_t *)text + 1, a->len);
	}
	free(text);
	return code;
}

static void forget_asked(void)
{
	while (asked_n)
		free(asked[--asked_n].body);
	memset(asked, 0, sizeof asked);
}

/* The followers' clock stands, so far ahead that nothing is due but what is asked for. */
int __wrap_clock_gettime(clockid_t id, struct timespec *out)
{
	(void)id;
	*out = (struct timespec){ .tv_sec = 4000000000 };
	return 0;
}

/* ---- the host ---- */

static int64_t wall = 1000;
static unsigned errors;

static int64_t now(void *ctx)
{
	(void)ctx;
	return wall;
}

static void on_log(void *ctx, enum tunnel_log_level level, const char *text)
{
	(void)ctx;
	FUZZ_CHECK(text[0]);
	errors += level == TUNNEL_LOG_ERROR;
}

static void on_count(void *ctx, const char *name, uint64_t n)
{
	(void)ctx, (void)name, (void)n;
}

static const struct tunnel_host host = {
	.size = sizeof host, .abi = TUNNEL_ABI, .wall_ms = now, .mono_ms = now, .log = on_log, .count = on_count
};

/* ---- the slow reader: [{"kid", "alg", "material" in hex}]; NULL: a set that cannot be used ---- */

static json_t *line_of(const struct key *key)
{
	char *hex = malloc(2 * key->len + 1);
	text_hex(key->material, key->len, hex);
	json_t *line = json_pack("{s:s?, s:s, s:s}", "kid", key->kid, "alg", key->alg->name, "material", hex);
	free(hex);
	return line;
}

static bool has_kid(const json_t *keys, const json_t *line)
{
	size_t i;
	json_t *one;
	const json_t *kid = json_object_get(line, "kid");
	json_array_foreach(keys, i,
			   one) if (json_is_string(kid) && json_equal(json_object_get(one, "kid"), kid)) return true;
	return false;
}

/* Adds what a text has to keys; false: it cannot be used. */
static bool add_slowly(json_t *keys, const char *text, size_t len, bool ours)
{
	size_t i;
	json_t *jwk;
	json_auto_t *root = json_loadb(text, len, JSON_REJECT_DUPLICATES, NULL);
	const json_t *list = json_object_get(root, "keys");
	bool good = json_is_array(list);
	json_array_foreach(list, i, jwk)
	{
		struct key key;
		char err[256];
		int rc = key_from_jwk(jwk, "it", &key, err, sizeof err);
		good = good && (rc >= 0 || !ours);
		if (rc != 0)
			continue;
		json_t *line = line_of(&key);
		key_clear(&key);
		bool twice = has_kid(keys, line); /* of what is published the first counts */
		good = good && (twice ? !ours : json_array_size(keys) < KEYSET_KEYS_MAX);
		if (twice)
			json_decref(line);
		else
			json_array_append_new(keys, line);
	}
	return good;
}

static json_t *read_slowly(const char *text, size_t len, bool ours)
{
	json_t *keys = json_array();
	if (add_slowly(keys, text, len, ours) && json_array_size(keys))
		return keys;
	json_decref(keys);
	return NULL;
}

static void take(json_t **expected, json_t *keys)
{
	if (!keys)
		return;
	json_decref(*expected);
	*expected = keys;
}

/* ---- what must hold ---- */

static bool fits(const struct key *key, const char *kid, const char *alg, bool known)
{
	bool named = key->kid && kid && strcmp(key->kid, kid) == 0;
	return strcmp(key->alg->name, alg) == 0 && (known ? named : !kid || !key->kid);
}

static void check_selection(const struct keyset *set, const char *kid)
{
	static const char *const algs[] = { "ES256", "RS256", "ES384", "none" };
	bool known = kid && keyset_has(set, kid);
	for (size_t a = 0; a < sizeof algs / sizeof *algs; a++) {
		const struct key *found[KEYSET_CANDIDATES_MAX];
		char err[256] = "";
		size_t n = keyset_select(set, kid, algs[a], found, err, sizeof err), expected = 0;
		for (size_t i = 0; i < set->n; i++) {
			if (!fits(&set->keys[i], kid, algs[a], known))
				continue;
			FUZZ_CHECK(expected >= n || found[expected] == &set->keys[i]);
			expected++;
		}
		FUZZ_CHECK(n == (expected > KEYSET_CANDIDATES_MAX ? 0 : expected) && (n || err[0]));
	}
}

static void check_keys(struct keystore *store, const json_t *expected)
{
	struct keyset *set = keystore_get(store);
	FUZZ_CHECK(set->n == json_array_size(expected));
	for (size_t i = 0; i < set->n; i++) {
		json_auto_t *line = line_of(&set->keys[i]);
		FUZZ_CHECK(json_equal(line, json_array_get(expected, i)));
		if (i < 10 && set->keys[i].kid)
			check_selection(set, set->keys[i].kid);
	}
	FUZZ_CHECK(keyset_has(set, NULL) == (set->n > 0));
	check_selection(set, "nobody's");
	check_selection(set, NULL);
	keyset_unref(set);
}

/* ---- an issuer that is followed ---- */

static char cache_path[160];

struct server {
	struct keystore *keys;
	struct follow *follow;
	unsigned looks;
};

static void start(struct server *s, bool discovers)
{
	char err[512] = "";
	struct follow_settings settings = { .issuer = strdup(ISSUER),
					    .jwks_url = discovers ? NULL : strdup(JWKS_URL),
					    .cache_path = strdup(cache_path),
					    .refresh_ms = 3600000 };
	s->looks = 0;
	FUZZ_CHECK(keystore_open(&host, NULL, 0, NULL, &s->keys, err, sizeof err) == 0);
	FUZZ_CHECK(follow_open(&host, &settings, s->keys, &s->follow, err, sizeof err) == 0);
}

static void stop(struct server *s)
{
	follow_close(&s->follow);
	keystore_close(&s->keys);
}

/* What the discovery document names, if it is the issuer's. */
static char *named_by(const struct asked *a)
{
	if (!a->body)
		return NULL;
	json_auto_t *json = json_loadb(a->body, a->len, JSON_REJECT_DUPLICATES, NULL);
	const char *issuer = json_string_value(json_object_get(json, "issuer"));
	const char *uri = json_string_value(json_object_get(json, "jwks_uri"));
	if (!issuer || strcmp(issuer, ISSUER) != 0 || !uri || strlen(uri) <= strlen("https://") ||
	    strlen(uri) > FETCH_URL_MAX || strncasecmp(uri, "https://", 8) != 0)
		return NULL;
	for (const char *c = uri; *c; c++)
		if (*c <= ' ' || *c > '~' || *c == '#')
			return NULL;
	return strdup(uri);
}

/* The last answer that matters, NULL: there is none. Only what may be asked was. */
static const struct asked *check_asked(bool discovers)
{
	FUZZ_CHECK(asked_n >= 1 && strcmp(asked[0].url, discovers ? WELL_KNOWN : JWKS_URL) == 0);
	char *uri = discovers ? named_by(&asked[0]) : NULL;
	FUZZ_CHECK(asked_n == (uri ? 2 : 1));
	FUZZ_CHECK(!uri || strcmp(asked[1].url, uri) == 0);
	const struct asked *last = discovers && !uri ? NULL : &asked[asked_n - 1];
	free(uri);
	return last;
}

static void look(struct server *s, bool discovers, json_t **expected)
{
	char why[256] = "";
	FUZZ_CHECK(follow_look(s->follow, 3600000) == 1);
	const struct asked *last = check_asked(discovers);
	json_t *keys = last && last->body ? read_slowly(last->body, last->len, false) : NULL;
	FUZZ_CHECK(follow_failed(s->follow, why, sizeof why) == !keys && !keys == (why[0] != '\0'));
	take(expected, keys);
	forget_asked();
	check_keys(s->keys, *expected);
	s->looks++;
}

static void follow_issuer(bool discovers)
{
	struct server s;
	json_t *expected = json_array();
	unlink(cache_path);
	start(&s, discovers);
	while (coming.left) {
		if (*coming.at == '|' || s.looks == LOOKS) {
			stop(&s);
			start(&s, discovers);
			check_keys(s.keys, expected);
			free(*coming.at == '|' ? fuzz_part(&coming, '~') : NULL);
		} else
			look(&s, discovers, &expected);
	}
	stop(&s);
	start(&s, !discovers); /* keys of another source */
	json_auto_t *none = json_array();
	check_keys(s.keys, none);
	stop(&s);
	json_decref(expected);
}

/* ---- a cache file with any content ---- */

static void read_cache(void)
{
	struct server s;
	json_auto_t *json = json_loadb((const char *)coming.at, coming.left, JSON_REJECT_DUPLICATES, NULL);
	const char *source = json_string_value(json_object_get(json, "source"));
	json_t *expected = json_array();
	if (json_integer_value(json_object_get(json, "format")) == 1 && source && strcmp(source, JWKS_URL) == 0) {
		char *text = json_dumps(json_object_get(json, "jwks"), JSON_COMPACT);
		take(&expected, text ? read_slowly(text, strlen(text), false) : NULL);
		free(text);
	}
	fuzz_put(cache_path, coming.at, coming.left);
	start(&s, false);
	check_keys(s.keys, expected);
	stop(&s);
	json_decref(expected);
}

/* ---- files ---- */

static const struct {
	char letter;
	const char *name;
	bool counts;
} files[] = { { 'a', "a.json", true }, { 'b', "b.jwks", true }, { 'h', ".h.json", false }, { 't', "t.txt", false } };
#define FILES (sizeof files / sizeof *files)

static void path_of(const char *folder, size_t file, char out[200])
{
	snprintf(out, 200, "%s/%s", folder, files[file].name);
}

/* What the files have now. */
static json_t *read_files_slowly(const char *folder)
{
	json_t *keys = json_array();
	bool good = true;
	for (size_t i = 0; i < FILES; i++) {
		char path[200];
		size_t size;
		path_of(folder, i, path);
		char *text = files[i].counts ? fuzz_get(path, &size) : NULL;
		good = good && (!text || add_slowly(keys, text, size, true));
		free(text);
	}
	if (good && json_array_size(keys))
		return keys;
	json_decref(keys);
	return NULL;
}

/* In a file of its own, so that its times need not tell. */
static void change_file(const char *folder, bool by_letter)
{
	char path[200], next[210];
	char letter = by_letter ? (char)fuzz_byte(&coming) : 'a';
	size_t file = 0;
	while (file + 1 < FILES && files[file].letter != letter)
		file++;
	path_of(folder, file, path);
	const uint8_t *start = coming.at;
	char *text = fuzz_part(&coming, '~');
	size_t len = (size_t)(coming.at - start);
	len -= len > 0 && coming.at[-1] == '~';
	snprintf(next, sizeof next, "%s.new", path);
	if (*text == '-') {
		unlink(path);
	} else {
		fuzz_put(next, text, len);
		if (rename(next, path) != 0)
			abort();
	}
	free(text);
}

static void read_files(bool by_letter)
{
	char folder[160], path[200], err[1024] = "";
	struct keystore *keys = NULL;
	snprintf(folder, sizeof folder, "%s/keys", fuzz_folder());
	mkdir(folder, 0700);
	for (size_t i = 0; i < FILES; i++) {
		path_of(folder, i, path);
		unlink(path);
	}
	path_of(folder, 0, path);
	change_file(folder, by_letter);
	json_t *expected = read_files_slowly(folder);
	char *where = strdup(by_letter ? folder : path);
	int rc = keystore_open(&host, NULL, 0, where, &keys, err, sizeof err);
	FUZZ_CHECK((rc == 0) == (expected != NULL) && (rc == 0 || (rc == TUNNEL_CONFIG && err[0])));
	if (rc != 0)
		free(where);
	while (rc == 0 && coming.left) {
		change_file(folder, by_letter);
		wall += KEYSET_CHECK_MS;
		errors = 0;
		json_t *fresh = read_files_slowly(folder);
		bool good = fresh != NULL;
		take(&expected, fresh);
		check_keys(keys, expected);
		FUZZ_CHECK(errors <= !good);
	}
	json_decref(expected);
	keystore_close(&keys);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	coming = (struct fuzz_input){ data, size };
	snprintf(cache_path, sizeof cache_path, "%s/cache", fuzz_folder());
	char what = (char)fuzz_byte(&coming);
	if (what == 'F' || what == 'G')
		read_files(what == 'G');
	else if (what == 'C')
		read_cache();
	else
		follow_issuer(what == 'D');
	return 0;
}
