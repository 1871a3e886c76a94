#include "support/case.h"

#include "base/file.h"
#include "base/limits.h"
#include "fake_store.h"
#include "server/audit.h"
#include "server/metrics.h"
#include "server/policies.h"
#include "server/server.h"

#include <pthread.h>
#include <unistd.h>

/* --- the provider and the metrics behind the judgement --- */

static int provider_says;
static const char *provider_words;
static int provider_code;
static json_t *provider_saw;

int auth_authorize_blocking(struct auth_chain *chain, const struct identity *id, const char *action,
			    const char *resource, const json_t *context, struct err *e)
{
	(void)chain, (void)id, (void)action, (void)resource;
	json_decref(provider_saw);
	provider_saw = json_deep_copy(context);
	if (provider_says < 0)
		err_set(e, provider_code, "%s", provider_words);
	return provider_says;
}

static int64_t denials;

void metrics_add(struct metrics *m, enum metric id, int64_t n)
{
	(void)m;
	if (id == METRIC_POLICY_DENIED)
		denials += n;
}

void metrics_set(struct metrics *m, enum metric id, int64_t value)
{
	(void)m, (void)id, (void)value;
}

/* --- fixture --- */

struct fixture {
	char folder[64];
	struct settings settings;
	struct server server;
	struct identity alice;
};

static void write_policy(struct fixture *f, const char *file, const char *text)
{
	char path[256];
	snprintf(path, sizeof path, "%s/%s", f->folder, file);
	assert_int_equal(file_write(path, text, strlen(text), 0644, NULL), 0);
}

#define BASE                                                                                                     \
	"{\"Version\":\"2026-01-01\",\"Statement\":["                                                            \
	"{\"Sid\":\"Web\",\"Effect\":\"Allow\",\"Principal\":{\"Group\":\"dev\"},\"Action\":\"*\","              \
	"\"Resource\":\"target/web-*\"},"                                                                        \
	"{\"Sid\":\"NoProd\",\"Effect\":\"Deny\",\"Principal\":\"*\",\"Action\":\"*\",\"Resource\":\"*\","       \
	"\"Condition\":{\"StringEquals\":{\"target:Tag/env\":\"prod\"}}},"                                       \
	"{\"Sid\":\"Office\",\"Effect\":\"Allow\",\"Principal\":{\"User\":\"alice\"},\"Action\":\"*\","          \
	"\"Resource\":\"metrics\",\"Condition\":{\"IpAddress\":{\"tunnel:SourceIp\":\"10.0.0.0/8\"},"            \
	"\"StringEquals\":{\"tunnel:Claim/team\":\"blue\",\"tunnel:Group\":\"dev\",\"tunnel:Provider\":\"jwt\"," \
	"\"tunnel:Subject\":\"alice\"},\"DateGreaterThan\":{\"tunnel:CurrentTime\":\"2020-01-01T00:00:00Z\"}}}]}"

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof *f);
	struct err e = { 0 };
	provider_says = 0;
	denials = 0;
	f->settings.policy_dir = case_folder(f->folder);
	f->server.settings = &f->settings;
	f->server.node = "n1";
	f->server.store = fake_store_new();
	f->server.auth = (struct auth_chain *)f;
	f->server.metrics = (struct metrics *)f;
	snprintf(f->alice.subject, sizeof f->alice.subject, "alice");
	snprintf(f->alice.provider, sizeof f->alice.provider, "jwt");
	f->alice.groups = json_pack("[s,s]", "dev", "ops");
	f->alice.claims = json_pack("{s:s, s:b}", "team", "blue", "mfa", 1);
	write_policy(f, "base.json", BASE);
	write_policy(f, "notes.txt", "not mine");
	write_policy(f, ".base.json.swp", "not mine");
	write_policy(f, ".hidden.json", "not mine");
	if (audit_open_blocking(&f->server, &f->server.audit, &e) != 0 ||
	    policies_open_blocking(&f->server, &f->server.policies, &e) != 0)
		fail_msg("%s", e.text);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	policies_close(&f->server.policies);
	policies_close(&f->server.policies);
	audit_close(&f->server.audit);
	fake_store_free(f->server.store);
	json_decref(f->alice.groups);
	json_decref(f->alice.claims);
	json_decref(provider_saw);
	provider_saw = NULL;
	case_folder_remove(f->folder);
	free(f);
	return 0;
}

