#include "many.h"

#include "base/clock.h"

#include <stdio.h>

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

json_t *many_statements(int n, bool similar)
{
	json_t *statements = json_array();
	for (int i = 0; i < n; i++)
		json_array_append_new(statements, statement(i, similar));
	return json_pack("{s:s, s:o}", "Version", "2026-01-01", "Statement", statements);
}

double many_judge_us(const struct policy *p, int rounds, int per_round, enum policy_effect *out_effect)
{
	json_t *groups = json_pack("[s,s,s]", "staff", "developers", "vpn");
	json_t *context = json_pack("{s:s, s:s, s:s, s:s, s:s}", "tunnel:SourceIp", "10.1.2.3", "tunnel:CurrentTime",
				    "2026-06-01T12:00:00.123Z", "target:Tag/team", "red", "tunnel:Claim/team", "blue",
				    "tunnel:Login", "deploy");
	const struct policy_request q = { "alice", groups, "tunnel:OpenSsh", "target/web-17", context };
	struct policy_decision d = { .effect = POLICY_NO_MATCH };
	double least = -1;
	for (int i = 0; i < rounds; i++) {
		int64_t start = clock_mono_us();
		for (int k = 0; k < per_round; k++)
			policy_evaluate(&p, 1, &q, &d);
		double us = (double)(clock_mono_us() - start) / per_round;
		least = least < 0 || us < least ? us : least;
	}
	*out_effect = d.effect;
	json_decref(groups);
	json_decref(context);
	return least;
}
