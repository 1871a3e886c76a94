/* The policy engine: IAM-style documents, parsed once into a policy, evaluated against a request. Pure: no store, no
 * clock, no threads; a parsed policy is immutable and may be read by any number of threads.
 *
 * {"Version":"2026-01-01","Statement":[{"Sid":"…","Effect":"Allow","Principal":{"User":["alice"],"Group":["dev"]},
 *   "Action":["tunnel:StartSession"],"Resource":["target/web-*"],"Condition":{"StringEquals":{"tunnel:Login":["deploy"]}}}]}
 * Deny wins; nothing matches = deny. */
#ifndef SERVER_POLICY_POLICY_H
#define SERVER_POLICY_POLICY_H

#include "base/err.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

struct policy;

/* Validates everything; each mistake is named by its JSON path: "Statement[2].Condition.StringEquls: unknown operator;
 * allowed: …". */
int policy_parse(const char *name, const json_t *document, struct policy **out_policy, struct err *e);
void policy_free(struct policy **policy);
const char *policy_name(const struct policy *p);

struct policy_request {
	const char *subject;
	const json_t *groups;  /* array of strings */
	const char *action;    /* "tunnel:StartSession" */
	const char *resource;  /* "target/web-1" */
	const json_t *context; /* condition keys: "tunnel:SourceIp" → string, number, boolean or array of them */
};

enum policy_effect { POLICY_NO_MATCH, POLICY_ALLOW, POLICY_DENY };

struct policy_decision {
	enum policy_effect effect;
	char policy[65];    /* which policy decided; "" for NO_MATCH */
	char statement[65]; /* its Sid, or "Statement[2]" */
};

/* Over all policies: DENY of any statement, else ALLOW of any, else NO_MATCH. Whatever is not ALLOW refuses. */
void policy_evaluate(const struct policy *const *policies, size_t count, const struct policy_request *request,
		     struct policy_decision *out);

#endif