static json_t *document(const char *effect, const char *resource)
{
	return json_pack("{s:s, s:{s:s, s:s, s:s, s:s}}", "Version", "2026-01-01", "Statement", "Effect", effect,
			 "Principal", "*", "Action", "*", "Resource", resource);
}

static int put(struct fixture *f, const char *name, const char *effect, const char *resource, struct err *e)
{
	json_t *d = document(effect, resource);
	int rc = policies_put_blocking(f->server.policies, name, d, e);
	json_decref(d);
	return rc;
}

static int may(struct fixture *f, const char *resource, struct err *e)
{
	return policies_allows_blocking(&f->server, &f->alice, "10.1.2.3", "tunnel:StartSession", resource, NULL, e);
}

static void expect_text(const struct err *e, const char *text)
{
	if (!strstr(e->text, text))
		fail_msg("\"%s\" lacks \"%s\"", e->text, text);
}

/* --- judgement --- */

static void test_words(void **state)
{
	struct fixture *f = *state;
	struct err e = { 0 };
	json_t *prod = json_pack("{s:s}", "target:Tag/env", "prod");
	assert_int_equal(may(f, "target/web-1", &e), 0);
	assert_int_equal(may(f, "target/db-1", &e), ERR_DENIED);
	assert_string_equal(e.text, "alice may not tunnel:StartSession on target/db-1: no statement allows it");
	assert_int_equal(policies_allows_blocking(&f->server, &f->alice, "10.1.2.3", "tunnel:StartSession",
						  "target/web-1", prod, &e),
			 ERR_DENIED);
	assert_string_equal(e.text, "alice may not tunnel:StartSession on target/web-1: denied by statement NoProd of "
				    "policy base");
	assert_int_equal(
		policies_allows_blocking(&f->server, &f->alice, NULL, "tunnel:StartSession", "target/db-1", NULL, NULL),
		ERR_DENIED);
	json_decref(prod);
}

static void test_the_server_fills_the_context(void **state)
{
	struct fixture *f = *state;
	/* what the caller brings under the server's names does not count */
	json_t *forged = json_pack("{s:s, s:s, s:s}", "tunnel:SourceIp", "10.9.9.9", "tunnel:Claim/team", "blue",
				   "tunnel:Provider", "jwt");
	const struct {
		const char *ip, *provider, *team;
		int rc;
	} rows[] = {
		{ "10.1.2.3", "jwt", "blue", 0 },         { "192.0.2.1", "jwt", "blue", ERR_DENIED },
		{ NULL, "jwt", "blue", ERR_DENIED },      { "10.1.2.3", "hmac", "blue", ERR_DENIED },
		{ "10.1.2.3", "jwt", "red", ERR_DENIED }, { "10.1.2.3", "jwt", NULL, ERR_DENIED },
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct err e = { 0 };
		snprintf(f->alice.provider, sizeof f->alice.provider, "%s", rows[i].provider);
		json_object_clear(f->alice.claims);
		if (rows[i].team)
			json_object_set_new(f->alice.claims, "team", json_string(rows[i].team));
		int rc = policies_require_blocking(&f->server, &f->alice, rows[i].ip, "tunnel:ReadMetrics", "metrics",
						   forged, &e);
		if (rc != rows[i].rc)
			fail_msg("row %zu: %d %s", i, rc, e.text);
	}
	json_decref(forged);
}

static void test_provider_has_its_say(void **state)
{
	struct fixture *f = *state;
	struct err e = { 0 };
	json_t *prod = json_pack("{s:s}", "target:Tag/env", "prod");
	provider_says = 1; /* allows what no policy speaks of, but not against a Deny */
	assert_int_equal(may(f, "target/db-1", &e), 0);
	assert_string_equal(json_string_value(json_object_get(provider_saw, "tunnel:SourceIp")), "10.1.2.3");
	assert_int_equal(policies_allows_blocking(&f->server, &f->alice, "10.1.2.3", "tunnel:StartSession",
						  "target/web-1", prod, &e),
			 ERR_DENIED);
	provider_says = -1;
	provider_words = "not on Sundays";
	provider_code = ERR_DENIED;
	assert_int_equal(may(f, "target/web-1", &e), ERR_DENIED);
	assert_string_equal(e.text, "alice may not tunnel:StartSession on target/web-1: provider jwt says no: not on "
				    "Sundays");
	provider_words = "directory is away";
	provider_code = ERR_UNAVAILABLE;
	assert_int_equal(may(f, "target/web-1", &e), ERR_UNAVAILABLE);
	expect_text(&e, "provider jwt cannot say whether alice may tunnel:StartSession: directory is away");
	json_decref(prod);
}

