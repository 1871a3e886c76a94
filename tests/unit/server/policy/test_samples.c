/* The sample policies of etc/policies: each can be put, and does what its Id promises. All of them are in force at
 * once. */
#include "support/case.h"

#include "base/file.h"
#include "base/json.h"
#include "server/policy/policy.h"

#include <dirent.h>

#define MAX 16

struct samples {
	struct policy *at[MAX];
	size_t n;
};

static int load(void **state)
{
	struct samples *s = calloc(1, sizeof *s);
	DIR *dir = opendir(SAMPLES);
	assert_non_null(dir);
	for (struct dirent *d; (d = readdir(dir));) {
		char path[512], name[128];
		struct buf text;
		struct err e = { 0 };
		json_t *document = NULL;
		size_t len = strlen(d->d_name);
		if (len < 6 || strcmp(d->d_name + len - 5, ".json") != 0)
			continue;
		snprintf(path, sizeof path, "%s/%s", SAMPLES, d->d_name);
		snprintf(name, sizeof name, "%.*s", (int)len - 5, d->d_name);
		if (file_read(path, 65536, &text, &e) != 0 ||
		    json_parse((const char *)buf_data(&text), text.len, &document, &e) != 0 || s->n == MAX ||
		    policy_parse(name, document, &s->at[s->n], NULL, &e) != 0 ||
		    policy_check_meets(document, NULL, &e) != 0)
			fail_msg("%s: %s", path, e.text);
		s->n++;
		json_decref(document);
		buf_free(&text);
	}
	closedir(dir);
	assert_int_equal(s->n, 6);
	*state = s;
	return 0;
}

static int unload(void **state)
{
	struct samples *s = *state;
	for (size_t i = 0; i < s->n; i++)
		policy_free(&s->at[i]);
	free(s);
	return 0;
}

struct row {
	const char *subject, *groups, *action, *resource, *context;
	const char *by; /* statement that decides; NULL: none */
	enum policy_effect effect;
};

#define TEAM "\"tunnel:Claim/team\":\"blue\",\"tunnel:Claim/unix_login\":\"ann\",\"target:Tag/team\":\"blue\""
#define DB "\"target:Tag/role\":\"db\",\"tunnel:SourceIp\":\"10.1.2.3\""
#define GLASS "\"tunnel:Claim/mfa\":true,\"tunnel:Claim/incident\":\"INC-7\""

static void check(void **state, const struct row *rows, size_t n)
{
	struct samples *s = *state;
	for (size_t i = 0; i < n; i++) {
		const struct row *r = &rows[i];
		json_t *groups = json_loads(r->groups, 0, NULL), *context = json_loads(r->context, 0, NULL);
		assert_non_null(groups);
		assert_non_null(context);
		const struct policy_request q = { r->subject, groups, r->action, r->resource, context };
		struct policy_decision d;
		policy_evaluate((const struct policy *const *)s->at, s->n, &q, &d);
		if (d.effect != r->effect || strcmp(d.statement, r->by ? r->by : "") != 0)
			fail_msg("row %zu: %d by \"%s\"", i, (int)d.effect, d.statement);
		json_decref(groups);
		json_decref(context);
	}
}
#define CHECK(rows) check(state, rows, sizeof(rows) / sizeof *(rows))

static void test_developers(void **state)
{
	static const struct row rows[] = {
		{ "ann", "[\"developers\"]", "tunnel:StartSession", "target/web-1", "{" TEAM "}", "SeeTeamTargets",
		  POLICY_ALLOW },
		{ "ann", "[\"developers\"]", "tunnel:OpenSsh", "target/web-1", "{" TEAM ",\"tunnel:Login\":\"ann\"}",
		  "OwnLoginOrDeploy", POLICY_ALLOW },
		{ "ann", "[\"developers\"]", "tunnel:OpenSsh", "target/web-1", "{" TEAM ",\"tunnel:Login\":\"bob\"}",
		  NULL, POLICY_NO_MATCH },
		{ "ann", "[\"developers\"]", "tunnel:OpenSsh", "target/web-1",
		  "{\"tunnel:Login\":\"deploy\",\"target:Tag/team\":\"\"}", NULL, POLICY_NO_MATCH },
		{ "ann", "[\"developers\"]", "tunnel:StartSession", "target/web-1",
		  "{" TEAM ",\"target:Tag/env\":\"PROD\"}", "NoProduction", POLICY_DENY },
		{ "ann", "[\"developers\",\"on-call\"]", "tunnel:StartSession", "target/web-1",
		  "{" TEAM ",\"target:Tag/env\":\"prod\"}", "SeeTeamTargets", POLICY_ALLOW },
		{ "ann", "[\"developers\"]", "tunnel:TerminateSession", "session/s-1",
		  "{\"session:Principal\":\"ann\"}", "OwnSessions", POLICY_ALLOW },
		{ "ann", "[\"developers\"]", "tunnel:TerminateSession", "session/s-1",
		  "{\"session:Principal\":\"bob\"}", NULL, POLICY_NO_MATCH },
		{ "ann", "[]", "tunnel:StartSession", "target/web-1", "{" TEAM "}", NULL, POLICY_NO_MATCH },
	};
	CHECK(rows);
}

