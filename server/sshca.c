/* One Ed25519 key signs both kinds of certificate; beside it there are keys that are trusted only, so that a change of
 * the key has no moment without a session: everybody trusts the next one before it signs, and the last one after.
 *
 * A user certificate is for one session: its key id is the session id (sshd logs it), its principals are the login that
 * policy granted, alone and with the target's name, and it starts a minute early for clocks that run behind. It permits
 * a terminal, and what else the session needs; where the agent's sshd sees every connection come from loopback, it is
 * good from there alone, so that no sshd on the network that trusts the same CA takes it.
 *
 * The files are read again at a reload, all or nothing; who signs meanwhile goes on with the key that he took. */
#include "server/sshca.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/secret.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define CLOCK_SKEW_S 60
#define LOOPBACK "127.0.0.0/8,::1/128"
#define TRUSTED_FILE_MAX (LIMIT_SSH_CAS * 4096u) /* bytes: keys with comments */

/* What the files say. */
struct keys {
	EVP_PKEY *key;
	char all[LIMIT_SSH_CAS][SSHCERT_KEY_TEXT]; /* public keys; the first is key's */
	size_t n;
};

struct sshca {
	pthread_mutex_t lock;
	struct keys now;
	uint64_t generation; /* from 1 */
};

enum missing { MISSING_IS_MADE, MISSING_IS_REFUSED, MISSING_IS_FINE };

static int load_key(const char *path, enum missing missing, EVP_PKEY **out_key, struct err *e)
{
	int rc = sshkey_load(path, out_key, e);
	if (rc != ERR_NOT_FOUND || missing != MISSING_IS_MADE)
		return rc == ERR_NOT_FOUND && missing == MISSING_IS_FINE ? 0 : rc;
	EVP_PKEY *key = sshkey_generate(e);
	if (!key)
		return ERR_NOMEM;
	rc = sshkey_save(path, key, "tunnel-server certificate authority", e);
	if (rc == 0)
		*out_key = key;
	else
		EVP_PKEY_free(key);
	return rc;
}

static int add_trusted(struct keys *keys, const char *line, struct err *e)
{
	char text[SSHCERT_KEY_TEXT];
	int rc = sshkey_check_public(line, text, e);
	if (rc)
		return rc;
	for (size_t i = 0; i < keys->n; i++)
		if (strcmp(keys->all[i], text) == 0)
			return 0;
	if (keys->n == LIMIT_SSH_CAS)
		return err_set(e, ERR_LIMIT, "more than %u keys, with the one of ssh.ca_key", LIMIT_SSH_CAS);
	memcpy(keys->all[keys->n++], text, sizeof text);
	return 0;
}

static int read_trusted(struct keys *keys, char *text, struct err *e)
{
	char *rest = text;
	int rc = 0;
	for (unsigned number = 1; rc == 0 && rest; number++) {
		char *line = strsep(&rest, "\n");
		line += strspn(line, " \t\r");
		line[strcspn(line, "\r")] = '\0';
		if (*line && *line != '#' && (rc = add_trusted(keys, line, e)) != 0)
			err_wrap(e, "line %u", number);
	}
	return rc;
}

static int load_trusted(struct keys *keys, const char *path, struct err *e)
{
	struct buf file;
	if (!*path)
		return 0;
	int rc = file_read_guarded(path, TRUSTED_FILE_MAX, &file, e);
	if (rc)
		return rc;
	char *text = strndup((const char *)buf_data(&file), file.len);
	if (!text)
		rc = err_set(e, ERR_NOMEM, "out of memory");
	else if (strlen(text) != file.len)
		rc = err_set(e, ERR_INVALID, "%s: not a text; expected OpenSSH public keys, one a line", path);
	else if ((rc = read_trusted(keys, text, e)) != 0)
		err_wrap(e, "%s", path);
	free(text);
	buf_free(&file);
	return rc;
}

static int load(const struct sshca_files *files, enum missing missing, struct keys *out, struct err *e)
{
	struct keys keys = { .key = NULL };
	int rc = load_key(files->key, missing, &keys.key, e);
	if (rc == 0 && keys.key)
		rc = sshkey_public_text(keys.key, keys.all[keys.n++], e);
	if (rc == 0)
		rc = load_trusted(&keys, files->trusted, e);
	if (rc) {
		EVP_PKEY_free(keys.key);
		return err_wrap(e, "SSH certificate authority");
	}
	*out = keys;
	return 0;
}

static bool same_keys(const struct keys *a, const struct keys *b)
{
	bool same = a->n == b->n;
	for (size_t i = 0; same && i < a->n; i++)
		same = strcmp(a->all[i], b->all[i]) == 0;
	return same;
}