static json_t *records(struct fixture *f)
{
	json_t *list = NULL;
	uint64_t next;
	assert_int_equal(audit_read_blocking(f->server.audit, 1, 100, &list, &next, NULL), 0);
	return list;
}

static void test_refusals_are_recorded(void **state)
{
	struct fixture *f = *state;
	struct err e = { 0 };
	json_t *prod = json_pack("{s:s}", "target:Tag/env", "prod");
	assert_int_equal(may(f, "target/db-1", &e), ERR_DENIED); /* filtering a list leaves no record */
	assert_int_equal(policies_require_blocking(&f->server, &f->alice, "10.1.2.3", "tunnel:OpenSsh", "target/web-1",
						   NULL, &e),
			 0);
	assert_int_equal(policies_require_blocking(&f->server, &f->alice, "10.1.2.3", "tunnel:OpenSsh", "target/web-1",
						   prod, &e),
			 ERR_DENIED);
	assert_int_equal(
		policies_require_blocking(&f->server, &f->alice, NULL, "tunnel:OpenSsh", "target/\xff", NULL, NULL),
		ERR_DENIED);
	json_t *list = records(f), *r = json_array_get(list, 0);
	assert_int_equal(json_array_size(list), 2);
	assert_int_equal(denials, 2);
	assert_string_equal(json_string_value(json_object_get(r, "event")), "denied");
	assert_string_equal(json_string_value(json_object_get(r, "subject")), "alice");
	assert_string_equal(json_string_value(json_object_get(r, "action")), "tunnel:OpenSsh");
	assert_string_equal(json_string_value(json_object_get(r, "resource")), "target/web-1");
	assert_string_equal(json_string_value(json_object_get(r, "statement")), "NoProd");
	assert_string_equal(json_string_value(json_object_get(r, "policy")), "base");
	assert_string_equal(json_string_value(json_object_get(r, "remote_address")), "10.1.2.3");
	r = json_array_get(list, 1);
	assert_true(json_is_null(json_object_get(r, "statement")));
	assert_string_equal(json_string_value(json_object_get(r, "resource")), "target/");
	json_decref(list);
	/* a store that is away changes no refusal into anything else */
	f->server.store->fail_append = ERR_UNAVAILABLE;
	assert_int_equal(policies_require_blocking(&f->server, &f->alice, NULL, "tunnel:OpenSsh", "target/x", NULL, &e),
			 ERR_DENIED);
	f->server.store->fail_append = 0;
	json_decref(prod);
}

static void test_long_names_stay_text(void **state)
{
	struct fixture *f = *state;
	struct err e = { 0 };
	for (size_t i = 0; i + 3 < sizeof f->alice.subject; i += 2)
		memcpy(f->alice.subject + i, "\xc3\xbc", 3);
	assert_int_equal(policies_require_blocking(&f->server, &f->alice, NULL, "tunnel:OpenSsh", "target/x", NULL, &e),
			 ERR_DENIED);
	expect_text(&e, "\xc3\xbc may not tunnel:OpenSsh on target/x: no statement allows it");
	json_t *list = records(f);
	assert_string_equal(json_string_value(json_object_get(json_array_get(list, 0), "subject")), f->alice.subject);
	json_decref(list);
}

/* --- the set in force --- */

