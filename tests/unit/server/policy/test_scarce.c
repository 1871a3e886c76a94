/* Each single allocation fails once while a policy is read and asked. Then the policy is refused for want of memory, or
 * it decides as it does otherwise: never is something allowed because a part of it was lost. */
#include "support/case.h"
#include "support/failing_alloc.h"

#include "quotes.h"
#include "server/policy/policy.h"
#include "server/policy/who.h"

static const char document_text[] =
	"{'Version':'2026-01-01','Statement':["
	"{'Sid':'Web','Effect':'Allow','Principal':{'User':['alice','bob'],'Group':'dev'},'Action':['tunnel:"
	"StartSession',"
	"'tunnel:OpenSsh'],'Resource':['target/web-*','target/${tunnel:Subject}'],'Condition':{'StringEquals':"
	"{'tunnel:Login':['deploy','root']},'IpAddress':{'tunnel:SourceIp':['10.0.0.0/8','2001:db8::/32']}}},"
	"{'Effect':'Deny','NotPrincipal':{'Group':'ops'},'Action':'tunnel:OpenSsh','Resource':'*','Condition':"
	"{'StringLike':{'tunnel:Login':'ro*'}}}]}";

static const struct {
	const char *subject, *login;
	enum policy_effect effect;
} asked[] = {
	{ "alice", "deploy", POLICY_ALLOW },
	{ "alice", "root", POLICY_DENY },
	{ "carol", "deploy", POLICY_NO_MATCH },
	{ "alice", "other", POLICY_NO_MATCH },
};

struct inputs {
	json_t *document, *wrong, *contexts[4];
};

static void check_decisions(const struct policy *p, const struct inputs *in)
{
	for (size_t i = 0; i < sizeof asked / sizeof *asked; i++) {
		const struct policy_request q = { asked[i].subject, NULL, "tunnel:OpenSsh", "target/web-1",
						  in->contexts[i] };
		struct policy_decision d;
		policy_evaluate(&p, 1, &q, &d);
		assert_int_equal(d.effect, asked[i].effect);
	}
}

static bool read_and_ask(void *arg)
{
	const struct inputs *in = arg;
	struct policy *p = NULL;
	struct err e = { 0 };
	int rc = policy_parse("p", in->document, &p, NULL, &e);
	if (rc == 0)
		check_decisions(p, in);
	bool failed = failing_alloc_over();
	if (rc != 0 && !(failed && rc == ERR_NOMEM && e.text[0]))
		fail_msg("%d: %s", rc, e.text);
	assert_true((rc == 0) == (p != NULL));
	policy_free(&p);
	return failed;
}

/* What is wrong with a document stays wrong, whether there is memory to tell all of it or not. */
static bool read_mistakes(void *arg)
{
	const struct inputs *in = arg;
	struct policy *p = NULL;
	struct policy_mistakes mistakes = { NULL, 0 };
	struct err e = { 0 };
	int rc = policy_parse("p", in->wrong, &p, &mistakes, &e);
	bool failed = failing_alloc_over();
	assert_true((rc == ERR_INVALID || (failed && rc == ERR_NOMEM)) && !p && e.text[0]);
	policy_mistakes_free(&mistakes);
	return failed;
}

static bool ask_who(void *arg)
{
	const struct inputs *in = arg;
	const struct policy_who_question question = { "tunnel:OpenSsh", NULL };
	struct policy *p = NULL;
	struct err e = { 0 };
	json_t *rows = NULL;
	bool more = false;
	int rc = policy_parse("p", in->document, &p, NULL, &e);
	if (rc == 0)
		rc = policy_who((const struct policy *const *)&p, 1, "target/web-1", &question, 1, &rows, &more, &e);
	bool failed = failing_alloc_over();
	if (rc != 0 && !(failed && rc == ERR_NOMEM && e.text[0]))
		fail_msg("%d: %s", rc, e.text);
	assert_int_equal(json_array_size(rows), rc == 0 ? 3 : 0);
	json_decref(rows);
	policy_free(&p);
	return failed;
}

static void sweep(bool (*run)(void *arg))
{
	struct inputs in;
	failing_alloc_json(false);
	in.document = quotes_json(document_text);
	in.wrong = quotes_json("{'Version':'2026-01-01','Statement':[{'Effect':'Maybe','Action':'tunnel:Nothing',"
			       "'Resource':'x','Condition':{'StringEquls':{}}}]}");
	for (size_t i = 0; i < 4; i++)
		in.contexts[i] = json_pack("{s:s, s:s}", "tunnel:Login", asked[i].login, "tunnel:SourceIp", "10.1.2.3");
	assert_true(failing_alloc_sweep(run, &in) > 1);
	for (size_t i = 0; i < 4; i++)
		json_decref(in.contexts[i]);
	json_decref(in.document);
	json_decref(in.wrong);
}

static void test_decisions_are_the_same_or_there_is_none(void **state)
{
	(void)state;
	sweep(read_and_ask);
}

static void test_mistakes_stay_mistakes(void **state)
{
	(void)state;
	sweep(read_mistakes);
}

static void test_who_is_whole_or_refused(void **state)
{
	(void)state;
	sweep(ask_who);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_decisions_are_the_same_or_there_is_none),
		cmocka_unit_test(test_mistakes_stay_mistakes),
		cmocka_unit_test(test_who_is_whole_or_refused),
	};
	return RUN_CASES(tests);
}
