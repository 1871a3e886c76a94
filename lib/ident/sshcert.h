/* OpenSSH keys and certificates (PROTOCOL.certkeys, PROTOCOL.key of OpenSSH), with EVP alone. Ed25519 for our own keys;
 * Ed25519 and ECDSA P-256 public keys can be certified, host keys also RSA. */
#ifndef IDENT_SSHCERT_H
#define IDENT_SSHCERT_H

#include "base/buf.h"
#include "base/err.h"

#include <openssl/evp.h>
#include <stddef.h>
#include <stdint.h>

#define SSHCERT_KEY_TEXT 1024 /* a public key line, with NUL (RSA 4096 fits) */
#define SSHCERT_TEXT 8192     /* a certificate line, with NUL */

EVP_PKEY *sshkey_generate(struct err *e); /* Ed25519 */
/* "openssh-key-v1", unencrypted: what ssh -i and sshd read, and what the CA key file holds. comment may be NULL. *out
 * is a secret: buf_wipe_free. */
int sshkey_text(EVP_PKEY *key, const char *comment, struct buf *out, struct err *e);
/* The same as a file of mode 0600. */
int sshkey_save(const char *path, EVP_PKEY *key, const char *comment, struct err *e);
int sshkey_load(const char *path, EVP_PKEY **out_key, struct err *e); /* Ed25519, unencrypted; refuses loose modes */
/* "ssh-ed25519 AAAA…" without comment */
int sshkey_public_text(EVP_PKEY *key, char out[SSHCERT_KEY_TEXT], struct err *e);
/* Checks "type base64 [comment]" for form and a type that can be certified; writes "type base64" without comment. */
int sshkey_check_public(const char *text, char out[SSHCERT_KEY_TEXT], struct err *e);
/* "SHA256:…" as ssh-keygen -l prints it */
int sshkey_fingerprint(const char *public_text, char out[64], struct err *e);

enum sshcert_type { SSHCERT_USER = 1, SSHCERT_HOST = 2 };

struct sshcert {
	enum sshcert_type type;
	uint64_t serial;
	const char *key_id;            /* shows in sshd's log: the session id */
	const char *const *principals; /* at least one: a certificate for anybody is refused */
	size_t principal_count;
	int64_t valid_after_s, valid_before_s; /* Unix seconds */
	const char *source_address;            /* critical option; NULL: none. User certificates only */
	const char *force_command;             /* critical option; NULL: none */
	/* User certificates: permit-pty always; these add extensions. */
	int permit_port_forwarding, permit_agent_forwarding, permit_x11_forwarding, permit_user_rc;
};

/* Signs public_text (as sshkey_check_public gives it) with an Ed25519 CA key. out: "…-cert-v01@openssh.com AAAA…". */
int sshcert_sign(EVP_PKEY *ca, const struct sshcert *cert, const char *public_text, char out[SSHCERT_TEXT],
		 struct err *e);

#endif
