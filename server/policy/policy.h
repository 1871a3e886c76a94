/* The policy engine: IAM-style documents, parsed once into a policy, evaluated against a request. Pure: no store, no
 * clock, no threads; a parsed policy is immutable and may be read by any number of threads.
 *
 * {"Version":"2026-01-01","Statement":[{"Sid":"…","Effect":"Allow","Principal":{"User":["alice"],"Group":["dev"]},
 *   "Action":["tunnel:StartSession"],"Resource":["target/web-*"],"Condition":{"StringEquals":{"tunnel:Login":["deploy"]}}}]}
 * Deny wins; nothing matches = deny.
 *
 * As in IAM, with these differences, all of them stricter:
 *  - Principal or NotPrincipal is required; everybody is "*". Part of a name is no pattern there ("dev-*"): use a
 *    condition on tunnel:Subject.
 *  - Names are case-sensitive. An unknown action, resource, condition key or operator, or a wildcard that no action
 *    matches, is a mistake of the document.
 *  - A variable without value equals nothing. So an inverted element (StringNot…, NotResource) would match; it does so
 * in a Deny, and not in an Allow.
 *  - A value of the wrong kind ("abc" for NumericLessThan) matches nothing, like a missing one. */
#ifndef SERVER_POLICY_POLICY_H
#define SERVER_POLICY_POLICY_H

#include "base/err.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct policy;

/* All that is wrong with a document. Starts as zeros. */
struct policy_mistakes {
	json_t *list; /* [{"path": "Statement[2].Condition.StringEquls", "text": "unknown operator; allowed: …"}], at
		       * most LIMIT_POLICY_MISTAKES; NULL: none */
	size_t n;     /* how many there are */
};
void policy_mistakes_free(struct policy_mistakes *m);

/* Validates everything. ERR_INVALID: each mistake, named by its JSON path, is added to *mistakes (may be NULL); e has
 * the first one, "Statement[2].Condition.StringEquls: unknown operator; …", behind "3 mistakes; the first: " when there
 * are more. */
int policy_parse(const char *name, const json_t *document, struct policy **out_policy, struct policy_mistakes *mistakes,
		 struct err *e);
/* Of a document that policy_parse takes: ERR_INVALID, as there, for each action of an Action that can meet no resource
 * of its statement's Resource. */
int policy_check_meets(const json_t *document, struct policy_mistakes *mistakes, struct err *e);
void policy_free(struct policy **policy);
const char *policy_name(const struct policy *p);
const json_t *policy_document(const struct policy *p); /* its own copy; other threads read it too: take no reference */
/* Does it compare the time with one that lies from first_ms to last_ms (wall clock), both included? */
bool policy_turns(const struct policy *p, int64_t first_ms, int64_t last_ms);
/* Names that a policy may use. */
bool policy_action_is_known(const char *action);
int policy_action_check(const char *action, struct err *e); /* ERR_INVALID names it, and the nearest or all there are */
bool policy_key_is_known(const char *condition_key);
/* The form that values of a key must have and that this one, or one of this array's, has not; NULL: nothing is wrong.
 * null has no form. */
const char *policy_key_form_missed(const char *condition_key, const json_t *value);

struct policy_request {
	const char *subject;
	const json_t *groups;  /* array of strings; NULL: none */
	const char *action;    /* "tunnel:StartSession" */
	const char *resource;  /* "target/web-1", session/<id>, policy/<name>, principal/<name>, credential/<id>,
				* "audit",  "metrics" */
	const json_t *context; /* condition keys: "tunnel:SourceIp" → string, number, boolean or array of them; NULL:
				* none. tunnel:Subject and tunnel:Group are taken from above */
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

/* The same for every tunnel:Host and tunnel:Port that a request could have, which it must not have itself: ALLOW when
 * it is allowed whichever they are, as far as single statements tell; a DENY that one of them would meet denies. */
void policy_evaluate_any_endpoint(const struct policy *const *policies, size_t count,
				  const struct policy_request *request, struct policy_decision *out);

#endif
