/* Files that tunnel-cli keeps or is given, with any content. The first byte says which, the rest is in it:
 *   k what is kept of a session   s a sign-in   c the config file   h credentials of auth-hmac
 * What is read is what is in the file, what is written from it reads the same, and a file that is refused is named. */
#include "fuzz.h"

#include "base/clock.h"
#include "base/limits.h"
#include "cli/kept.h"
#include "cli/profile.h"
#include "cli/signin.h"
#include "net/url.h"

#include <dirent.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define NOW_MS 1750000000000
#define SESSION "s-1"

static char folder[128];

int64_t __wrap_clock_wall_ms(void);
int __wrap_oidc_discover_blocking(const struct oidc_settings *settings, const char *proxy, struct oidc_issuer *out,
				  struct err *e);
int __wrap_fsync(int fd);

int64_t __wrap_clock_wall_ms(void)
{
	return NOW_MS;
}

/* The issuer is away. */
int __wrap_oidc_discover_blocking(const struct oidc_settings *settings, const char *proxy, struct oidc_issuer *out,
				  struct err *e)
{
	(void)settings, (void)proxy, (void)out;
	return err_set(e, ERR_UNAVAILABLE, "it is away");
}

int __wrap_fsync(int fd)
{
	(void)fd;
	return 0;
}

static const char *text_of(const json_t *json, const char *key)
{
	return json_string_value(json_object_get(json, key));
}

/* A configuration file is told by its name and line, without its folder. */
static void check_error(int rc, const struct err *e, const char *path)
{
	FUZZ_CHECK(rc < 0 && e->code == rc && e->text[0] && strstr(e->text, strrchr(path, '/') + 1));
}

/* ---- a session ---- */

static bool same_texts(const struct arg_list *a, const struct arg_list *b)
{
	bool same = a->n == b->n;
	for (size_t i = 0; same && i < a->n; i++)
		same = strcmp(a->at[i], b->at[i]) == 0;
	return same;
}

static void check_kept_again(const struct kept_session *k)
{
	struct kept_session again;
	struct err e = { 0 };
	FUZZ_CHECK(kept_write(k, 0, &e) == 0);
	FUZZ_CHECK(kept_read(SESSION, &again, &e) == 0);
	FUZZ_CHECK(strcmp(again.target, k->target) == 0 && again.expires_ms == k->expires_ms);
	for (size_t way = 0; way < FORWARD_WAYS; way++)
		FUZZ_CHECK(same_texts(&again.forwards.at[way], &k->forwards.at[way]));
	kept_free(&again);
}

static void check_kept(const uint8_t *data, size_t size)
{
	struct kept_session k;
	struct err e = { 0 };
	char path[256];
	snprintf(path, sizeof path, "%s/tunnel/sessions/" SESSION ".json", folder);
	fuzz_put(path, data, size);
	json_auto_t *json = json_loadb((const char *)data, size, JSON_REJECT_DUPLICATES, NULL);
	int rc = kept_read(SESSION, &k, &e);
	if (rc != 0) {
		check_error(rc, &e, path);
		FUZZ_CHECK(!k.session && !k.target && !k.json && forward_count(&k.forwards) == 0);
		return;
	}
	FUZZ_CHECK(strcmp(k.session, SESSION) == 0 && strcmp(text_of(json, "session"), SESSION) == 0);
	FUZZ_CHECK(strcmp(k.target, text_of(json, "target")) == 0 && k.expires_ms >= 0);
	FUZZ_CHECK(k.expires_ms == json_integer_value(json_object_get(json, "expires_at_ms")));
	check_kept_again(&k);
	kept_free(&k);
}

/* ---- a sign-in ---- */

static struct profile signed_in = { .name = "default",
				    .auth = PROFILE_OIDC,
				    .oidc = { .issuer = (char *)(uintptr_t) "https://issuer.example",
					      .client_id = (char *)(uintptr_t) "cli" } };

/* Its name is a hash: of all that there is it is the one. */
static const char *signin_path(void)
{
	static char path[512];
	struct err e = { 0 };
	char token[] = "token", subject[] = "alice";
	const struct oidc_tokens tokens = { .token = token, .subject = subject, .expires_ms = NOW_MS + 1 };
	char place[160];
	if (*path)
		return path;
	FUZZ_CHECK(signin_keep_blocking(&signed_in, &tokens, &e) == 0);
	snprintf(place, sizeof place, "%s/tunnel/signin", folder);
	DIR *d = opendir(place);
	for (const struct dirent *entry; d && (entry = readdir(d));)
		if (strstr(entry->d_name, ".json") && !strstr(entry->d_name, ".lock"))
			snprintf(path, sizeof path, "%s/%s", place, entry->d_name);
	closedir(d);
	FUZZ_CHECK(*path);
	return path;
}

