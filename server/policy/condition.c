/* The Condition element. An operator is a row: what it compares, how, and whether it is inverted. A condition holds by
 * these rules, which are IAM's:
 *
 *  - the key is missing (or an empty list): …IfExists and ForAllValues hold, ForAnyValue does not, others hold when
 * they are inverted;
 *  - no set word: plain operators want one value that matches any operand; inverted ones want that no value does;
 *  - ForAnyValue: one value passes; ForAllValues: each does. A value passes when it matches any operand, or with an
 *    inverted operator none of them. */
#include "server/policy/model.h"

#include "base/text.h"

#include <stdlib.h>
#include <string.h>

enum operand_type { OPERAND_STRING, OPERAND_NUMBER, OPERAND_DATE, OPERAND_BOOL, OPERAND_ADDRESS, OPERAND_NULL };
enum relation { EQUAL, LESS, LESS_EQUAL, GREATER, GREATER_EQUAL };

struct policy_operator {
	const char *name;
	enum operand_type type;
	enum relation relation;
	bool inverted, like, ignore_case;
};

static const struct policy_operator operators[] = {
	{ "StringEquals", OPERAND_STRING, EQUAL, false, false, false },
	{ "StringNotEquals", OPERAND_STRING, EQUAL, true, false, false },
	{ "StringEqualsIgnoreCase", OPERAND_STRING, EQUAL, false, false, true },
	{ "StringNotEqualsIgnoreCase", OPERAND_STRING, EQUAL, true, false, true },
	{ "StringLike", OPERAND_STRING, EQUAL, false, true, false },
	{ "StringNotLike", OPERAND_STRING, EQUAL, true, true, false },
	{ "NumericEquals", OPERAND_NUMBER, EQUAL, false, false, false },
	{ "NumericNotEquals", OPERAND_NUMBER, EQUAL, true, false, false },
	{ "NumericLessThan", OPERAND_NUMBER, LESS, false, false, false },
	{ "NumericLessThanEquals", OPERAND_NUMBER, LESS_EQUAL, false, false, false },
	{ "NumericGreaterThan", OPERAND_NUMBER, GREATER, false, false, false },
	{ "NumericGreaterThanEquals", OPERAND_NUMBER, GREATER_EQUAL, false, false, false },
	{ "DateEquals", OPERAND_DATE, EQUAL, false, false, false },
	{ "DateNotEquals", OPERAND_DATE, EQUAL, true, false, false },
	{ "DateLessThan", OPERAND_DATE, LESS, false, false, false },
	{ "DateLessThanEquals", OPERAND_DATE, LESS_EQUAL, false, false, false },
	{ "DateGreaterThan", OPERAND_DATE, GREATER, false, false, false },
	{ "DateGreaterThanEquals", OPERAND_DATE, GREATER_EQUAL, false, false, false },
	{ "Bool", OPERAND_BOOL, EQUAL, false, false, false },
	{ "IpAddress", OPERAND_ADDRESS, EQUAL, false, false, false },
	{ "NotIpAddress", OPERAND_ADDRESS, EQUAL, true, false, false },
	{ "Null", OPERAND_NULL, EQUAL, false, false, false },
};

/* --- reading --- */

static const struct policy_operator *operator_by_name(const char *name, size_t len)
{
	for (size_t i = 0; i < sizeof operators / sizeof *operators; i++)
		if (strlen(operators[i].name) == len && memcmp(operators[i].name, name, len) == 0)
			return &operators[i];
	return NULL;
}

static int refuse_operator(const char *name, const struct policy_path *path, struct policy_report *report)
{
	struct nearest nearest = { .wanted = name };
	for (size_t i = 0; i < sizeof operators / sizeof *operators; i++)
		nearest_offer(&nearest, operators[i].name);
	return policy_mistake(report, path,
			      "unknown operator;%s allowed: String[Not]Equals[IgnoreCase], String[Not]Like, "
			      "Numeric|Date + [Not]Equals, LessThan[Equals], GreaterThan[Equals], Bool, "
			      "[Not]IpAddress, Null",
			      nearest_words(&nearest));
}

