/* What an SSH agent (draft-miller-ssh-agent) says that holds one identity: an Ed25519 key with its certificate. Bytes
 * in, bytes out; sockets are elsewhere. */
#ifndef IDENT_SSHAGENT_H
#define IDENT_SSHAGENT_H

#include "base/buf.h"
#include "base/err.h"

#include <openssl/evp.h>

#define SSHAGENT_REQUEST_MAX (32u * 1024) /* bytes: a request to sign holds the certificate twice, and a host key */
#define SSHAGENT_ANSWER_MAX (8u * 1024)   /* bytes: the certificate and little more */

struct sshagent_identity {
	EVP_PKEY *key;          /* borrowed */
	struct buf certificate; /* its blob */
};

/* certificate: "ssh-ed25519-cert-v01@openssh.com base64", refused unless it is the key's. id must be freed either way.
 */
int sshagent_identity_init(struct sshagent_identity *id, EVP_PKEY *key, const char *certificate, struct err *e);
void sshagent_identity_free(struct sshagent_identity *id);

/* Bytes that the first request in buffer has, with its length; 0: more are needed. SIZE_MAX: it is too long. */
size_t sshagent_request_size(const struct buf *buffer);
/* The answer to one request, with both their lengths. It lists the certificate and signs with it; everything else is
 * answered with a failure. Not 0: no room in out, which has SSHAGENT_ANSWER_MAX. */
int sshagent_answer(const struct sshagent_identity *id, const uint8_t *request, size_t size, struct buf *out);

#endif
