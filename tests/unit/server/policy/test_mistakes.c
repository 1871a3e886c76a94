/* Documents that are refused, each with the place and what is allowed there. */
#include "support/case.h"

#include "base/limits.h"
#include "quotes.h"
#include "server/policy/policy.h"

struct row {
	const char *document, *complaint; /* its beginning */
};

#define V "'Version':'2026-01-01'"
#define WHO "'Principal':'*'"
#define WHAT "'Action':'*'"
#define WHERE "'Resource':'*'"
#define HOW "'Effect':'Allow'"
#define DOC(statement) "{" V ",'Statement':[" statement "]}"
#define GOOD "{" HOW "," WHO "," WHAT "," WHERE "}"
#define COND(condition) DOC("{" HOW "," WHO "," WHAT "," WHERE ",'Condition':" condition "}")

static const struct row rows[] = {
	{ "[]", "policy: expected object" },
	{ "{}", "Version: missing" },
	{ "{" V "}", "Statement: missing" },
	{ "{'Version':'2012-10-17','Statement':[" GOOD "]}", "Version: unknown version; allowed: \"2026-01-01\"" },
	{ "{'Version':20260101,'Statement':[" GOOD "]}", "Version: unknown version; allowed: \"2026-01-01\"" },
	{ "{" V ",'Statements':[]}", "Statements: unknown field; allowed: Version, Id, Statement" },
	{ "{" V ",'Id':7,'Statement':[" GOOD "]}", "Id: expected string" },
	{ "{" V ",'Id':'','Statement':[" GOOD "]}", "Id: 0 bytes long; allowed: 1 to 1024" },
	{ "{" V ",'Statement':[]}", "Statement: 0 statements; allowed: 1 to 1000" },
	{ "{" V ",'Statement':'x'}", "Statement: expected a statement object, or an array of them" },
	{ DOC("7"), "Statement[0]: expected object" },
	{ DOC(GOOD ",[]"), "Statement[1]: expected object" },
	{ DOC("{}"), "Statement[0]: Effect is missing" },
	{ "{" V ",'Statement':{}}", "Statement: Effect is missing" },
	{ DOC("{" HOW "," WHAT "," WHERE "}"), "Statement[0]: Principal or NotPrincipal is missing" },
	{ DOC("{" HOW "," WHO "," WHERE "}"), "Statement[0]: Action or NotAction is missing" },
	{ DOC("{" HOW "," WHO "," WHAT "}"), "Statement[0]: Resource or NotResource is missing" },
	{ DOC(GOOD ",{" HOW "," WHO ",'NotPrincipal':'*'," WHAT "," WHERE "}"),
	  "Statement[1]: only one of Principal or NotPrincipal is allowed" },
	{ DOC("{" HOW ",'Principal':{'User':'a'},'NotPrincipal':{'User':'b'}," WHAT "," WHERE "}"),
	  "Statement[0].NotPrincipal: only one of" },
	{ DOC("{" HOW "," WHO ",'NotAction':'tunnel:Revoke'," WHAT "," WHERE "}"),
	  "Statement[0]: only one of Action or NotAction is allowed" },
	{ DOC("{" HOW "," WHO "," WHAT "," WHERE ",'NotResource':'audit'}"),
	  "Statement[0].NotResource: only one of Resource or NotResource is allowed" },
	{ DOC("{" HOW "," WHO "," WHAT ",'Resourc':'*'}"),
	  "Statement[0].Resourc: unknown field; allowed: Sid, Effect, Principal, NotPrincipal, Action" },
	{ DOC("{'Effect':'allow'," WHO "," WHAT "," WHERE "}"),
	  "Statement[0].Effect: unknown effect; allowed: \"Allow\", \"Deny\"" },
	{ DOC("{'Effect':true," WHO "," WHAT "," WHERE "}"), "Statement[0].Effect: unknown effect" },
	/* Sid */
	{ DOC("{'Sid':'a b'," HOW "," WHO "," WHAT "," WHERE "}"),
	  "Statement[0].Sid: \"a b\" is no name; allowed: letters" },
	{ DOC("{'Sid':7," HOW "," WHO "," WHAT "," WHERE "}"), "Statement[0].Sid: expected string" },
	{ DOC("{'Sid':'x'," HOW "," WHO "," WHAT "," WHERE "}," GOOD ",{'Sid':'x'," HOW "," WHO "," WHAT "," WHERE "}"),
	  "Statement[2].Sid: \"x\" is Statement[0]'s already" },
	/* Principal */
	{ DOC("{" HOW ",'Principal':'alice'," WHAT "," WHERE "}"),
	  "Statement[0].Principal: expected \"*\", or an object" },
	{ DOC("{" HOW ",'Principal':{}," WHAT "," WHERE "}"), "Statement[0].Principal: expected \"*\", or an object" },
	{ DOC("{" HOW ",'Principal':{'Role':'x'}," WHAT "," WHERE "}"),
	  "Statement[0].Principal.Role: unknown field; allowed: User, Group" },
	{ DOC("{" HOW ",'Principal':{'User':[]}," WHAT "," WHERE "}"),
	  "Statement[0].Principal.User: 0 entries; allowed: 1 to 256" },
	{ DOC("{" HOW ",'Principal':{'User':['a',7]}," WHAT "," WHERE "}"),
	  "Statement[0].Principal.User[1]: expected string" },
	{ DOC("{" HOW ",'Principal':{'User':''}," WHAT "," WHERE "}"), "Statement[0].Principal.User: 0 bytes long" },
	{ DOC("{" HOW ",'NotPrincipal':{'Group':['ok','dev-*']}," WHAT "," WHERE "}"),
	  "Statement[0].NotPrincipal.Group[1]: wildcards in a name; allowed: \"*\" alone, or a Condition" },
	{ DOC("{" HOW ",'Principal':{'User':'${tunnel:Claim/x}'}," WHAT "," WHERE "}"),
	  "Statement[0].Principal.User: variables are not allowed here" },
	/* Action */
	{ DOC("{" HOW "," WHO ",'Action':'tunnel:StartSesion'," WHERE "}"),
	  "Statement[0].Action: unknown action; allowed: tunnel: StartSession, ResumeSession" },
	{ DOC("{" HOW "," WHO ",'Action':['tunnel:OpenSsh','tunnel:openssh']," WHERE "}"),
	  "Statement[0].Action[1]: unknown action" },
	{ DOC("{" HOW "," WHO ",'Action':'tunnel:Close*'," WHERE "}"),
	  "Statement[0].Action: no action matches; allowed:" },
	{ DOC("{" HOW "," WHO ",'Action':{}," WHERE "}"), "Statement[0].Action: expected string" },
	{ DOC("{" HOW "," WHO ",'Action':[]," WHERE "}"), "Statement[0].Action: 0 entries" },
	{ DOC("{" HOW "," WHO ",'NotAction':'*'," WHERE "}"), "Statement[0].NotAction: leaves no action" },
	{ DOC("{" HOW "," WHO ",'Action':[['*']]," WHERE "}"), "Statement[0].Action[0]: expected string" },
	{ DOC("{" HOW "," WHO ",'Action':'tunnel:${*}'," WHERE "}"), "Statement[0].Action: variables are not allowed" },
	/* Resource */
	{ DOC("{" HOW "," WHO "," WHAT ",'Resource':'web-1'}"),
	  "Statement[0].Resource: unknown resource \"web-1\"; allowed: target/<id>, session/<id>" },
	{ DOC("{" HOW "," WHO "," WHAT ",'Resource':['*','target/']}"), "Statement[0].Resource[1]: unknown resource" },
	{ DOC("{" HOW "," WHO "," WHAT ",'Resource':['principal/a','credential/*','principal/']}"),
	  "Statement[0].Resource[2]: unknown resource \"principal/\"; allowed: target/<id>, session/<id>, "
	  "policy/<name>, "
	  "principal/<name>, credential/<id>, audit, metrics, *" },
	{ DOC("{" HOW "," WHO "," WHAT ",'Resource':'targets/x'}"), "Statement[0].Resource: unknown resource" },
	{ DOC("{" HOW "," WHO "," WHAT ",'Resource':'*/x'}"), "Statement[0].Resource: unknown resource" },
	{ DOC("{" HOW "," WHO "," WHAT ",'Resource':7}"), "Statement[0].Resource: expected string" },
	{ DOC("{" HOW "," WHO "," WHAT ",'NotResource':'target/${tunnel:Claim/x'}"),
	  "Statement[0].NotResource: \"${\" without \"}\"" },
	{ DOC("{" HOW "," WHO "," WHAT ",'Resource':'target/${aws:username}'}"),
	  "Statement[0].Resource: unknown condition key; allowed: tunnel:Login" },
	{ DOC("{" HOW "," WHO "," WHAT ",'Resource':'target/${tunnel:Group}'}"),
	  "Statement[0].Resource: tunnel:Group has several values and cannot be a variable" },
	{ DOC("{" HOW "," WHO "," WHAT ",'Resource':'target/${tunnel:Claim/x, y}'}"),
	  "Statement[0].Resource: default value of a variable; allowed: ${key, 'text'}" },
	{ DOC("{" HOW "," WHO "," WHAT ",'Resource':'target/${tunnel:Claim/x, `y`'}"),
	  "Statement[0].Resource: \"${\" without \"}\"" },
	{ DOC("{" HOW "," WHO "," WHAT ",'Resource':'target/${}'}"), "Statement[0].Resource: unknown condition key" },
	/* Condition */
	{ COND("[]"), "Statement[0].Condition: expected object of operators" },
	{ COND("{'StringEquls':{'tunnel:Login':'a'}}"),
	  "Statement[0].Condition.StringEquls: unknown operator; allowed: String[Not]Equals[IgnoreCase]" },
	{ COND("{'IfExists':{'tunnel:Login':'a'}}"), "Statement[0].Condition.IfExists: unknown operator" },
	{ COND("{'ForAnyValue:':{'tunnel:Login':'a'}}"), "Statement[0].Condition.ForAnyValue:: unknown operator" },
	{ COND("{'NullIfExists':{'tunnel:Login':true}}"), "Statement[0].Condition.NullIfExists: Null takes neither" },
	{ COND("{'ForAllValues:Null':{'tunnel:Login':true}}"), "Statement[0].Condition.ForAllValues:Null: Null takes" },
	{ COND("{'StringEquals':'x'}"), "Statement[0].Condition.StringEquals: expected object of condition keys" },
	{ COND("{'StringEquals':{}}"), "Statement[0].Condition.StringEquals: expected object of condition keys" },
	{ COND("{'StringEquals':{'tunnel:Logn':'x'}}"),
	  "Statement[0].Condition.StringEquals.tunnel:Logn: unknown condition key; allowed: tunnel:Login, Host" },
	{ COND("{'StringEquals':{'tunnel:Claim/':'x'}}"),
	  "Statement[0].Condition.StringEquals.tunnel:Claim/: unknown condition key" },
	{ COND("{'StringEquals':{'tunnel:Login':[]}}"),
	  "Statement[0].Condition.StringEquals.tunnel:Login: 0 entries; allowed: 1 to 256" },
	{ COND("{'StringEquals':{'tunnel:Login':['a',{}]}}"),
	  "Statement[0].Condition.StringEquals.tunnel:Login[1]: expected string, number or boolean" },
	{ COND("{'StringEquals':{'tunnel:Login':null}}"),
	  "Statement[0].Condition.StringEquals.tunnel:Login: expected" },
	{ COND("{'StringEquals':{'tunnel:Login':'${x}'}}"),
	  "Statement[0].Condition.StringEquals.tunnel:Login: unknown condition key" },
	{ COND("{'NumericEquals':{'tunnel:Port':['22','ssh']}}"),
	  "Statement[0].Condition.NumericEquals.tunnel:Port[1]: expected number" },
	{ COND("{'NumericEquals':{'tunnel:Port':''}}"),
	  "Statement[0].Condition.NumericEquals.tunnel:Port: expected number" },
	{ COND("{'NumericEquals':{'tunnel:Port':'1e999'}}"),
	  "Statement[0].Condition.NumericEquals.tunnel:Port: expected number" },
	{ COND("{'NumericEquals':{'tunnel:Port':'${tunnel:Claim/p}'}}"),
	  "Statement[0].Condition.NumericEquals.tunnel:Port: variables are not allowed here" },
	{ COND("{'DateLessThan':{'tunnel:CurrentTime':'2026-02-30T00:00:00Z'}}"),
	  "Statement[0].Condition.DateLessThan.tunnel:CurrentTime: expected date; allowed: 2026-01-31T09:15:00Z" },
	{ COND("{'DateLessThan':{'tunnel:CurrentTime':'2026-01-01'}}"),
	  "Statement[0].Condition.DateLessThan.tunnel:CurrentTime: expected date" },
	{ COND("{'DateLessThan':{'tunnel:CurrentTime':' 2026-01-01T00:00:00Z'}}"),
	  "Statement[0].Condition.DateLessThan.tunnel:CurrentTime: expected date" },
	{ COND("{'DateLessThan':{'tunnel:CurrentTime':1767225600000}}"),
	  "Statement[0].Condition.DateLessThan.tunnel:CurrentTime: expected date" },
	{ COND("{'Bool':{'tunnel:Claim/mfa':'yes'}}"),
	  "Statement[0].Condition.Bool.tunnel:Claim/mfa: expected true or false" },
	{ COND("{'Null':{'tunnel:Claim/mfa':0}}"),
	  "Statement[0].Condition.Null.tunnel:Claim/mfa: expected true or false" },
	{ COND("{'IpAddress':{'tunnel:SourceIp':'10.0.0.0/33'}}"),
	  "Statement[0].Condition.IpAddress.tunnel:SourceIp: prefix length out of range; allowed: 0 to 32" },
	{ COND("{'IpAddress':{'tunnel:SourceIp':'::/129'}}"),
	  "Statement[0].Condition.IpAddress.tunnel:SourceIp: prefix length out of range; allowed: 0 to 128" },
	{ COND("{'IpAddress':{'tunnel:SourceIp':'10.0.0.1/8'}}"),
	  "Statement[0].Condition.IpAddress.tunnel:SourceIp: address has bits behind its prefix" },
	{ COND("{'IpAddress':{'tunnel:SourceIp':['10.0.0.0/8','10.0.0.0/']}}"),
	  "Statement[0].Condition.IpAddress.tunnel:SourceIp[1]: not an address or network; allowed: 192.0.2.7" },
	{ COND("{'NotIpAddress':{'tunnel:SourceIp':'10.0.0'}}"),
	  "Statement[0].Condition.NotIpAddress.tunnel:SourceIp: not an address" },
	{ COND("{'IpAddress':{'tunnel:SourceIp':'10.0.0.0/08'}}"),
	  "Statement[0].Condition.IpAddress.tunnel:SourceIp: not an address" },
	{ COND("{'IpAddress':{'tunnel:SourceIp':'::ffff:10.0.0.0/90'}}"),
	  "Statement[0].Condition.IpAddress.tunnel:SourceIp: prefix of a v4-mapped network" },
	{ COND("{'IpAddress':{'tunnel:SourceIp':7}}"),
	  "Statement[0].Condition.IpAddress.tunnel:SourceIp: expected string; allowed: 192.0.2.7" },
	/* what a terminal must not get */
	{ DOC("{'\\u001b[31m\\u00fc':1}"), "Statement[0].?[31m??: unknown field" },
};

