#include "random_policy.h"

#include <stdio.h>

static uint32_t state_now;

uint32_t random_below(uint32_t n)
{
	state_now ^= state_now << 13;
	state_now ^= state_now >> 17;
	state_now ^= state_now << 5;
	return state_now % n;
}

#define PICK(list) (list)[random_below(sizeof(list) / sizeof *(list))]

static const char *const actions[] = { "tunnel:OpenSsh", "tunnel:OpenTcp", "tunnel:StartSession", "tunnel:ReadAudit" };
static const char *const action_patterns[] = { "tunnel:OpenSsh",      "tunnel:Open*", "*",
					       "tunnel:*S*",          "tunnel:Read*", "tunnel:OpenTcp",
					       "tunnel:StartSession", "*:???????" };
static const char *const resources[] = { "target/web-1", "target/web-22", "target/db-1", "target/al",  "audit",
					 "session/s-1",  "policy/ab",     "target/*",    "target/ab?", "target/ops" };
static const char *const resource_patterns[] = {
	"*",
	"target/*",
	"target/web-?",
	"target/web-*",
	"target/*-1",
	"audit",
	"session/*",
	"policy/a?",
	"target/${tunnel:Subject}",
	"target/${tunnel:Claim/u}*",
	"target/${target:Tag/t, 'ops'}",
	"target/${*}",
	"target/ab${?}",
	"target/*${tunnel:Port}",
};
static const char *const subjects[] = { "al", "bo", "*", "ab" };
static const char *const groups[] = { "dev", "ops", "ab" };
static const char *const texts[] = { "a", "ab", "aab", "A", "AB", "", "*", "a?b", "22", "true", "al", "abab", "dev" };
static const char *const patterns[] = { "a",
					"ab",
					"*",
					"a*",
					"*b",
					"?",
					"a?",
					"??",
					"*a*b*",
					"${tunnel:Subject}",
					"AB",
					"",
					"22",
					"true",
					"${tunnel:Claim/u}",
					"*?b",
					"a*a*b",
					"x${*}",
					"${tunnel:Claim/v, 'ab'}",
					"a${target:Tag/t}" };
static const char *const keys[] = { "tunnel:Login",   "tunnel:Host",    "tunnel:Port",
				    "tunnel:Group",   "tunnel:Subject", "target:Tag/t",
				    "tunnel:Claim/u", "tunnel:Claim/v", "tunnel:SourceIp" };
static const char *const numbers[] = { "1", "22", "-3", "100", "5.5" };
static const char *const dates[] = { "2026-01-01T00:00:00Z", "2026-06-01T12:00:00Z", "2025-12-31T23:59:59Z" };
static const char *const nets[] = { "10.0.0.0/8", "10.1.0.0/16", "192.0.2.7", "0.0.0.0/0", "192.0.2.0/25" };
static const char *const addresses[] = { "10.1.2.3", "10.2.0.1", "192.0.2.7", "192.0.2.200", "office" };
static const char *const string_ops[] = {
	"StringEquals", "StringNotEquals", "StringEqualsIgnoreCase", "StringNotEqualsIgnoreCase",
	"StringLike",   "StringNotLike"
};
static const char *const orders[] = { "Equals",         "NotEquals",   "LessThan",
				      "LessThanEquals", "GreaterThan", "GreaterThanEquals" };
static const char *const sets[] = { "", "", "ForAnyValue:", "ForAllValues:" };
static const char *const exists[] = { "", "", "IfExists" };

/* One to three of make(), or a lone one. */
static json_t *some(json_t *make(void))
{
	uint32_t n = random_below(4);
	if (n == 0)
		return make();
	json_t *list = json_array();
	for (uint32_t i = 0; i < n; i++)
		json_array_append_new(list, make());
	return list;
}

#define MAKER(name, list)                       \
	static json_t *name(void)               \
	{                                       \
		return json_string(PICK(list)); \
	}
MAKER(an_action, action_patterns)
MAKER(a_resource, resource_patterns)
MAKER(a_user, subjects)
MAKER(a_group, groups)
MAKER(a_pattern, patterns)
MAKER(a_date, dates)
MAKER(a_net, nets)
MAKER(a_number, numbers)