/* [ForAnyValue:|ForAllValues:]Name[IfExists] */
static int read_operator(const char *text, const struct policy_path *path, struct policy_condition *out,
			 struct policy_report *report)
{
	static const char any[] = "ForAnyValue:", all[] = "ForAllValues:", if_exists[] = "IfExists";
	const char *name = text;
	out->set = POLICY_SET_NONE;
	if (text_starts(text, any)) {
		out->set = POLICY_SET_ANY;
		name += strlen(any);
	} else if (text_starts(text, all)) {
		out->set = POLICY_SET_ALL;
		name += strlen(all);
	}
	size_t len = strlen(name), tail = strlen(if_exists);
	out->if_exists = len > tail && strcmp(name + len - tail, if_exists) == 0;
	out->op = operator_by_name(name, out->if_exists ? len - tail : len);
	if (!out->op)
		return refuse_operator(name, path, report);
	if (out->op->type == OPERAND_NULL && (out->if_exists || out->set != POLICY_SET_NONE))
		return policy_mistake(report, path, "Null takes neither IfExists nor ForAnyValue: or ForAllValues:");
	return 0;
}

static int read_string(const struct policy_scalar *s, const struct policy_operator *op, const struct policy_path *path,
		       union policy_operand *out, struct policy_report *report)
{
	char scratch[POLICY_SCRATCH];
	size_t len;
	const char *text = policy_scalar_as_text(s, scratch, &len);
	if (!text)
		return policy_mistake(report, path, "expected string, number or boolean");
	if (strlen(text) != len)
		return policy_mistake(report, path, "contains a NUL character");
	return policy_pattern_parse(text, op->like, path, &out->pattern, report);
}

static int read_net(const struct policy_scalar *s, const struct policy_path *path, union policy_operand *out,
		    struct policy_report *report)
{
	const char *wrong = "expected string; allowed: 192.0.2.7, 10.0.0.0/8, 2001:db8::/32";
	if (s->type == POLICY_SCALAR_TEXT && strlen(s->text) == s->len)
		wrong = policy_net_parse(s->text, &out->net);
	return wrong ? policy_mistake(report, path, "%s", wrong) : 0;
}

static int read_operand(const json_t *item, const struct policy_operator *op, const struct policy_path *path,
			union policy_operand *out, struct policy_report *report)
{
	struct policy_scalar s = policy_scalar_of(item);
	if (op->type != OPERAND_STRING && s.type == POLICY_SCALAR_TEXT && strstr(s.text, "${"))
		return policy_mistake(report, path,
				      "variables are not allowed here; allowed: in Resource, NotResource and "
				      "the operands of String operators");
	switch (op->type) {
	case OPERAND_STRING:
		return read_string(&s, op, path, out, report);
	case OPERAND_NUMBER:
		return policy_scalar_as_number(&s, &out->number) ? 0 : policy_mistake(report, path, "expected number");
	case OPERAND_DATE:
		if (policy_scalar_as_date(&s, &out->date_ms))
			return 0;
		return policy_mistake(
			report, path,
			"expected date; allowed: 2026-01-31T09:15:00Z, or seconds since 1970 as a number");
	case OPERAND_BOOL:
	case OPERAND_NULL:
		return policy_scalar_as_bool(&s, &out->truth) ? 0
							      : policy_mistake(report, path, "expected true or false");
	case OPERAND_ADDRESS:
		return read_net(&s, path, out, report);
	}
	return policy_mistake(report, path, "unknown kind of operator");
}

static int add_operand(void *arg, const json_t *item, const struct policy_path *path, struct policy_report *report)
{
	struct policy_condition *c = arg;
	int rc = read_operand(item, c->op, path, &c->operands[c->n], report);
	if (rc == 0)
		c->n++;
	return rc;
}

static void condition_free(struct policy_condition *c)
{
	for (size_t i = 0; c->op && c->op->type == OPERAND_STRING && i < c->n; i++)
		policy_pattern_free(&c->operands[i].pattern);
	free(c->operands);
	free(c->key.name);
	memset(c, 0, sizeof *c);
}

