/* Every condition operator, on one statement: does the condition hold for a context? Each row is judged twice, in an
 * Allow and in a Deny; they may only differ where a variable has no value. */
#include "support/case.h"

#include "quotes.h"
#include "server/policy/policy.h"

#define NO 0
#define YES 1
#define DENY_ONLY 2 /* an inverted operator with a variable without value */

struct row {
	const char *condition, *context;
	int holds;
};

static enum policy_effect judge(const char *effect, const struct row *r)
{
	json_t *document = json_pack("{s:s, s:{s:s, s:s, s:s, s:s, s:o}}", "Version", "2026-01-01", "Statement",
				     "Effect", effect, "Principal", "*", "Action", "tunnel:OpenSsh", "Resource", "*",
				     "Condition", quotes_json(r->condition));
	json_t *context = quotes_json(r->context), *groups = quotes_json("['dev', 'ops']");
	struct policy *p = NULL;
	struct err e = { 0 };
	struct policy_decision d;
	if (policy_parse("p", document, &p, NULL, &e) != 0)
		fail_msg("%s: %s", r->condition, e.text);
	const struct policy_request q = { "alice", groups, "tunnel:OpenSsh", "target/web-1", context };
	policy_evaluate((const struct policy *const *)&p, 1, &q, &d);
	policy_free(&p);
	json_decref(document);
	json_decref(context);
	json_decref(groups);
	return d.effect;
}

static void check(const struct row *rows, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		enum policy_effect allow = judge("Allow", &rows[i]), deny = judge("Deny", &rows[i]);
		bool in_allow = rows[i].holds == YES, in_deny = rows[i].holds != NO;
		if ((allow == POLICY_ALLOW) != in_allow || (deny == POLICY_DENY) != in_deny)
			fail_msg("row %zu: %s on %s: Allow %s, Deny %s", i, rows[i].condition,
				 rows[i].context ? rows[i].context : "(none)",
				 allow == POLICY_ALLOW ? "holds" : "does not hold",
				 deny == POLICY_DENY ? "holds" : "does not hold");
	}
}
#define CHECK(rows) check(rows, sizeof(rows) / sizeof *(rows))

static void test_string_operators(void **state)
{
	(void)state;
	static const struct row rows[] = {
		{ "{'StringEquals':{'tunnel:Login':'deploy'}}", "{'tunnel:Login':'deploy'}", YES },
		{ "{'StringEquals':{'tunnel:Login':'deploy'}}", "{'tunnel:Login':'Deploy'}", NO },
		{ "{'StringEquals':{'tunnel:Login':'deploy'}}", "{'tunnel:Login':'deploy2'}", NO },
		{ "{'StringEquals':{'tunnel:Login':'deploy'}}", "{'tunnel:Login':'deplo'}", NO },
		{ "{'StringEquals':{'tunnel:Login':['root','deploy']}}", "{'tunnel:Login':'deploy'}", YES },
		{ "{'StringEquals':{'tunnel:Login':['root','deploy']}}", "{'tunnel:Login':'alice'}", NO },
		{ "{'StringEquals':{'tunnel:Login':'dep*'}}", "{'tunnel:Login':'deploy'}", NO },
		{ "{'StringEquals':{'tunnel:Login':'dep*'}}", "{'tunnel:Login':'dep*'}", YES },
		{ "{'StringEquals':{'tunnel:Login':''}}", "{'tunnel:Login':''}", YES },
		{ "{'StringEquals':{'tunnel:Login':''}}", "{'tunnel:Login':'a'}", NO },
		{ "{'StringEquals':{'tunnel:Port':22}}", "{'tunnel:Port':22}", YES },
		{ "{'StringEquals':{'tunnel:Port':'22'}}", "{'tunnel:Port':22}", YES },
		{ "{'StringEquals':{'tunnel:Claim/mfa':true}}", "{'tunnel:Claim/mfa':true}", YES },
		{ "{'StringEquals':{'tunnel:Claim/mfa':'true'}}", "{'tunnel:Claim/mfa':false}", NO },
		{ "{'StringEquals':{'tunnel:Claim/level':1.5}}", "{'tunnel:Claim/level':'1.5'}", YES },
		{ "{'StringEquals':{'tunnel:Claim/o':'x'}}", "{'tunnel:Claim/o':{'x':'x'}}", NO },
		{ "{'StringNotEquals':{'tunnel:Login':'root'}}", "{'tunnel:Login':'deploy'}", YES },
		{ "{'StringNotEquals':{'tunnel:Login':'root'}}", "{'tunnel:Login':'root'}", NO },
		{ "{'StringNotEquals':{'tunnel:Login':['root','admin']}}", "{'tunnel:Login':'admin'}", NO },
		{ "{'StringNotEquals':{'tunnel:Login':['root','admin']}}", "{'tunnel:Login':'deploy'}", YES },
		{ "{'StringNotEquals':{'tunnel:Claim/o':'x'}}", "{'tunnel:Claim/o':{'x':'x'}}", YES },
		{ "{'StringEqualsIgnoreCase':{'target:Tag/env':'Prod'}}", "{'target:Tag/env':'pROD'}", YES },
		{ "{'StringEqualsIgnoreCase':{'target:Tag/env':'Prod'}}", "{'target:Tag/env':'prd'}", NO },
		{ "{'StringEqualsIgnoreCase':{'target:Tag/env':'[x]'}}", "{'target:Tag/env':'{x}'}", NO },
		{ "{'StringEqualsIgnoreCase':{'target:Tag/env':'p*'}}", "{'target:Tag/env':'prod'}", NO },
		{ "{'StringNotEqualsIgnoreCase':{'target:Tag/env':'Prod'}}", "{'target:Tag/env':'PROD'}", NO },
		{ "{'StringNotEqualsIgnoreCase':{'target:Tag/env':'Prod'}}", "{'target:Tag/env':'test'}", YES },
		/* two keys of an operator, and two operators: all must hold */
		{ "{'StringEquals':{'tunnel:Login':'a','tunnel:Kind':'ssh'}}",
		  "{'tunnel:Login':'a','tunnel:Kind':'ssh'}", YES },
		{ "{'StringEquals':{'tunnel:Login':'a','tunnel:Kind':'ssh'}}",
		  "{'tunnel:Login':'a','tunnel:Kind':'tcp'}", NO },
		{ "{'StringEquals':{'tunnel:Login':'a'},'Bool':{'tunnel:Claim/mfa':true}}",
		  "{'tunnel:Login':'a','tunnel:Claim/mfa':false}", NO },
		{ "{}", "{}", YES },
	};
	CHECK(rows);
}

