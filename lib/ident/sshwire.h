/* The encoding of RFC 4251 section 5 that OpenSSH keys and certificates are made of. Inside lib/ident only. */
#ifndef IDENT_SSHWIRE_H
#define IDENT_SSHWIRE_H

#include "base/buf.h"
#include "base/err.h"

#include <openssl/evp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SSHWIRE_ED25519 "ssh-ed25519"
#define SSHWIRE_ED25519_CERT "ssh-ed25519-cert-v01@openssh.com"
#define SSHWIRE_ECDSA "ecdsa-sha2-nistp256"
#define SSHWIRE_RSA "ssh-rsa"

struct sshwire_reader {
	const uint8_t *at;
	size_t left;
	bool bad; /* a read went past the end; all later reads fail too */
};

int sshwire_add(struct buf *b, const void *data, size_t len); /* u32 length, bytes */
int sshwire_add_text(struct buf *b, const char *text);
uint32_t sshwire_u32(struct sshwire_reader *r);
const uint8_t *sshwire_string(struct sshwire_reader *r, size_t *out_len); /* never NULL; "" when bad */
bool sshwire_string_is(struct sshwire_reader *r, const char *text);

/* "type base64 [comment]" into the type and the decoded, checked blob. out is initialised here. */
int sshwire_public_blob(const char *text, const char **out_type, struct buf *out, struct err *e);
/* The blob of an Ed25519 key. */
int sshwire_ed25519_blob(const uint8_t public_key[32], struct buf *to);
/* Adds the signature of data by an Ed25519 key, as a string; data may be what to holds. Not 0: not signed, or no room.
 */
int sshwire_ed25519_sign(EVP_PKEY *key, const uint8_t *data, size_t len, struct buf *to);

#endif
