/* How long does it take to judge a request against a thousand statements? Not a test: run it by hand, in release. */
#include "base/clock.h"
#include "server/policy/policy.h"

#include <stdio.h>
#include <stdlib.h>

#define STATEMENTS 1000
#define ROUNDS 2000

static json_t *statement(int i, bool similar)
{
	char resource[64];
	snprintf(resource, sizeof resource, similar ? "target/web-*" : "target/team-%d-*", i);
	return json_pack("{s:s, s:{s:[s,s]}, s:[s,s], s:s, s:{s:{s:s}, s:{s:s}, s:{s:[s,s]}}}", "Effect",
			 i % 10 ? "Allow" : "Deny", "Principal", "Group", "developers", "operators", "Action",
			 "tunnel:StartSession", "tunnel:OpenSsh", "Resource", resource, "Condition", "IpAddress",
			 "tunnel:SourceIp", "10.0.0.0/8", "DateLessThan", "tunnel:CurrentTime", "2030-01-01T00:00:00Z",
			 "StringEquals", "target:Tag/team", "${tunnel:Claim/team}", "shared");
}

static void measure(const char *name, bool similar)
{
	json_t *statements = json_array();
	for (int i = 0; i < STATEMENTS; i++)
		json_array_append_new(statements, statement(i, similar));
	json_t *document = json_pack("{s:s, s:o}", "Version", "2026-01-01", "Statement", statements);
	json_t *groups = json_pack("[s,s,s]", "staff", "developers", "vpn");
	json_t *context = json_pack("{s:s, s:s, s:s, s:s, s:s}", "tunnel:SourceIp", "10.1.2.3", "tunnel:CurrentTime",
				    "2026-06-01T12:00:00.123Z", "target:Tag/team", "red", "tunnel:Claim/team", "blue",
				    "tunnel:Login", "deploy");
	struct policy *p = NULL;
	struct err e = { 0 };
	int64_t start = clock_mono_us();
	if (policy_parse("p", document, &p, NULL, &e) != 0) {
		fprintf(stderr, "%s\n", e.text);
		exit(1);
	}
	int64_t parsed = clock_mono_us();
	const struct policy_request q = { "alice", groups, "tunnel:OpenSsh", "target/web-17", context };
	struct policy_decision d;
	for (int i = 0; i < ROUNDS; i++)
		policy_evaluate((const struct policy *const *)&p, 1, &q, &d);
	int64_t end = clock_mono_us();
	printf("%s: %d statements, parse %.2f ms, evaluate %.1f us (effect %d)\n", name, STATEMENTS,
	       (double)(parsed - start) / 1000, (double)(end - parsed) / ROUNDS, (int)d.effect);
	policy_free(&p);
	json_decref(document);
	json_decref(groups);
	json_decref(context);
}

int main(void)
{
	measure("other resources", false);
	measure("all conditions judged", true);
	return 0;
}