static void test_like(void **state)
{
	(void)state;
	static const struct row rows[] = {
		{ "{'StringLike':{'tunnel:Host':'*'}}", "{'tunnel:Host':''}", YES },
		{ "{'StringLike':{'tunnel:Host':'db-*'}}", "{'tunnel:Host':'db-'}", YES },
		{ "{'StringLike':{'tunnel:Host':'db-*'}}", "{'tunnel:Host':'db-1.example'}", YES },
		{ "{'StringLike':{'tunnel:Host':'db-*'}}", "{'tunnel:Host':'xdb-1'}", NO },
		{ "{'StringLike':{'tunnel:Host':'*.example'}}", "{'tunnel:Host':'a.example.example'}", YES },
		{ "{'StringLike':{'tunnel:Host':'*.example'}}", "{'tunnel:Host':'a.example.'}", NO },
		{ "{'StringLike':{'tunnel:Host':'a*b*c'}}", "{'tunnel:Host':'a-b-b-c-c'}", YES },
		{ "{'StringLike':{'tunnel:Host':'a*b*c'}}", "{'tunnel:Host':'a-c-b'}", NO },
		{ "{'StringLike':{'tunnel:Host':'a**c'}}", "{'tunnel:Host':'ac'}", YES },
		{ "{'StringLike':{'tunnel:Host':'*ab'}}", "{'tunnel:Host':'aab'}", YES },
		{ "{'StringLike':{'tunnel:Host':'*aab*'}}", "{'tunnel:Host':'aaab'}", YES },
		{ "{'StringLike':{'tunnel:Host':'*a?b'}}", "{'tunnel:Host':'a1a2b'}", YES },
		{ "{'StringLike':{'tunnel:Host':'*a?b'}}", "{'tunnel:Host':'a1b2'}", NO },
		{ "{'StringLike':{'tunnel:Host':'web-?'}}", "{'tunnel:Host':'web-1'}", YES },
		{ "{'StringLike':{'tunnel:Host':'web-?'}}", "{'tunnel:Host':'web-'}", NO },
		{ "{'StringLike':{'tunnel:Host':'web-?'}}", "{'tunnel:Host':'web-12'}", NO },
		{ "{'StringLike':{'tunnel:Host':'?'}}", "{'tunnel:Host':'\\u00fc'}", YES },
		{ "{'StringLike':{'tunnel:Host':'?\?'}}", "{'tunnel:Host':'\\u00fc'}", NO },
		{ "{'StringLike':{'tunnel:Host':'*?'}}", "{'tunnel:Host':''}", NO },
		{ "{'StringLike':{'tunnel:Host':'?*'}}", "{'tunnel:Host':'x'}", YES },
		{ "{'StringLike':{'tunnel:Host':'A*'}}", "{'tunnel:Host':'abc'}", NO },
		{ "{'StringLike':{'tunnel:Host':''}}", "{'tunnel:Host':''}", YES },
		{ "{'StringLike':{'tunnel:Host':''}}", "{'tunnel:Host':'x'}", NO },
		{ "{'StringLike':{'tunnel:Host':'a${*}b'}}", "{'tunnel:Host':'a*b'}", YES },
		{ "{'StringLike':{'tunnel:Host':'a${*}b'}}", "{'tunnel:Host':'axb'}", NO },
		{ "{'StringLike':{'tunnel:Host':'a${?}b'}}", "{'tunnel:Host':'axb'}", NO },
		{ "{'StringLike':{'tunnel:Host':'a${?}b'}}", "{'tunnel:Host':'a?b'}", YES },
		{ "{'StringLike':{'tunnel:Host':'${$}{x}'}}", "{'tunnel:Host':'${x}'}", YES },
		{ "{'StringLike':{'tunnel:Host':'$x$'}}", "{'tunnel:Host':'$x$'}", YES },
		{ "{'StringNotLike':{'tunnel:Host':'db-*'}}", "{'tunnel:Host':'db-1'}", NO },
		{ "{'StringNotLike':{'tunnel:Host':'db-*'}}", "{'tunnel:Host':'web-1'}", YES },
		{ "{'StringNotLike':{'tunnel:Host':['db-*','web-*']}}", "{'tunnel:Host':'web-1'}", NO },
	};
	CHECK(rows);
}

