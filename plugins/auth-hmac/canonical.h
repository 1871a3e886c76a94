/* A request in the words that both sides sign: SigV4's canonical request, in the forms that clients make of it. */
#ifndef AUTH_HMAC_CANONICAL_H
#define AUTH_HMAC_CANONICAL_H

#include "text.h"

#include <tunnel/auth.h>

#define CANONICAL_MAX \
	(256u * 1024) /* bytes; a request's headers are bounded at 16 KiB, encoding may triple them twice */
#define CANONICAL_PATHS 3
#define CANONICAL_QUERIES 2
#define CANONICAL_PARAMS 256 /* query parameters */

struct canonical {
	struct string paths[CANONICAL_PATHS];
	struct string queries[CANONICAL_QUERIES];
	struct string headers; /* "name:value\n" for each signed one */
	size_t path_count, query_count;
};

/* signed_headers: names between ";". presigned: X-Amz-Signature is not part of what was signed. 0, or TUNNEL_DENIED
 * with a sentence. */
int canonical_make(const struct tunnel_auth_request *request, const char *signed_headers, int presigned,
		   struct canonical *out, char *err, size_t err_len);
void canonical_free(struct canonical *canonical);

/* One query parameter, decoded. */
struct param {
	char *name, *value;
};
struct params {
	struct param at[CANONICAL_PARAMS];
	size_t n;
};
/* 0, or -1 with a sentence: too many, or a broken percent sign. */
int params_read(const char *query, struct params *out, char *err, size_t err_len);
void params_free(struct params *params);

#endif
