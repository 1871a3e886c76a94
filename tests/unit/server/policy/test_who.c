/* Who can: a table of what is answered, and a property over random policies: whom a row promises access without a
 * condition has it by the evaluator, and whomever the evaluator allows is in a row whose conditions may hold. */
#include "support/case.h"

#include "base/limits.h"
#include "quotes.h"
#include "random_policy.h"
#include "server/policy/who.h"

/* --- table --- */

struct row {
	const char *statements, *context, *rows;
};

static struct policy *parse(const json_t *document)
{
	struct policy *p = NULL;
	struct err e = { 0 };
	if (policy_parse("p", document, &p, NULL, &e) != 0)
		fail_msg("%s", e.text);
	return p;
}

static json_t *ask(const struct policy *const *policies, size_t n, const char *resource,
		   const struct policy_who_question *questions, size_t count)
{
	json_t *rows = NULL;
	struct err e = { 0 };
	bool more = true;
	assert_int_equal(policy_who(policies, n, resource, questions, count, &rows, &more, &e), 0);
	assert_false(more);
	return rows;
}

#define SSH "'Action':'tunnel:OpenSsh','Resource':'target/web-*'"
#define ALLOW(who, more) "{'Sid':'A','Effect':'Allow'," who "," SSH more "}"
#define DENY(who, more) ",{'Sid':'D','Effect':'Deny'," who "," SSH more "}"
#define ALICE "'Principal':{'User':'alice'}"
#define DEV "'Principal':{'Group':'dev'}"
#define ALL "'Principal':'*'"
#define FROM10 ",'Condition':{'IpAddress':{'tunnel:SourceIp':'10.0.0.0/8'}}"
#define TAG ",'Condition':{'StringEquals':{'target:Tag/role':'web'}}"
#define LOGIN ",'Condition':{'StringEquals':{'tunnel:Login':['deploy','root']}}"
#define ROW(who, ifs, unless) "{'who':" who ",'policy':'p','statement':'A','if':[" ifs "],'unless':[" unless "]}"
#define IF10 "{'IpAddress':{'tunnel:SourceIp':'10.0.0.0/8'}}"
#define U_ALICE "{'user':'alice'}"
#define G_DEV "{'group':'dev'}"
#define EVERYONE "{'everyone':true}"
#define UNLESS(who, ifs) "{'policy':'p','statement':'D'" who ",'if':[" ifs "]}"

