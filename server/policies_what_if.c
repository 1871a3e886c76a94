/* What the policies in force would say: to a request that nobody made, and about whom. */
#include "server/policies.h"

#include "base/clock.h"
#include "server/policy_set.h"

#include <string.h>

static bool is_value(const json_t *value)
{
	size_t n = json_array_size(value);
	for (size_t i = 0; i < n; i++) {
		const json_t *item = json_array_get(value, i);
		if (!json_is_string(item) && !json_is_number(item) && !json_is_boolean(item))
			return false;
	}
	return !json_is_object(value);
}

int policies_check_context(const json_t *given, struct err *e)
{
	const char *key;
	json_t *value, *context = (json_t *)(uintptr_t)given; /* which is not changed */
	if (!json_is_object(context))
		return err_set(e, ERR_INVALID, "context: expected object");
	json_object_foreach(context, key, value)
	{
		bool printable =
			strnlen(key, 65) <= 64 && strspn(key, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUV"
							      "WXYZ0123456789:/._-") == strlen(key);
		if (!policy_key_is_known(key))
			return err_set(e, ERR_INVALID,
				       "context.%s: unknown condition key; allowed: tunnel:Login, "
				       "tunnel:Port, tunnel:Path, tunnel:Claim/<name>, target:Tag/<key> and the like",
				       printable ? key : "?");
		if (!is_value(value))
			return err_set(e, ERR_INVALID,
				       "context.%s: expected string, number, boolean, or an array of them",
				       printable ? key : "?");
		const char *form = policy_key_form_missed(key, value);
		if (form)
			return err_set(e, ERR_INVALID, "context.%s: expected %s", key, form);
	}
	return 0;
}

static json_t *answer_of(const struct policy_decision *d)
{
	static const char *const words[] = {
		[POLICY_NO_MATCH] = "no-match", [POLICY_ALLOW] = "allow", [POLICY_DENY] = "deny"
	};
	bool matched = d->effect != POLICY_NO_MATCH;
	return json_pack("{s:s, s:s?, s:s?}", "effect", words[d->effect], "policy", matched ? d->policy : NULL,
			 "statement", matched ? d->statement : NULL);
}

int policies_simulate(struct policies *p, const char *subject, const json_t *groups, const char *action,
		      const char *resource, const json_t *context, json_t **out_answer, struct err *e)
{
	char now[CLOCK_TEXT_LEN];
	if (policy_action_check(action, e) != 0)
		return err_wrap(e, "action");
	json_t *copy = context ? json_deep_copy(context) : json_object();
	if (!copy)
		return err_set(e, ERR_NOMEM, "out of memory");
	int rc = policies_check_context(copy, e);
	if (rc == 0 && !json_object_get(copy, "tunnel:CurrentTime") &&
	    json_object_set_new(copy, "tunnel:CurrentTime", json_string(clock_text(clock_wall_ms(), now))) != 0)
		rc = err_set(e, ERR_NOMEM, "out of memory");
	if (rc == 0) {
		const struct policy_request request = {
			.subject = subject, .groups = groups, .action = action, .resource = resource, .context = copy
		};
		struct policy_decision decision;
		policies_evaluate_anythread(p, &request, &decision);
		*out_answer = answer_of(&decision);
		if (!*out_answer)
			rc = err_set(e, ERR_NOMEM, "out of memory");
	}
	json_decref(copy);
	return rc;
}

int policies_who(struct policies *p, const char *resource, const struct policy_who_question *questions, size_t n,
		 json_t **out_rows, bool *out_more, struct err *e)
{
	struct policy_set *set = policies_current_anythread(p);
	int rc = policy_who(set->parsed, set->n, resource, questions, n, out_rows, out_more, e);
	policy_set_drop(&set);
	return rc;
}
