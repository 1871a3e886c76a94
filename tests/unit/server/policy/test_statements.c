/* Who, what and where, and which statement wins. */
#include "support/case.h"

#include "quotes.h"
#include "server/policy/policy.h"

struct row {
	const char *statement; /* inside {"Effect": "Allow", …} */
	const char *subject, *groups, *action, *resource;
	bool allowed;
};

static void run(const struct row *r, size_t i)
{
	char text[1024];
	snprintf(text, sizeof text, "{'Version':'2026-01-01','Statement':[{'Effect':'Allow',%s}]}", r->statement);
	json_t *document = quotes_json(text), *groups = quotes_json(r->groups);
	json_t *context = quotes_json("{'tunnel:Claim/team':'blue','target:Tag/env':'prod'}");
	struct policy *p = NULL;
	struct err e = { 0 };
	struct policy_decision d;
	if (policy_parse("p", document, &p, NULL, &e) != 0)
		fail_msg("row %zu: %s: %s", i, r->statement, e.text);
	const struct policy_request q = { r->subject, groups, r->action, r->resource, context };
	policy_evaluate((const struct policy *const *)&p, 1, &q, &d);
	if ((d.effect == POLICY_ALLOW) != r->allowed)
		fail_msg("row %zu: %s: %s for %s", i, r->statement, r->allowed ? "refused" : "allowed", r->subject);
	policy_free(&p);
	json_decref(document);
	json_decref(groups);
	json_decref(context);
}

#define ANY_WHAT "'Action':'*','Resource':'*'"
#define ANYONE "'Principal':'*'"
#define SSH "tunnel:OpenSsh"