static const struct row table[] = {
	{ ALLOW(ALICE, ""), "{}", ROW(U_ALICE, "", "") },
	{ ALLOW(DEV, ""), "{}", ROW(G_DEV, "", "") },
	{ ALLOW(ALL, ""), "{}", ROW(EVERYONE, "", "") },
	{ ALLOW("'Principal':{'User':['b','a'],'Group':['*','x']}", ""), "{}",
	  ROW("{'user':'a'}", "", "") "," ROW("{'user':'b'}", "", "") "," ROW("{'group':'*'}", "", "") },
	{ ALLOW("'NotPrincipal':{'User':'eve','Group':'guests'}", ""), "{}",
	  ROW("{'everyone_except':{'users':['eve'],'groups':['guests']}}", "", "") },
	{ ALLOW("'NotPrincipal':'*'", ""), "{}", "" },
	{ "{'Effect':'Allow'," ALICE ",'Action':'tunnel:OpenTcp','Resource':'*'}", "{}", "" },
	{ "{'Effect':'Allow'," ALICE ",'Action':'*','Resource':'target/db-*'}", "{}", "" },
	/* what is known decides, what is not is left standing */
	{ ALLOW(ALICE, TAG), "{'target:Tag/role':'web'}", ROW(U_ALICE, "", "") },
	{ ALLOW(ALICE, TAG), "{'target:Tag/role':'db'}", "" },
	{ ALLOW(ALICE, TAG), "{}", "" },
	{ ALLOW(ALICE, FROM10), "{}", ROW(U_ALICE, IF10, "") },
	{ ALLOW(ALICE, FROM10), "{'tunnel:SourceIp':'10.1.1.1'}", ROW(U_ALICE, "", "") },
	{ ALLOW(ALICE, FROM10), "{'tunnel:SourceIp':'11.1.1.1'}", "" },
	{ ALLOW(ALICE, FROM10), "{'tunnel:SourceIp':null}", "" },
	{ ALLOW(DEV, LOGIN), "{'tunnel:Login':'root'}", ROW(G_DEV, "", "") },
	{ ALLOW(DEV, LOGIN), "{'tunnel:Login':'ann'}", "" },
	{ ALLOW(DEV, LOGIN), "{}", ROW(G_DEV, "{'StringEquals':{'tunnel:Login':['deploy','root']}}", "") },
	{ ALLOW(ALL, ",'Condition':{'StringLike':{'tunnel:Subject':'ops-*'}}"), "{}",
	  ROW(EVERYONE, "{'StringLike':{'tunnel:Subject':'ops-*'}}", "") },
	{ ALLOW(ALICE, ",'Condition':{'StringLike':{'tunnel:Subject':'ops-*'}}"), "{}", "" },
	{ ALLOW(ALICE, ",'Condition':{'StringEquals':{'target:Tag/owner':'${tunnel:Subject}'}}"),
	  "{'target:Tag/owner':'alice'}", ROW(U_ALICE, "", "") },
	{ ALLOW(DEV, ",'Condition':{'StringEquals':{'target:Tag/owner':'${tunnel:Subject}'}}"),
	  "{'target:Tag/owner':'alice'}", ROW(G_DEV, "{'StringEquals':{'target:Tag/owner':'${tunnel:Subject}'}}", "") },
	{ "{'Sid':'A','Effect':'Allow'," DEV ",'Action':'tunnel:Open*','Resource':'target/${tunnel:Subject}-1'}", "{}",
	  ROW(G_DEV, "{'Resource':'target/${tunnel:Subject}-1'}", "") },
	{ "{'Sid':'A','Effect':'Allow'," DEV ",'Action':'tunnel:Open*','Resource':'target/${tunnel:Subject}-2'}", "{}",
	  "" },
	{ "{'Sid':'A','Effect':'Allow'," DEV ",'Action':'*','NotResource':['audit','target/${tunnel:Claim/x}']}", "{}",
	  ROW(G_DEV, "{'NotResource':['audit','target/${tunnel:Claim/x}']}", "") },
	/* Deny */
	{ ALLOW(ALICE, "") DENY(ALICE, ""), "{}", "" },
	{ ALLOW(ALICE, "") DENY(ALL, ""), "{}", "" },
	{ ALLOW(ALICE, "") DENY("'Principal':{'User':'bob'}", ""), "{}", ROW(U_ALICE, "", "") },
	{ ALLOW(ALICE, "") DENY(DEV, ""), "{}", ROW(U_ALICE, "", UNLESS(",'who':[" G_DEV "]", "")) },
	{ ALLOW(ALICE, "") DENY("'NotPrincipal':{'User':'alice'}", ""), "{}", ROW(U_ALICE, "", "") },
	{ ALLOW(ALICE, "") DENY("'NotPrincipal':{'User':'bob'}", ""), "{}", "" },
	{ ALLOW(DEV, "") DENY(DEV, ""), "{}", "" },
	{ ALLOW(DEV, "") DENY(ALICE, ""), "{}", ROW(G_DEV, "", UNLESS(",'who':[" U_ALICE "]", "")) },
	{ ALLOW(DEV, "") DENY("'NotPrincipal':{'Group':'dev'}", ""), "{}", ROW(G_DEV, "", "") },
	{ ALLOW(DEV, "") DENY("'NotPrincipal':{'Group':'ops'}", ""), "{}",
	  ROW(G_DEV, "", UNLESS(",'who':[{'everyone_except':{'users':[],'groups':['ops']}}]", "")) },
	{ ALLOW("'NotPrincipal':{'Group':'ops'}", "") DENY("'Principal':{'Group':'ops'}", ""), "{}",
	  ROW("{'everyone_except':{'users':[],'groups':['ops']}}", "", "") },
	{ ALLOW(ALICE, "") DENY(ALL, FROM10), "{}", ROW(U_ALICE, "", UNLESS("", IF10)) },
	{ ALLOW(ALICE, "") DENY(DEV, FROM10), "{}", ROW(U_ALICE, "", UNLESS(",'who':[" G_DEV "]", IF10)) },
	{ ALLOW(ALICE, "") DENY(ALL, FROM10), "{'tunnel:SourceIp':'11.1.1.1'}", ROW(U_ALICE, "", "") },
	{ ALLOW(ALICE, "") DENY(ALL, FROM10), "{'tunnel:SourceIp':'10.1.1.1'}", "" },
	{ ALLOW(ALICE, "") DENY(ALL, TAG), "{'target:Tag/role':'db'}", ROW(U_ALICE, "", "") },
};

