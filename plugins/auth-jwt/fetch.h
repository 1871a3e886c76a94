/* One GET over TLS, bounded in size and time. */
#ifndef AUTH_JWT_FETCH_H
#define AUTH_JWT_FETCH_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#define FETCH_URL_MAX 1024u /* bytes */

/* Does it begin as a URL that may be fetched does? */
int fetch_url_is_fit(const char *url);
/* The body of an answer with status 200, at most KEY_FILE_MAX bytes, NUL-terminated: 0 and *out (free). Else -1 and a
 * sentence. Ends soon with -1 when *stop becomes true. Redirects are not followed. Blocking. */
int fetch_blocking(const char *url, const char *ca_file, atomic_bool *stop, char **out, size_t *out_len, char *err,
		   size_t err_len);

#endif