static void test_numeric_operators(void **state)
{
	(void)state;
	static const struct row rows[] = {
		{ "{'NumericEquals':{'tunnel:Port':5432}}", "{'tunnel:Port':5432}", YES },
		{ "{'NumericEquals':{'tunnel:Port':'5432'}}", "{'tunnel:Port':5432}", YES },
		{ "{'NumericEquals':{'tunnel:Port':5432}}", "{'tunnel:Port':'5432'}", YES },
		{ "{'NumericEquals':{'tunnel:Port':5432}}", "{'tunnel:Port':'5432 '}", NO },
		{ "{'NumericEquals':{'tunnel:Port':5432}}", "{'tunnel:Port':'0x1538'}", NO },
		{ "{'NumericEquals':{'tunnel:Port':5432}}", "{'tunnel:Port':5433}", NO },
		{ "{'NumericEquals':{'tunnel:Port':[22,5432]}}", "{'tunnel:Port':5432}", YES },
		{ "{'NumericEquals':{'tunnel:Claim/n':1.5}}", "{'tunnel:Claim/n':'15e-1'}", YES },
		{ "{'NumericEquals':{'tunnel:Claim/n':2}}", "{'tunnel:Claim/n':2.0}", YES },
		{ "{'NumericEquals':{'tunnel:Claim/n':9007199254740993}}", "{'tunnel:Claim/n':9007199254740992}", NO },
		{ "{'NumericEquals':{'tunnel:Claim/n':-3}}", "{'tunnel:Claim/n':'-3'}", YES },
		{ "{'NumericEquals':{'tunnel:Claim/n':1}}", "{'tunnel:Claim/n':true}", NO },
		{ "{'NumericNotEquals':{'tunnel:Port':22}}", "{'tunnel:Port':22}", NO },
		{ "{'NumericNotEquals':{'tunnel:Port':22}}", "{'tunnel:Port':23}", YES },
		{ "{'NumericNotEquals':{'tunnel:Port':22}}", "{'tunnel:Port':'ssh'}", YES },
		{ "{'NumericLessThan':{'tunnel:Port':1024}}", "{'tunnel:Port':1023}", YES },
		{ "{'NumericLessThan':{'tunnel:Port':1024}}", "{'tunnel:Port':1024}", NO },
		{ "{'NumericLessThan':{'tunnel:Port':1024}}", "{'tunnel:Port':'ssh'}", NO },
		{ "{'NumericLessThanEquals':{'tunnel:Port':1024}}", "{'tunnel:Port':1024}", YES },
		{ "{'NumericLessThanEquals':{'tunnel:Port':1024}}", "{'tunnel:Port':1025}", NO },
		{ "{'NumericGreaterThan':{'tunnel:Port':1024}}", "{'tunnel:Port':1024}", NO },
		{ "{'NumericGreaterThan':{'tunnel:Port':1024}}", "{'tunnel:Port':1025}", YES },
		{ "{'NumericGreaterThanEquals':{'tunnel:Port':1024}}", "{'tunnel:Port':1024}", YES },
		{ "{'NumericGreaterThanEquals':{'tunnel:Port':1024}}", "{'tunnel:Port':1023}", NO },
		{ "{'NumericGreaterThanEquals':{'tunnel:Claim/n':1.5}}", "{'tunnel:Claim/n':1}", NO },
	};
	CHECK(rows);
}

