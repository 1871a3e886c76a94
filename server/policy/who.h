/* Who may do something to a resource? The question of policy_evaluate turned round: the resource is known, the caller
 * is not. Pure, as the rest of the engine. */
#ifndef SERVER_POLICY_WHO_H
#define SERVER_POLICY_WHO_H

#include "server/policy/policy.h"

struct policy_who_question {
	const char *action;
	/* What is known of the request: condition keys as in a policy_request; null: known to be missing. Of the other
	 * keys target:Tag/… and session:… are missing, all else may have any value or none. May be NULL. */
	const json_t *context;
};

/* *out_rows (new reference): an array with a row for each principal of each Allow statement that reaches the resource:
 *   {"who": WHO, "actions": ["tunnel:OpenSsh", …], "policy": "base", "statement": "Web", "certain": true,
 *    "if": [{"StringEquals": {"tunnel:Login": ["deploy"]}}, {"Resource": "target/${tunnel:Subject}"}, …],
 *    "unless": [{"policy": …, "statement": …, "who": [WHO, …], "if": […]}, …]}
 * WHO is {"user": name}, {"group": name} ("*": of any group), {"everyone": true} or
 * {"everyone_except": {"users": [names], "groups": [names]}}.
 *
 * if: what must hold besides and depends on the caller or on his request; all of it. unless: the Deny statements that
 * may undo it: for those of its who (absent: for all) and if its if holds (empty: always). certain: neither of them.
 * So a caller who matches a row's who is allowed when its if holds and no unless does, and whoever is allowed matches a
 * row. An action that a caller has from several rows he has.
 *
 * *out_more: the list would have been longer. 0, ERR_INVALID for an unknown action, ERR_NOMEM. */
int policy_who(const struct policy *const *policies, size_t count, const char *resource,
	       const struct policy_who_question *questions, size_t n, json_t **out_rows, bool *out_more, struct err *e);

#endif