static int read_condition(const char *key, const json_t *values, const struct policy_path *path,
			  struct policy_condition *c, struct policy_report *report)
{
	int rc = policy_key_parse(key, strlen(key), path, &c->key, report);
	if (rc != 0)
		return rc;
	c->operands = calloc(policy_list_size(values) + 1, sizeof *c->operands);
	if (!c->operands)
		return policy_no_memory(report);
	c->values = values;
	return policy_each(values, path, add_operand, c, report);
}

/* One operator's object: {"key": value or [values]}. */
static int read_operator_block(const char *name, const json_t *block, const struct policy_path *path,
			       struct policy_condition *list, size_t *n, struct policy_report *report)
{
	struct policy_condition head = { .op_text = name };
	int rc = read_operator(name, path, &head, report);
	if (rc != 0)
		return rc;
	if (!json_is_object(block) || json_object_size(block) == 0)
		return policy_mistake(report, path, "expected object of condition keys, at least one");
	void *it = json_object_iter(policy_walkable(block));
	for (; it && !policy_stops(rc); it = json_object_iter_next(policy_walkable(block), it)) {
		const char *key = json_object_iter_key(it);
		struct policy_path at = policy_path_key(path, key);
		if (*n == LIMIT_POLICY_CONDITIONS)
			return policy_mistake(report, &at, "more than %u conditions in a statement",
					      LIMIT_POLICY_CONDITIONS);
		list[*n] = head;
		int one = read_condition(key, json_object_iter_value(it), &at, &list[(*n)++], report);
		rc = one ? one : rc;
	}
	return rc;
}

int policy_conditions_parse(const json_t *element, const struct policy_path *path, struct policy_condition **out,
			    size_t *out_n, struct policy_report *report)
{
	if (!json_is_object(element))
		return policy_mistake(report, path, "expected object of operators");
	struct policy_condition *list = calloc(LIMIT_POLICY_CONDITIONS, sizeof *list);
	size_t n = 0;
	int rc = list ? 0 : policy_no_memory(report);
	void *it = json_object_iter(policy_walkable(element));
	for (; !policy_stops(rc) && it; it = json_object_iter_next(policy_walkable(element), it)) {
		const char *name = json_object_iter_key(it);
		struct policy_path at = policy_path_key(path, name);
		int one = read_operator_block(name, json_object_iter_value(it), &at, list, &n, report);
		rc = one ? one : rc;
	}
	if (rc != 0) {
		policy_conditions_free(&list, n);
		return rc;
	}
	struct policy_condition *fitted = realloc(list, (n ? n : 1) * sizeof *list);
	*out = fitted ? fitted : list;
	*out_n = n;
	return 0;
}

void policy_conditions_free(struct policy_condition **conditions, size_t n)
{
	for (size_t i = 0; *conditions && i < n; i++)
		condition_free(&(*conditions)[i]);
	free(*conditions);
	*conditions = NULL;
}

/* --- judging --- */

static bool relation_holds(enum relation relation, int order)
{
	switch (relation) {
	case EQUAL:
		return order == 0;
	case LESS:
		return order < 0;
	case LESS_EQUAL:
		return order <= 0;
	case GREATER:
		return order > 0;
	case GREATER_EQUAL:
		return order >= 0;
	}
	return false;
}

static enum policy_match match_string(const struct policy_condition *c, struct policy_scalar *s,
				      struct policy_view *view)
{
	char scratch[POLICY_SCRATCH];
	size_t len;
	const char *text = policy_scalar_as_text(s, scratch, &len);
	enum policy_match best = POLICY_MATCH_NO;
	for (size_t i = 0; text && i < c->n; i++) {
		enum policy_match m =
			policy_pattern_match(&c->operands[i].pattern, view, c->op->ignore_case, text, len);
		if (m == POLICY_MATCH_YES)
			return m;
		if (m == POLICY_MATCH_UNSET)
			best = m;
	}
	return best;
}

static bool match_number(const struct policy_condition *c, const struct policy_scalar *s)
{
	struct policy_number n;
	bool is = policy_scalar_as_number(s, &n);
	for (size_t i = 0; is && i < c->n; i++)
		if (relation_holds(c->op->relation, policy_number_compare(&n, &c->operands[i].number)))
			return true;
	return false;
}