static void test_date_operators(void **state)
{
	(void)state;
	static const struct row rows[] = {
		{ "{'DateLessThan':{'tunnel:CurrentTime':'2026-06-01T00:00:00Z'}}",
		  "{'tunnel:CurrentTime':'2026-05-31T23:59:59.999Z'}", YES },
		{ "{'DateLessThan':{'tunnel:CurrentTime':'2026-06-01T00:00:00Z'}}",
		  "{'tunnel:CurrentTime':'2026-06-01T00:00:00Z'}", NO },
		{ "{'DateLessThan':{'tunnel:CurrentTime':'2026-06-01T00:00:00+02:00'}}",
		  "{'tunnel:CurrentTime':'2026-05-31T22:30:00Z'}", NO },
		{ "{'DateLessThanEquals':{'tunnel:CurrentTime':'2026-06-01T00:00:00Z'}}",
		  "{'tunnel:CurrentTime':'2026-06-01T00:00:00Z'}", YES },
		{ "{'DateGreaterThan':{'tunnel:CurrentTime':'2026-06-01T00:00:00Z'}}",
		  "{'tunnel:CurrentTime':'2026-06-01T00:00:00Z'}", NO },
		{ "{'DateGreaterThan':{'tunnel:CurrentTime':'2026-06-01T00:00:00Z'}}",
		  "{'tunnel:CurrentTime':'2026-06-01T00:00:00.001Z'}", YES },
		{ "{'DateGreaterThanEquals':{'tunnel:CurrentTime':'2026-06-01T00:00:00Z'}}",
		  "{'tunnel:CurrentTime':'2026-06-01T00:00:00Z'}", YES },
		{ "{'DateEquals':{'tunnel:CurrentTime':'2026-06-01T00:00:00Z'}}",
		  "{'tunnel:CurrentTime':'2026-06-01T02:00:00+02:00'}", YES },
		{ "{'DateEquals':{'tunnel:CurrentTime':1767225600}}", "{'tunnel:CurrentTime':'2026-01-01T00:00:00Z'}",
		  YES },
		{ "{'DateEquals':{'tunnel:Claim/until':'2026-01-01T00:00:00Z'}}", "{'tunnel:Claim/until':1767225600}",
		  YES },
		{ "{'DateNotEquals':{'tunnel:CurrentTime':'2026-06-01T00:00:00Z'}}",
		  "{'tunnel:CurrentTime':'2026-06-01T00:00:00Z'}", NO },
		{ "{'DateNotEquals':{'tunnel:CurrentTime':'2026-06-01T00:00:00Z'}}",
		  "{'tunnel:CurrentTime':'2026-06-02T00:00:00Z'}", YES },
		{ "{'DateLessThan':{'tunnel:CurrentTime':'2026-06-01T00:00:00Z'}}", "{'tunnel:CurrentTime':'soon'}",
		  NO },
		{ "{'DateLessThan':{'tunnel:CurrentTime':'2026-06-01T00:00:00Z'}}",
		  "{'tunnel:CurrentTime':'2026-02-30T00:00:00Z'}", NO },
		{ "{'DateLessThan':{'tunnel:CurrentTime':'2026-06-01T00:00:00Z'}}",
		  "{'tunnel:CurrentTime':'2026-02-29T00:00:00Z'}", NO },
		{ "{'DateLessThan':{'tunnel:CurrentTime':'2026-06-01T00:00:00Z'}}",
		  "{'tunnel:CurrentTime':'2024-02-29T00:00:00Z'}", YES },
		/* a window: both ends */
		{ "{'DateGreaterThan':{'tunnel:CurrentTime':'2026-01-01T00:00:00Z'},"
		  "'DateLessThan':{'tunnel:CurrentTime':'2026-02-01T00:00:00Z'}}",
		  "{'tunnel:CurrentTime':'2026-01-15T00:00:00Z'}", YES },
		{ "{'DateGreaterThan':{'tunnel:CurrentTime':'2026-01-01T00:00:00Z'},"
		  "'DateLessThan':{'tunnel:CurrentTime':'2026-02-01T00:00:00Z'}}",
		  "{'tunnel:CurrentTime':'2026-02-15T00:00:00Z'}", NO },
	};
	CHECK(rows);
}

