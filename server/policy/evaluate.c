/* Judging a request. The cheap tests come first (a bit for the action, then the resource, then who, then the
 * conditions), so a thousand statements that are about something else cost next to nothing. */
#include "server/policy/model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum policy_truth policy_resource_judge(const struct policy_statement *s, struct policy_view *view)
{
	enum policy_match found = POLICY_MATCH_NO;
	bool open = false;
	for (size_t i = 0; i < s->resource_count && found != POLICY_MATCH_YES; i++) {
		const struct policy_pattern *p = &s->resources[i];
		const char *text = view->request->resource;
		if (view->unknown && policy_pattern_is_open(p, view)) {
			open |= s->not_resource || policy_pattern_may_match(p, view, text, view->resource_len);
			continue;
		}
		enum policy_match m = policy_pattern_match(p, view, false, text, view->resource_len);
		if (m != POLICY_MATCH_NO)
			found = m;
	}
	if (open && found != POLICY_MATCH_YES)
		return POLICY_UNKNOWN;
	if (!s->not_resource)
		return found == POLICY_MATCH_YES ? POLICY_YES : POLICY_NO;
	bool outside = found == POLICY_MATCH_NO || (found == POLICY_MATCH_UNSET && s->effect == POLICY_DENY);
	return outside ? POLICY_YES : POLICY_NO;
}

static int compare_names(const void *a, const void *b)
{
	return strcmp(a, *(char *const *)b);
}

bool policy_names_hold(const struct policy_names *names, const char *name)
{
	return names->all || (names->n && bsearch(name, names->at, names->n, sizeof *names->at, compare_names));
}

static bool principal_is_named(const struct policy_statement *s, const struct policy_request *q)
{
	if (policy_names_hold(&s->users, q->subject))
		return true;
	if (!s->groups.all && s->groups.n == 0)
		return false;
	for (size_t i = 0; i < json_array_size(q->groups); i++) {
		const char *group = json_string_value(json_array_get(q->groups, i));
		if (group && policy_names_hold(&s->groups, group))
			return true;
	}
	return false;
}

enum policy_truth policy_conditions_judge(const struct policy_statement *s, struct policy_view *view)
{
	enum policy_truth truth = POLICY_YES;
	for (size_t i = 0; i < s->condition_count && truth != POLICY_NO; i++) {
		const struct policy_condition *c = &s->conditions[i];
		if (view->unknown && policy_condition_is_open(c, view))
			truth = POLICY_UNKNOWN;
		else if (!policy_condition_holds(c, s->effect, view))
			truth = POLICY_NO;
	}
	return truth;
}

/* Where it depends on what is not known, a Deny does and an Allow does not. */
static bool statement_applies(const struct policy_statement *s, struct policy_view *view)
{
	bool open = s->effect == POLICY_DENY;
	enum policy_truth truth = s->actions & view->action ? policy_resource_judge(s, view) : POLICY_NO;
	if (truth == POLICY_NO || (truth == POLICY_UNKNOWN && !open))
		return false;
	if (principal_is_named(s, view->request) == s->not_principal)
		return false;
	truth = policy_conditions_judge(s, view);
	return truth == POLICY_YES || (truth == POLICY_UNKNOWN && open);
}

static void decide(struct policy_decision *out, const struct policy *p, const struct policy_statement *s)
{
	out->effect = s->effect;
	snprintf(out->policy, sizeof out->policy, "%s", p->name);
	snprintf(out->statement, sizeof out->statement, "%s", s->name);
}

static void evaluate(const struct policy *const *policies, size_t count, struct policy_view *view,
		     struct policy_decision *out)
{
	memset(out, 0, sizeof *out);
	out->effect = POLICY_NO_MATCH;
	for (size_t i = 0; i < count; i++) {
		for (size_t k = 0; k < policies[i]->n; k++) {
			const struct policy_statement *s = &policies[i]->statements[k];
			if (s->effect == out->effect || !statement_applies(s, view))
				continue; /* one Allow is enough; go on for a Deny */
			decide(out, policies[i], s);
			if (s->effect == POLICY_DENY)
				return;
		}
	}
}

void policy_evaluate(const struct policy *const *policies, size_t count, const struct policy_request *request,
		     struct policy_decision *out)
{
	struct policy_view view;
	policy_view_init(&view, request);
	evaluate(policies, count, &view, out);
}

void policy_evaluate_any_endpoint(const struct policy *const *policies, size_t count,
				  const struct policy_request *request, struct policy_decision *out)
{
	struct policy_view view;
	policy_view_init(&view, request);
	view.unknown = 1u << POLICY_KEY_HOST | 1u << POLICY_KEY_PORT;
	evaluate(policies, count, &view, out);
}
