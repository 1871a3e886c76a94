/* The published keys that were fetched last, in a file: a server that is started while the issuer is away has them. */
#ifndef AUTH_JWT_KEYCACHE_H
#define AUTH_JWT_KEYCACHE_H

#include <stddef.h>

/* source: what the configuration follows; keys of another one do not count. 0 and the JWKS (free); 1: there is none; -1
 * with a sentence. The file must be the server's own and have mode 0600: whoever can write it decides who gets in. */
int keycache_read(const char *path, const char *source, char **out, size_t *out_len, char *err, size_t err_len);
/* Replaces it: a crash leaves the old one or the new one. */
int keycache_write(const char *path, const char *source, const char *jwks, size_t len, char *err, size_t err_len);

#endif