static void check_forgotten(const json_t *json, bool good)
{
	char *refresh = NULL;
	bool was = false;
	struct err e = { 0 };
	FUZZ_CHECK(signin_forget_blocking(&signed_in, &was, &refresh, &e) == 0 && was);
	const char *kept = good ? text_of(json, "refresh_token") : NULL;
	FUZZ_CHECK(kept ? refresh && strcmp(refresh, kept) == 0 : !refresh);
	secret_free_text(&refresh);
	FUZZ_CHECK(signin_forget_blocking(&signed_in, &was, &refresh, &e) == 0 && !was && !refresh);
}

static bool is_signin(const json_t *json)
{
	const json_t *expires = json_object_get(json, "expires_at_ms"), *got = json_object_get(json, "obtained_at_ms");
	const json_t *refresh = json_object_get(json, "refresh_token");
	const char *token = text_of(json, "token"), *subject = text_of(json, "subject");
	return json_is_integer(json_object_get(json, "format")) &&
	       json_integer_value(json_object_get(json, "format")) == 1 && token && *token && subject && *subject &&
	       json_is_integer(expires) && json_integer_value(expires) >= 0 && json_is_integer(got) &&
	       json_integer_value(got) >= 0 &&
	       (!refresh || json_is_null(refresh) ||
		(json_is_string(refresh) && json_string_value(refresh)[0] != '\0'));
}

static void check_signin(const uint8_t *data, size_t size)
{
	struct err e = { 0 };
	char *token = NULL;
	const char *path = signin_path();
	fuzz_put(path, data, size);
	json_auto_t *json = json_loadb((const char *)data, size, JSON_REJECT_DUPLICATES, NULL);
	int rc = signin_token_blocking(&signed_in, 0, &token, &e);
	FUZZ_CHECK((rc == 0) == (token != NULL) && (rc == 0 || (e.code == rc && e.text[0])));
	if (rc == 0) {
		FUZZ_CHECK(is_signin(json) && strcmp(token, text_of(json, "token")) == 0);
		FUZZ_CHECK(json_integer_value(json_object_get(json, "expires_at_ms")) > NOW_MS);
	} else if (!is_signin(json))
		check_error(rc, &e, path);
	secret_free_text(&token);
	check_forgotten(json, rc == 0 || rc == ERR_NOT_FOUND || rc == ERR_UNAVAILABLE);
}

/* ---- files that a person writes ---- */

static void check_config(const char *path)
{
	struct common_options common = { .config = path };
	struct profile p;
	struct err e = { 0 };
	int rc = profile_load(&common, &p, &e);
	if (rc != 0) {
		check_error(rc, &e, path);
		return;
	}
	struct url url;
	FUZZ_CHECK(p.servers.n > 0 && strcmp(p.name, "default") == 0);
	for (size_t i = 0; i < p.servers.n; i++)
		FUZZ_CHECK(url_parse_secure(p.servers.at[i], &url, &e) == 0);
	FUZZ_CHECK(p.auth != PROFILE_OIDC || (p.oidc.issuer && p.oidc.client_id && p.oidc.scopes &&
					      url_parse_secure(p.oidc.issuer, &url, &e) == 0));
	FUZZ_CHECK(!p.login || strlen(p.login) <= LIMIT_LOGIN);
	FUZZ_CHECK(p.region[0] && p.service[0]);
	profile_free(&p);
}

static void check_credentials(const char *path)
{
	struct profile p = { .credentials = (char *)(uintptr_t)path };
	struct err e = { 0 };
	char *both = NULL;
	int rc = profile_hmac(&p, &both, &e);
	if (rc != 0) {
		check_error(rc, &e, path);
		FUZZ_CHECK(!both);
		return;
	}
	const char *colon = strchr(both, ':');
	FUZZ_CHECK(colon && colon > both && colon[1]);
	secret_free_text(&both);
}

static void set_up(void)
{
	char path[160];
	static const char *const clear[] = { "TUNNEL_CONFIG", "TUNNEL_PROFILE", "TUNNEL_KEY_ID", "TUNNEL_SECRET" };
	if (*folder)
		return;
	snprintf(folder, sizeof folder, "%s", fuzz_folder());
	setenv("XDG_STATE_HOME", folder, 1);
	for (size_t i = 0; i < sizeof clear / sizeof *clear; i++)
		unsetenv(clear[i]);
	snprintf(path, sizeof path, "%s/tunnel", folder);
	mkdir(path, 0700);
	snprintf(path, sizeof path, "%s/tunnel/sessions", folder);
	mkdir(path, 0700);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char path[160];
	struct fuzz_input in = { data, size };
	char what = (char)fuzz_byte(&in);
	set_up();
	snprintf(path, sizeof path, "%s/file", folder);
	fuzz_put(path, in.at, in.left);
	if (what == 'k')
		check_kept(in.at, in.left);
	else if (what == 's')
		check_signin(in.at, in.left);
	else if (what == 'c')
		check_config(path);
	else if (what == 'h')
		check_credentials(path);
	return 0;
}
