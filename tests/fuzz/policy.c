/* A policy document and a request: {"policy": …, "subject", "groups", "action", "resource", "context"}. A document that
 * parses parses again from its own text; a decision names its statement, obeys what is promised of Allow and Deny, and
 * is that of a second evaluator (tests/unit/server/policy/naive.c). */
#include "fuzz.h"

#include "base/json.h"
#include "server/policy/who.h"
#include "unit/server/policy/naive.h"

#include <stdlib.h>
#include <string.h>

static struct policy *parse(const char *name, const json_t *document)
{
	struct policy *p = NULL;
	struct err e;
	int rc = policy_parse(name, document, &p, NULL, &e);
	FUZZ_CHECK((rc == 0) == (p != NULL));
	FUZZ_CHECK(rc == 0 || (rc == ERR_INVALID && e.code == rc && e.text[0]));
	return p;
}

static struct policy *parse_text(const char *name, const char *text)
{
	json_t *json = NULL;
	FUZZ_CHECK(json_parse(text, strlen(text), &json, NULL) == 0);
	struct policy *p = parse(name, json);
	json_decref(json);
	return p;
}

static const struct policy *always(enum policy_effect effect)
{
	static struct policy *allow, *deny;
	if (!allow)
		allow = parse_text("allow", "{\"Version\":\"2026-01-01\",\"Statement\":{\"Sid\":\"A\",\"Effect\":"
					    "\"Allow\",\"Principal\":\"*\",\"Action\":\"*\",\"Resource\":\"*\"}}");
	if (!deny)
		deny = parse_text("deny", "{\"Version\":\"2026-01-01\",\"Statement\":{\"Sid\":\"D\",\"Effect\":"
					  "\"Deny\",\"Principal\":\"*\",\"Action\":\"*\",\"Resource\":\"*\"}}");
	return effect == POLICY_ALLOW ? allow : deny;
}

static enum policy_effect judge(const struct policy *a, const struct policy *b, const struct policy_request *q)
{
	const struct policy *both[] = { a, b };
	struct policy_decision d;
	policy_evaluate(both, b ? 2 : 1, q, &d);
	FUZZ_CHECK(d.effect == POLICY_NO_MATCH || d.effect == POLICY_ALLOW || d.effect == POLICY_DENY);
	FUZZ_CHECK((d.effect == POLICY_NO_MATCH) == (d.statement[0] == '\0'));
	FUZZ_CHECK((d.effect == POLICY_NO_MATCH) == (d.policy[0] == '\0'));
	return d.effect;
}

static void check_naive(const struct policy *p, const struct policy_request *q)
{
	json_t *documents = json_array();
	json_array_append(documents, (json_t *)(uintptr_t)policy_document(p));
	FUZZ_CHECK(judge(p, NULL, q) == naive_judge(documents, q));
	json_decref(documents);
}

static void check(const struct policy *p, const struct policy *again, const struct policy_request *q)
{
	bool known = policy_action_is_known(q->action);
	enum policy_effect effect = judge(p, NULL, q);
	FUZZ_CHECK(known || effect == POLICY_NO_MATCH);
	FUZZ_CHECK(judge(again, NULL, q) == effect && judge(p, again, q) == effect);
	if (!known)
		return;
	check_naive(p, q);
	FUZZ_CHECK(judge(p, always(POLICY_DENY), q) == POLICY_DENY);
	FUZZ_CHECK(judge(always(POLICY_DENY), p, q) == POLICY_DENY);
	enum policy_effect with_allow = effect == POLICY_DENY ? POLICY_DENY : POLICY_ALLOW;
	FUZZ_CHECK(judge(p, always(POLICY_ALLOW), q) == with_allow);
	FUZZ_CHECK(judge(always(POLICY_ALLOW), p, q) == with_allow);
}

static bool concerns(const json_t *row, const char *subject)
{
	const char *user = json_string_value(json_object_get(json_object_get(row, "who"), "user"));
	return json_object_get(json_object_get(row, "who"), "everyone") || (user && strcmp(user, subject) == 0);
}

/* Whoever is allowed is in a row, and whom one names without a condition is allowed. */
static void check_who(const struct policy *p, const struct policy_request *q)
{
	const struct policy_who_question question = { q->action, q->context };
	json_t *rows = NULL;
	bool more = false, certain = false;
	struct err e;
	size_t i;
	const json_t *row;
	int rc = policy_who(&p, 1, q->resource, &question, 1, &rows, &more, &e);
	FUZZ_CHECK(rc == (policy_action_is_known(q->action) ? 0 : ERR_INVALID));
	if (rc != 0)
		return;
	json_array_foreach(rows, i, row) certain |=
		json_is_true(json_object_get(row, "certain")) && concerns(row, q->subject);
	enum policy_effect effect = judge(p, NULL, q);
	FUZZ_CHECK(!certain || effect == POLICY_ALLOW);
	FUZZ_CHECK(effect != POLICY_ALLOW || more || json_array_size(rows) > 0);
	json_decref(rows);
}

static const char *text_of(const json_t *json, const char *key)
{
	const char *text = json_string_value(json_object_get(json, key));
	return text ? text : "";
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	json_t *json = NULL;
	if (size >= NAIVE_TEXT_MAX || json_parse((const char *)data, size, &json, NULL) != 0)
		return 0;
	const json_t *document = json_object_get(json, "policy");
	struct policy *p = parse("it", document);
	if (p) {
		const struct policy_request q = { .subject = text_of(json, "subject"),
						  .groups = json_object_get(json, "groups"),
						  .action = text_of(json, "action"),
						  .resource = text_of(json, "resource"),
						  .context = json_object_get(json, "context") };
		check_who(p, &q);
		char *text = json_text(document);
		struct policy *again = parse_text("again", text);
		FUZZ_CHECK(again && strcmp(policy_name(again), "again") == 0);
		check(p, again, &q);
		policy_free(&again);
		free(text);
	}
	policy_free(&p);
	json_decref(json);
	return 0;
}