static void test_who(void **state)
{
	(void)state;
	static const struct row rows[] = {
		{ "'Principal':'*'," ANY_WHAT, "alice", NULL, SSH, "target/a", true },
		{ "'Principal':{'User':'alice'}," ANY_WHAT, "alice", NULL, SSH, "target/a", true },
		{ "'Principal':{'User':'alice'}," ANY_WHAT, "Alice", NULL, SSH, "target/a", false },
		{ "'Principal':{'User':'alice'}," ANY_WHAT, "bob", "['alice']", SSH, "target/a", false },
		{ "'Principal':{'User':['zoe','bob','alice']}," ANY_WHAT, "bob", NULL, SSH, "target/a", true },
		{ "'Principal':{'User':'*'}," ANY_WHAT, "bob", NULL, SSH, "target/a", true },
		{ "'Principal':{'Group':'dev'}," ANY_WHAT, "bob", "['ops','dev']", SSH, "target/a", true },
		{ "'Principal':{'Group':'dev'}," ANY_WHAT, "bob", "['ops']", SSH, "target/a", false },
		{ "'Principal':{'Group':'dev'}," ANY_WHAT, "dev", "[]", SSH, "target/a", false },
		{ "'Principal':{'Group':'dev'}," ANY_WHAT, "dev", NULL, SSH, "target/a", false },
		{ "'Principal':{'Group':'dev'}," ANY_WHAT, "dev", "[7,null]", SSH, "target/a", false },
		{ "'Principal':{'Group':'*'}," ANY_WHAT, "bob", "['x']", SSH, "target/a", true },
		{ "'Principal':{'Group':'*'}," ANY_WHAT, "bob", "[]", SSH, "target/a", false },
		{ "'Principal':{'User':'alice','Group':'dev'}," ANY_WHAT, "alice", "[]", SSH, "target/a", true },
		{ "'Principal':{'User':'alice','Group':'dev'}," ANY_WHAT, "bob", "['dev']", SSH, "target/a", true },
		{ "'Principal':{'User':'alice','Group':'dev'}," ANY_WHAT, "bob", "['ops']", SSH, "target/a", false },
		{ "'NotPrincipal':{'User':'alice'}," ANY_WHAT, "alice", "[]", SSH, "target/a", false },
		{ "'NotPrincipal':{'User':'alice'}," ANY_WHAT, "bob", "[]", SSH, "target/a", true },
		{ "'NotPrincipal':{'User':'alice','Group':'x'}," ANY_WHAT, "bob", "['x']", SSH, "target/a", false },
		{ "'NotPrincipal':'*'," ANY_WHAT, "bob", "['x']", SSH, "target/a", false },
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
		run(&rows[i], i);
}

static void test_what_and_where(void **state)
{
	(void)state;
#define ON "'Resource':'*'," ANYONE
#define DO "'Action':'*'," ANYONE
	static const struct row rows[] = {
		{ "'Action':'tunnel:OpenSsh'," ON, "a", NULL, SSH, "target/a", true },
		{ "'Action':'tunnel:OpenSsh'," ON, "a", NULL, "tunnel:OpenTcp", "target/a", false },
		{ "'Action':'tunnel:Open*'," ON, "a", NULL, "tunnel:OpenTcp", "target/a", true },
		{ "'Action':'tunnel:Open*'," ON, "a", NULL, "tunnel:StartSession", "target/a", false },
		{ "'Action':'tunnel:*Policy'," ON, "a", NULL, "tunnel:PutPolicy", "policy/x", true },
		{ "'Action':['tunnel:Revoke','tunnel:Open?\?\?']," ON, "a", NULL, SSH, "target/a", true },
		{ "'Action':'*'," ON, "a", NULL, "tunnel:ReadMetrics", "metrics", true },
		{ "'Action':'*'," ON, "a", NULL, "tunnel:Unheard", "metrics", false },
		{ "'Action':'*'," ON, "a", NULL, "*", "metrics", false },
		{ "'NotAction':'tunnel:Open*'," ON, "a", NULL, SSH, "target/a", false },
		{ "'NotAction':'tunnel:Open*'," ON, "a", NULL, "tunnel:Revoke", "target/a", true },
		{ "'NotAction':['tunnel:Revoke','tunnel:PutPolicy']," ON, "a", NULL, "tunnel:PutPolicy", "policy/a",
		  false },
		{ "'NotAction':'tunnel:Open*'," ON, "a", NULL, "tunnel:Unheard", "target/a", false },
		{ "'Resource':'target/web-1'," DO, "a", NULL, SSH, "target/web-1", true },
		{ "'Resource':'target/web-1'," DO, "a", NULL, SSH, "target/web-10", false },
		{ "'Resource':'target/web-*'," DO, "a", NULL, SSH, "target/web-10", true },
		{ "'Resource':'target/web-*'," DO, "a", NULL, SSH, "session/web-10", false },
		{ "'Resource':'target/*'," DO, "a", NULL, "tunnel:ReadAudit", "audit", false },
		{ "'Resource':'principal/*@example.com'," DO, "a", NULL, "tunnel:Revoke", "principal/bob@example.com",
		  true },
		{ "'Resource':'principal/*@example.com'," DO, "a", NULL, "tunnel:Revoke", "principal/bob@example.org",
		  false },
		{ "'Resource':'principal/${tunnel:Subject}'," DO, "a", NULL, "tunnel:Revoke", "principal/a", true },
		{ "'Resource':['session/*','credential/*']," DO, "a", NULL, "tunnel:Revoke", "credential/AKIA7", true },
		{ "'Resource':['session/*','credential/*']," DO, "a", NULL, "tunnel:Revoke", "principal/a", false },
		{ "'Resource':['session/*','audit']," DO, "a", NULL, "tunnel:ReadAudit", "audit", true },
		{ "'Resource':'policy/${tunnel:Subject}-*'," DO, "a", NULL, "tunnel:PutPolicy", "policy/a-1", true },
		{ "'Resource':'policy/${tunnel:Subject}-*'," DO, "b", NULL, "tunnel:PutPolicy", "policy/a-1", false },
		{ "'Resource':'target/${tunnel:Claim/team}-*'," DO, "a", NULL, SSH, "target/blue-1", true },
		{ "'Resource':'target/${target:Tag/env}'," DO, "a", NULL, SSH, "target/prod", true },
		{ "'Resource':'target/${tunnel:Claim/none}*'," DO, "a", NULL, SSH, "target/x", false },
		{ "'Resource':'target/${tunnel:Claim/none, `x`}*'," DO, "a", NULL, SSH, "target/xy", true },
		{ "'Resource':['target/${tunnel:Claim/none}','target/x']," DO, "a", NULL, SSH, "target/x", true },
		{ "'Resource':'target/${*}'," DO, "a", NULL, SSH, "target/x", false },
		{ "'Resource':'target/${*}'," DO, "a", NULL, SSH, "target/*", true },
		{ "'NotResource':'target/prod-*'," DO, "a", NULL, SSH, "target/prod-1", false },
		{ "'NotResource':'target/prod-*'," DO, "a", NULL, SSH, "target/test-1", true },
		{ "'NotResource':['target/prod-*','audit']," DO, "a", NULL, "tunnel:ReadAudit", "audit", false },
		{ "'NotResource':'target/${tunnel:Claim/team}'," DO, "a", NULL, SSH, "target/red", true },
		{ "'NotResource':'target/${tunnel:Claim/none}'," DO, "a", NULL, SSH, "target/red", false },
		/* a subject that looks like a pattern stays what it is */
		{ "'Resource':'target/${tunnel:Subject}'," DO, "*", NULL, SSH, "target/x", false },
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
		run(&rows[i], i);
}

struct verdict {
	const char *policies[3]; /* named a, b, c */
	enum policy_effect effect;
	const char *policy, *statement;
};

#define S(effect, more) "{'Effect':'" effect "','Principal':'*'," ANY_WHAT more "}"
#define ALLOW S("Allow", "")
#define DENY S("Deny", "")
#define OTHER "{'Effect':'Deny','Principal':'*','Action':'tunnel:Revoke','Resource':'*'}"
#define UNSET "{'Effect':'Deny','Principal':'*','Action':'*','NotResource':'target/${tunnel:Claim/none}'}"

static void test_precedence(void **state)
{
	(void)state;
	static const struct verdict rows[] = {
		{ { NULL }, POLICY_NO_MATCH, "", "" },
		{ { OTHER }, POLICY_NO_MATCH, "", "" },
		{ { ALLOW }, POLICY_ALLOW, "a", "Statement" },
		{ { "[" ALLOW "]" }, POLICY_ALLOW, "a", "Statement[0]" },
		{ { "[" OTHER "," ALLOW "," ALLOW "]" }, POLICY_ALLOW, "a", "Statement[1]" },
		{ { "[" ALLOW "," DENY "]" }, POLICY_DENY, "a", "Statement[1]" },
		{ { "[" DENY "," ALLOW "]" }, POLICY_DENY, "a", "Statement[0]" },
		{ { ALLOW, DENY }, POLICY_DENY, "b", "Statement" },
		{ { DENY, ALLOW }, POLICY_DENY, "a", "Statement" },
		{ { ALLOW, OTHER, ALLOW }, POLICY_ALLOW, "a", "Statement" },
		{ { OTHER, ALLOW, S("Deny", ",'Sid':'NoProd'") }, POLICY_DENY, "c", "NoProd" },
		{ { S("Allow", ",'Sid':'Yes.1'"), OTHER }, POLICY_ALLOW, "a", "Yes.1" },
		{ { ALLOW, UNSET }, POLICY_DENY, "b", "Statement" },
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct policy *p[3] = { NULL };
		size_t n = 0;
		for (; n < 3 && rows[i].policies[n]; n++) {
			static const char *const names[] = { "a", "b", "c" };
			json_t *document = json_pack("{s:s, s:o}", "Version", "2026-01-01", "Statement",
						     quotes_json(rows[i].policies[n]));
			struct err e = { 0 };
			if (policy_parse(names[n], document, &p[n], NULL, &e) != 0)
				fail_msg("row %zu: %s", i, e.text);
			json_decref(document);
		}
		struct policy_decision d;
		const struct policy_request q = { "alice", NULL, SSH, "target/a", NULL };
		policy_evaluate((const struct policy *const *)p, n, &q, &d);
		if (d.effect != rows[i].effect || strcmp(d.policy, rows[i].policy) != 0 ||
		    strcmp(d.statement, rows[i].statement) != 0)
			fail_msg("row %zu: effect %d by %s of %s", i, (int)d.effect, d.statement, d.policy);
		for (size_t k = 0; k < n; k++)
			policy_free(&p[k]);
	}
}

/* A statement that is about some endpoints only is enough to refuse and not enough to allow. */
static void test_every_endpoint_at_once(void **state)
{
	(void)state;
#define ALL_TCP "{'Effect':'Allow','Principal':'*','Action':'tunnel:OpenTcp','Resource':'target/*'}"
#define SOME(effect, condition) \
	"{'Effect':'" effect "','Principal':'*','Action':'tunnel:Open*','Resource':'*','Condition':{" condition "}}"
	static const struct {
		const char *statements;
		enum policy_effect effect;
	} rows[] = {
		{ "[" ALL_TCP "]", POLICY_ALLOW },
		{ "[" SOME("Allow", "'NumericEquals':{'tunnel:Port':5432}") "]", POLICY_NO_MATCH },
		{ "[" SOME("Allow", "'StringLike':{'tunnel:Host':'*'}") "]", POLICY_NO_MATCH },
		{ "[" SOME("Allow", "'NumericLessThanIfExists':{'tunnel:Port':1}") "]", POLICY_NO_MATCH },
		{ "[" SOME("Allow", "'Null':{'tunnel:Port':true}") "]", POLICY_NO_MATCH },
		{ "[" SOME("Allow", "'StringEquals':{'tunnel:Kind':'ssh'}") "]", POLICY_ALLOW },
		{ "[" SOME("Allow", "'StringEquals':{'tunnel:Kind':'tcp'}") "]", POLICY_NO_MATCH },
		{ "[" ALL_TCP "," SOME("Deny", "'NumericEquals':{'tunnel:Port':22}") "]", POLICY_DENY },
		{ "[" ALL_TCP "," SOME("Deny", "'StringEquals':{'tunnel:Host':'db'}") "]", POLICY_DENY },
		{ "[" ALL_TCP "," SOME("Deny", "'Null':{'tunnel:Host':false}") "]", POLICY_DENY },
		{ "[" ALL_TCP "," SOME("Deny", "'StringEquals':{'tunnel:Kind':'tcp','tunnel:Host':'db'}") "]",
		  POLICY_ALLOW },
		{ "[" ALL_TCP ",{'Effect':'Deny','Principal':{'User':'bob'},'Action':'*','Resource':'*',"
		  "'Condition':{'NumericEquals':{'tunnel:Port':22}}}]",
		  POLICY_ALLOW },
		{ "[" ALL_TCP ",{'Effect':'Deny','Principal':'*','Action':'*','Resource':'target/${tunnel:Host}'}]",
		  POLICY_DENY },
		{ "[{'Effect':'Allow','Principal':'*','Action':'*','Resource':'target/${tunnel:Host}'}]",
		  POLICY_NO_MATCH },
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		json_t *document =
			json_pack("{s:s, s:o}", "Version", "2026-01-01", "Statement", quotes_json(rows[i].statements));
		json_t *context = quotes_json("{'tunnel:Kind':'ssh','tunnel:Login':'deploy'}");
		const struct policy_request q = { "alice", NULL, "tunnel:OpenTcp", "target/a", context };
		struct policy *p = NULL;
		struct err e = { 0 };
		struct policy_decision d;
		if (policy_parse("p", document, &p, NULL, &e) != 0)
			fail_msg("row %zu: %s", i, e.text);
		policy_evaluate_any_endpoint((const struct policy *const *)&p, 1, &q, &d);
		if (d.effect != rows[i].effect)
			fail_msg("row %zu: effect %d: %s", i, (int)d.effect, rows[i].statements);
		policy_free(&p);
		json_decref(document);
		json_decref(context);
	}
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_who),
		cmocka_unit_test(test_what_and_where),
		cmocka_unit_test(test_precedence),
		cmocka_unit_test(test_every_endpoint_at_once),
	};
	return RUN_CASES(tests);
}