static void test_operators(void **state)
{
	static const struct row rows[] = {
		{ "oz", "[\"operators\"]", "tunnel:StartSession", "target/web-1", "{\"target:Tag/role\":\"web\"}",
		  "WebTargets", POLICY_ALLOW },
		{ "oz", "[\"operators\"]", "tunnel:StartSession", "target/db-1", "{\"target:Tag/role\":\"db\"}", NULL,
		  POLICY_NO_MATCH },
		{ "oz", "[\"operators\"]", "tunnel:OpenSsh", "target/web-1",
		  "{\"target:Tag/role\":\"web\",\"tunnel:Login\":\"deploy\"}", "TheirLogins", POLICY_ALLOW },
		{ "oz", "[\"operators\"]", "tunnel:OpenSsh", "target/web-1",
		  "{\"target:Tag/role\":\"web\",\"tunnel:Login\":\"postgres\"}", NULL, POLICY_NO_MATCH },
		{ "oz", "[\"staff\"]", "tunnel:OpenSsh", "target/web-1",
		  "{\"target:Tag/role\":\"web\",\"tunnel:Login\":\"deploy\"}", NULL, POLICY_NO_MATCH },
	};
	CHECK(rows);
}

static void test_dba(void **state)
{
	static const struct row rows[] = {
		{ "dee", "[\"dba\"]", "tunnel:OpenTcp", "target/db-1",
		  "{" DB ",\"tunnel:Host\":\"127.0.0.1\",\"tunnel:Port\":5432}", "Postgres", POLICY_ALLOW },
		{ "dee", "[\"dba\"]", "tunnel:OpenTcp", "target/db-1",
		  "{" DB ",\"tunnel:Host\":\"127.0.0.1\",\"tunnel:Port\":22}", NULL, POLICY_NO_MATCH },
		{ "dee", "[\"dba\"]", "tunnel:OpenTcp", "target/db-1",
		  "{" DB ",\"tunnel:Host\":\"10.0.0.9\",\"tunnel:Port\":5432}", NULL, POLICY_NO_MATCH },
		{ "dee", "[\"dba\"]", "tunnel:OpenSsh", "target/db-1", "{" DB ",\"tunnel:Login\":\"postgres\"}", NULL,
		  POLICY_NO_MATCH },
		{ "dee", "[\"dba\"]", "tunnel:StartSession", "target/db-1",
		  "{\"target:Tag/role\":\"db\",\"tunnel:SourceIp\":\"203.0.113.9\"}", "OfficeOnly", POLICY_DENY },
		{ "dee", "[\"dba\"]", "tunnel:StartSession", "target/db-1", "{\"target:Tag/role\":\"db\"}",
		  "OfficeOnly", POLICY_DENY },
		{ "dee", "[\"dba\"]", "tunnel:StartSession", "target/db-1", "{" DB "}", "SeeDatabases", POLICY_ALLOW },
	};
	CHECK(rows);
}

static void test_auditors(void **state)
{
	static const struct row rows[] = {
		{ "eve", "[\"auditors\"]", "tunnel:ReadAudit", "audit", "{}", "ReadAll", POLICY_ALLOW },
		{ "eve", "[\"auditors\"]", "tunnel:DescribeSessions", "session/s-1", "{}", "ReadAll", POLICY_ALLOW },
		{ "eve", "[\"auditors\"]", "tunnel:PutPolicy", "policy/x", "{}", "NothingElse", POLICY_DENY },
		{ "eve", "[\"auditors\",\"developers\"]", "tunnel:StartSession", "target/web-1", "{" TEAM "}",
		  "NothingElse", POLICY_DENY },
	};
	CHECK(rows);
}

static void test_break_glass(void **state)
{
	static const struct row rows[] = {
		{ "admin-1", "[]", "tunnel:EnrollTarget", "target/x", "{" GLASS "}", "Emergency", POLICY_ALLOW },
		{ "admin-1", "[]", "tunnel:OpenSsh", "target/x", "{" GLASS ",\"tunnel:Login\":\"root\"}", "Emergency",
		  POLICY_ALLOW },
		{ "admin-1", "[]", "tunnel:OpenSsh", "target/x",
		  "{\"tunnel:Claim/mfa\":true,\"tunnel:Login\":\"root\"}", "NoRootWithoutIncident", POLICY_DENY },
		{ "admin-1", "[]", "tunnel:EnrollTarget", "target/x", "{\"tunnel:Claim/incident\":\"INC-7\"}", NULL,
		  POLICY_NO_MATCH },
		{ "admin-1", "[]", "tunnel:EnrollTarget", "target/x",
		  "{\"tunnel:Claim/mfa\":true,\"tunnel:Claim/incident\":\"INC-\"}", NULL, POLICY_NO_MATCH },
		{ "admin-3", "[]", "tunnel:EnrollTarget", "target/x", "{" GLASS "}", NULL, POLICY_NO_MATCH },
		{ "admin-1", "[]", "tunnel:PutPolicy", "policy/break-glass-admin", "{" GLASS "}", "StaysAsItIs",
		  POLICY_DENY },
		{ "admin-1", "[]", "tunnel:PutPolicy", "policy/other", "{" GLASS "}", "Emergency", POLICY_ALLOW },
	};
	CHECK(rows);
}

static void test_administrators(void **state)
{
	static const struct row rows[] = {
		{ "ada", "[\"administrators\"]", "tunnel:PutPolicy", "policy/x", "{}", "Everything", POLICY_ALLOW },
		{ "ada", "[\"administrators\"]", "tunnel:OpenSsh", "target/x", "{\"tunnel:Login\":\"root\"}",
		  "NoRootWithoutIncident", POLICY_DENY },
		{ "administrators", "[]", "tunnel:PutPolicy", "policy/x", "{}", NULL, POLICY_NO_MATCH },
	};
	CHECK(rows);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_developers, load, unload),
		cmocka_unit_test_setup_teardown(test_operators, load, unload),
		cmocka_unit_test_setup_teardown(test_dba, load, unload),
		cmocka_unit_test_setup_teardown(test_auditors, load, unload),
		cmocka_unit_test_setup_teardown(test_break_glass, load, unload),
		cmocka_unit_test_setup_teardown(test_administrators, load, unload),
	};
	return RUN_CASES(tests);
}