static void test_bool_and_addresses(void **state)
{
	(void)state;
	static const struct row rows[] = {
		{ "{'Bool':{'tunnel:Claim/mfa':true}}", "{'tunnel:Claim/mfa':true}", YES },
		{ "{'Bool':{'tunnel:Claim/mfa':'true'}}", "{'tunnel:Claim/mfa':true}", YES },
		{ "{'Bool':{'tunnel:Claim/mfa':true}}", "{'tunnel:Claim/mfa':'true'}", YES },
		{ "{'Bool':{'tunnel:Claim/mfa':true}}", "{'tunnel:Claim/mfa':false}", NO },
		{ "{'Bool':{'tunnel:Claim/mfa':false}}", "{'tunnel:Claim/mfa':false}", YES },
		{ "{'Bool':{'tunnel:Claim/mfa':true}}", "{'tunnel:Claim/mfa':1}", NO },
		{ "{'Bool':{'tunnel:Claim/mfa':true}}", "{'tunnel:Claim/mfa':'True'}", NO },
		{ "{'Bool':{'tunnel:Claim/mfa':false}}", "{}", NO },
		{ "{'IpAddress':{'tunnel:SourceIp':'10.0.0.0/8'}}", "{'tunnel:SourceIp':'10.255.3.4'}", YES },
		{ "{'IpAddress':{'tunnel:SourceIp':'10.0.0.0/8'}}", "{'tunnel:SourceIp':'11.0.0.0'}", NO },
		{ "{'IpAddress':{'tunnel:SourceIp':'192.0.2.128/25'}}", "{'tunnel:SourceIp':'192.0.2.127'}", NO },
		{ "{'IpAddress':{'tunnel:SourceIp':'192.0.2.128/25'}}", "{'tunnel:SourceIp':'192.0.2.128'}", YES },
		{ "{'IpAddress':{'tunnel:SourceIp':'192.0.2.7'}}", "{'tunnel:SourceIp':'192.0.2.7'}", YES },
		{ "{'IpAddress':{'tunnel:SourceIp':'192.0.2.7/32'}}", "{'tunnel:SourceIp':'192.0.2.6'}", NO },
		{ "{'IpAddress':{'tunnel:SourceIp':'0.0.0.0/0'}}", "{'tunnel:SourceIp':'203.0.113.9'}", YES },
		{ "{'IpAddress':{'tunnel:SourceIp':'0.0.0.0/0'}}", "{'tunnel:SourceIp':'2001:db8::1'}", NO },
		{ "{'IpAddress':{'tunnel:SourceIp':'::/0'}}", "{'tunnel:SourceIp':'2001:db8::1'}", YES },
		{ "{'IpAddress':{'tunnel:SourceIp':'::/0'}}", "{'tunnel:SourceIp':'192.0.2.7'}", NO },
		{ "{'IpAddress':{'tunnel:SourceIp':'2001:db8::/33'}}", "{'tunnel:SourceIp':'2001:db8:7fff::1'}", YES },
		{ "{'IpAddress':{'tunnel:SourceIp':'2001:db8::/33'}}", "{'tunnel:SourceIp':'2001:db8:8000::1'}", NO },
		{ "{'IpAddress':{'tunnel:SourceIp':'10.0.0.0/8'}}", "{'tunnel:SourceIp':'::ffff:10.1.2.3'}", YES },
		{ "{'IpAddress':{'tunnel:SourceIp':'::ffff:10.0.0.0/104'}}", "{'tunnel:SourceIp':'10.1.2.3'}", YES },
		{ "{'IpAddress':{'tunnel:SourceIp':'fe80::/10'}}", "{'tunnel:SourceIp':'fe80::1%eth0'}", YES },
		{ "{'IpAddress':{'tunnel:SourceIp':['10.0.0.0/8','192.0.2.0/24']}}", "{'tunnel:SourceIp':'192.0.2.7'}",
		  YES },
		{ "{'IpAddress':{'tunnel:SourceIp':'10.0.0.0/8'}}", "{'tunnel:SourceIp':'office'}", NO },
		{ "{'NotIpAddress':{'tunnel:SourceIp':'10.0.0.0/8'}}", "{'tunnel:SourceIp':'10.0.0.1'}", NO },
		{ "{'NotIpAddress':{'tunnel:SourceIp':'10.0.0.0/8'}}", "{'tunnel:SourceIp':'192.0.2.7'}", YES },
		{ "{'NotIpAddress':{'tunnel:SourceIp':['10.0.0.0/8','192.0.2.0/24']}}",
		  "{'tunnel:SourceIp':'192.0.2.7'}", NO },
		{ "{'NotIpAddress':{'tunnel:SourceIp':'10.0.0.0/8'}}", "{'tunnel:SourceIp':'office'}", YES },
	};
	CHECK(rows);
}