static void test_table(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
		char text[4096];
		snprintf(text, sizeof text, "{'Version':'2026-01-01','Statement':[%s]}", table[i].statements);
		json_t *document = quotes_json(text), *context = quotes_json(table[i].context);
		snprintf(text, sizeof text, "{'rows':[%s]}", table[i].rows);
		json_t *expected = quotes_json(text), *list = json_object_get(expected, "rows"), *row;
		size_t k;
		json_array_foreach(list, k, row)
		{
			json_object_set_new(row, "actions", json_pack("[s]", "tunnel:OpenSsh"));
			json_object_set_new(row, "certain",
					    json_boolean(!json_array_size(json_object_get(row, "if")) &&
							 !json_array_size(json_object_get(row, "unless"))));
		}
		struct policy *p = parse(document);
		const struct policy_who_question q = { "tunnel:OpenSsh", context };
		json_t *rows = ask((const struct policy *const *)&p, 1, "target/web-1", &q, 1);
		if (!json_equal(rows, list))
			fail_msg("row %zu: %s", i, json_dumps(rows, 0));
		json_decref(rows);
		json_decref(expected);
		json_decref(context);
		json_decref(document);
		policy_free(&p);
	}
}

/* Actions that get the same answer share a row. */
static void test_actions_are_joined(void **state)
{
	(void)state;
	json_t *document = quotes_json("{'Version':'2026-01-01','Statement':[{'Sid':'A','Effect':'Allow'," ALICE
				       ",'Action':'*','Resource':'*'},{'Sid':'D','Effect':'Deny'," DEV
				       ",'Action':'tunnel:OpenTcp','Resource':'*'}]}");
	struct policy *p = parse(document);
	const struct policy_who_question q[] = { { "tunnel:StartSession", NULL },
						 { "tunnel:OpenSsh", NULL },
						 { "tunnel:OpenTcp", NULL } };
	json_t *rows = ask((const struct policy *const *)&p, 1, "target/web-1", q, 3);
	assert_int_equal(json_array_size(rows), 2);
	json_t *expected = quotes_json("['tunnel:StartSession','tunnel:OpenSsh']");
	assert_true(json_equal(json_object_get(json_array_get(rows, 0), "actions"), expected));
	assert_true(json_is_true(json_object_get(json_array_get(rows, 0), "certain")));
	assert_true(json_is_false(json_object_get(json_array_get(rows, 1), "certain")));
	json_decref(expected);
	json_decref(rows);
	json_decref(document);
	policy_free(&p);
}

