/* The SSH certificate authority: an Ed25519 key of mode 0600 that signs user certificates per session and host
 * certificates per agent, and public keys that are trusted beside it while it changes. Any thread. */
#ifndef SERVER_SSHCA_H
#define SERVER_SSHCA_H

#include "base/err.h"
#include "ident/sshcert.h"

#include <jansson.h>
#include <stdbool.h>

struct sshca;

struct sshca_files {
	const char *key;     /* private, "openssh-key-v1" without a passphrase */
	const char *trusted; /* public keys, one a line, nobody else can write it; "": none */
};

/* Creates the key file when it is missing; refuses one that others can read. */
int sshca_open(const struct sshca_files *files, struct sshca **out_ca, struct err *e);
void sshca_close(struct sshca **ca);
/* Reads the files as sshca_open would and keeps nothing. A missing key is no mistake. */
int sshca_check(const struct sshca_files *files, struct err *e);
/* Reads them again; a missing key is not created, for nobody would trust it. What is wrong leaves all as it was. */
int sshca_reload(struct sshca *ca, const struct sshca_files *files, bool *out_changed, struct err *e);
/* All that are trusted, each "ssh-ed25519 AAAA…"; the first is the one that signs. New reference. *out_generation (may
 * be NULL), from 1, grows whenever they change. */
json_t *sshca_public(struct sshca *ca, uint64_t *out_generation);

struct sshca_user {
	const char *session, *target, *login;
	const char *public_key; /* of the client */
	int64_t lifetime_ms;
	bool forwarding; /* of ports and of the client's agent */
	bool loopback;   /* good only where sshd sees the connection come from a loopback address */
};
/* Its principals are login and login@target: an sshd that only takes the second takes no certificate that was made for
 * another target. */
int sshca_sign_user(struct sshca *ca, const struct sshca_user *user, char out[SSHCERT_TEXT], struct err *e);
/* The serial number of a session's certificates: all of them certify one key for one purpose. 64 bits of a hash, so no
 * two sessions have the same. */
uint64_t sshca_serial(const char *session);
int sshca_sign_host(struct sshca *ca, const char *target, const char *public_key, int64_t lifetime_ms,
		    char out[SSHCERT_TEXT], struct err *e);

#endif
