/* OpenSSH certificates (PROTOCOL.certkeys): the public key's own fields between a nonce and the statement about it,
 * signed by an Ed25519 CA. Options and extensions stand in lexical order, as sshd demands. */
#include "ident/sshcert.h"

#include "base/secret.h"
#include "ident/sshwire.h"

#include <string.h>

#define CERT_MAX 5800u /* bytes of the blob: as base64 with its type it fits SSHCERT_TEXT */
#define SIGNATURE 87u  /* bytes of it: a string of two strings, the type and 64 bytes */
#define PRINCIPALS_MAX 64u

static bool is_plain(const char *s)
{
	for (; *s; s++)
		if ((unsigned char)*s < 0x20 || *s == 0x7f)
			return false;
	return true;
}

static int check(const struct sshcert *c, const char *key_type, struct err *e)
{
	if (c->type != SSHCERT_USER && c->type != SSHCERT_HOST)
		return err_set(e, ERR_INVALID, "certificate: the type must be user or host");
	if (c->type == SSHCERT_USER && strcmp(key_type, SSHWIRE_RSA) == 0)
		return err_set(e, ERR_INVALID, "certificate: user keys must be %s or %s", SSHWIRE_ED25519,
			       SSHWIRE_ECDSA);
	if (!c->key_id || !*c->key_id || !is_plain(c->key_id))
		return err_set(e, ERR_INVALID, "certificate: the key id is empty or has control characters");
	if (!c->principal_count || c->principal_count > PRINCIPALS_MAX)
		return err_set(e, ERR_INVALID, "certificate: it needs 1 to %u principals", PRINCIPALS_MAX);
	for (size_t i = 0; i < c->principal_count; i++)
		if (!*c->principals[i] || !is_plain(c->principals[i]))
			return err_set(e, ERR_INVALID, "certificate: a principal is empty or has control characters");
	if (c->valid_after_s < 0 || c->valid_before_s <= c->valid_after_s)
		return err_set(e, ERR_INVALID, "certificate: it would never be valid");
	if (c->type == SSHCERT_HOST && (c->source_address || c->force_command))
		return err_set(e, ERR_INVALID, "certificate: source address and command are for users only");
	return 0;
}

static int add_option(struct buf *b, const char *name, const char *value)
{
	struct buf data = BUF_INIT(CERT_MAX);
	int bad = sshwire_add_text(b, name);
	if (value)
		bad |= sshwire_add_text(&data, value);
	bad |= sshwire_add(b, buf_data(&data), data.len);
	buf_free(&data);
	return bad;
}

static int add_options(struct buf *b, const struct sshcert *c)
{
	struct buf list = BUF_INIT(CERT_MAX);
	int bad = 0;
	if (c->force_command)
		bad |= add_option(&list, "force-command", c->force_command);
	if (c->source_address)
		bad |= add_option(&list, "source-address", c->source_address);
	bad |= sshwire_add(b, buf_data(&list), list.len);
	buf_free(&list);
	return bad;
}

static int add_extensions(struct buf *b, const struct sshcert *c)
{
	const struct {
		const char *name;
		int on;
	} all[] = {
		{ "permit-X11-forwarding", c->permit_x11_forwarding },
		{ "permit-agent-forwarding", c->permit_agent_forwarding },
		{ "permit-port-forwarding", c->permit_port_forwarding },
		{ "permit-pty", 1 },
		{ "permit-user-rc", c->permit_user_rc },
	};
	struct buf list = BUF_INIT(CERT_MAX);
	int bad = 0;
	for (size_t i = 0; c->type == SSHCERT_USER && i < sizeof all / sizeof all[0]; i++)
		if (all[i].on)
			bad |= add_option(&list, all[i].name, NULL);
	bad |= sshwire_add(b, buf_data(&list), list.len);
	buf_free(&list);
	return bad;
}

static int add_principals(struct buf *b, const struct sshcert *c)
{
	struct buf list = BUF_INIT(CERT_MAX);
	int bad = 0;
	for (size_t i = 0; i < c->principal_count; i++)
		bad |= sshwire_add_text(&list, c->principals[i]);
	bad |= sshwire_add(b, buf_data(&list), list.len);
	buf_free(&list);
	return bad;
}

/* Everything that is signed. */
static int add_statement(struct buf *b, const struct sshcert *c, const char *type, const struct buf *key,
			 const struct buf *ca_blob)
{
	uint8_t nonce[32];
	char cert_type[64];
	size_t skip = 4 + strlen(type); /* the key's blob begins with its type */
	secret_random(nonce, sizeof nonce);
	snprintf(cert_type, sizeof cert_type, "%s-cert-v01@openssh.com", type);
	int bad = sshwire_add_text(b, cert_type) | sshwire_add(b, nonce, sizeof nonce) |
		  buf_add(b, buf_data(key) + skip, key->len - skip) | buf_add_u64(b, c->serial) |
		  buf_add_u32(b, (uint32_t)c->type) | sshwire_add_text(b, c->key_id);
	bad |= add_principals(b, c);
	bad |= buf_add_u64(b, (uint64_t)c->valid_after_s) | buf_add_u64(b, (uint64_t)c->valid_before_s);
	bad |= add_options(b, c);
	bad |= add_extensions(b, c);
	return bad | sshwire_add_text(b, "") | sshwire_add(b, buf_data(ca_blob), ca_blob->len);
}

int sshcert_sign(EVP_PKEY *ca, const struct sshcert *cert, const char *public_text, char out[SSHCERT_TEXT],
		 struct err *e)
{
	const char *type;
	char ca_text[SSHCERT_KEY_TEXT];
	struct buf key = BUF_INIT(1), ca_blob = BUF_INIT(1), b = BUF_INIT(CERT_MAX);
	int rc = sshkey_public_text(ca, ca_text, e);
	if (rc)
		return err_wrap(e, "certificate authority");
	if ((rc = sshwire_public_blob(ca_text, &type, &ca_blob, e)) ||
	    (rc = sshwire_public_blob(public_text, &type, &key, e)) || (rc = check(cert, type, e)))
		goto out;
	/* With one code in all of bad it is that one. */
	int bad = add_statement(&b, cert, type, &key, &ca_blob);
	if (bad == ERR_NOMEM) {
		rc = err_set(e, ERR_NOMEM, "certificate: out of memory");
		goto out;
	}
	if (bad || b.len + SIGNATURE > CERT_MAX) {
		rc = err_set(e, ERR_LIMIT, "certificate: it would be larger than %u bytes", CERT_MAX);
		goto out;
	}
	bad = sshwire_ed25519_sign(ca, buf_data(&b), b.len, &b);
	if (bad) {
		rc = bad == ERR_NOMEM ? err_set(e, ERR_NOMEM, "certificate: out of memory")
				      : err_set_openssl(e, ERR_INTERNAL, "certificate: cannot sign");
		goto out;
	}
	int n = snprintf(out, SSHCERT_TEXT, "%s-cert-v01@openssh.com ", type);
	text_b64(buf_data(&b), b.len, out + n, SSHCERT_TEXT - (size_t)n);
out:
	buf_free(&key);
	buf_free(&ca_blob);
	buf_free(&b);
	return rc;
}
