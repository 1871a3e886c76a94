/* From a JSON document to a policy. The grammar is a table of fields for the document and one for a statement; each
 * field knows its reader, so a field that is in no row is refused with the list of those that are. */
#include "server/policy/model.h"

#include "base/text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define VERSION "2026-01-01"

typedef int read_fn(void *target, const json_t *value, const struct policy_path *path, struct policy_report *report);

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
		       struct policy_report *report)
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
	if (found == 0)
		return policy_mistake(report, path, "%s is missing", names);
	return policy_mistake(report, path, "only one of %s is allowed", names);
}

static int refuse_field(const char *key, const struct field *fields, const struct policy_path *path,
			struct policy_report *report)
{
	char names[128];
	struct nearest nearest = { .wanted = key };
	for (const struct field *f = fields; f->name; f++)
		nearest_offer(&nearest, f->name);
	list_fields(fields, -1, ", ", names, sizeof names);
	return policy_mistake(report, path, "unknown field;%s allowed: %s", nearest_words(&nearest), names);
}

/* Whatever is wrong with them, all fields are read. */
static int read_fields(const json_t *object, const struct field *fields, int groups, const struct policy_path *path,
		       void *target, struct policy_report *report)
{
	void *it = json_object_iter(policy_walkable(object));
	int worst = 0;
	for (; it && !policy_stops(worst); it = json_object_iter_next(policy_walkable(object), it)) {
		const char *key = json_object_iter_key(it);
		const struct field *f = fields;
		while (f->name && strcmp(f->name, key) != 0)
			f++;
		struct policy_path at = policy_path_key(path, key);
		int rc = f->name ? f->read(target, json_object_iter_value(it), &at, report)
				 : refuse_field(key, fields, &at, report);
		worst = rc ? rc : worst;
	}
	for (int group = 1; group <= groups && !policy_stops(worst); group++) {
		int rc = check_group(object, fields, group, path, report);
		worst = rc ? rc : worst;
	}
	return worst;
}

/* The value as text of 1 to LIMIT_POLICY_TEXT bytes; NULL with e set. */
static const char *text_of(const json_t *value, const struct policy_path *path, struct policy_report *report)
{
	size_t len = json_string_length(value);
	if (!json_is_string(value))
		policy_mistake(report, path, "expected string");
	else if (len == 0 || len > LIMIT_POLICY_TEXT)
		policy_mistake(report, path, "%zu bytes long; allowed: 1 to %u", len, LIMIT_POLICY_TEXT);
	else if (strlen(json_string_value(value)) != len)
		policy_mistake(report, path, "contains a NUL character");
	else
		return json_string_value(value);
	return NULL;
}

static int refuse_variable(const char *text, const struct policy_path *path, struct policy_report *report)
{
	if (!strstr(text, "${"))
		return 0;
	return policy_mistake(report, path,
			      "variables are not allowed here; allowed: in Resource, NotResource and the "
			      "operands of String operators");
}

/* --- statement --- */

static int read_sid(void *target, const json_t *value, const struct policy_path *path, struct policy_report *report)
{
	struct policy_statement *s = target;
	const char *text = text_of(value, path, report);
	if (!text)
		return ERR_INVALID;
	if (!text_is_id(text))
		return policy_mistake(report, path,
				      "\"%s\" is no name; allowed: letters, digits, '.', '_', '-', at most %u",
				      policy_quote(text).text, LIMIT_ID);
	snprintf(s->name, sizeof s->name, "%s", text);
	return 0;
}

static int read_effect(void *target, const json_t *value, const struct policy_path *path, struct policy_report *report)
{
	struct policy_statement *s = target;
	const char *text = json_is_string(value) ? json_string_value(value) : "";
	if (strcmp(text, "Allow") == 0)
		s->effect = POLICY_ALLOW;
	else if (strcmp(text, "Deny") == 0)
		s->effect = POLICY_DENY;
	else
		return policy_mistake(report, path, "unknown effect; allowed: \"Allow\", \"Deny\"");
	return 0;
}

static int add_name(void *target, const json_t *item, const struct policy_path *path, struct policy_report *report)
{
	struct policy_names *names = target;
	const char *text = text_of(item, path, report);
	if (!text)
		return ERR_INVALID;
	int rc = refuse_variable(text, path, report);
	if (rc != 0)
		return rc;
	if (strcmp(text, "*") == 0) {
		names->all = true;
		return 0;
	}
	if (strpbrk(text, "*?"))
		return policy_mistake(report, path,
				      "wildcards in a name; allowed: \"*\" alone, or a Condition StringLike on "
				      "tunnel:Subject or tunnel:Group");
	names->at[names->n] = strdup(text);
	if (!names->at[names->n])
		return policy_no_memory(report);
	names->n++;
	return 0;
}

