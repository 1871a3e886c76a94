/* Is this the signature of those bytes by that key, in that key's one algorithm (RFC 7518)? */
#ifndef AUTH_JWT_SIGNATURE_H
#define AUTH_JWT_SIGNATURE_H

#include "key.h"

#include <stddef.h>

int signature_is_right(const struct key *key, const void *data, size_t len, const unsigned char *signature,
		       size_t signature_len);

#endif