static void test_put_get_del(void **state)
{
	struct fixture *f = *state;
	struct policies *p = f->server.policies;
	struct err e = { 0 };
	json_t *d = NULL;
	assert_int_equal(put(f, "extra", "Allow", "target/db-*", &e), 0);
	assert_int_equal(f->server.store->published, 1);
	assert_int_equal(may(f, "target/db-1", &e), 0);
	assert_int_equal(policies_get_blocking(p, "extra", &d, &e), 0);
	assert_string_equal(json_string_value(json_object_get(json_object_get(d, "Statement"), "Resource")),
			    "target/db-*");
	json_decref(d);
	assert_int_equal(put(f, "extra", "Deny", "target/*", &e), 0);
	assert_int_equal(may(f, "target/web-1", &e), ERR_DENIED);
	expect_text(&e, "denied by statement Statement of policy extra");

	json_t *list = policies_list(p), *expected = json_pack("[{s:s,s:s},{s:s,s:s}]", "name", "base", "source",
							       "file", "name", "extra", "source", "store");
	assert_true(json_equal(list, expected));
	json_decref(list);
	json_decref(expected);

	assert_int_equal(policies_del_blocking(p, "extra", &e), 0);
	assert_int_equal(may(f, "target/web-1", &e), 0);
	assert_int_equal(policies_get_blocking(p, "extra", &d, &e), ERR_NOT_FOUND);
	assert_int_equal(policies_del_blocking(p, "extra", &e), ERR_NOT_FOUND);
	expect_text(&e, "no policy \"extra\"");
	assert_int_equal(policies_del_blocking(p, "a b", &e), ERR_NOT_FOUND);
}

static void test_files_are_not_for_the_api(void **state)
{
	struct fixture *f = *state;
	struct err e = { 0 };
	assert_int_equal(put(f, "base", "Allow", "*", &e), ERR_CONFLICT);
	expect_text(&e, "policy \"base\" comes from a file of policy_dir");
	assert_int_equal(policies_del_blocking(f->server.policies, "base", &e), ERR_CONFLICT);
	assert_int_equal(may(f, "target/db-1", &e), ERR_DENIED);
}

static void test_what_fails_changes_nothing(void **state)
{
	struct fixture *f = *state;
	struct err e = { 0 };
	assert_int_equal(put(f, "extra", "Allow", "nowhere", &e), ERR_INVALID);
	expect_text(&e, "Statement.Resource: unknown resource \"nowhere\"");
	assert_int_equal(put(f, "no name", "Allow", "*", &e), ERR_INVALID);
	f->server.store->fail_put = ERR_UNAVAILABLE;
	assert_int_equal(put(f, "extra", "Allow", "*", &e), ERR_UNAVAILABLE);
	f->server.store->fail_put = 0;
	assert_int_equal(may(f, "target/db-1", &e), ERR_DENIED);
	f->server.store->fail_publish = ERR_UNAVAILABLE; /* the others will notice by themselves */
	assert_int_equal(put(f, "extra", "Allow", "*", &e), 0);
	assert_int_equal(may(f, "target/db-1", &e), 0);
}

static void test_too_large(void **state)
{
	struct fixture *f = *state;
	struct err e = { 0 };
	char *long_id = calloc(1, 300000);
	json_t *d = document("Allow", "*");
	memset(long_id, 'a', 299999);
	json_object_set_new(d, "Id", json_string(long_id));
	assert_int_equal(policies_put_blocking(f->server.policies, "big", d, &e), ERR_INVALID);
	expect_text(&e, "allowed: at most 262144");
	json_decref(d);
	free(long_id);
}

/* Waiting would not help: whoever puts it has to delete another one first. */
static void test_too_many(void **state)
{
	struct fixture *f = *state;
	struct err e = { 0 };
	int rc = 0;
	unsigned n = 0;
	for (char name[32]; rc == 0 && n <= LIMIT_POLICIES; n++) {
		snprintf(name, sizeof name, "p-%u", n);
		rc = put(f, name, "Allow", "*", &e);
	}
	assert_int_equal(rc, ERR_CONFLICT);
	expect_text(&e, "1001 policies; allowed: at most 1000");
	assert_int_equal(policies_del_blocking(f->server.policies, "p-0", &e), 0);
	assert_int_equal(put(f, "one-more", "Allow", "*", &e), 0);
	assert_int_equal(put(f, "one-more", "Deny", "*", &e), 0);
}

