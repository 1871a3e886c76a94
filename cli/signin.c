#include "cli/signin.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/text.h"
#include "cli/profile.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

#define FORMAT 1
#define LOCK_MS 60000 /* one who refreshes has discovery and a call to make, 15 s each at most */
#define LOCK_LOOK_MS 50
#define EARLY_MAX_MS 60000 /* so long before its end a token is not used any more; or a quarter of its life */

/* The file and its lock. */
struct place {
	char path[PATH_MAX];
	int lock; /* descriptor; -1: not held */
};

/* What the file has. */
struct kept {
	struct oidc_tokens tokens;
	int64_t obtained_ms;
};

static void kept_clear(struct kept *k)
{
	oidc_tokens_free(&k->tokens);
	k->obtained_ms = 0;
}

static int state_folder(char out[PATH_MAX], struct err *e)
{
	const char *xdg = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
	int n;
	if (xdg && *xdg == '/')
		n = snprintf(out, PATH_MAX, "%s/tunnel/signin", xdg);
	else if (home && *home)
		n = snprintf(out, PATH_MAX, "%s/.local/state/tunnel/signin", home);
	else
		return err_set(e, ERR_INVALID, "no place to keep a sign-in: neither XDG_STATE_HOME nor HOME is set");
	return n > 0 && n < PATH_MAX ? 0 : err_set(e, ERR_INVALID, "the path of the state folder is too long");
}

/* Named by all that makes two sign-ins different. */
static int place_of(const struct profile *p, struct place *out, struct err *e)
{
	const struct oidc_settings *s = &p->oidc;
	char folder[PATH_MAX], token[2] = { (char)('0' + s->token), '\0' }, name[2 * 16 + 1];
	const char *parts[] = { s->issuer, s->client_id, s->scopes, s->audience, s->resource, token };
	unsigned char hash[32];
	struct buf all = BUF_INIT(16384);
	int rc = state_folder(folder, e);
	out->lock = -1;
	if (rc != 0)
		return rc;
	for (size_t i = 0; rc == 0 && i < sizeof parts / sizeof *parts; i++)
		rc = buf_add(&all, parts[i] ? parts[i] : "", parts[i] ? strlen(parts[i]) + 1 : 1);
	secret_sha256(buf_data(&all), all.len, hash);
	buf_free(&all);
	text_hex(hash, 16, name);
	if (rc != 0)
		return err_set(e, rc, "the sign-in's name cannot be made");
	int n = snprintf(out->path, sizeof out->path, "%s/%s.json", folder, name);
	return n > 0 && n < PATH_MAX ? 0 : err_set(e, ERR_INVALID, "the path of the state folder is too long");
}

/* Which one lock for all processes; the file itself is replaced by each writer. */
static int lock(struct place *at, struct err *e)
{
	char path[PATH_MAX + 8];
	int64_t until_ms = clock_mono_ms() + LOCK_MS;
	char *slash = strrchr(at->path, '/');
	*slash = '\0';
	int rc = file_mkdir(at->path, 0700, e);
	*slash = '/';
	if (rc != 0)
		return rc;
	snprintf(path, sizeof path, "%s.lock", at->path);
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return err_set_errno(e, ERR_IO, errno, "%s", path);
	while (flock(fd, LOCK_EX | LOCK_NB) != 0) {
		if (errno != EWOULDBLOCK && errno != EINTR) {
			rc = err_set_errno(e, ERR_IO, errno, "%s", path);
			break;
		}
		if (clock_mono_ms() >= until_ms) {
			rc = err_set(e, ERR_TIMEOUT, "%s: another tunnel-cli holds it for more than %d s", path,
				     LOCK_MS / 1000);
			break;
		}
		nanosleep(&(struct timespec){ .tv_nsec = LOCK_LOOK_MS * 1000000L }, NULL);
	}
	if (rc != 0)
		close(fd);
	else
		at->lock = fd;
	return rc;
}

static void unlock(struct place *at)
{
	if (at->lock >= 0)
		close(at->lock);
	at->lock = -1;
}