static void expect(const json_t *document, const char *complaint, const char *what)
{
	struct policy *p = NULL;
	struct err e = { 0 };
	int rc = policy_parse("p", document, &p, &e);
	if (rc == 0)
		fail_msg("accepted: %s", what);
	assert_int_equal(rc, ERR_INVALID);
	assert_int_equal(e.code, ERR_INVALID);
	assert_null(p);
	if (strncmp(e.text, complaint, strlen(complaint)) != 0)
		fail_msg("%s: \"%s\", expected \"%s\"", what, e.text, complaint);
}

static void test_documents(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		json_t *document = quotes_json(rows[i].document);
		expect(document, rows[i].complaint, rows[i].document);
		json_decref(document);
	}
}

static json_t *statement_with(const char *field, json_t *value)
{
	json_t *s = quotes_json(GOOD);
	json_object_set_new(s, field, value);
	return json_pack("{s:s, s:o}", "Version", "2026-01-01", "Statement", s);
}

static json_t *many(const char *text, size_t n)
{
	json_t *list = json_array();
	for (size_t i = 0; i < n; i++)
		json_array_append_new(list, json_string(text));
	return list;
}

static json_t *repeated(const char *text, size_t n)
{
	char *all = calloc(n + 1, strlen(text));
	for (size_t i = 0; i < n; i++)
		strcat(all, text);
	json_t *json = json_string(all);
	free(all);
	return json;
}

