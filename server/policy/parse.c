/* From a JSON document to a policy. The grammar is a table of fields for the document and one for a statement; each
 * field knows its reader, so a field that is in no row is refused with the list of those that are. */
#include "server/policy/model.h"

#include "base/text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define VERSION "2026-01-01"

typedef int read_fn(void *target, const json_t *value, const struct policy_path *path, struct err *e);

struct field {
	const char *name;
	read_fn *read;
	/* Of the fields in a group exactly one must be there; 0: optional. */
	int group;
};

/* --- fields of any object --- */

static void list_fields(const struct field *fields, int group, const char *between, char *out, size_t size)
{
	size_t used = 0;
	out[0] = '\0';
	for (const struct field *f = fields; f->name && used < size; f++)
		if (group < 0 || f->group == group)
			used += (size_t)snprintf(out + used, size - used, "%s%s", used ? between : "", f->name);
}

static int check_group(const json_t *object, const struct field *fields, int group, const struct policy_path *path,
		       struct err *e)
{
	char names[128];
	size_t found = 0, known = 0;
	for (const struct field *f = fields; f->name; f++) {
		if (f->group != group)
			continue;
		known++;
		found += json_object_get(object, f->name) != NULL;
	}
	if (found == 1 || known == 0)
		return 0;
	list_fields(fields, group, " or ", names, sizeof names);
	if (found == 0 && *path->text == '\0')
		return err_set(e, ERR_INVALID, "%s: missing", names);
	if (found == 0)
		return policy_mistake(e, path, "%s is missing", names);
	return policy_mistake(e, path, "only one of %s is allowed", names);
}

static int read_fields(const json_t *object, const struct field *fields, int groups, const struct policy_path *path,
		       void *target, struct err *e)
{
	void *it = json_object_iter(policy_walkable(object));
	for (; it; it = json_object_iter_next(policy_walkable(object), it)) {
		const char *key = json_object_iter_key(it);
		const struct field *f = fields;
		while (f->name && strcmp(f->name, key) != 0)
			f++;
		struct policy_path at = policy_path_key(path, key);
		char names[128];
		list_fields(fields, -1, ", ", names, sizeof names);
		int rc = f->name ? f->read(target, json_object_iter_value(it), &at, e)
				 : policy_mistake(e, &at, "unknown field; allowed: %s", names);
		if (rc != 0)
			return rc;
	}
	for (int group = 1; group <= groups; group++) {
		int rc = check_group(object, fields, group, path, e);
		if (rc != 0)
			return rc;
	}
	return 0;
}

/* The value as text of 1 to LIMIT_POLICY_TEXT bytes; NULL with e set. */
static const char *text_of(const json_t *value, const struct policy_path *path, struct err *e)
{
	size_t len = json_string_length(value);
	if (!json_is_string(value))
		policy_mistake(e, path, "expected string");
	else if (len == 0 || len > LIMIT_POLICY_TEXT)
		policy_mistake(e, path, "%zu bytes long; allowed: 1 to %u", len, LIMIT_POLICY_TEXT);
	else if (strlen(json_string_value(value)) != len)
		policy_mistake(e, path, "contains a NUL character");
	else
		return json_string_value(value);
	return NULL;
}

static int refuse_variable(const char *text, const struct policy_path *path, struct err *e)
{
	if (!strstr(text, "${"))
		return 0;
	return policy_mistake(e, path,
			      "variables are not allowed here; allowed: in Resource, NotResource and the "
			      "operands of String operators");
}

/* --- statement --- */

static int read_sid(void *target, const json_t *value, const struct policy_path *path, struct err *e)
{
	struct policy_statement *s = target;
	const char *text = text_of(value, path, e);
	if (!text)
		return ERR_INVALID;
	if (!text_is_id(text))
		return policy_mistake(e, path, "\"%s\" is no name; allowed: letters, digits, '.', '_', '-', at most %u",
				      policy_quote(text).text, LIMIT_ID);
	snprintf(s->name, sizeof s->name, "%s", text);
	return 0;
}

static int read_effect(void *target, const json_t *value, const struct policy_path *path, struct err *e)
{
	struct policy_statement *s = target;
	const char *text = json_is_string(value) ? json_string_value(value) : "";
	if (strcmp(text, "Allow") == 0)
		s->effect = POLICY_ALLOW;
	else if (strcmp(text, "Deny") == 0)
		s->effect = POLICY_DENY;
	else
		return policy_mistake(e, path, "unknown effect; allowed: \"Allow\", \"Deny\"");
	return 0;
}

static int add_name(void *target, const json_t *item, const struct policy_path *path, struct err *e)
{
	struct policy_names *names = target;
	const char *text = text_of(item, path, e);
	if (!text)
		return ERR_INVALID;
	int rc = refuse_variable(text, path, e);
	if (rc != 0)
		return rc;
	if (strcmp(text, "*") == 0) {
		names->all = true;
		return 0;
	}
	if (strpbrk(text, "*?"))
		return policy_mistake(e, path,
				      "wildcards in a name; allowed: \"*\" alone, or a Condition StringLike on "
				      "tunnel:Subject or tunnel:Group");
	names->at[names->n] = strdup(text);
	if (!names->at[names->n])
		return err_set(e, ERR_NOMEM, "out of memory");
	names->n++;
	return 0;
}