/* Fields point into json. */
static int take_json(json_t *json, struct kept *out, struct err *e)
{
	const char *token = NULL, *refresh = NULL, *subject = NULL;
	int64_t format = 0;
	const struct json_field fields[] = {
		{ "format", JSON_FIELD_INT, true, FORMAT, FORMAT, &format },
		{ "token", JSON_FIELD_STRING, true, 1, LIMIT_TOKEN, &token },
		{ "refresh_token", JSON_FIELD_STRING, false, 1, 0, &refresh },
		{ "subject", JSON_FIELD_STRING, true, 1, LIMIT_SUBJECT, &subject },
		{ "expires_at_ms", JSON_FIELD_INT, true, 0, CLOCK_WALL_MAX_MS, &out->tokens.expires_ms },
		{ "obtained_at_ms", JSON_FIELD_INT, true, 0, CLOCK_WALL_MAX_MS, &out->obtained_ms },
		{ .name = NULL },
	};
	int rc = json_read(json, "sign-in", false, fields, e);
	if (rc != 0)
		return rc;
	out->tokens.token = strdup(token);
	out->tokens.subject = strdup(subject);
	out->tokens.refresh_token = refresh ? strdup(refresh) : NULL;
	if (!out->tokens.token || !out->tokens.subject || (refresh && !out->tokens.refresh_token))
		return err_set(e, ERR_NOMEM, "out of memory");
	return 0;
}

/* ERR_NOT_FOUND: there is none. */
static int read_kept(const struct place *at, struct kept *out, struct err *e)
{
	struct buf text;
	json_t *json = NULL;
	memset(out, 0, sizeof *out);
	int rc = secret_read_file(at->path, &text, e);
	if (rc != 0)
		return rc;
	rc = json_parse((const char *)buf_data(&text), text.len, &json, e);
	buf_wipe_free(&text);
	if (rc == 0)
		rc = take_json(json, out, e);
	json_decref(json);
	if (rc != 0) {
		kept_clear(out);
		return err_wrap(e, "%s", at->path);
	}
	return 0;
}

static int write_kept(const struct place *at, const struct oidc_tokens *t, struct err *e)
{
	json_t *json = json_pack("{s:i, s:s, s:s*, s:s, s:I, s:I}", "format", FORMAT, "token", t->token,
				 "refresh_token", t->refresh_token, "subject", t->subject, "expires_at_ms",
				 (json_int_t)t->expires_ms, "obtained_at_ms", (json_int_t)clock_wall_ms());
	char *text = json ? json_text(json) : NULL;
	json_decref(json);
	int rc = text ? secret_write_file(at->path, text, strlen(text), e) : err_set(e, ERR_NOMEM, "out of memory");
	secret_free_text(&text);
	return rc;
}

/* Said wherever a person has to act. */
static int sign_in_again(const struct profile *p, int code, const char *what, struct err *e)
{
	bool standard = strcmp(p->name, "default") == 0;
	return err_set(e, code, "%s %.100s; run: tunnel-cli login%s%s", what, p->oidc.issuer,
		       standard ? "" : " --profile ", standard ? "" : p->name);
}

static bool is_fresh(const struct kept *k, int64_t outlast_ms, int64_t now_ms)
{
	int64_t life_ms = k->tokens.expires_ms - k->obtained_ms;
	int64_t early_ms = life_ms / 4 < EARLY_MAX_MS ? life_ms / 4 : EARLY_MAX_MS;
	return k->tokens.expires_ms > outlast_ms && now_ms < k->tokens.expires_ms - (early_ms > 0 ? early_ms : 0);
}

/* A refresh may bring no new refresh token: then the old one goes on. */
static int take_refreshed(const struct profile *p, struct kept *k, struct oidc_tokens *fresh, struct err *e)
{
	if (strcmp(fresh->subject, k->tokens.subject) != 0)
		return sign_in_again(p, ERR_DENIED, "another subject came with a refresh at", e);
	if (!fresh->refresh_token) {
		fresh->refresh_token = k->tokens.refresh_token;
		k->tokens.refresh_token = NULL;
	}
	kept_clear(k);
	k->tokens = *fresh;
	k->obtained_ms = clock_wall_ms();
	memset(fresh, 0, sizeof *fresh);
	return 0;
}

/* Held from the issuer's answer to the file. */
static pthread_mutex_t exchange = PTHREAD_MUTEX_INITIALIZER;

/* An issuer takes a refresh token once: who is interrupted between its answer and the file would have to sign in again.
 * So an interrupt waits for both, 15 s at most; as does a session's end, which finds the refresh in another thread. */
static void begin_exchange(sigset_t *out_before)
{
	sigset_t ends;
	sigemptyset(&ends);
	sigaddset(&ends, SIGINT);
	sigaddset(&ends, SIGTERM);
	sigaddset(&ends, SIGHUP);
	pthread_sigmask(SIG_BLOCK, &ends, out_before);
	pthread_mutex_lock(&exchange);
}

