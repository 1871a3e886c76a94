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
	{ "{}", "Version is missing" },
	{ "{" V "}", "Statement is missing" },
	{ "{'Version':'2012-10-17','Statement':[" GOOD "]}", "Version: unknown version; allowed: \"2026-01-01\"" },
	{ "{'Version':20260101,'Statement':[" GOOD "]}", "Version: unknown version; allowed: \"2026-01-01\"" },
	{ "{" V ",'Statements':[]}",
	  "Statements: unknown field; did you mean Statement? allowed: Version, Id, Statement" },
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
	  "Statement[0]: only one of Principal or NotPrincipal is allowed" },
	{ DOC("{" HOW "," WHO ",'NotAction':'tunnel:Revoke'," WHAT "," WHERE "}"),
	  "Statement[0]: only one of Action or NotAction is allowed" },
	{ DOC("{" HOW "," WHO "," WHAT "," WHERE ",'NotResource':'audit'}"),
	  "Statement[0]: only one of Resource or NotResource is allowed" },
	{ DOC("{" HOW "," WHO "," WHAT ",'Resourc':'*'}"),
	  "Statement[0].Resourc: unknown field; did you mean Resource? allowed: Sid, Effect, Principal, NotPrincipal, "
	  "Action" },
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
	  "Statement[0].Action: unknown action \"tunnel:StartSesion\"; did you mean tunnel:StartSession? allowed: "
	  "tunnel: "
	  "StartSession, ResumeSession" },
	{ DOC("{" HOW "," WHO ",'Action':['tunnel:OpenSsh','tunnel:openssh']," WHERE "}"),
	  "Statement[0].Action[1]: unknown action \"tunnel:openssh\"; did you mean tunnel:OpenSsh? allowed: tunnel: " },
	{ DOC("{" HOW "," WHO ",'Action':'OpenShell'," WHERE "}"),
	  "Statement[0].Action: unknown action \"OpenShell\"; allowed: tunnel: StartSession, ResumeSession, "
	  "TerminateSession, DescribeSessions, ListTargets, EnrollTarget, DeregisterTarget, PutPolicy, GetPolicy, "
	  "Revoke, "
	  "ReadAudit, ReadMetrics, OpenSsh, OpenTcp, OpenUnix, AcceptTcp, ListNodes" },
	{ DOC("{" HOW "," WHO ",'Action':'openssh'," WHERE "}"),
	  "Statement[0].Action: unknown action \"openssh\"; did you mean tunnel:OpenSsh?" },
	{ DOC("{" HOW "," WHO ",'Action':'tunnel:Close*'," WHERE "}"),
	  "Statement[0].Action: no action matches \"tunnel:Close*\"; allowed:" },
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
	  "principal/<name>, credential/<id>, audit, metrics, nodes, *" },
	{ DOC("{" HOW "," WHO "," WHAT ",'Resource':'targets/x'}"), "Statement[0].Resource: unknown resource" },
	{ DOC("{" HOW "," WHO "," WHAT ",'Resource':'*/x'}"), "Statement[0].Resource: unknown resource" },
	{ DOC("{" HOW "," WHO "," WHAT ",'Resource':7}"), "Statement[0].Resource: expected string" },
	{ DOC("{" HOW "," WHO "," WHAT ",'NotResource':'target/${tunnel:Claim/x'}"),
	  "Statement[0].NotResource: \"${\" without \"}\"" },
	{ DOC("{" HOW "," WHO "," WHAT ",'Resource':'target/${aws:username}'}"),
	  "Statement[0].Resource: unknown condition key \"aws:username\"; allowed: tunnel:Login" },
	{ DOC("{" HOW "," WHO "," WHAT ",'Resource':'target/${tunnel:Group}'}"),
	  "Statement[0].Resource: tunnel:Group has several values and cannot be a variable" },
	{ DOC("{" HOW "," WHO "," WHAT ",'Resource':'target/${tunnel:Claim/x, y}'}"),
	  "Statement[0].Resource: default value of a variable; allowed: ${key, 'text'}" },
	{ DOC("{" HOW "," WHO "," WHAT ",'Resource':'target/${tunnel:Claim/x, `y`'}"),
	  "Statement[0].Resource: \"${\" without \"}\"" },
	{ DOC("{" HOW "," WHO "," WHAT ",'Resource':'target/${}'}"), "Statement[0].Resource: unknown condition key" },
	/* Condition */
	{ COND("[]"), "Statement[0].Condition: expected object of operators" },
	{ COND("{'StringEquls':{'tunnel:Login':'a'}}"), "Statement[0].Condition.StringEquls: unknown operator; did you "
							"mean StringEquals? allowed: String[Not]Equals[IgnoreCase]" },
	{ COND("{'IfExists':{'tunnel:Login':'a'}}"), "Statement[0].Condition.IfExists: unknown operator" },
	{ COND("{'ForAnyValue:':{'tunnel:Login':'a'}}"), "Statement[0].Condition.ForAnyValue:: unknown operator" },
	{ COND("{'NullIfExists':{'tunnel:Login':true}}"), "Statement[0].Condition.NullIfExists: Null takes neither" },
	{ COND("{'ForAllValues:Null':{'tunnel:Login':true}}"), "Statement[0].Condition.ForAllValues:Null: Null takes" },
	{ COND("{'StringEquals':'x'}"), "Statement[0].Condition.StringEquals: expected object of condition keys" },
	{ COND("{'StringEquals':{}}"), "Statement[0].Condition.StringEquals: expected object of condition keys" },
	{ COND("{'StringEquals':{'tunnel:Logn':'x'}}"),
	  "Statement[0].Condition.StringEquals.tunnel:Logn: unknown condition key \"tunnel:Logn\"; did you mean "
	  "tunnel:Login? allowed: tunnel:Login, "
	  "Host" },
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

