/* AWS Signature Version 4, AWS4-HMAC-SHA256: what a request says about its signature, and whether it is right. */
#ifndef AUTH_HMAC_SIGV4_H
#define AUTH_HMAC_SIGV4_H

#include "canonical.h"
#include "credentials.h"

#include <stdint.h>
#include <tunnel/auth.h>

#define SIGV4_EXPIRES_MAX_S 604800 /* X-Amz-Expires: seven days, as AWS has it */

struct sigv4 {
	int presigned; /* query form */
	char key_id[KEY_ID_MAX + 1];
	char scope[256];             /* "20150830/us-east-1/service/aws4_request" */
	char timestamp[17];          /* "20150830T123600Z" */
	int64_t time_ms, expires_ms; /* expires_ms: query form; else 0 */
	char signed_headers[2048];
	unsigned char signature[32];
};

struct sigv4_rules {
	char *service, *region;
	int64_t clock_window_ms;
	int64_t presigned_max_ms; /* how long a presigned URL may be good for */
};

/* TUNNEL_OK; TUNNEL_NOT_MINE: carries no such signature; TUNNEL_DENIED with a sentence: malformed, for another
 * service, not its time. */
int sigv4_read(const struct tunnel_auth_request *request, const struct sigv4_rules *rules, int64_t now_ms,
	       struct sigv4 *out, char *err, size_t err_len);
/* *out_matches: made with that secret over this request? Takes the same time for any secret. 0, or a TUNNEL_ result
 * with a sentence: the request cannot be brought into the signed form. */
int sigv4_check(const struct tunnel_auth_request *request, const struct sigv4 *claim, const char *secret,
		int *out_matches, char *err, size_t err_len);

#endif