static int compare_names(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static int read_names(struct policy_names *names, const json_t *value, const struct policy_path *path,
		      struct policy_report *report)
{
	if (names->at)
		return 0; /* of the second of Principal and NotPrincipal; check_group tells */
	names->at = calloc(policy_list_size(value) + 1, sizeof *names->at);
	if (!names->at)
		return policy_no_memory(report);
	int rc = policy_each(value, path, add_name, names, report);
	if (rc == 0)
		qsort(names->at, names->n, sizeof *names->at, compare_names);
	return rc;
}

static int read_users(void *target, const json_t *value, const struct policy_path *path, struct policy_report *report)
{
	struct policy_statement *s = target;
	return read_names(&s->users, value, path, report);
}

static int read_groups(void *target, const json_t *value, const struct policy_path *path, struct policy_report *report)
{
	struct policy_statement *s = target;
	return read_names(&s->groups, value, path, report);
}

static int read_principal(void *target, const json_t *value, const struct policy_path *path,
			  struct policy_report *report)
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
		return policy_mistake(report, path, "expected \"*\", or an object with User, Group or both");
	return read_fields(value, fields, 0, path, target, report);
}

static int read_not_principal(void *target, const json_t *value, const struct policy_path *path,
			      struct policy_report *report)
{
	struct policy_statement *s = target;
	s->not_principal = true;
	return read_principal(target, value, path, report);
}

static int refuse_action(const char *text, const struct policy_path *path, struct policy_report *report)
{
	struct nearest nearest = { .wanted = text };
	bool wild = strpbrk(text, "*?") != NULL;
	if (!wild)
		policy_actions_offer(&nearest);
	return policy_mistake(report, path, "%s \"%s\";%s allowed: %s", wild ? "no action matches" : "unknown action",
			      policy_quote(text).text, nearest_words(&nearest), policy_actions_allowed);
}

static int add_action(void *target, const json_t *item, const struct policy_path *path, struct policy_report *report)
{
	struct policy_statement *s = target;
	const char *text = text_of(item, path, report);
	if (!text)
		return ERR_INVALID;
	int rc = refuse_variable(text, path, report);
	if (rc != 0)
		return rc;
	uint32_t found = policy_action_match(text);
	if (!found)
		return refuse_action(text, path, report);
	s->actions |= found;
	return 0;
}

static int read_action(void *target, const json_t *value, const struct policy_path *path, struct policy_report *report)
{
	return policy_each(value, path, add_action, target, report);
}

static int read_not_action(void *target, const json_t *value, const struct policy_path *path,
			   struct policy_report *report)
{
	struct policy_statement *s = target;
	int rc = policy_each(value, path, add_action, target, report);
	s->actions = POLICY_ACTIONS_ALL & ~s->actions;
	if (rc == 0 && s->actions == 0)
		return policy_mistake(report, path, "leaves no action that the statement could be about");
	return rc;
}

static bool is_resource(const char *text)
{
	static const char *const kinds[] = { "target/", "session/", "policy/", "principal/", "credential/", NULL };
	static const char *const whole[] = { "audit", "metrics", "nodes", "*", NULL };
	for (size_t i = 0; whole[i]; i++)
		if (strcmp(text, whole[i]) == 0)
			return true;
	for (size_t i = 0; kinds[i]; i++)
		if (text_starts(text, kinds[i]) && text[strlen(kinds[i])])
			return true;
	return false;
}

static int add_resource(void *target, const json_t *item, const struct policy_path *path, struct policy_report *report)
{
	struct policy_statement *s = target;
	const char *text = text_of(item, path, report);
	if (!text)
		return ERR_INVALID;
	if (!is_resource(text))
		return policy_mistake(report, path,
				      "unknown resource \"%s\"; allowed: target/<id>, session/<id>, policy/<name>, "
				      "principal/<name>, credential/<id>, audit, metrics, nodes, *",
				      policy_quote(text).text);
	int rc = policy_pattern_parse(text, true, path, &s->resources[s->resource_count], report);
	if (rc == 0)
		s->resource_count++;
	return rc;
}

static int read_resource(void *target, const json_t *value, const struct policy_path *path,
			 struct policy_report *report)
{
	struct policy_statement *s = target;
	if (s->resources)
		return 0; /* check_group tells */
	s->resources = calloc(policy_list_size(value) + 1, sizeof *s->resources);
	if (!s->resources)
		return policy_no_memory(report);
	s->resource = value;
	return policy_each(value, path, add_resource, s, report);
}

static int read_not_resource(void *target, const json_t *value, const struct policy_path *path,
			     struct policy_report *report)
{
	struct policy_statement *s = target;
	s->not_resource = true;
	return read_resource(target, value, path, report);
}

