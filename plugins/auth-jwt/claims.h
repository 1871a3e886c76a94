/* What a verified token says: is it for us, is it its time, who is it? */
#ifndef AUTH_JWT_CLAIMS_H
#define AUTH_JWT_CLAIMS_H

#include "token.h"

#include <jansson.h>
#include <stdint.h>
#include <tunnel/auth.h>

struct claim_rules {
	char *issuer, *audience, *groups_claim, *subject_claim;
	char *prefix; /* before the subject and each group; NULL: none */
	int64_t leeway_ms;
	int require_nbf; /* a token without nbf is refused */
};

struct verdict {
	char *subject, *groups, *claims; /* as struct tunnel_identity wants them */
	char credential[TUNNEL_CREDENTIAL_MAX];
	int64_t expires_ms, not_before_ms; /* not_before_ms 0: none */
};

/* 0, or a TUNNEL_ result with a sentence. */
int claims_judge(const struct claim_rules *rules, const struct token *token, int64_t now_ms, struct verdict *out,
		 char *err, size_t err_len);
/* Is it its time? Again for each use of a remembered verdict. */
int claims_check_time(const struct claim_rules *rules, const struct verdict *verdict, int64_t now_ms, char *err,
		      size_t err_len);
void verdict_clear(struct verdict *verdict);

#endif
