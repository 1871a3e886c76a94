/* The parsed policy as an object, and how mistakes of its document are told. */
#include "server/policy/model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void names_free(struct policy_names *names)
{
	for (size_t i = 0; i < names->n; i++)
		free(names->at[i]);
	free(names->at);
}

static void statement_free(struct policy_statement *s)
{
	names_free(&s->users);
	names_free(&s->groups);
	for (size_t i = 0; i < s->resource_count; i++)
		policy_pattern_free(&s->resources[i]);
	free(s->resources);
	policy_conditions_free(&s->conditions, s->condition_count);
}

void policy_free(struct policy **policy)
{
	struct policy *p = *policy;
	*policy = NULL;
	if (!p)
		return;
	for (size_t i = 0; i < p->n; i++)
		statement_free(&p->statements[i]);
	free(p->statements);
	json_decref(p->document);
	free(p);
}

const char *policy_name(const struct policy *p)
{
	return p->name;
}

const json_t *policy_document(const struct policy *p)
{
	return p->document;
}

bool policy_turns(const struct policy *p, int64_t first_ms, int64_t last_ms)
{
	for (size_t i = 0; i < p->n; i++)
		for (size_t k = 0; k < p->statements[i].condition_count; k++)
			if (policy_condition_turns(&p->statements[i].conditions[k], first_ms, last_ms))
				return true;
	return false;
}

struct policy_quote policy_quote(const char *text)
{
	struct policy_quote q;
	size_t n = 0;
	for (; text[n] && n + 1 < sizeof q.text; n++)
		q.text[n] = text[n] >= ' ' && text[n] <= '~' ? text[n] : '?';
	q.text[n] = '\0';
	if (text[n])
		memcpy(q.text + sizeof q.text - 4, "...", 4);
	return q;
}

struct policy_path policy_path_key(const struct policy_path *parent, const char *key)
{
	struct policy_path path = *parent;
	size_t used = strlen(path.text);
	struct policy_quote quoted = policy_quote(key);
	snprintf(path.text + used, sizeof path.text - used, "%s%s", used ? "." : "", quoted.text);
	return path;
}

struct policy_path policy_path_index(const struct policy_path *parent, size_t index)
{
	struct policy_path path = *parent;
	size_t used = strlen(path.text);
	snprintf(path.text + used, sizeof path.text - used, "[%zu]", index);
	return path;
}

static int append(struct policy_mistakes *m, const char *path, const char *text)
{
	if (!m || json_array_size(m->list) >= LIMIT_POLICY_MISTAKES)
		return 0;
	if (!m->list)
		m->list = json_array();
	return json_array_append_new(m->list, json_pack("{s:s, s:s}", "path", path, "text", text));
}

int policy_mistake(struct policy_report *report, const struct policy_path *path, const char *fmt, ...)
{
	char text[LIMIT_POLICY_MISTAKE_TEXT];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	if (report->n++ == 0)
		err_set(report->e, ERR_INVALID, "%s%s%s", path->text, path->text[0] ? ": " : "", text);
	if (report->mistakes)
		report->mistakes->n = report->n;
	return append(report->mistakes, path->text, text) == 0 ? ERR_INVALID : policy_no_memory(report);
}

int policy_no_memory(struct policy_report *report)
{
	return err_set(report->e, ERR_NOMEM, "out of memory");
}

void policy_mistakes_free(struct policy_mistakes *m)
{
	json_decref(m->list);
	*m = (struct policy_mistakes){ .n = 0 };
}

size_t policy_list_size(const json_t *list)
{
	return json_is_array(list) ? json_array_size(list) : 1;
}

int policy_each(const json_t *list, const struct policy_path *path, policy_item_fn *fn, void *arg,
		struct policy_report *report)
{
	if (!json_is_array(list))
		return fn(arg, list, path, report);
	size_t n = json_array_size(list);
	if (n == 0 || n > LIMIT_POLICY_LIST)
		return policy_mistake(report, path, "%zu entries; allowed: 1 to %u", n, LIMIT_POLICY_LIST);
	int worst = 0;
	for (size_t i = 0; i < n && !policy_stops(worst); i++) {
		struct policy_path at = policy_path_index(path, i);
		int rc = fn(arg, json_array_get(list, i), &at, report);
		worst = rc ? rc : worst;
	}
	return worst;
}