static const char *at(const struct policy_mistakes *m, size_t i, const char *member)
{
	return json_string_value(json_object_get(json_array_get(m->list, i), member));
}

/* The first one, as it is told. */
static void expect(const json_t *document, const char *complaint, const char *what)
{
	struct policy *p = NULL;
	struct policy_mistakes m = { .n = 0 };
	struct err e = { 0 };
	char first[1024] = "";
	int rc = policy_parse("p", document, &p, &m, &e);
	if (rc == 0)
		fail_msg("accepted: %s", what);
	assert_int_equal(rc, ERR_INVALID);
	assert_int_equal(e.code, ERR_INVALID);
	assert_null(p);
	if (m.n)
		snprintf(first, sizeof first, "%s%s%s", at(&m, 0, "path"), *at(&m, 0, "path") ? ": " : "",
			 at(&m, 0, "text"));
	else
		snprintf(first, sizeof first, "%s", e.text);
	if (strncmp(first, complaint, strlen(complaint)) != 0)
		fail_msg("%s: \"%s\", expected \"%s\"", what, first, complaint);
	assert_true(m.n <= 1 || strstr(e.text, " mistakes; the first: ") != NULL);
	assert_true(m.n != 1 || strncmp(e.text, first, sizeof e.text - 1) == 0);
	policy_mistakes_free(&m);
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

/* One answer has them all; what is right between them does not hide the rest. */
static void test_all_at_once(void **state)
{
	(void)state;
	static const char *const paths[] = {
		"Id",
		"Statement[0].Effect",
		"Statement[0].Principal.User[0]",
		"Statement[0].Principal.Grup",
		"Statement[0].Action[0]",
		"Statement[0].Action[2]",
		"Statement[0].Resource[1]",
		"Statement[0].Condition.StringEquls",
		"Statement[0].Condition.IpAddress.tunnel:SourceIp[0]",
		"Statement[0].Condition.IpAddress.tunnel:SourceIp[2]",
		"Statement[0].Condition.Bool.tunnel:Claim/",
		"Statement[1]",
		"Statement[2]",
		"Statement[5].Sid",
		"",
	};
	json_t *document = quotes_json(
		"{'Id':7,'Statement':[{'Effect':'Alow','Principal':{'User':['dev-*','a'],'Grup':'x'},"
		"'Action':['tunnel:OpenSh','tunnel:OpenSsh','tunnel:${x}'],'Resource':['*','web-1'],"
		"'Condition':{'StringEquls':{'tunnel:Login':'a'},'IpAddress':{'tunnel:SourceIp':['x','::1','y']},"
		"'Bool':{'tunnel:Claim/':true,'tunnel:Claim/mfa':true}}},7,{}," GOOD ",{'Sid':'s'," HOW "," WHO "," WHAT
		"," WHERE "},{'Sid':'s'," HOW "," WHO "," WHAT "," WHERE "}]}");
	struct policy *p = NULL;
	struct policy_mistakes m = { .n = 0 };
	struct err e = { 0 };
	assert_int_equal(policy_parse("p", document, &p, &m, &e), ERR_INVALID);
	for (size_t i = 0; i < json_array_size(m.list); i++)
		print_message("%s: %s\n", at(&m, i, "path"), at(&m, i, "text"));
	assert_non_null(strstr(e.text, "18 mistakes; the first: Id: expected string"));
	assert_int_equal(m.n, sizeof paths / sizeof *paths + 3); /* Statement[2] lacks four fields */
	assert_int_equal(json_array_size(m.list), m.n);
	for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
		bool found = false;
		for (size_t k = 0; k < m.n && !found; k++)
			found = strcmp(at(&m, k, "path"), paths[i]) == 0;
		if (!found)
			fail_msg("nothing is told of \"%s\"", paths[i]);
	}
	policy_mistakes_free(&m);
	json_decref(document);
}

/* More than are told are counted. */
static void test_so_many(void **state)
{
	(void)state;
	json_t *list = json_array();
	for (size_t i = 0; i < LIMIT_POLICY_LIST; i++)
		json_array_append_new(list, json_string("tunnel:OpenShel"));
	json_t *document = quotes_json(DOC(GOOD)), *first = json_array_get(json_object_get(document, "Statement"), 0);
	json_object_set_new(first, "Action", list);
	struct policy *p = NULL;
	struct policy_mistakes m = { .n = 0 };
	struct err e = { 0 };
	assert_int_equal(policy_parse("p", document, &p, &m, &e), ERR_INVALID);
	assert_int_equal(m.n, LIMIT_POLICY_LIST);
	assert_int_equal(json_array_size(m.list), LIMIT_POLICY_MISTAKES);
	assert_string_equal(at(&m, LIMIT_POLICY_MISTAKES - 1, "path"), "Statement[0].Action[31]");
	policy_mistakes_free(&m);
	assert_null(m.list);
	json_decref(document);
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
	if (policy_parse("p", document, &p, NULL, &e) != 0)
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
	assert_int_equal(policy_parse("a b", document, &p, NULL, &e), ERR_INVALID);
	assert_non_null(strstr(e.text, "policy name \"a b\"; allowed: letters"));
	assert_int_equal(policy_parse("base-1.x", document, &p, NULL, &e), 0);
	assert_string_equal(policy_name(p), "base-1.x");
	policy_free(&p);
	policy_free(&p);
	json_decref(document);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_documents), cmocka_unit_test(test_all_at_once),  cmocka_unit_test(test_so_many),
		cmocka_unit_test(test_ceilings),  cmocka_unit_test(test_policy_names),
	};
	return RUN_CASES(tests);
}
