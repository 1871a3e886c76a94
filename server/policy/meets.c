/* Can an action of a statement meet a resource of it? One that cannot is a statement that never applies, and a Deny
 * that denies nothing. Asked when a policy is written; what is in force already is read without it. */
#include "server/policy/model.h"

#include "base/text.h"

#include <string.h>

static const struct {
	const char *action;
	const char *kinds[4]; /* what it is judged on */
} rows[] = {
	{ "tunnel:StartSession", { "target/" } },      { "tunnel:OpenSsh", { "target/" } },
	{ "tunnel:OpenTcp", { "target/" } },           { "tunnel:ListTargets", { "target/" } },
	{ "tunnel:EnrollTarget", { "target/" } },      { "tunnel:DeregisterTarget", { "target/" } },
	{ "tunnel:ResumeSession", { "session/" } },    { "tunnel:TerminateSession", { "session/" } },
	{ "tunnel:DescribeSessions", { "session/" } }, { "tunnel:Revoke", { "principal/", "credential/", "session/" } },
	{ "tunnel:PutPolicy", { "policy/" } },         { "tunnel:GetPolicy", { "policy/" } },
	{ "tunnel:ReadAudit", { "audit" } },           { "tunnel:ReadMetrics", { "metrics" } },
	{ "tunnel:ListNodes", { "nodes" } },           { "tunnel:OpenUnix", { "target/" } },
	{ "tunnel:AcceptTcp", { "target/" } },
};
#define ROWS (sizeof rows / sizeof *rows)
_Static_assert(POLICY_ACTIONS_ALL == (1u << ROWS) - 1, "a row for each action");

static bool is_of(const char *resource, const char *const *kinds)
{
	bool found = strcmp(resource, "*") == 0;
	for (size_t i = 0; !found && kinds[i]; i++)
		found = text_starts(resource, kinds[i]);
	return found;
}

static bool meets_any(const json_t *resources, const char *const *kinds)
{
	size_t n = policy_list_size(resources);
	bool found = false;
	for (size_t i = 0; !found && i < n; i++)
		found = is_of(json_string_value(json_is_array(resources) ? json_array_get(resources, i) : resources),
			      kinds);
	return found;
}

static int check_action(void *arg, const json_t *item, const struct policy_path *path, struct policy_report *report)
{
	const json_t *resources = arg;
	const char *pattern = json_string_value(item);
	char kinds[120] = "";
	for (size_t i = 0; i < ROWS; i++) {
		if (!text_glob(pattern, rows[i].action))
			continue;
		if (meets_any(resources, rows[i].kinds))
			return 0;
		for (size_t k = 0; rows[i].kinds[k]; k++) {
			size_t n = strlen(kinds);
			if (!strstr(kinds, rows[i].kinds[k]))
				snprintf(kinds + n, sizeof kinds - n, "%s%s%s", n ? ", " : "", rows[i].kinds[k],
					 strchr(rows[i].kinds[k], '/') ? "…" : "");
		}
	}
	return policy_mistake(report, path, "%s is never asked about what Resource names; it is about: %s",
			      policy_quote(pattern).text, kinds);
}

static int check_statement(void *arg, const json_t *item, const struct policy_path *path, struct policy_report *report)
{
	(void)arg;
	const json_t *action = json_object_get(item, "Action"), *resource = json_object_get(item, "Resource");
	struct policy_path at = policy_path_key(path, "Action");
	return action && resource ? policy_each(action, &at, check_action, (void *)(uintptr_t)resource, report) : 0;
}

int policy_check_meets(const json_t *document, struct policy_mistakes *mistakes, struct err *e)
{
	struct policy_report report = { .mistakes = mistakes, .e = e };
	struct policy_path top = policy_path_key(&(struct policy_path){ "" }, "Statement");
	const json_t *statements = json_object_get(document, "Statement");
	int worst = json_is_object(statements) ? check_statement(NULL, statements, &top, &report) : 0;
	for (size_t i = 0; i < json_array_size(statements) && !policy_stops(worst); i++) {
		struct policy_path at = policy_path_index(&top, i);
		int rc = check_statement(NULL, json_array_get(statements, i), &at, &report);
		worst = rc ? rc : worst;
	}
	return worst == ERR_INVALID && report.n > 1 ? err_wrap(e, "%zu mistakes; the first", report.n) : worst;
}
