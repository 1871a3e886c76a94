/* One Ed25519 key signs both kinds of certificate. A user certificate is for one session: its key id is the session id
 * (sshd logs it), its principals are the login that policy granted, alone and with the target's name, and it starts a
 * minute early for clocks that run behind. The key is only read after start, so signing needs no lock. */
#include "server/sshca.h"

#include "base/clock.h"
#include "base/limits.h"
#include "base/secret.h"

#include <stdlib.h>
#include <string.h>

#define CLOCK_SKEW_S 60

struct sshca {
	EVP_PKEY *key;
	char public_text[SSHCERT_KEY_TEXT];
};

static int load_or_create(const char *path, EVP_PKEY **out_key, struct err *e)
{
	int rc = sshkey_load(path, out_key, e);
	if (rc != ERR_NOT_FOUND)
		return rc;
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

int sshca_open(const char *key_path, struct sshca **out_ca, struct err *e)
{
	struct sshca *ca = calloc(1, sizeof *ca);
	if (!ca)
		return err_set(e, ERR_NOMEM, "out of memory");
	int rc = load_or_create(key_path, &ca->key, e);
	if (rc == 0)
		rc = sshkey_public_text(ca->key, ca->public_text, e);
	if (rc == 0)
		*out_ca = ca;
	else
		sshca_close(&ca);
	return rc ? err_wrap(e, "SSH certificate authority") : 0;
}

void sshca_close(struct sshca **ca)
{
	if (!*ca)
		return;
	EVP_PKEY_free((*ca)->key);
	free(*ca);
	*ca = NULL;
}

const char *sshca_public(const struct sshca *ca)
{
	return ca->public_text;
}

static int sign(struct sshca *ca, enum sshcert_type type, const char *key_id, const char *const *principals,
		size_t principal_count, const char *public_key, int64_t lifetime_ms, char out[SSHCERT_TEXT],
		struct err *e)
{
	char key[SSHCERT_KEY_TEXT];
	int rc = sshkey_check_public(public_key, key, e);
	if (rc)
		return rc;
	int64_t now_s = clock_wall_ms() / 1000;
	struct sshcert cert = { .type = type,
				.key_id = key_id,
				.principals = principals,
				.principal_count = principal_count,
				.valid_after_s = now_s - CLOCK_SKEW_S,
				.valid_before_s = now_s + lifetime_ms / 1000,
				.permit_port_forwarding = type == SSHCERT_USER,
				.permit_agent_forwarding = type == SSHCERT_USER };
	secret_random(&cert.serial, sizeof cert.serial);
	return sshcert_sign(ca->key, &cert, key, out, e);
}

int sshca_sign_user(struct sshca *ca, const char *session, const char *target, const char *login,
		    const char *public_key, int64_t lifetime_ms, char out[SSHCERT_TEXT], struct err *e)
{
	char there[LIMIT_LOGIN + LIMIT_ID + 2];
	snprintf(there, sizeof there, "%s@%s", login, target);
	const char *const principals[] = { login, there };
	return sign(ca, SSHCERT_USER, session, principals, 2, public_key, lifetime_ms, out, e);
}

int sshca_sign_host(struct sshca *ca, const char *target, const char *public_key, int64_t lifetime_ms,
		    char out[SSHCERT_TEXT], struct err *e)
{
	return sign(ca, SSHCERT_HOST, target, &target, 1, public_key, lifetime_ms, out, e);
}