static void test_reload(void **state)
{
	struct fixture *f = *state;
	struct policies *p = f->server.policies;
	struct err e = { 0 };
	/* as another node would have done it, and more than a page of them */
	json_t *stored = json_object();
	for (int i = 0; i < 5; i++) {
		char name[16], resource[32];
		snprintf(name, sizeof name, "s%d", i);
		snprintf(resource, sizeof resource, "target/s-%d", i);
		json_object_set_new(stored, name, document("Allow", resource));
	}
	json_object_set_new(f->server.store->docs, "policies", stored);
	assert_int_equal(may(f, "target/s-4", &e), ERR_DENIED);
	assert_int_equal(policies_reload_blocking(p, &e), 0);
	assert_int_equal(may(f, "target/s-0", &e), 0);
	assert_int_equal(may(f, "target/s-4", &e), 0);

	static const struct {
		const char *file, *text, *complaint;
	} rows[] = {
		{ "zz.json", "{", "zz.json: not valid JSON: line 1" },
		{ "zz.json", "{\"Version\":\"2026-01-01\",\"Statement\":{\"Effect\":\"allow\"}}",
		  "zz.json: 4 mistakes; the first: Statement.Effect: unknown effect" },
		{ "a b.json", BASE, "policy name \"a b\"" },
		{ "s1.json", BASE, "policy \"s1\" is both in policy_dir and in the store" },
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		char path[256];
		write_policy(f, rows[i].file, rows[i].text);
		assert_int_not_equal(policies_reload_blocking(p, &e), 0);
		expect_text(&e, rows[i].complaint);
		if (i < 3)
			expect_text(&e, f->folder);
		assert_int_equal(may(f, "target/s-4", &e), 0); /* the old ones stay */
		snprintf(path, sizeof path, "%s/%s", f->folder, rows[i].file);
		unlink(path);
	}
	json_object_set_new(stored, "broken", document("Allow", "nowhere"));
	assert_int_equal(policies_reload_blocking(p, &e), ERR_INVALID);
	expect_text(&e, "policy \"broken\" in the store: Statement.Resource: unknown resource");
	json_object_del(stored, "broken");
	f->server.store->fail_read = ERR_UNAVAILABLE;
	assert_int_equal(policies_reload_blocking(p, &e), ERR_UNAVAILABLE);
	f->server.store->fail_read = 0;
	assert_int_equal(may(f, "target/s-4", &e), 0);
	json_object_clear(stored);
	assert_int_equal(policies_reload_blocking(p, &e), 0);
	assert_int_equal(may(f, "target/s-4", &e), ERR_DENIED);
}

static void test_start_is_refused(void **state)
{
	struct fixture *f = *state;
	struct policies *p = NULL;
	struct err e = { 0 };
	write_policy(f, "zz.json", "[]");
	assert_int_equal(policies_open_blocking(&f->server, &p, &e), ERR_INVALID);
	expect_text(&e, "zz.json: policy: expected object");
	char missing[80];
	snprintf(missing, sizeof missing, "%s/none", f->folder);
	f->settings.policy_dir = missing;
	assert_int_equal(policies_open_blocking(&f->server, &p, &e), ERR_NOT_FOUND);
	expect_text(&e, "policy_dir ");
	assert_null(p);
	static char none[] = "";
	f->settings.policy_dir = none;
	assert_int_equal(policies_open_blocking(&f->server, &p, &e), 0);
	policies_close(&p);
}

/* Readers while the set changes under them; the sanitizers watch. */
struct load {
	struct fixture *f;
	atomic_bool stop;
	atomic_uint judged, wrong;
};

static void *judge_on(void *arg)
{
	struct load *l = arg;
	json_t *groups = json_pack("[s]", "dev");
	const struct policy_request q = { "bob", groups, "tunnel:OpenSsh", "target/web-1", NULL };
	while (!atomic_load(&l->stop)) {
		struct policy_decision d;
		policies_evaluate_anythread(l->f->server.policies, &q, &d);
		/* each set says Allow, by one policy or the other */
		atomic_fetch_add(&l->wrong, d.effect != POLICY_ALLOW);
		atomic_fetch_add(&l->judged, 1);
	}
	json_decref(groups);
	return NULL;
}