static void end_exchange(const sigset_t *before)
{
	pthread_mutex_unlock(&exchange);
	pthread_sigmask(SIG_SETMASK, before, NULL);
}

void signin_leave_blocking(void)
{
	pthread_mutex_lock(&exchange);
}

/* With the lock. */
static int refresh(const struct profile *p, const struct place *at, struct kept *k, struct err *e)
{
	struct oidc_issuer issuer;
	struct oidc_tokens fresh = { 0 };
	sigset_t before;
	int rc = oidc_discover_blocking(&p->oidc, p->proxy, &issuer, e);
	if (rc != 0)
		return rc;
	begin_exchange(&before);
	rc = oidc_refresh_blocking(&issuer, k->tokens.refresh_token, &fresh, e);
	oidc_issuer_free(&issuer);
	if (rc == 0)
		rc = take_refreshed(p, k, &fresh, e);
	else if (rc == ERR_DENIED)
		rc = sign_in_again(p, ERR_DENIED, "the sign-in is over at", e);
	oidc_tokens_free(&fresh);
	if (rc == ERR_DENIED)
		unlink(at->path);
	rc = rc == 0 ? write_kept(at, &k->tokens, e) : rc;
	end_exchange(&before);
	return rc;
}

/* What there is may still do while the issuer does not answer. */
static int renew(const struct profile *p, const struct place *at, int64_t outlast_ms, struct kept *k, struct err *e)
{
	int64_t now_ms = clock_wall_ms();
	if (is_fresh(k, outlast_ms, now_ms))
		return 0;
	bool usable = k->tokens.expires_ms > now_ms;
	if (!k->tokens.refresh_token)
		return usable ? 0 : sign_in_again(p, ERR_NOT_FOUND, "the sign-in ended at", e);
	int rc = refresh(p, at, k, e);
	if (!usable || (rc != ERR_UNAVAILABLE && rc != ERR_TIMEOUT))
		return rc;
	log_debug("the sign-in was not refreshed, the token goes on until its end: %s", e->text);
	return 0;
}

static int read_or_explain(const struct profile *p, const struct place *at, struct kept *out, struct err *e)
{
	int rc = read_kept(at, out, e);
	return rc == ERR_NOT_FOUND ? sign_in_again(p, rc, "not signed in at", e) : rc;
}

int signin_token_blocking(const struct profile *p, int64_t outlast_ms, char **out_token, struct err *e)
{
	struct place at;
	struct kept k = { 0 };
	int rc = place_of(p, &at, e);
	if (rc == 0)
		rc = read_or_explain(p, &at, &k, e);
	if (rc == 0 && !is_fresh(&k, outlast_ms, clock_wall_ms())) {
		kept_clear(&k);
		rc = lock(&at, e);
		if (rc == 0)
			rc = read_or_explain(p, &at, &k, e); /* somebody may have been faster */
		if (rc == 0)
			rc = renew(p, &at, outlast_ms, &k, e);
		unlock(&at);
	}
	if (rc == 0) {
		*out_token = k.tokens.token;
		k.tokens.token = NULL;
	}
	kept_clear(&k);
	return rc;
}

int signin_keep_blocking(const struct profile *p, const struct oidc_tokens *tokens, struct err *e)
{
	struct place at;
	int rc = place_of(p, &at, e);
	if (rc == 0)
		rc = lock(&at, e);
	if (rc == 0)
		rc = write_kept(&at, tokens, e);
	unlock(&at);
	return rc;
}

int signin_forget_blocking(const struct profile *p, bool *out_was, char **out_refresh_token, struct err *e)
{
	struct place at;
	struct kept k = { 0 };
	*out_was = false;
	*out_refresh_token = NULL;
	int rc = place_of(p, &at, e);
	if (rc == 0)
		rc = lock(&at, e);
	if (rc != 0)
		return rc;
	if (read_kept(&at, &k, NULL) == 0) {
		*out_refresh_token = k.tokens.refresh_token;
		k.tokens.refresh_token = NULL;
	}
	kept_clear(&k);
	*out_was = unlink(at.path) == 0;
	if (!*out_was && errno != ENOENT)
		rc = err_set_errno(e, ERR_IO, errno, "%s", at.path);
	unlock(&at);
	return rc;
}
