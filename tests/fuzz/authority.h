/* The certificate authority of the targets that have certificates made. */
#ifndef TESTS_FUZZ_AUTHORITY_H
#define TESTS_FUZZ_AUTHORITY_H

#include <openssl/evp.h>

/* The same Ed25519 key each time; it is the program's, and lives as long. */
EVP_PKEY *authority(void);

#endif