static int read_condition(void *target, const json_t *value, const struct policy_path *path,
			  struct policy_report *report)
{
	struct policy_statement *s = target;
	return policy_conditions_parse(value, path, &s->conditions, &s->condition_count, report);
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
			  struct policy_report *report)
{
	snprintf(s->name, sizeof s->name, "%.64s", path->text);
	if (!json_is_object(value))
		return policy_mistake(report, path, "expected object");
	return read_fields(value, statement_fields, STATEMENT_GROUPS, path, s, report);
}

/* --- document --- */

static int read_version(void *target, const json_t *value, const struct policy_path *path, struct policy_report *report)
{
	(void)target;
	if (json_is_string(value) && strcmp(json_string_value(value), VERSION) == 0)
		return 0;
	return policy_mistake(report, path, "unknown version; allowed: \"" VERSION "\"");
}

static int read_id(void *target, const json_t *value, const struct policy_path *path, struct policy_report *report)
{
	(void)target;
	return text_of(value, path, report) ? 0 : ERR_INVALID;
}

static int read_statements(void *target, const json_t *value, const struct policy_path *path,
			   struct policy_report *report)
{
	struct policy *p = target;
	if (!json_is_array(value) && !json_is_object(value))
		return policy_mistake(report, path, "expected a statement object, or an array of them");
	size_t n = policy_list_size(value);
	if (n == 0 || n > LIMIT_POLICY_STATEMENTS)
		return policy_mistake(report, path, "%zu statements; allowed: 1 to %u", n, LIMIT_POLICY_STATEMENTS);
	p->statements = calloc(n, sizeof *p->statements);
	if (!p->statements)
		return policy_no_memory(report);
	int worst = 0;
	for (size_t i = 0; i < n && !policy_stops(worst); i++) {
		struct policy_path at = json_is_array(value) ? policy_path_index(path, i) : *path;
		int rc = read_statement(&p->statements[p->n++], json_is_array(value) ? json_array_get(value, i) : value,
					&at, report);
		worst = rc ? rc : worst;
	}
	return worst;
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

static int check_unique_names(const struct policy *p, struct policy_report *report)
{
	const struct policy_statement **sorted = calloc(p->n + 1, sizeof *sorted);
	if (!sorted)
		return policy_no_memory(report);
	for (size_t i = 0; i < p->n; i++)
		sorted[i] = &p->statements[i];
	qsort(sorted, p->n, sizeof *sorted, compare_statement_names);
	int worst = 0;
	for (size_t i = 1; i < p->n && !policy_stops(worst); i++) {
		if (strcmp(sorted[i - 1]->name, sorted[i]->name) != 0)
			continue;
		struct policy_path list = { "Statement" };
		struct policy_path at = policy_path_index(&list, (size_t)(sorted[i] - p->statements));
		struct policy_path sid = policy_path_key(&at, "Sid");
		worst = policy_mistake(report, &sid, "\"%s\" is Statement[%td]'s already", sorted[i]->name,
				       sorted[i - 1] - p->statements);
	}
	free(sorted);
	return worst;
}

/* The first mistake is in e; how many there are comes before it, where no cut takes it away. */
static int told(int rc, const struct policy_report *report)
{
	return rc == ERR_INVALID && report->n > 1 ? err_wrap(report->e, "%zu mistakes; the first", report->n) : rc;
}

static int read_document(struct policy *p, struct policy_report *report)
{
	int rc = read_fields(p->document, document_fields, DOCUMENT_GROUPS, &(struct policy_path){ "" }, p, report);
	int unique = policy_stops(rc) ? 0 : check_unique_names(p, report);
	return unique ? unique : rc;
}

int policy_parse(const char *name, const json_t *document, struct policy **out_policy, struct policy_mistakes *mistakes,
		 struct err *e)
{
	struct policy_report report = { .mistakes = mistakes, .e = e };
	if (!text_is_id(name))
		return err_set(e, ERR_INVALID,
			       "policy name \"%s\"; allowed: letters, digits, '.', '_', '-', at most %u characters",
			       policy_quote(name).text, LIMIT_ID);
	if (!json_is_object(document))
		return err_set(e, ERR_INVALID, "policy: expected object");
	struct policy *p = calloc(1, sizeof *p);
	if (!p)
		return policy_no_memory(&report);
	snprintf(p->name, sizeof p->name, "%s", name);
	/* a copy: nobody else may change it, or count references to it on another thread */
	p->document = json_deep_copy(document);
	int rc = p->document ? read_document(p, &report) : policy_no_memory(&report);
	if (rc == 0)
		*out_policy = p;
	else
		policy_free(&p);
	return told(rc, &report);
}