static json_t *conditions(size_t n)
{
	json_t *keys = json_object();
	char key[64];
	for (size_t i = 0; i < n; i++) {
		snprintf(key, sizeof key, "tunnel:Claim/%zu", i);
		json_object_set_new(keys, key, json_string("x"));
	}
	return json_pack("{s:o}", "StringEquals", keys);
}

static void accept(json_t *document)
{
	struct policy *p = NULL;
	struct err e = { 0 };
	if (policy_parse("p", document, &p, &e) != 0)
		fail_msg("%s", e.text);
	policy_free(&p);
	json_decref(document);
}

static void refuse(json_t *document, const char *complaint)
{
	expect(document, complaint, complaint);
	json_decref(document);
}

/* Each ceiling: the last value that fits, and the next one. */
static void test_ceilings(void **state)
{
	(void)state;
	json_t *all = json_array();
	for (size_t i = 0; i < LIMIT_POLICY_STATEMENTS; i++)
		json_array_append_new(all, quotes_json(GOOD));
	json_t *document = json_pack("{s:s, s:O}", "Version", "2026-01-01", "Statement", all);
	accept(json_incref(document));
	json_array_append_new(all, quotes_json(GOOD));
	json_decref(all);
	refuse(document, "Statement: 1001 statements; allowed: 1 to 1000");

	accept(statement_with("Action", many("tunnel:Revoke", LIMIT_POLICY_LIST)));
	refuse(statement_with("Action", many("tunnel:Revoke", LIMIT_POLICY_LIST + 1)),
	       "Statement.Action: 257 entries; allowed: 1 to 256");
	accept(statement_with("Condition", conditions(LIMIT_POLICY_CONDITIONS)));
	refuse(statement_with("Condition", conditions(LIMIT_POLICY_CONDITIONS + 1)),
	       "Statement.Condition.StringEquals.tunnel:Claim/64: more than 64 conditions");
	refuse(statement_with("Resource", repeated("target/aaaaaaaaa", 65)),
	       "Statement.Resource: 1040 bytes long; allowed: 1 to 1024");
	accept(statement_with("Resource", repeated("target/a*", LIMIT_POLICY_PIECES / 2)));
	refuse(statement_with("Resource", repeated("target/a*", LIMIT_POLICY_PIECES / 2 + 1)),
	       "Statement.Resource: more than 64 wildcards and variables");
	accept(statement_with("Resource", repeated("target/${tunnel:Login}", LIMIT_POLICY_VARIABLES)));
	refuse(statement_with("Resource", repeated("target/${tunnel:Login}", LIMIT_POLICY_VARIABLES + 1)),
	       "Statement.Resource: more than 8 variables");
}

static void test_policy_names(void **state)
{
	(void)state;
	json_t *document = quotes_json(DOC(GOOD));
	struct policy *p = NULL;
	struct err e = { 0 };
	assert_int_equal(policy_parse("a b", document, &p, &e), ERR_INVALID);
	assert_non_null(strstr(e.text, "policy name \"a b\"; allowed: letters"));
	assert_int_equal(policy_parse("base-1.x", document, &p, &e), 0);
	assert_string_equal(policy_name(p), "base-1.x");
	policy_free(&p);
	policy_free(&p);
	json_decref(document);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_documents),
		cmocka_unit_test(test_ceilings),
		cmocka_unit_test(test_policy_names),
	};
	return RUN_CASES(tests);
}