static void test_an_answer_has_an_end(void **state)
{
	(void)state;
	json_t *names = json_array(), *statements = json_array(), *rows = NULL;
	char name[16];
	bool more = false;
	struct err e = { 0 };
	for (int i = 0; i < 256; i++) {
		snprintf(name, sizeof name, "u%d", i);
		json_array_append_new(names, json_string(name));
	}
	for (int i = 0; i < 5; i++)
		json_array_append_new(statements, json_pack("{s:s, s:{s:O}, s:s, s:s}", "Effect", "Allow", "Principal",
							    "User", names, "Action", "*", "Resource", "*"));
	json_t *document = json_pack("{s:s, s:o}", "Version", "2026-01-01", "Statement", statements);
	struct policy *p = parse(document);
	const struct policy_who_question q = { "tunnel:OpenSsh", NULL }, wrong = { "tunnel:OpenShell", NULL };
	assert_int_equal(policy_who((const struct policy *const *)&p, 1, "target/a", &q, 1, &rows, &more, &e), 0);
	assert_true(more);
	assert_int_equal(json_array_size(rows), LIMIT_POLICY_WHO_ROWS);
	json_decref(rows);
	assert_int_equal(policy_who((const struct policy *const *)&p, 1, "target/a", &wrong, 1, &rows, &more, &e),
			 ERR_INVALID);
	assert_non_null(strstr(e.text, "\"tunnel:OpenShell\""));
	json_decref(names);
	json_decref(document);
	policy_free(&p);
}

/* --- property --- */

#define SEEDS 6000
#define REQUESTS 12

static bool lists(const json_t *names, const char *name)
{
	size_t i;
	const json_t *item;
	json_array_foreach(names, i, item)
	{
		if (strcmp(json_string_value(item), name) == 0 || strcmp(json_string_value(item), "*") == 0)
			return true;
	}
	return false;
}

static bool in_any(const json_t *names, const json_t *groups)
{
	size_t i;
	const json_t *group;
	json_array_foreach(groups, i, group)
	{
		if (lists(names, json_string_value(group)))
			return true;
	}
	return false;
}

static bool matches(const json_t *who, const struct policy_request *q)
{
	const json_t *user = json_object_get(who, "user"), *group = json_object_get(who, "group"),
		     *except = json_object_get(who, "everyone_except");
	json_t *one = json_pack("[s]", group ? json_string_value(group) : "");
	bool is = json_object_get(who, "everyone") || (user && strcmp(json_string_value(user), q->subject) == 0) ||
		  (group && in_any(one, q->groups)) ||
		  (except && !lists(json_object_get(except, "users"), q->subject) &&
		   !in_any(json_object_get(except, "groups"), q->groups));
	json_decref(one);
	return is;
}

/* Does the condition hold of this request? Asked of the evaluator, with a policy that has nothing else. */
static bool all_hold(const json_t *ifs, const char *effect, const struct policy_request *q)
{
	json_t *conditions = json_object(),
	       *s = json_pack("{s:s, s:s, s:s}", "Effect", effect, "Principal", "*", "Action", "*");
	const char *key;
	size_t i;
	json_t *item, *value;
	json_array_foreach(ifs, i, item)
	{
		json_object_foreach(item, key, value)
		{
			if (json_is_object(value)) {
				if (!json_object_get(conditions, key))
					json_object_set_new(conditions, key, json_object());
				json_object_update(json_object_get(conditions, key), value);
			} else {
				json_object_set(s, key, value); /* Resource, NotResource */
			}
		}
	}
	if (!json_object_get(s, "Resource") && !json_object_get(s, "NotResource"))
		json_object_set_new(s, "Resource", json_string("*"));
	json_object_set_new(s, "Condition", conditions);
	json_t *document = json_pack("{s:s, s:o}", "Version", "2026-01-01", "Statement", s);
	struct policy *p = parse(document);
	struct policy_decision d;
	policy_evaluate((const struct policy *const *)&p, 1, q, &d);
	policy_free(&p);
	json_decref(document);
	return d.effect != POLICY_NO_MATCH;
}

static bool undone(const json_t *row, const struct policy_request *q)
{
	size_t i, k;
	const json_t *unless, *who;
	json_array_foreach(json_object_get(row, "unless"), i, unless)
	{
		const json_t *list = json_object_get(unless, "who");
		bool concerned = list == NULL;
		json_array_foreach(list, k, who) concerned |= matches(who, q);
		if (concerned && all_hold(json_object_get(unless, "if"), "Deny", q))
			return true;
	}
	return false;
}

