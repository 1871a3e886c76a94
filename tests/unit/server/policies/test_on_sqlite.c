/* Policies and the audit log on the store that a single node has. */
#include "../plugin_case.h"

#include "server/audit.h"
#include "base/audit_chain.h"
#include "server/policies.h"
#include "server/server.h"
#include "server/store.h"

static char folder[64];

int auth_authorize_blocking(struct auth_chain *chain, const struct identity *id, const char *action,
			    const char *resource, const json_t *context, struct err *e)
{
	(void)chain, (void)id, (void)action, (void)resource, (void)context, (void)e;
	return 0;
}

static int make_folder(void **state)
{
	(void)state;
	case_folder(folder);
	return 0;
}

static int remove_folder(void **state)
{
	(void)state;
	case_folder_remove(folder);
	return 0;
}

static void start(struct server *server)
{
	char line[128];
	struct section_case s;
	struct err e = { 0 };
	snprintf(line, sizeof line, "path=%s/s.db", folder);
	if (store_open(PLUGINS_DIR, section_of(&s, "store-sqlite", LINES(line)), NULL, &server->store, &e) != 0 ||
	    audit_open_blocking(server, &server->audit, &e) != 0 ||
	    policies_open_blocking(server, &server->policies, &e) != 0)
		fail_msg("%s", e.text);
}

static void stop(struct server *server)
{
	policies_close(&server->policies);
	audit_close(&server->audit);
	store_close(&server->store);
}

static void require_denied(struct server *server, const char *text)
{
	struct identity bob = { .subject = "bob", .provider = "jwt" };
	struct err e = { 0 };
	bob.groups = json_array();
	bob.claims = json_object();
	assert_int_equal(policies_require_blocking(server, &bob, "192.0.2.1", "tunnel:OpenSsh", "target/a", NULL, &e),
			 ERR_DENIED);
	if (!strstr(e.text, text))
		fail_msg("%s", e.text);
	json_decref(bob.groups);
	json_decref(bob.claims);
}

static void test_survives_restarts(void **state)
{
	(void)state;
	struct settings settings = { 0 };
	struct server server = { .settings = &settings, .node = "node-1.example" };
	struct err e = { 0 };
	json_t *document = json_pack("{s:s, s:{s:s, s:s, s:s, s:s, s:s}}", "Version", "2026-01-01", "Statement", "Sid",
				     "No", "Effect", "Deny", "Principal", "*", "Action", "*", "Resource", "*");
	start(&server);
	require_denied(&server, "no statement allows it");
	if (policies_put_blocking(server.policies, "closed", document, &e) != 0)
		fail_msg("%s", e.text);
	stop(&server);
	start(&server);
	require_denied(&server, "denied by statement No of policy closed");
	if (policies_del_blocking(server.policies, "closed", &e) != 0)
		fail_msg("%s", e.text);
	stop(&server);
	start(&server);
	require_denied(&server, "no statement allows it");

	struct audit_check check;
	json_t *records = NULL;
	uint64_t next;
	audit_check_init(&check);
	if (audit_read_blocking(server.audit, 0, 1000, &records, &next, &e) != 0 ||
	    audit_check_records(&check, records, &e) != 0)
		fail_msg("%s", e.text);
	assert_int_equal(check.records, 3);
	assert_int_equal(next, 4);
	audit_check_free(&check);
	json_decref(records);
	json_decref(document);
	stop(&server);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_survives_restarts, make_folder, remove_folder),
	};
	return RUN_CASES(tests);
}