static void test_readers_and_writers(void **state)
{
	struct load l = { .f = *state };
	pthread_t readers[2];
	struct err e = { 0 };
	for (size_t i = 0; i < 2; i++)
		pthread_create(&readers[i], NULL, judge_on, &l);
	for (int i = 0; i < 100 || atomic_load(&l.judged) < 1000; i++) {
		assert_int_equal(put(l.f, "extra", "Allow", "target/*", &e), 0);
		if (i % 10 == 0)
			assert_int_equal(policies_reload_blocking(l.f->server.policies, &e), 0);
		assert_int_equal(policies_del_blocking(l.f->server.policies, "extra", &e), 0);
	}
	atomic_store(&l.stop, true);
	for (size_t i = 0; i < 2; i++)
		pthread_join(readers[i], NULL);
	assert_int_equal(atomic_load(&l.wrong), 0);
}

/* --- simulation --- */

static void test_simulate(void **state)
{
	struct fixture *f = *state;
	static const struct {
		const char *groups, *action, *resource, *context, *answer;
	} rows[] = {
		{ "[\"dev\"]", "tunnel:OpenSsh", "target/web-1", NULL,
		  "{'effect':'allow','policy':'base','statement':'Web'}" },
		{ "[\"dev\"]", "tunnel:OpenSsh", "target/web-1", "{\"target:Tag/env\":\"prod\"}",
		  "{'effect':'deny','policy':'base','statement':'NoProd'}" },
		{ NULL, "tunnel:OpenSsh", "target/web-1", "{}",
		  "{'effect':'no-match','policy':null,'statement':null}" },
		{ NULL, "tunnel:OpnSsh", "target/web-1", NULL,
		  "action: unknown action \"tunnel:OpnSsh\"; did you mean tunnel:OpenSsh?" },
		{ NULL, "Look", "target/web-1", NULL,
		  "action: unknown action \"Look\"; allowed: tunnel: StartSession" },
		{ NULL, "tunnel:OpenSsh", "target/web-1", "{\"target:tag/env\":\"x\"}",
		  "context.target:tag/env: unknown" },
		{ NULL, "tunnel:OpenSsh", "target/web-1", "{\"tunnel:Login\":{}}",
		  "context.tunnel:Login: expected string" },
		{ NULL, "tunnel:OpenSsh", "target/web-1", "{\"tunnel:Login\":[[]]}", "context.tunnel:Login: expected" },
		{ NULL, "tunnel:OpenSsh", "target/web-1", "[]", "context: expected object" },
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		json_t *groups = rows[i].groups ? json_loads(rows[i].groups, 0, NULL) : NULL;
		json_t *context = rows[i].context ? json_loads(rows[i].context, 0, NULL) : NULL, *answer = NULL;
		struct err e = { 0 };
		int rc = policies_simulate(f->server.policies, "bob", groups, rows[i].action, rows[i].resource, context,
					   &answer, &e);
		char *text = answer ? json_dumps(answer, JSON_COMPACT) : strdup(e.text);
		for (char *c = text; answer && *c; c++)
			*c = *c == '"' ? '\'' : *c;
		assert_int_equal(rc, answer ? 0 : ERR_INVALID);
		if (strncmp(text, rows[i].answer, strlen(rows[i].answer)) != 0)
			fail_msg("row %zu: %s", i, text);
		free(text);
		json_decref(answer);
		json_decref(groups);
		json_decref(context);
	}
	assert_int_equal(denials, 0); /* nobody was refused */
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_words, setup, teardown),
		cmocka_unit_test_setup_teardown(test_the_server_fills_the_context, setup, teardown),
		cmocka_unit_test_setup_teardown(test_provider_has_its_say, setup, teardown),
		cmocka_unit_test_setup_teardown(test_refusals_are_recorded, setup, teardown),
		cmocka_unit_test_setup_teardown(test_long_names_stay_text, setup, teardown),
		cmocka_unit_test_setup_teardown(test_put_get_del, setup, teardown),
		cmocka_unit_test_setup_teardown(test_files_are_not_for_the_api, setup, teardown),
		cmocka_unit_test_setup_teardown(test_what_fails_changes_nothing, setup, teardown),
		cmocka_unit_test_setup_teardown(test_too_large, setup, teardown),
		cmocka_unit_test_setup_teardown(test_too_many, setup, teardown),
		cmocka_unit_test_setup_teardown(test_reload, setup, teardown),
		cmocka_unit_test_setup_teardown(test_start_is_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(test_readers_and_writers, setup, teardown),
		cmocka_unit_test_setup_teardown(test_simulate, setup, teardown),
	};
	return RUN_CASES(tests);
}
