/* The SSH certificate authority: one Ed25519 key of mode 0600; user certificates per session, host certificates per
 * agent. Any thread. */
#ifndef SERVER_SSHCA_H
#define SERVER_SSHCA_H

#include "base/err.h"
#include "ident/sshcert.h"

struct sshca;

/* Creates the key file when it is missing; refuses one that others can read. */
int sshca_open(const char *key_path, struct sshca **out_ca, struct err *e);
void sshca_close(struct sshca **ca);
const char *sshca_public(const struct sshca *ca); /* "ssh-ed25519 AAAA…" */
/* Its principals are login and login@target: an sshd that only takes the second takes no certificate that was made for
 * another target. */
int sshca_sign_user(struct sshca *ca, const char *session, const char *target, const char *login,
		    const char *public_key, int64_t lifetime_ms, char out[SSHCERT_TEXT], struct err *e);
int sshca_sign_host(struct sshca *ca, const char *target, const char *public_key, int64_t lifetime_ms,
		    char out[SSHCERT_TEXT], struct err *e);

#endif