static void test_missing_keys(void **state)
{
	(void)state;
	static const struct row rows[] = {
		{ "{'StringEquals':{'tunnel:Login':'a'}}", "{}", NO },
		{ "{'StringEquals':{'tunnel:Login':'a'}}", NULL, NO },
		{ "{'StringEquals':{'tunnel:Login':'a'}}", "{'tunnel:Login':null}", NO },
		{ "{'StringEquals':{'tunnel:Login':'a'}}", "{'tunnel:Login':[]}", NO },
		{ "{'StringLike':{'tunnel:Login':'*'}}", "{}", NO },
		{ "{'StringNotEquals':{'tunnel:Login':'a'}}", "{}", YES },
		{ "{'StringNotLike':{'tunnel:Login':'*'}}", "{}", YES },
		{ "{'StringNotEqualsIgnoreCase':{'tunnel:Login':'a'}}", "{}", YES },
		{ "{'StringEqualsIgnoreCase':{'tunnel:Login':'a'}}", "{}", NO },
		{ "{'NumericEquals':{'tunnel:Port':1}}", "{}", NO },
		{ "{'NumericNotEquals':{'tunnel:Port':1}}", "{}", YES },
		{ "{'NumericLessThan':{'tunnel:Port':1}}", "{}", NO },
		{ "{'NumericGreaterThan':{'tunnel:Port':1}}", "{}", NO },
		{ "{'DateLessThan':{'tunnel:CurrentTime':'2026-06-01T00:00:00Z'}}", "{}", NO },
		{ "{'DateNotEquals':{'tunnel:CurrentTime':'2026-06-01T00:00:00Z'}}", "{}", YES },
		{ "{'IpAddress':{'tunnel:SourceIp':'0.0.0.0/0'}}", "{}", NO },
		{ "{'NotIpAddress':{'tunnel:SourceIp':'0.0.0.0/0'}}", "{}", YES },
		{ "{'StringEqualsIfExists':{'tunnel:Login':'a'}}", "{}", YES },
		{ "{'StringEqualsIfExists':{'tunnel:Login':'a'}}", "{'tunnel:Login':null}", YES },
		{ "{'StringEqualsIfExists':{'tunnel:Login':'a'}}", "{'tunnel:Login':'a'}", YES },
		{ "{'StringEqualsIfExists':{'tunnel:Login':'a'}}", "{'tunnel:Login':'b'}", NO },
		{ "{'StringNotLikeIfExists':{'tunnel:Login':'a*'}}", "{'tunnel:Login':'ab'}", NO },
		{ "{'NumericLessThanEqualsIfExists':{'tunnel:Port':5}}", "{}", YES },
		{ "{'NumericLessThanEqualsIfExists':{'tunnel:Port':5}}", "{'tunnel:Port':6}", NO },
		{ "{'DateGreaterThanIfExists':{'tunnel:CurrentTime':'2026-06-01T00:00:00Z'}}", "{}", YES },
		{ "{'BoolIfExists':{'tunnel:Claim/mfa':true}}", "{}", YES },
		{ "{'BoolIfExists':{'tunnel:Claim/mfa':true}}", "{'tunnel:Claim/mfa':false}", NO },
		{ "{'IpAddressIfExists':{'tunnel:SourceIp':'10.0.0.0/8'}}", "{}", YES },
		{ "{'IpAddressIfExists':{'tunnel:SourceIp':'10.0.0.0/8'}}", "{'tunnel:SourceIp':'1.2.3.4'}", NO },
		{ "{'Null':{'tunnel:Claim/mfa':true}}", "{}", YES },
		{ "{'Null':{'tunnel:Claim/mfa':'true'}}", "{'tunnel:Claim/mfa':null}", YES },
		{ "{'Null':{'tunnel:Claim/mfa':true}}", "{'tunnel:Claim/mfa':false}", NO },
		{ "{'Null':{'tunnel:Claim/mfa':false}}", "{'tunnel:Claim/mfa':false}", YES },
		{ "{'Null':{'tunnel:Claim/mfa':'false'}}", "{}", NO },
		{ "{'Null':{'tunnel:Claim/mfa':[true,false]}}", "{}", YES },
		{ "{'Null':{'tunnel:Subject':false}}", "{}", YES },
		{ "{'Null':{'tunnel:Claim/mfa':false}}", "{'tunnel:Claim/mfa':[]}", NO },
	};
	CHECK(rows);
}