static int compare_names(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static int read_names(struct policy_names *names, const json_t *value, const struct policy_path *path, struct err *e)
{
	names->at = calloc(policy_list_size(value) + 1, sizeof *names->at);
	if (!names->at)
		return err_set(e, ERR_NOMEM, "out of memory");
	int rc = policy_each(value, path, add_name, names, e);
	if (rc == 0)
		qsort(names->at, names->n, sizeof *names->at, compare_names);
	return rc;
}

static int read_users(void *target, const json_t *value, const struct policy_path *path, struct err *e)
{
	struct policy_statement *s = target;
	return read_names(&s->users, value, path, e);
}

static int read_groups(void *target, const json_t *value, const struct policy_path *path, struct err *e)
{
	struct policy_statement *s = target;
	return read_names(&s->groups, value, path, e);
}

static int read_principal(void *target, const json_t *value, const struct policy_path *path, struct err *e)
{
	static const struct field fields[] = { { "User", read_users, 0 },
					       { "Group", read_groups, 0 },
					       { .name = NULL } };
	struct policy_statement *s = target;
	if (json_is_string(value) && strcmp(json_string_value(value), "*") == 0) {
		s->users.all = true;
		return 0;
	}
	if (!json_is_object(value) || json_object_size(value) == 0)
		return policy_mistake(e, path, "expected \"*\", or an object with User, Group or both");
	/* a second one is refused once all fields are read; until then it must not leak the first one's lists */
	if (s->users.at || s->groups.at)
		return policy_mistake(e, path, "only one of Principal or NotPrincipal is allowed");
	return read_fields(value, fields, 0, path, target, e);
}

static int read_not_principal(void *target, const json_t *value, const struct policy_path *path, struct err *e)
{
	struct policy_statement *s = target;
	s->not_principal = true;
	return read_principal(target, value, path, e);
}

static int add_action(void *target, const json_t *item, const struct policy_path *path, struct err *e)
{
	struct policy_statement *s = target;
	const char *text = text_of(item, path, e);
	if (!text)
		return ERR_INVALID;
	int rc = refuse_variable(text, path, e);
	if (rc != 0)
		return rc;
	uint32_t found = policy_action_match(text);
	if (!found)
		return policy_mistake(e, path, "%s; allowed: %s",
				      strpbrk(text, "*?") ? "no action matches" : "unknown action",
				      policy_actions_allowed);
	s->actions |= found;
	return 0;
}

static int read_action(void *target, const json_t *value, const struct policy_path *path, struct err *e)
{
	return policy_each(value, path, add_action, target, e);
}

static int read_not_action(void *target, const json_t *value, const struct policy_path *path, struct err *e)
{
	struct policy_statement *s = target;
	int rc = policy_each(value, path, add_action, target, e);
	s->actions = POLICY_ACTIONS_ALL & ~s->actions;
	if (rc == 0 && s->actions == 0)
		return policy_mistake(e, path, "leaves no action that the statement could be about");
	return rc;
}

static bool is_resource(const char *text)
{
	static const char *const kinds[] = { "target/", "session/", "policy/", "principal/", "credential/", NULL };
	static const char *const whole[] = { "audit", "metrics", "*", NULL };
	for (size_t i = 0; whole[i]; i++)
		if (strcmp(text, whole[i]) == 0)
			return true;
	for (size_t i = 0; kinds[i]; i++)
		if (text_starts(text, kinds[i]) && text[strlen(kinds[i])])
			return true;
	return false;
}

static int add_resource(void *target, const json_t *item, const struct policy_path *path, struct err *e)
{
	struct policy_statement *s = target;
	const char *text = text_of(item, path, e);
	if (!text)
		return ERR_INVALID;
	if (!is_resource(text))
		return policy_mistake(e, path,
				      "unknown resource \"%s\"; allowed: target/<id>, session/<id>, policy/<name>, "
				      "principal/<name>, credential/<id>, audit, metrics, *",
				      policy_quote(text).text);
	int rc = policy_pattern_parse(text, true, path, &s->resources[s->resource_count], e);
	if (rc == 0)
		s->resource_count++;
	return rc;
}

static int read_resource(void *target, const json_t *value, const struct policy_path *path, struct err *e)
{
	struct policy_statement *s = target;
	if (s->resources)
		return policy_mistake(e, path, "only one of Resource or NotResource is allowed");
	s->resources = calloc(policy_list_size(value) + 1, sizeof *s->resources);
	if (!s->resources)
		return err_set(e, ERR_NOMEM, "out of memory");
	s->resource = value;
	return policy_each(value, path, add_resource, s, e);
}

static int read_not_resource(void *target, const json_t *value, const struct policy_path *path, struct err *e)
{
	struct policy_statement *s = target;
	s->not_resource = true;
	return read_resource(target, value, path, e);
}

static int read_condition(void *target, const json_t *value, const struct policy_path *path, struct err *e)
{
	struct policy_statement *s = target;
	return policy_conditions_parse(value, path, &s->conditions, &s->condition_count, e);
}

static const struct field statement_fields[] = {
	{ "Sid", read_sid, 0 },
	{ "Effect", read_effect, 1 },
	{ "Principal", read_principal, 2 },
	{ "NotPrincipal", read_not_principal, 2 },
	{ "Action", read_action, 3 },
	{ "NotAction", read_not_action, 3 },
	{ "Resource", read_resource, 4 },
	{ "NotResource", read_not_resource, 4 },
	{ "Condition", read_condition, 0 },
	{ .name = NULL },
};
#define STATEMENT_GROUPS 4

static int read_statement(struct policy_statement *s, const json_t *value, const struct policy_path *path,
			  struct err *e)
{
	if (!json_is_object(value))
		return policy_mistake(e, path, "expected object");
	snprintf(s->name, sizeof s->name, "%.64s", path->text);
	return read_fields(value, statement_fields, STATEMENT_GROUPS, path, s, e);
}

/* --- document --- */

static int read_version(void *target, const json_t *value, const struct policy_path *path, struct err *e)
{
	(void)target;
	if (json_is_string(value) && strcmp(json_string_value(value), VERSION) == 0)
		return 0;
	return policy_mistake(e, path, "unknown version; allowed: \"" VERSION "\"");
}

static int read_id(void *target, const json_t *value, const struct policy_path *path, struct err *e)
{
	(void)target;
	return text_of(value, path, e) ? 0 : ERR_INVALID;
}

static int read_statements(void *target, const json_t *value, const struct policy_path *path, struct err *e)
{
	struct policy *p = target;
	if (!json_is_array(value) && !json_is_object(value))
		return policy_mistake(e, path, "expected a statement object, or an array of them");
	size_t n = policy_list_size(value);
	if (n == 0 || n > LIMIT_POLICY_STATEMENTS)
		return policy_mistake(e, path, "%zu statements; allowed: 1 to %u", n, LIMIT_POLICY_STATEMENTS);
	p->statements = calloc(n, sizeof *p->statements);
	if (!p->statements)
		return err_set(e, ERR_NOMEM, "out of memory");
	for (size_t i = 0; i < n; i++) {
		struct policy_path at = json_is_array(value) ? policy_path_index(path, i) : *path;
		int rc = read_statement(&p->statements[p->n++], json_is_array(value) ? json_array_get(value, i) : value,
					&at, e);
		if (rc != 0)
			return rc;
	}
	return 0;
}

static const struct field document_fields[] = {
	{ "Version", read_version, 1 },
	{ "Id", read_id, 0 },
	{ "Statement", read_statements, 2 },
	{ .name = NULL },
};
#define DOCUMENT_GROUPS 2

static int compare_statement_names(const void *a, const void *b)
{
	const struct policy_statement *const *x = a, *const *y = b;
	int order = strcmp((*x)->name, (*y)->name);
	return order ? order : (*x > *y) - (*x < *y);
}

static int check_unique_names(const struct policy *p, struct err *e)
{
	const struct policy_statement **sorted = calloc(p->n, sizeof *sorted);
	if (!sorted)
		return err_set(e, ERR_NOMEM, "out of memory");
	for (size_t i = 0; i < p->n; i++)
		sorted[i] = &p->statements[i];
	qsort(sorted, p->n, sizeof *sorted, compare_statement_names);
	int rc = 0;
	for (size_t i = 1; i < p->n && rc == 0; i++)
		if (strcmp(sorted[i - 1]->name, sorted[i]->name) == 0)
			rc = err_set(e, ERR_INVALID, "Statement[%td].Sid: \"%s\" is Statement[%td]'s already",
				     sorted[i] - p->statements, sorted[i]->name, sorted[i - 1] - p->statements);
	free(sorted);
	return rc;
}

int policy_parse(const char *name, const json_t *document, struct policy **out_policy, struct err *e)
{
	if (!text_is_id(name))
		return err_set(e, ERR_INVALID,
			       "policy name \"%s\"; allowed: letters, digits, '.', '_', '-', at most %u characters",
			       policy_quote(name).text, LIMIT_ID);
	if (!json_is_object(document))
		return err_set(e, ERR_INVALID, "policy: expected object");
	struct policy *p = calloc(1, sizeof *p);
	if (!p)
		return err_set(e, ERR_NOMEM, "out of memory");
	snprintf(p->name, sizeof p->name, "%s", name);
	/* a copy: nobody else may change it, or count references to it on another thread */
	p->document = json_deep_copy(document);
	int rc = p->document ? 0 : err_set(e, ERR_NOMEM, "out of memory");
	if (rc == 0)
		rc = read_fields(p->document, document_fields, DOCUMENT_GROUPS, &(struct policy_path){ "" }, p, e);
	if (rc == 0)
		rc = check_unique_names(p, e);
	if (rc == 0)
		*out_policy = p;
	else
		policy_free(&p);
	return rc;
}