static void tell(const struct keys *keys)
{
	char list[LIMIT_SSH_CAS * 64] = "none";
	size_t at = 0;
	char print[64];
	for (size_t i = 1; i < keys->n; i++)
		if (sshkey_fingerprint(keys->all[i], print, NULL) == 0)
			at += (size_t)snprintf(list + at, sizeof list - at, "%s%s", at ? " " : "", print);
	if (sshkey_fingerprint(keys->all[0], print, NULL) == 0)
		log_with(LOG_LEVEL_INFO, FIELDS({ "signs", print }, { "trusted", list }), "SSH certificate authority");
}

int sshca_check(const struct sshca_files *files, struct err *e)
{
	struct keys keys = { .key = NULL };
	int rc = load(files, MISSING_IS_FINE, &keys, e);
	EVP_PKEY_free(keys.key);
	return rc;
}

int sshca_open(const struct sshca_files *files, struct sshca **out_ca, struct err *e)
{
	struct sshca *ca = calloc(1, sizeof *ca);
	if (!ca)
		return err_set(e, ERR_NOMEM, "out of memory");
	int rc = load(files, MISSING_IS_MADE, &ca->now, e);
	if (rc) {
		free(ca);
		return rc;
	}
	pthread_mutex_init(&ca->lock, NULL);
	ca->generation = 1;
	tell(&ca->now);
	*out_ca = ca;
	return 0;
}

int sshca_reload(struct sshca *ca, const struct sshca_files *files, bool *out_changed, struct err *e)
{
	struct keys fresh = { .key = NULL };
	int rc = load(files, MISSING_IS_REFUSED, &fresh, e);
	if (rc)
		return rc;
	pthread_mutex_lock(&ca->lock);
	bool changed = !same_keys(&ca->now, &fresh);
	EVP_PKEY *old = ca->now.key;
	ca->now = fresh;
	ca->generation += changed;
	pthread_mutex_unlock(&ca->lock);
	EVP_PKEY_free(old);
	if (changed)
		tell(&fresh);
	*out_changed = changed;
	return 0;
}

void sshca_close(struct sshca **ca)
{
	if (!*ca)
		return;
	EVP_PKEY_free((*ca)->now.key);
	pthread_mutex_destroy(&(*ca)->lock);
	free(*ca);
	*ca = NULL;
}

json_t *sshca_public(struct sshca *ca, uint64_t *out_generation)
{
	json_t *all = json_array();
	pthread_mutex_lock(&ca->lock);
	for (size_t i = 0; i < ca->now.n; i++)
		json_array_append_new(all, json_string(ca->now.all[i]));
	if (out_generation)
		*out_generation = ca->generation;
	pthread_mutex_unlock(&ca->lock);
	return all;
}

/* ---- signing ---- */

static EVP_PKEY *key_of(struct sshca *ca)
{
	pthread_mutex_lock(&ca->lock);
	EVP_PKEY *key = ca->now.key;
	EVP_PKEY_up_ref(key);
	pthread_mutex_unlock(&ca->lock);
	return key;
}

/* The kind of cert and its options are the caller's, the rest is made here. */
static int sign(struct sshca *ca, struct sshcert *cert, const char *public_key, int64_t lifetime_ms,
		char out[SSHCERT_TEXT], struct err *e)
{
	char text[SSHCERT_KEY_TEXT];
	int rc = sshkey_check_public(public_key, text, e);
	if (rc)
		return rc;
	int64_t now_s = clock_wall_ms() / 1000;
	cert->valid_after_s = now_s - CLOCK_SKEW_S;
	cert->valid_before_s = now_s + lifetime_ms / 1000;
	EVP_PKEY *key = key_of(ca);
	rc = sshcert_sign(key, cert, text, out, e);
	EVP_PKEY_free(key);
	return rc;
}

uint64_t sshca_serial(const char *session)
{
	unsigned char hash[32];
	uint64_t serial = 0;
	secret_sha256(session, strlen(session), hash);
	for (size_t i = 0; i < sizeof serial; i++)
		serial = serial << 8 | hash[i];
	return serial;
}

int sshca_sign_user(struct sshca *ca, const struct sshca_user *user, char out[SSHCERT_TEXT], struct err *e)
{
	char there[LIMIT_LOGIN + LIMIT_ID + 2];
	snprintf(there, sizeof there, "%s@%s", user->login, user->target);
	const char *const principals[] = { user->login, there };
	struct sshcert cert = { .type = SSHCERT_USER,
				.serial = sshca_serial(user->session),
				.key_id = user->session,
				.principals = principals,
				.principal_count = 2,
				.source_address = user->loopback ? LOOPBACK : NULL,
				.permit_port_forwarding = user->forwarding,
				.permit_agent_forwarding = user->forwarding };
	return sign(ca, &cert, user->public_key, user->lifetime_ms, out, e);
}

int sshca_sign_host(struct sshca *ca, const char *target, const char *public_key, int64_t lifetime_ms,
		    char out[SSHCERT_TEXT], struct err *e)
{
	struct sshcert cert = { .type = SSHCERT_HOST, .key_id = target, .principals = &target, .principal_count = 1 };
	secret_random(&cert.serial, sizeof cert.serial);
	return sign(ca, &cert, public_key, lifetime_ms, out, e);
}