static void test_sets(void **state)
{
	(void)state;
	static const struct row rows[] = {
		/* without a set word: any value for plain operators, no value for inverted ones */
		{ "{'StringEquals':{'tunnel:Group':'ops'}}", "{}", YES },
		{ "{'StringEquals':{'tunnel:Group':'admin'}}", "{}", NO },
		{ "{'StringNotEquals':{'tunnel:Group':'ops'}}", "{}", NO },
		{ "{'StringNotEquals':{'tunnel:Group':'admin'}}", "{}", YES },
		{ "{'StringLike':{'tunnel:Claim/r':'a*'}}", "{'tunnel:Claim/r':['b','ab']}", YES },
		{ "{'NumericGreaterThan':{'tunnel:Claim/r':5}}", "{'tunnel:Claim/r':[1,9]}", YES },
		{ "{'ForAnyValue:StringEquals':{'tunnel:Group':['admin','ops']}}", "{}", YES },
		{ "{'ForAnyValue:StringEquals':{'tunnel:Group':['admin','root']}}", "{}", NO },
		{ "{'ForAnyValue:StringNotEquals':{'tunnel:Group':'ops'}}", "{}", YES },
		{ "{'ForAnyValue:StringNotEquals':{'tunnel:Group':['ops','dev']}}", "{}", NO },
		{ "{'ForAnyValue:StringEquals':{'tunnel:Claim/r':'a'}}", "{}", NO },
		{ "{'ForAnyValue:StringNotEquals':{'tunnel:Claim/r':'a'}}", "{}", NO },
		{ "{'ForAnyValue:StringEquals':{'tunnel:Claim/r':'a'}}", "{'tunnel:Claim/r':[]}", NO },
		{ "{'ForAnyValue:StringEqualsIfExists':{'tunnel:Claim/r':'a'}}", "{}", YES },
		{ "{'ForAnyValue:StringEquals':{'tunnel:Claim/r':'a'}}", "{'tunnel:Claim/r':'a'}", YES },
		{ "{'ForAllValues:StringEquals':{'tunnel:Group':['dev','ops','admin']}}", "{}", YES },
		{ "{'ForAllValues:StringEquals':{'tunnel:Group':['dev']}}", "{}", NO },
		{ "{'ForAllValues:StringNotEquals':{'tunnel:Group':['admin']}}", "{}", YES },
		{ "{'ForAllValues:StringNotEquals':{'tunnel:Group':['admin','dev']}}", "{}", NO },
		{ "{'ForAllValues:StringEquals':{'tunnel:Claim/r':'a'}}", "{}", YES },
		{ "{'ForAllValues:StringEquals':{'tunnel:Claim/r':'a'}}", "{'tunnel:Claim/r':[]}", YES },
		{ "{'ForAllValues:StringEquals':{'tunnel:Claim/r':'a'}}", "{'tunnel:Claim/r':['a',null]}", NO },
		{ "{'ForAllValues:StringLike':{'tunnel:Claim/r':'a*'}}", "{'tunnel:Claim/r':['ab','ac']}", YES },
		{ "{'ForAllValues:NumericLessThan':{'tunnel:Claim/r':5}}", "{'tunnel:Claim/r':[1,4]}", YES },
		{ "{'ForAllValues:NumericLessThan':{'tunnel:Claim/r':5}}", "{'tunnel:Claim/r':[1,5]}", NO },
		{ "{'ForAnyValue:IpAddress':{'tunnel:Claim/r':'10.0.0.0/8'}}",
		  "{'tunnel:Claim/r':['192.0.2.1','10.1.1.1']}", YES },
		{ "{'ForAllValues:Bool':{'tunnel:Claim/r':true}}", "{'tunnel:Claim/r':[true,'true']}", YES },
		/* the context cannot say who asks */
		{ "{'StringEquals':{'tunnel:Group':'admin'}}", "{'tunnel:Group':['admin']}", NO },
		{ "{'StringEquals':{'tunnel:Subject':'root'}}", "{'tunnel:Subject':'root'}", NO },
		{ "{'StringEquals':{'tunnel:Subject':'alice'}}", "{'tunnel:Subject':'root'}", YES },
	};
	CHECK(rows);
}