/* What is known of a request to who can: the tags, and one other key now and then. */
static json_t *known_part(const json_t *context)
{
	static const char *const keys[] = { "tunnel:Login", "tunnel:SourceIp", "tunnel:Claim/u" };
	json_t *known = json_object(), *tag = json_object_get(context, "target:Tag/t");
	const char *key = keys[random_below(3)];
	if (tag)
		json_object_set(known, "target:Tag/t", tag);
	if (random_below(2)) {
		json_t *value = json_object_get(context, key);
		json_object_set_new(known, key, value ? json_incref(value) : json_null());
	}
	return known;
}

struct tally {
	size_t promised, allowed, certain, refused;
};

static void one_request(uint32_t seed, const struct policy *const *policies, size_t n, struct tally *tally)
{
	json_t *context = random_context(), *groups = random_groups(), *known = known_part(context), *row;
	const struct policy_request q = { random_subject(), groups, random_action(), random_resource(), context };
	const struct policy_who_question question = { q.action, known };
	json_t *rows = ask(policies, n, q.resource, &question, 1);
	bool promised = false, certain = false;
	struct policy_decision d;
	size_t i;
	policy_evaluate(policies, n, &q, &d);
	json_array_foreach(rows, i, row)
	{
		if (!matches(json_object_get(row, "who"), &q))
			continue;
		certain |= json_is_true(json_object_get(row, "certain"));
		promised |= all_hold(json_object_get(row, "if"), "Allow", &q) && !undone(row, &q);
	}
	if (promised != (d.effect == POLICY_ALLOW) || (certain && d.effect != POLICY_ALLOW))
		fail_msg("seed %u: %s%s, evaluator %d (%s) for %s %s on %s, groups %s, context %s\n%s", seed,
			 promised ? "promised" : "not promised", certain ? " for certain" : "", (int)d.effect,
			 d.statement, q.subject, q.action, q.resource, json_dumps(groups, 0), json_dumps(context, 0),
			 json_dumps(rows, JSON_INDENT(1)));
	tally->promised += promised;
	tally->certain += certain;
	tally->allowed += d.effect == POLICY_ALLOW;
	tally->refused += d.effect != POLICY_ALLOW && json_array_size(rows) > 0;
	json_decref(rows);
	json_decref(known);
	json_decref(context);
	json_decref(groups);
}

static void one_seed(uint32_t seed, struct tally *tally)
{
	struct policy *policies[3];
	random_start(seed);
	size_t n = 1 + random_below(3);
	for (size_t i = 0; i < n; i++) {
		json_t *document = random_document();
		policies[i] = parse(document);
		json_decref(document);
	}
	for (int i = 0; i < REQUESTS; i++)
		one_request(seed, (const struct policy *const *)policies, n, tally);
	for (size_t i = 0; i < n; i++)
		policy_free(&policies[i]);
}

static void test_agrees_with_the_evaluator(void **state)
{
	(void)state;
	struct tally tally = { 0 };
	const char *only = getenv("POLICY_SEED");
	if (only)
		one_seed((uint32_t)atoi(only), &tally);
	for (uint32_t seed = 1; !only && seed <= SEEDS; seed++)
		one_seed(seed, &tally);
	print_message("allowed %zu, promised %zu, for certain %zu, refused beside a row %zu\n", tally.allowed,
		      tally.promised, tally.certain, tally.refused);
	/* agreement about nothing proves nothing */
	if (!only)
		assert_true(tally.allowed > SEEDS && tally.certain > SEEDS / 4 && tally.refused > SEEDS / 4);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_table),
		cmocka_unit_test(test_actions_are_joined),
		cmocka_unit_test(test_an_answer_has_an_end),
		cmocka_unit_test(test_agrees_with_the_evaluator),
	};
	return RUN_CASES(tests);
}