static bool match_date(const struct policy_condition *c, struct policy_scalar *s)
{
	int64_t ms;
	bool is = policy_scalar_as_date(s, &ms);
	for (size_t i = 0; is && i < c->n; i++) {
		int64_t operand = c->operands[i].date_ms;
		if (relation_holds(c->op->relation, (ms > operand) - (ms < operand)))
			return true;
	}
	return false;
}

static bool match_bool(const struct policy_condition *c, const struct policy_scalar *s)
{
	bool truth;
	bool is = policy_scalar_as_bool(s, &truth);
	for (size_t i = 0; is && i < c->n; i++)
		if (c->operands[i].truth == truth)
			return true;
	return false;
}

static bool match_address(const struct policy_condition *c, struct policy_scalar *s)
{
	struct policy_address a;
	bool is = policy_scalar_as_address(s, &a);
	for (size_t i = 0; is && i < c->n; i++)
		if (policy_net_holds(&c->operands[i].net, &a))
			return true;
	return false;
}

static enum policy_match match_any_operand(const struct policy_condition *c, struct policy_scalar *s,
					   struct policy_view *view)
{
	bool yes = false;
	switch (c->op->type) {
	case OPERAND_STRING:
		return match_string(c, s, view);
	case OPERAND_NUMBER:
		yes = match_number(c, s);
		break;
	case OPERAND_DATE:
		yes = match_date(c, s);
		break;
	case OPERAND_BOOL:
		yes = match_bool(c, s);
		break;
	case OPERAND_ADDRESS:
		yes = match_address(c, s);
		break;
	case OPERAND_NULL:
		break;
	}
	return yes ? POLICY_MATCH_YES : POLICY_MATCH_NO;
}

static bool value_passes(const struct policy_condition *c, enum policy_effect effect, struct policy_scalar *s,
			 struct policy_view *view)
{
	enum policy_match m = match_any_operand(c, s, view);
	if (!c->op->inverted)
		return m == POLICY_MATCH_YES;
	return m == POLICY_MATCH_NO || (m == POLICY_MATCH_UNSET && effect == POLICY_DENY);
}

static bool missing_holds(const struct policy_condition *c)
{
	if (c->if_exists || c->set == POLICY_SET_ALL)
		return true;
	return c->set == POLICY_SET_NONE && c->op->inverted;
}

static bool null_holds(const struct policy_condition *c, bool missing)
{
	for (size_t i = 0; i < c->n; i++)
		if (c->operands[i].truth == missing)
			return true;
	return false;
}

bool policy_condition_holds(const struct policy_condition *c, enum policy_effect effect, struct policy_view *view)
{
	struct policy_values values;
	policy_view_values(view, &c->key, &values);
	if (c->op->type == OPERAND_NULL)
		return null_holds(c, values.n == 0);
	if (values.n == 0)
		return missing_holds(c);
	bool wants_all = c->set == POLICY_SET_ALL || (c->set == POLICY_SET_NONE && c->op->inverted);
	for (size_t i = 0; i < values.n; i++) {
		struct policy_scalar element, *s = values.fixed ? values.fixed : &values.own;
		if (values.array) {
			element = policy_scalar_of(json_array_get(values.array, i));
			s = &element;
		}
		if (value_passes(c, effect, s, view) != wants_all)
			return !wants_all;
	}
	return wants_all;
}

bool policy_condition_is_open(const struct policy_condition *c, const struct policy_view *view)
{
	if (!policy_view_knows(view, &c->key))
		return true;
	for (size_t i = 0; c->op->type == OPERAND_STRING && i < c->n; i++)
		if (policy_pattern_is_open(&c->operands[i].pattern, view))
			return true;
	return false;
}

bool policy_condition_turns(const struct policy_condition *c, int64_t first_ms, int64_t last_ms)
{
	if (c->key.id != POLICY_KEY_CURRENT_TIME || c->op->type != OPERAND_DATE)
		return false;
	for (size_t i = 0; i < c->n; i++)
		if (c->operands[i].date_ms >= first_ms && c->operands[i].date_ms <= last_ms)
			return true;
	return false;
}