static void test_variables(void **state)
{
	(void)state;
	static const struct row rows[] = {
		{ "{'StringEquals':{'tunnel:Login':'${tunnel:Subject}'}}", "{'tunnel:Login':'alice'}", YES },
		{ "{'StringEquals':{'tunnel:Login':'${tunnel:Subject}'}}", "{'tunnel:Login':'bob'}", NO },
		{ "{'StringEquals':{'tunnel:Login':'x-${tunnel:Subject}-y'}}", "{'tunnel:Login':'x-alice-y'}", YES },
		{ "{'StringEquals':{'tunnel:Login':'x-${tunnel:Subject}-y'}}", "{'tunnel:Login':'x-alice-'}", NO },
		{ "{'StringEquals':{'tunnel:Login':'${tunnel:Claim/u}'}}",
		  "{'tunnel:Login':'al','tunnel:Claim/u':'al'}", YES },
		{ "{'StringEquals':{'tunnel:Login':'${tunnel:Claim/u}${target:Tag/t}'}}",
		  "{'tunnel:Login':'ab','tunnel:Claim/u':'a','target:Tag/t':'b'}", YES },
		{ "{'StringEquals':{'tunnel:Login':'u${tunnel:Port}'}}", "{'tunnel:Login':'u22','tunnel:Port':22}",
		  YES },
		/* without value */
		{ "{'StringEquals':{'tunnel:Login':'${tunnel:Claim/u}'}}", "{'tunnel:Login':''}", NO },
		{ "{'StringLike':{'tunnel:Login':'*${tunnel:Claim/u}*'}}", "{'tunnel:Login':'a'}", NO },
		{ "{'StringEquals':{'tunnel:Login':['${tunnel:Claim/u}','a']}}", "{'tunnel:Login':'a'}", YES },
		{ "{'StringNotEquals':{'tunnel:Login':'${tunnel:Claim/u}'}}", "{'tunnel:Login':'a'}", DENY_ONLY },
		{ "{'StringNotLike':{'tunnel:Login':'${tunnel:Claim/u}*'}}", "{'tunnel:Login':'a'}", DENY_ONLY },
		{ "{'StringNotEquals':{'tunnel:Login':['${tunnel:Claim/u}','a']}}", "{'tunnel:Login':'a'}", NO },
		{ "{'ForAllValues:StringNotEquals':{'tunnel:Group':'${tunnel:Claim/u}'}}", "{}", DENY_ONLY },
		{ "{'StringEquals':{'tunnel:Login':'${tunnel:Claim/u}'}}",
		  "{'tunnel:Login':'a','tunnel:Claim/u':['a']}", NO },
		{ "{'StringEquals':{'tunnel:Login':'${tunnel:Claim/u}'}}",
		  "{'tunnel:Login':'null','tunnel:Claim/u':null}", NO },
		/* defaults */
		{ "{'StringEquals':{'tunnel:Login':'${tunnel:Claim/u, `guest`}'}}", "{'tunnel:Login':'guest'}", YES },
		{ "{'StringEquals':{'tunnel:Login':'${tunnel:Claim/u,`guest`}'}}", "{'tunnel:Login':'guest'}", YES },
		{ "{'StringEquals':{'tunnel:Login':'${tunnel:Claim/u, `guest`}'}}",
		  "{'tunnel:Login':'guest','tunnel:Claim/u':'al'}", NO },
		{ "{'StringEquals':{'tunnel:Login':'${tunnel:Claim/u, `a}b`}'}}", "{'tunnel:Login':'a}b'}", YES },
		{ "{'StringEquals':{'tunnel:Login':'${tunnel:Claim/u, ``}x'}}", "{'tunnel:Login':'x'}", YES },
		/* a value is text, never a pattern */
		{ "{'StringLike':{'tunnel:Login':'${tunnel:Claim/u}'}}", "{'tunnel:Login':'a','tunnel:Claim/u':'*'}",
		  NO },
		{ "{'StringLike':{'tunnel:Login':'${tunnel:Claim/u}'}}", "{'tunnel:Login':'*','tunnel:Claim/u':'*'}",
		  YES },
		{ "{'StringLike':{'tunnel:Login':'${tunnel:Claim/u, `*`}'}}", "{'tunnel:Login':'a'}", NO },
		{ "{'StringEquals':{'tunnel:Login':'${tunnel:Claim/u}'}}",
		  "{'tunnel:Login':'alice','tunnel:Claim/u':'${tunnel:Subject}'}", NO },
		{ "{'StringLike':{'tunnel:Login':'${tunnel:Subject}-*'}}", "{'tunnel:Login':'alice-dev'}", YES },
		{ "{'StringLike':{'tunnel:Login':'*${tunnel:Claim/u}'}}", "{'tunnel:Login':'x','tunnel:Claim/u':''}",
		  YES },
		{ "{'StringEqualsIgnoreCase':{'tunnel:Login':'${tunnel:Claim/u}'}}",
		  "{'tunnel:Login':'AL','tunnel:Claim/u':'al'}", YES },
		{ "{'StringEquals':{'tunnel:Login':'${tunnel:Claim/a b}'}}",
		  "{'tunnel:Login':'x','tunnel:Claim/a b':'x'}", YES },
	};
	CHECK(rows);
}

/* Time would be the proof, but a test that takes hours is one as well. */
static void test_hostile_patterns_end(void **state)
{
	(void)state;
	char pattern[64], *value = malloc(60001);
	strcpy(pattern, "*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a?a*b");
	memset(value, 'a', 60000);
	value[60000] = '\0';
	json_t *document = json_pack("{s:s, s:{s:s, s:s, s:s, s:s, s:{s:{s:s}}}}", "Version", "2026-01-01", "Statement",
				     "Effect", "Allow", "Principal", "*", "Action", "*", "Resource", "*", "Condition",
				     "StringLike", "tunnel:Host", pattern);
	json_t *context = json_pack("{s:s}", "tunnel:Host", value);
	struct policy *p = NULL;
	struct policy_decision d;
	assert_int_equal(policy_parse("p", document, &p, NULL, NULL), 0);
	const struct policy_request q = { "alice", NULL, "tunnel:OpenSsh", "target/a", context };
	policy_evaluate((const struct policy *const *)&p, 1, &q, &d);
	assert_int_equal(d.effect, POLICY_NO_MATCH);
	policy_free(&p);
	json_decref(document);
	json_decref(context);
	free(value);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_string_operators),
		cmocka_unit_test(test_like),
		cmocka_unit_test(test_numeric_operators),
		cmocka_unit_test(test_date_operators),
		cmocka_unit_test(test_bool_and_addresses),
		cmocka_unit_test(test_missing_keys),
		cmocka_unit_test(test_sets),
		cmocka_unit_test(test_variables),
		cmocka_unit_test(test_hostile_patterns_end),
	};
	return RUN_CASES(tests);
}