static json_t *a_bool(void)
{
	return random_below(2) ? json_boolean(random_below(2)) : json_string(random_below(2) ? "true" : "false");
}

static json_t *names(json_t *make(void))
{
	/* "*" inside a list would be everybody; it is a subject here too */
	json_t *list = some(make);
	return list;
}

static json_t *a_principal(void)
{
	if (random_below(3) == 0)
		return json_string("*");
	json_t *p = json_object();
	if (random_below(2))
		json_object_set_new(p, "User", names(a_user));
	if (random_below(2) || json_object_size(p) == 0)
		json_object_set_new(p, "Group", names(a_group));
	return p;
}

static void add_condition(json_t *conditions)
{
	char op[80];
	json_t *operands;
	const char *set = PICK(sets), *if_exists = PICK(exists);
	switch (random_below(8)) {
	case 0:
		snprintf(op, sizeof op, "%sNumeric%s%s", set, PICK(orders), if_exists);
		operands = some(a_number);
		break;
	case 1:
		snprintf(op, sizeof op, "%sDate%s%s", set, PICK(orders), if_exists);
		operands = some(a_date);
		break;
	case 2:
		snprintf(op, sizeof op, "%s%sIpAddress%s", set, random_below(2) ? "Not" : "", if_exists);
		operands = some(a_net);
		break;
	case 3:
		snprintf(op, sizeof op, "%sBool%s", set, if_exists);
		operands = some(a_bool);
		break;
	case 4:
		snprintf(op, sizeof op, "Null");
		operands = json_boolean(random_below(2));
		break;
	default:
		snprintf(op, sizeof op, "%s%s%s", set, PICK(string_ops), if_exists);
		operands = some(a_pattern);
		break;
	}
	json_t *block = json_object_get(conditions, op);
	if (!block) {
		block = json_object();
		json_object_set_new(conditions, op, block);
	}
	json_object_set_new(block, PICK(keys), operands);
}

static json_t *random_statement(void)
{
	json_t *s = json_object();
	json_object_set_new(s, "Effect", json_string(random_below(4) ? "Allow" : "Deny"));
	json_object_set_new(s, random_below(6) ? "Principal" : "NotPrincipal", a_principal());
	if (random_below(6))
		json_object_set_new(s, "Action", some(an_action));
	else
		json_object_set_new(s, "NotAction", json_string(actions[random_below(4)]));
	json_object_set_new(s, random_below(5) ? "Resource" : "NotResource", some(a_resource));
	json_t *conditions = json_object();
	for (uint32_t n = random_below(3); n; n--)
		add_condition(conditions);
	json_object_set_new(s, "Condition", conditions);
	return s;
}

static json_t *a_value(void)
{
	switch (random_below(9)) {
	case 0:
		return json_integer((json_int_t)random_below(3) * 11);
	case 1:
		return json_boolean(random_below(2));
	case 2:
		return json_string(PICK(dates));
	case 3:
		return json_string(PICK(addresses));
	case 4:
		return json_string(PICK(numbers));
	case 5:
		return json_null();
	default:
		return json_string(PICK(texts));
	}
}

json_t *random_context(void)
{
	json_t *context = json_object();
	for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
		if (random_below(3) == 0)
			continue;
		json_t *value = random_below(4) ? a_value() : json_array();
		for (uint32_t n = json_is_array(value) ? random_below(4) : 0; n; n--)
			json_array_append_new(value, a_value());
		json_object_set_new(context, keys[i], value);
	}
	return context;
}

json_t *random_groups(void)
{
	json_t *in = random_below(5) ? some(a_group) : json_array();
	if (json_is_array(in))
		return in;
	json_decref(in);
	return json_pack("[s]", "dev");
}

json_t *random_document(void)
{
	json_t *statements = json_array();
	for (uint32_t k = 1 + random_below(3); k; k--)
		json_array_append_new(statements, random_statement());
	return json_pack("{s:s, s:o}", "Version", "2026-01-01", "Statement", statements);
}

void random_start(uint32_t seed)
{
	state_now = seed * 2654435761u + 1;
}

const char *random_subject(void)
{
	return PICK(subjects);
}

const char *random_action(void)
{
	return PICK(actions);
}

const char *random_resource(void)
{
	return PICK(resources);
}
