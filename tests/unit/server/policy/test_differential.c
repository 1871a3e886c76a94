/* Random policies and random requests, judged by the engine and by naive.c: they must agree. Small vocabularies, so
 * that things match often; each seed can be run again by its number. */
#include "support/case.h"

#include "naive.h"

#define SEEDS 6000
#define REQUESTS 12

static uint32_t state_now;

static uint32_t below(uint32_t n)
{
	state_now ^= state_now << 13;
	state_now ^= state_now >> 17;
	state_now ^= state_now << 5;
	return state_now % n;
}

#define PICK(list) (list)[below(sizeof(list) / sizeof *(list))]

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
	uint32_t n = below(4);
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
	return below(2) ? json_boolean(below(2)) : json_string(below(2) ? "true" : "false");
}

static json_t *names(json_t *make(void))
{
	/* "*" inside a list would be everybody; it is a subject here too */
	json_t *list = some(make);
	return list;
}

static json_t *a_principal(void)
{
	if (below(3) == 0)
		return json_string("*");
	json_t *p = json_object();
	if (below(2))
		json_object_set_new(p, "User", names(a_user));
	if (below(2) || json_object_size(p) == 0)
		json_object_set_new(p, "Group", names(a_group));
	return p;
}

static void add_condition(json_t *conditions)
{
	char op[80];
	json_t *operands;
	const char *set = PICK(sets), *if_exists = PICK(exists);
	switch (below(8)) {
	case 0:
		snprintf(op, sizeof op, "%sNumeric%s%s", set, PICK(orders), if_exists);
		operands = some(a_number);
		break;
	case 1:
		snprintf(op, sizeof op, "%sDate%s%s", set, PICK(orders), if_exists);
		operands = some(a_date);
		break;
	case 2:
		snprintf(op, sizeof op, "%s%sIpAddress%s", set, below(2) ? "Not" : "", if_exists);
		operands = some(a_net);
		break;
	case 3:
		snprintf(op, sizeof op, "%sBool%s", set, if_exists);
		operands = some(a_bool);
		break;
	case 4:
		snprintf(op, sizeof op, "Null");
		operands = json_boolean(below(2));
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

static json_t *a_statement(void)
{
	json_t *s = json_object();
	json_object_set_new(s, "Effect", json_string(below(4) ? "Allow" : "Deny"));
	json_object_set_new(s, below(6) ? "Principal" : "NotPrincipal", a_principal());
	if (below(6))
		json_object_set_new(s, "Action", some(an_action));
	else
		json_object_set_new(s, "NotAction", json_string(actions[below(4)]));
	json_object_set_new(s, below(5) ? "Resource" : "NotResource", some(a_resource));
	json_t *conditions = json_object();
	for (uint32_t n = below(3); n; n--)
		add_condition(conditions);
	json_object_set_new(s, "Condition", conditions);
	return s;
}

static json_t *a_value(void)
{
	switch (below(9)) {
	case 0:
		return json_integer((json_int_t)below(3) * 11);
	case 1:
		return json_boolean(below(2));
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

static json_t *a_context(void)
{
	json_t *context = json_object();
	for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
		if (below(3) == 0)
			continue;
		json_t *value = below(4) ? a_value() : json_array();
		for (uint32_t n = json_is_array(value) ? below(4) : 0; n; n--)
			json_array_append_new(value, a_value());
		json_object_set_new(context, keys[i], value);
	}
	return context;
}

struct tally {
	size_t allow, deny, none;
};

static void one_request(uint32_t seed, const json_t *documents, const struct policy *const *policies, size_t n,
			struct tally *tally)
{
	json_t *context = a_context(), *in = below(5) ? some(a_group) : json_array();
	if (!json_is_array(in)) {
		json_decref(in);
		in = json_pack("[s]", "dev");
	}
	const struct policy_request q = { PICK(subjects), in, PICK(actions), PICK(resources), context };
	struct policy_decision d;
	policy_evaluate(policies, n, &q, &d);
	enum policy_effect expected = naive_judge(documents, &q);
	if (d.effect != expected) {
		char *text = json_dumps(documents, JSON_INDENT(1)), *ctx = json_dumps(context, 0),
		     *grp = json_dumps(in, 0);
		fail_msg("seed %u: engine %d (%s), naive %d for %s %s on %s, groups %s, context %s\n%s", seed,
			 (int)d.effect, d.statement, (int)expected, q.subject, q.action, q.resource, grp, ctx, text);
	}
	tally->allow += expected == POLICY_ALLOW;
	tally->deny += expected == POLICY_DENY;
	tally->none += expected == POLICY_NO_MATCH;
	json_decref(context);
	json_decref(in);
}

static void one_seed(uint32_t seed, struct tally *tally)
{
	struct policy *policies[3];
	json_t *documents = json_array();
	state_now = seed * 2654435761u + 1;
	size_t n = 1 + below(3);
	for (size_t i = 0; i < n; i++) {
		struct err e = { 0 };
		json_t *statements = json_array();
		for (uint32_t k = 1 + below(3); k; k--)
			json_array_append_new(statements, a_statement());
		json_t *document = json_pack("{s:s, s:o}", "Version", "2026-01-01", "Statement", statements);
		if (policy_parse("p", document, &policies[i], &e) != 0)
			fail_msg("seed %u: %s", seed, e.text);
		json_array_append_new(documents, document);
	}
	for (int i = 0; i < REQUESTS; i++)
		one_request(seed, documents, (const struct policy *const *)policies, n, tally);
	for (size_t i = 0; i < n; i++)
		policy_free(&policies[i]);
	json_decref(documents);
}

static void test_agrees_with_the_naive_one(void **state)
{
	(void)state;
	struct tally tally = { 0 };
	const char *only = getenv("POLICY_SEED");
	if (only)
		one_seed((uint32_t)atoi(only), &tally);
	for (uint32_t seed = 1; !only && seed <= SEEDS; seed++)
		one_seed(seed, &tally);
	print_message("allow %zu, deny %zu, no match %zu\n", tally.allow, tally.deny, tally.none);
	/* agreement about nothing proves nothing */
	if (!only)
		assert_true(tally.allow > SEEDS && tally.deny > SEEDS / 2 && tally.none > SEEDS);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_agrees_with_the_naive_one),
	};
	return RUN_CASES(tests);
}
