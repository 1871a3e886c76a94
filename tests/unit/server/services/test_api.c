/* The API's surface: routes, problems, requests that are wrong, who may see what. */
#include "world.h"

#include "base/clock.h"
#include "ident/key.h"

static struct world *up(void)
{
	struct world *w = world_up();
	enrol(w, "web-1", "'role':'web'");
	hello(w, "web-1", 7, "");
	return w;
}

static void expect(struct world *w, const char *method, const char *path, const char *query, const char *who,
		   const char *body, int status, const char *code, const char *words)
{
	struct answer a = call(w, method, path, query, who, body);
	if (a.status != status || strcmp(text_at(a.json, "code"), code) != 0 ||
	    !strstr(text_at(a.json, "detail"), words))
		fail_msg("%s %s?%s: %d %s", method, path, query, a.status, a.raw.body ? a.raw.body : "");
	if (status >= 400)
		assert_string_equal(text_at(a.json, "request_id"), "r-1");
	answer_free(&a);
}

static void test_routes(void **state)
{
	(void)state;
	struct world *w = up();
	expect(w, "GET", "/nowhere", "", NULL, NULL, 404, "not-found", "");
	expect(w, "GET", "/v1/sessions/a/b", "", "alice", NULL, 404, "not-found", "");
	expect(w, "GET", "/v1/sessions/%2e%2e%2f", "", "alice", NULL, 404, "not-found", "");
	expect(w, "PATCH", "/v1/sessions", "", "alice", NULL, 405, "method-not-allowed", "POST, GET");
	struct answer a = call(w, "POST", "/v1/policies/x", "", "alice", "{}");
	assert_int_equal(a.status, 405);
	assert_string_equal(a.raw.allow, "GET, PUT, DELETE");
	answer_free(&a);
	expect(w, "GET", "/healthz", "", NULL, NULL, 200, "", "");
	expect(w, "GET", "/readyz", "", NULL, NULL, 200, "", "");
	fake_store_away();
	expect(w, "GET", "/readyz", "", NULL, NULL, 503, "busy", "store");
	expect(w, "GET", "/healthz", "", NULL, NULL, 200, "", "");
	fake_store_heal();
	a = call(w, "GET", "/v1/targets/web%2D1", "", "alice", NULL);
	assert_string_equal(text_at(a.json, "id"), "web-1");
	answer_free(&a);
	a = call(w, "GET", "/metrics", "", "alice", NULL);
	assert_non_null(strstr(a.raw.body, "tunnel_"));
	answer_free(&a);
	world_down(w);
}

static void test_who_calls(void **state)
{
	(void)state;
	struct world *w = up();
	expect(w, "GET", "/v1/whoami", "", NULL, NULL, 401, "unauthenticated", "carries no credential");
	expect(w, "GET", "/v1/whoami", "", "Bearer x", NULL, 401, "unauthenticated", "auth-test");
	expect(w, "GET", "/v1/whoami", "", "wrong", NULL, 401, "unauthenticated", "the password is wrong");
	expect(w, "GET", "/v1/whoami", "", "away", NULL, 503, "busy", "");
	struct answer a = call(w, "GET", "/v1/whoami", "", "bob dev", NULL);
	assert_string_equal(text_at(a.json, "subject"), "bob");
	assert_string_equal(text_at(a.json, "provider"), "auth-test");
	assert_int_equal(json_array_size(json_object_get(a.json, "groups")), 1);
	answer_free(&a);
	expect(w, "GET", "/v1/audit", "", "bob", NULL, 403, "forbidden", "tunnel:ReadAudit");
	expect(w, "GET", "/metrics", "", "bob", NULL, 403, "forbidden", "tunnel:ReadMetrics");
	expect(w, "PUT", "/v1/policies/mine", "", "bob", "{}", 403, "forbidden", "policy/mine");
	expect(w, "DELETE", "/v1/targets/web-1", "", "bob", NULL, 403, "forbidden", "target/web-1");
	expect(w, "POST", "/v1/enrollments", "", "bob", "{'target':'x'}", 403, "forbidden", "tunnel:EnrollTarget");
	expect(w, "GET", "/v1/targets/web-1", "", "bob", NULL, 404, "not-found", "");
	world_down(w);
}

static void test_start_names_each_mistake(void **state)
{
	(void)state;
	struct world *w = up();
	static const struct {
		const char *body, *words; /* K stands for a good client key */
	} cases[] = {
		{ "", "body: missing" },
		{ "{", "not valid JSON" },
		{ "{'kind':'tcp','client_key':'K','allow':['a:1']}", "either target or selector" },
		{ "{'target':'a','selector':{'b':'c'},'kind':'tcp','client_key':'K','allow':['a:1']}", "either" },
		{ "{'target':'../x','kind':'tcp','client_key':'K','allow':['a:1']}", "body.target" },
		{ "{'target':'a','kind':'tcp','client_key':'K','allow':['0.0.0.0:1']}", "no address of a host" },
		{ "{'target':'a','kind':'tcp','client_key':'K','allow':['[::]:1']}", "no address of a host" },
		{ "{'selector':{},'kind':'tcp','client_key':'K','allow':['a:1']}", "body.selector" },
		{ "{'target':'a','kind':'udp','client_key':'K'}", "body.kind" },
		{ "{'target':'a','kind':'tcp','client_key':'K'}", "body.allow" },
		{ "{'target':'a','kind':'tcp','client_key':'K','allow':['a']}", "body.allow[0]" },
		{ "{'target':'a','kind':'tcp','client_key':'K','allow':['a:1','127.1:5']}", "body.allow[1]" },
		{ "{'target':'a','kind':'tcp','client_key':'K','allow':['[::ffff:127.0.0.1]:5']}", "127.0.0.1:5" },
		{ "{'target':'a','kind':'tcp','client_key':'K','allow':['DB.:5']}", "'db:5'" },
		{ "{'target':'a','kind':'tcp','client_key':'K','allow':['*:5']}", "body.allow[0]" },
		{ "{'target':'a','kind':'tcp','client_key':'x','allow':['a:1']}", "body.client_key" },
		{ "{'target':'a','kind':'tcp','client_key':'K','allow':['a:1'],'login':'x'}", "body.login" },
		{ "{'target':'a','kind':'tcp','client_key':'K','allow':['a:1'],'prot':1}", "body.prot" },
		{ "{'target':'a','kind':'ssh','client_key':'K'}", "body.login" },
		{ "{'target':'a','kind':'ssh','client_key':'K','login':'Root'}", "body.ssh_public_key" },
		{ "{'target':'a','kind':'ssh','client_key':'K','login':'r','ssh_public_key':'x'}", "ssh_public_key" },
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		char body[1024];
		const char *hole = strstr(cases[i].body, "'K'");
		if (hole)
			snprintf(body, sizeof body, "%.*s'%s%s", (int)(hole - cases[i].body), cases[i].body,
				 w->client_key, hole + 2);
		else
			snprintf(body, sizeof body, "%s", cases[i].body);
		expect(w, "POST", "/v1/sessions", "", "alice", body, 400, "invalid-request", cases[i].words);
	}
	expect(w, "POST", "/v1/sessions", "x=1", "alice", "{}", 400, "invalid-request", "'x'");
	world_down(w);
}

static void test_a_forbidden_endpoint_is_named(void **state)
{
	(void)state;
	struct world *w = up();
	char body[512];
	put_policy(w, "bob",
		   "{'Effect':'Allow','Principal':{'User':['bob']},'Action':['tunnel:StartSession'],'Resource':['"
		   "target/*'],"
		   "'Condition':{'StringEquals':{'target:Tag/role':['web']}}},"
		   "{'Effect':'Allow','Principal':{'User':['bob']},'Action':['tunnel:OpenTcp'],'Resource':['target/*'],"
		   "'Condition':{'StringEquals':{'tunnel:Host':['127.0.0.1']},'NumericEquals':{'tunnel:Port':5432}}}");
	snprintf(body, sizeof body,
		 "{'target':'web-1','kind':'tcp','allow':['127.0.0.1:5432','127.0.0.1:22'],'client_key':'%s'}",
		 w->client_key);
	expect(w, "POST", "/v1/sessions", "", "bob", body, 403, "forbidden", "127.0.0.1:22");
	assert_int_equal(audited(w, "denied", "action", "tunnel:OpenTcp"), 1);
	snprintf(body, sizeof body,
		 "{'target':'web-1','kind':'ssh','login':'root','ssh_public_key':'%s','client_key':'%s'}", w->ssh_key,
		 w->client_key);
	expect(w, "POST", "/v1/sessions", "", "bob", body, 403, "forbidden", "login root");
	snprintf(body, sizeof body, "{'target':'web-1','kind':'tcp','allow':['127.0.0.1:5432'],'client_key':'%s'}",
		 w->client_key);
	expect(w, "POST", "/v1/sessions", "", "bob", body, 201, "", "");
	expect(w, "POST", "/v1/sessions", "", "carol", body, 403, "forbidden", "tunnel:StartSession");
	snprintf(body, sizeof body, "{'target':'nowhere','kind':'tcp','allow':['127.0.0.1:5432'],'client_key':'%s'}",
		 w->client_key);
	expect(w, "POST", "/v1/sessions", "", "carol", body, 403, "forbidden", "target/nowhere");
	expect(w, "POST", "/v1/sessions", "", "alice", body, 404, "not-found", "nowhere");
	world_down(w);
}

static void test_ssh_gets_a_certificate_for_the_login(void **state)
{
	(void)state;
	struct world *w = up();
	char body[2048];
	snprintf(body, sizeof body,
		 "{'target':'web-1','kind':'ssh','login':'deploy','ssh_public_key':'%s comment','client_key':'%s'}",
		 w->ssh_key, w->client_key);
	struct answer a = call(w, "POST", "/v1/sessions", "", "alice", body);
	assert_int_equal(a.status, 201);
	assert_non_null(strstr(text_at(a.json, "ssh.certificate"), "ssh-ed25519-cert-v01@openssh.com "));
	const char *base64 = strchr(text_at(a.json, "ssh.certificate"), ' ') + 1;
	unsigned char blob[4096] = { 0 };
	assert_true(EVP_DecodeBlock(blob, (const unsigned char *)base64, (int)strlen(base64)) > 0);
	static const char principals[] = "\0\0\0\x06"
					 "deploy"
					 "\0\0\0\x0c"
					 "deploy@web-1";
	assert_non_null(memmem(blob, sizeof blob, principals, sizeof principals - 1));
	assert_string_equal(text_at(a.json, "ssh.host_alias"), "web-1");
	json_t *keys = json_object_get(json_object_get(a.json, "ssh"), "host_keys");
	assert_string_equal(json_string_value(json_array_get(keys, 0)), w->ssh_key);
	json_t *offer = fake_ws_last(7, "offer");
	json_t *logins = json_object_get(json_object_get(offer, "grant"), "logins");
	assert_string_equal(json_string_value(json_array_get(logins, 0)), "deploy");
	json_decref(offer);
	answer_free(&a);
	world_down(w);
}

/* The blob of the certificate that alice gets for a login at web-1; whoever asks wants to know whether words are in it.
 */
static void certificate(struct world *w, unsigned char blob[4096])
{
	char body[2048];
	snprintf(body, sizeof body,
		 "{'target':'web-1','kind':'ssh','login':'deploy','ssh_public_key':'%s','client_key':'%s'}", w->ssh_key,
		 w->client_key);
	struct answer a = call(w, "POST", "/v1/sessions", "", "alice", body);
	assert_int_equal(a.status, 201);
	const char *base64 = strchr(text_at(a.json, "ssh.certificate"), ' ') + 1;
	memset(blob, 0, 4096);
	assert_true(EVP_DecodeBlock(blob, (const unsigned char *)base64, (int)strlen(base64)) > 0);
	answer_free(&a);
}

static void check_forwarding(struct world *w, bool may)
{
	unsigned char blob[4096];
	certificate(w, blob);
	assert_true(memmem(blob, sizeof blob, "permit-pty", 10) != NULL);
	assert_true((memmem(blob, sizeof blob, "permit-port-forwarding", 22) != NULL) == may);
	assert_true((memmem(blob, sizeof blob, "permit-agent-forwarding", 23) != NULL) == may);
	assert_null(memmem(blob, sizeof blob, "permit-X11-forwarding", 21));
	json_t *offer = fake_ws_last(7, "offer");
	assert_true(json_is_true(json_object_get(json_object_get(offer, "grant"), "ssh_forwarding")) == may);
	json_decref(offer);
}

static void test_ssh_forwards_where_policy_allows_every_endpoint(void **state)
{
	(void)state;
	struct world *w = up();
	check_forwarding(w, true);
	put_policy(w, "more",
		   "{'Effect':'Deny','Principal':'*','Action':['tunnel:OpenTcp'],'Resource':['*'],"
		   "'Condition':{'NumericEquals':{'tunnel:Port':[5432]}}}");
	/* What was granted before is taken back. */
	sessions_rejudge_blocking(&w->server);
	json_t *grant = fake_ws_last(7, "grant");
	assert_true(json_is_false(json_object_get(json_object_get(grant, "grant"), "ssh_forwarding")));
	json_decref(grant);
	check_forwarding(w, false);
	world_down(w);
}

static void test_an_ssh_certificate_is_for_where_sshd_sees_the_agent(void **state)
{
	(void)state;
	unsigned char blob[4096];
	struct world *w = up();
	certificate(w, blob); /* an agent that does not say */
	assert_null(memmem(blob, sizeof blob, "source-address", 14));
	for (int loopback = 0; loopback < 2; loopback++) {
		char hello[256];
		snprintf(hello, sizeof hello,
			 "{'type':'hello','version':'1','ssh_host_keys':[],'ssh_loopback':%s,'sessions':[]}",
			 loopback ? "true" : "false");
		say(w, "web-1", (wsconn_id)(8 + loopback), hello);
		certificate(w, blob);
		const void *found = memmem(blob, sizeof blob, "source-address", 14);
		assert_true(!found == !loopback);
		assert_true(!loopback || memmem(blob, sizeof blob, "127.0.0.0/8,::1/128", 19));
	}
	world_down(w);
}

static void test_an_idempotency_key_gives_the_same_session_and_a_new_token(void **state)
{
	(void)state;
	struct world *w = up();
	char body[512];
	struct attach_decision d;
	snprintf(body, sizeof body,
		 "{'target':'web-1','kind':'tcp','allow':['a:1'],'client_key':'%s','idempotency_key':'k1'}",
		 w->client_key);
	struct answer a = call(w, "POST", "/v1/sessions", "", "alice", body);
	struct answer b = call(w, "POST", "/v1/sessions", "", "alice", body);
	assert_int_equal(a.status, 201);
	assert_int_equal(b.status, 201);
	assert_string_equal(text_at(a.json, "session.id"), text_at(b.json, "session.id"));
	assert_string_not_equal(text_at(a.json, "token"), text_at(b.json, "token"));
	assert_int_equal(fake_ws_count(7, "offer"), 1);
	assert_int_equal(audited(w, "session.start", NULL, NULL), 1);
	const char *id = text_at(b.json, "session.id");
	assert_int_equal(attach(w, id, text_at(a.json, "token"), w->client, &d), 4401);
	assert_int_equal(attach(w, id, text_at(b.json, "token"), w->client, &d), 0);
	put_policy(w, "bob", "{'Effect':'Allow','Principal':{'User':['bob']},'Action':['*'],'Resource':['*']}");
	struct answer c = call(w, "POST", "/v1/sessions", "", "bob", body); /* another caller's key is another key */
	assert_int_equal(c.status, 201);
	assert_string_not_equal(text_at(c.json, "session.id"), id);
	char other[512];
	snprintf(other, sizeof other,
		 "{'target':'web-1','kind':'tcp','allow':['b:1'],'client_key':'%s','idempotency_key':'k1'}",
		 w->client_key);
	expect(w, "POST", "/v1/sessions", "", "alice", other, 409, "conflict", "idempotency_key");
	struct answer gone = call_with_token(w, "DELETE", "/v1/sessions/s-x", "x", w->client);
	assert_int_equal(gone.status, 404);
	answer_free(&gone);
	sessions_on_client_bye_blocking(&w->server, id, 1);
	struct answer ended = call(w, "POST", "/v1/sessions", "", "alice", body);
	assert_int_equal(ended.status, 410);
	assert_int_equal(json_integer_value(json_object_get(json_object_get(ended.json, "end"), "code")), 4000);
	answer_free(&ended);
	answer_free(&a);
	answer_free(&b);
	answer_free(&c);
	world_down(w);
}

static void test_an_offline_target_says_when_it_was_seen(void **state)
{
	(void)state;
	struct world *w = up();
	char body[512];
	control_on_closed_blocking(&w->server, 7, "web-1", "gone");
	snprintf(body, sizeof body, "{'target':'web-1','kind':'tcp','allow':['a:1'],'client_key':'%s'}", w->client_key);
	struct answer a = call(w, "POST", "/v1/sessions", "", "alice", body);
	assert_int_equal(a.status, 409);
	assert_string_equal(text_at(a.json, "code"), "target-offline");
	assert_int_equal(strncmp(text_at(a.json, "last_seen"), "20", 2), 0);
	assert_int_equal(audited(w, "session.start", NULL, NULL), 0);
	answer_free(&a);
	world_down(w);
}

static void test_a_selector_takes_the_least_loaded_connected_target(void **state)
{
	(void)state;
	struct world *w = up();
	char body[512];
	enrol(w, "web-2", "'role':'web','zone':'b'");
	enrol(w, "web-3", "'role':'web'"); /* not connected */
	hello(w, "web-2", 8, "");
	snprintf(body, sizeof body, "{'selector':{'role':'web'},'kind':'tcp','allow':['a:1'],'client_key':'%s'}",
		 w->client_key);
	size_t on[2] = { 0 };
	for (int i = 0; i < 4; i++) {
		struct answer a = call(w, "POST", "/v1/sessions", "", "alice", body);
		assert_int_equal(a.status, 201);
		on[strcmp(text_at(a.json, "session.target"), "web-1") == 0]++;
		answer_free(&a);
	}
	assert_int_equal(on[0], 2);
	assert_int_equal(on[1], 2);
	snprintf(body, sizeof body, "{'selector':{'role':'db'},'kind':'tcp','allow':['a:1'],'client_key':'%s'}",
		 w->client_key);
	expect(w, "POST", "/v1/sessions", "", "alice", body, 404, "not-found", "selector");
	world_down(w);
}

static void test_a_selector_tells_nothing_to_those_who_may_not(void **state)
{
	(void)state;
	struct world *w = up();
	char body[512];
	static const char *const roles[] = { "web", "nobody" };
	char words[2][512];
	for (int i = 0; i < 2; i++) {
		snprintf(body, sizeof body, "{'selector':{'role':'%s'},'kind':'tcp','allow':['a:1'],'client_key':'%s'}",
			 roles[i], w->client_key);
		struct answer a = call(w, "POST", "/v1/sessions", "", "mallory", body);
		assert_int_equal(a.status, 404);
		snprintf(words[i], sizeof words[i], "%s", text_at(a.json, "detail"));
		answer_free(&a);
	}
	assert_string_equal(words[0], words[1]);
	assert_int_equal(audited(w, "denied", "subject", "mallory"), 1);
	world_down(w);
}

static void test_lists_are_filtered_and_paged(void **state)
{
	(void)state;
	struct world *w = up();
	for (int i = 0; i < 7; i++) {
		struct answer a = start_tcp(w, "web-1", "'a:1'");
		answer_free(&a);
	}
	char cursor[1024] = "", query[1200];
	size_t seen = 0, pages = 0;
	do {
		snprintf(query, sizeof query, "limit=3%s%s", *cursor ? "&cursor=" : "", cursor);
		struct answer a = call(w, "GET", "/v1/sessions", query, "alice", NULL);
		assert_int_equal(a.status, 200);
		seen += json_array_size(json_object_get(a.json, "sessions"));
		snprintf(cursor, sizeof cursor, "%s", text_at(a.json, "next_cursor"));
		answer_free(&a);
	} while (*cursor && ++pages < 10);
	assert_int_equal(seen, 7);
	static const struct {
		const char *query, *who;
		size_t n;
	} cases[] = {
		{ "state=starting", "alice", 7 }, { "state=ended", "alice", 0 },  { "principal=alice", "alice", 7 },
		{ "principal=bob", "alice", 0 },  { "target=web-1", "alice", 7 }, { "", "bob", 0 },
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct answer a = call(w, "GET", "/v1/sessions", cases[i].query, cases[i].who, NULL);
		assert_int_equal(json_array_size(json_object_get(a.json, "sessions")), cases[i].n);
		answer_free(&a);
	}
	struct answer a = call(w, "GET", "/v1/targets", "tag.role=web", "alice", NULL);
	assert_int_equal(json_array_size(json_object_get(a.json, "targets")), 1);
	answer_free(&a);
	a = call(w, "GET", "/v1/targets", "tag.role=db", "alice", NULL);
	assert_int_equal(json_array_size(json_object_get(a.json, "targets")), 0);
	answer_free(&a);
	expect(w, "GET", "/v1/sessions", "limit=0", "alice", NULL, 400, "invalid-request", "limit");
	expect(w, "GET", "/v1/sessions", "state=dead", "alice", NULL, 400, "invalid-request", "state");
	expect(w, "GET", "/v1/sessions", "stat=ended", "alice", NULL, 400, "invalid-request", "'stat' is unknown");
	expect(w, "GET", "/v1/sessions", "limit=1&limit=2", "alice", NULL, 400, "invalid-request", "twice");
	expect(w, "GET", "/v1/sessions", "cursor=!", "alice", NULL, 400, "invalid-request", "cursor");
	expect(w, "GET", "/v1/sessions", "state=%zz", "alice", NULL, 400, "invalid-request", "percent");
	world_down(w);
}

static void test_attach_and_delete_with_the_session_token(void **state)
{
	(void)state;
	struct world *w = up();
	char path[128];
	struct answer s = start_tcp(w, "web-1", "'a:1'");
	const char *token = text_at(s.json, "token");
	snprintf(path, sizeof path, "/v1/sessions/%s/attach", text_at(s.json, "session.id"));
	expect(w, "POST", path, "", NULL, NULL, 401, "unauthenticated", "DPoP");
	struct answer a = call_with_token(w, "POST", path, token, w->link);
	assert_int_equal(a.status, 401);
	answer_free(&a);
	a = call_with_token(w, "POST", path, token, w->client);
	assert_int_equal(a.status, 200);
	assert_string_equal(text_at(a.json, "relay_url"), "https://" HOST);
	answer_free(&a);
	snprintf(path, sizeof path, "/v1/sessions/%s", text_at(s.json, "session.id"));
	a = call_with_token(w, "DELETE", path, token, w->client);
	assert_int_equal(a.status, 204);
	assert_null(a.raw.body);
	answer_free(&a);
	a = call_with_token(w, "DELETE", path, token, w->client);
	assert_int_equal(a.status, 410);
	assert_int_equal(json_integer_value(json_object_get(json_object_get(a.json, "end"), "code")), 4000);
	answer_free(&a);
	answer_free(&s);
	world_down(w);
}

static void test_terminate_is_for_owners_and_operators(void **state)
{
	(void)state;
	struct world *w = up();
	char path[128];
	struct answer s = start_tcp(w, "web-1", "'a:1'");
	snprintf(path, sizeof path, "/v1/sessions/%s", text_at(s.json, "session.id"));
	expect(w, "DELETE", path, "", "bob", NULL, 403, "forbidden", "tunnel:TerminateSession");
	expect(w, "GET", path, "", "bob", NULL, 404, "not-found", "");
	put_policy(w, "ops",
		   "{'Effect':'Allow','Principal':{'Group':['ops']},'Action':['tunnel:TerminateSession'],'Resource':['"
		   "session/*'],"
		   "'Condition':{'StringEquals':{'session:Principal':['alice'],'session:Target':['web-1']}}}");
	expect(w, "DELETE", path, "", "bob ops", NULL, 204, "", "");
	expect(w, "DELETE", path, "", "bob ops", NULL, 410, "session-ended", "bob");
	struct answer a = call(w, "GET", path, "", "alice", NULL);
	assert_string_equal(text_at(a.json, "state"), "ended");
	assert_int_equal(json_integer_value(json_object_get(json_object_get(a.json, "end"), "code")), 4003);
	answer_free(&a);
	answer_free(&s);
	s = start_tcp(w, "web-1", "'a:1'");
	put_policy(w, "base", "{'Effect':'Deny','Principal':'*','Action':['*'],'Resource':['*']}");
	snprintf(path, sizeof path, "/v1/sessions/%s", text_at(s.json, "session.id"));
	expect(w, "GET", path, "", "alice", NULL, 200, "", ""); /* own sessions always */
	expect(w, "DELETE", path, "", "alice", NULL, 204, "", "");
	answer_free(&s);
	world_down(w);
}

static void test_an_enrolment_token_works_once(void **state)
{
	(void)state;
	struct world *w = world_up();
	char body[600], other[600], bearer[100], link[KEY_TEXT_MAX];
	struct answer a = call(w, "POST", "/v1/enrollments", "", "alice", "{'target':'web-9','tags':{'a':'b'}}");
	assert_int_equal(a.status, 201);
	snprintf(bearer, sizeof bearer, "Bearer %s", text_at(a.json, "token"));
	answer_free(&a);
	snprintf(body, sizeof body, "{'identity_key':'%s','link_key':'x','version':'1'}", w->client_key);
	expect(w, "POST", "/v1/targets", "", bearer, body, 400, "invalid-request",
	       "link_key"); /* not used up by that */
	snprintf(body, sizeof body, "{'identity_key':'%s','link_key':'%s','version':'1'}", w->client_key,
		 w->client_key);
	assert_int_equal(key_public_text(w->link, link, NULL), 0);
	snprintf(other, sizeof other, "{'identity_key':'%s','link_key':'%s','version':'1'}", w->client_key, link);
	expect(w, "POST", "/v1/targets", "", bearer, body, 201, "", "");
	expect(w, "POST", "/v1/targets", "", bearer, other, 401, "unauthenticated", "used");
	a = call(w, "POST", "/v1/targets", "", bearer, body); /* its answer was lost */
	assert_int_equal(a.status, 201);
	assert_string_equal(text_at(a.json, "id"), "web-9");
	assert_string_equal(text_at(a.json, "tags.a"), "b");
	answer_free(&a);
	expect(w, "POST", "/v1/targets", "", NULL, body, 401, "unauthenticated", "enrolment token");
	a = call(w, "GET", "/v1/targets/web-9", "", "alice", NULL);
	assert_string_equal(text_at(a.json, "tags.a"), "b");
	assert_string_equal(text_at(a.json, "state"), "disconnected");
	answer_free(&a);
	expect(w, "POST", "/v1/enrollments", "", "alice", "{'target':'x','tags':{'a':5}}", 400, "invalid-request",
	       "tags.a");
	assert_int_equal(audited(w, "target.enrolled", "target", "web-9"), 1);
	expect(w, "DELETE", "/v1/targets/web-9", "", "alice", NULL, 204, "", "");
	expect(w, "POST", "/v1/targets", "", bearer, body, 401, "unauthenticated", "used"); /* for ever */
	world_down(w);
}

struct enrolment {
	struct world *w;
	char bearer[100], body[600];
};

static struct enrolment token_for(struct world *w, const char *target)
{
	struct enrolment n = { .w = w };
	char ask[100];
	snprintf(ask, sizeof ask, "{'target':'%s'}", target);
	struct answer a = call(w, "POST", "/v1/enrollments", "", "alice", ask);
	assert_int_equal(a.status, 201);
	snprintf(n.bearer, sizeof n.bearer, "Bearer %s", text_at(a.json, "token"));
	answer_free(&a);
	snprintf(n.body, sizeof n.body, "{'identity_key':'%s','link_key':'%s','version':'1'}", w->client_key,
		 w->client_key);
	return n;
}

static void test_a_deregistered_target_takes_its_tokens_along(void **state)
{
	(void)state;
	struct world *w = up();
	struct enrolment first = token_for(w, "web-1"), second = token_for(w, "web-1"), other = token_for(w, "web-2");
	expect(w, "DELETE", "/v1/targets/web-1", "", "alice", NULL, 204, "", "");
	expect(w, "POST", "/v1/targets", "", first.bearer, first.body, 401, "unauthenticated", "unknown");
	expect(w, "POST", "/v1/targets", "", second.bearer, second.body, 401, "unauthenticated", "unknown");
	expect(w, "POST", "/v1/targets", "", other.bearer, other.body, 201, "", "");
	struct enrolment later = token_for(w, "web-1");
	expect(w, "POST", "/v1/targets", "", later.bearer, later.body, 201, "", "");
	world_down(w);
}

static void deregister(void *arg)
{
	struct enrolment *n = arg;
	expect(n->w, "DELETE", "/v1/targets/web-1", "", "alice", NULL, 204, "", "");
}

/* The token was taken, the target is not written yet. */
static void test_a_target_that_is_deregistered_while_it_is_enrolled(void **state)
{
	(void)state;
	struct world *w = up();
	struct enrolment n = token_for(w, "web-1");
	fake_store_then("enrollments", deregister, &n);
	expect(w, "POST", "/v1/targets", "", n.bearer, n.body, 401, "unauthenticated", "unknown");
	expect(w, "GET", "/v1/targets/web-1", "", "alice", NULL, 404, "not-found", "");
	world_down(w);
}

static void let_time_go_by(void *arg)
{
	fake_store_ahead(*(int64_t *)arg);
}

/* Its time ends between its use and the answer. */
static void test_a_token_that_is_used_in_its_last_moment(void **state)
{
	(void)state;
	struct world *w = up();
	int64_t lifetime_ms = 901 * 1000;
	struct enrolment n = token_for(w, "web-9");
	fake_store_then("enrollments", let_time_go_by, &lifetime_ms);
	expect(w, "POST", "/v1/targets", "", n.bearer, n.body, 201, "", "");
	expect(w, "GET", "/v1/targets/web-9", "", "alice", NULL, 200, "", "");
	assert_int_equal(audited(w, "target.deleted", NULL, NULL), 0);
	world_down(w);
}

/* As a deregistration that saw the token, and no target yet. */
static void forget_token(void *arg)
{
	(void)arg;
	fake_store_ahead(30 * 24 * 3600 * 1000LL);
}

static void test_what_an_enrolment_takes_back_is_recorded(void **state)
{
	(void)state;
	struct world *w = up();
	struct enrolment n = token_for(w, "web-9");
	fake_store_then("enrollments", forget_token, NULL);
	expect(w, "POST", "/v1/targets", "", n.bearer, n.body, 401, "unauthenticated", "unknown");
	expect(w, "GET", "/v1/targets/web-9", "", "alice", NULL, 404, "not-found", "");
	assert_int_equal(audited(w, "target.enrolled", "target", "web-9"), 1);
	assert_int_equal(audited(w, "target.deleted", "target", "web-9"), 1);
	world_down(w);
}

static void test_enrolling_again_replaces_the_machine(void **state)
{
	(void)state;
	struct world *w = up();
	struct answer s = start_tcp(w, "web-1", "'a:1'");
	enrol(w, "web-1", "'role':'web'"); /* same keys, same tags: nothing ends */
	assert_int_equal(audited(w, "session.end", NULL, NULL), 0);
	EVP_PKEY *old = w->link;
	w->link = w->client;
	enrol(w, "web-1", "'role':'web'");
	w->link = old;
	json_t *end = audit_last(w, "session.end");
	assert_int_equal(json_integer_value(json_object_get(end, "code")), 4011);
	assert_int_equal(fake_ws_closed(7), 4403);
	json_decref(end);
	answer_free(&s);
	world_down(w);
}

/* ---- whose target it is ---- */

/* Asks for a token as who; bearer: what redeems it. */
static void ask_token(struct world *w, const char *who, const char *body, char bearer[100])
{
	struct answer a = call(w, "POST", "/v1/enrollments", "", who, body);
	if (a.status != 201)
		fail_msg("%d %s", a.status, a.raw.body ? a.raw.body : "");
	snprintf(bearer, 100, "Bearer %s", text_at(a.json, "token"));
	answer_free(&a);
}

static struct world *up_with_teams(void)
{
	struct world *w = world_up();
	put_policy(w, "teams",
		   "{'Effect':'Allow','Principal':{'User':'ann'},'Action':'tunnel:EnrollTarget','Resource':'target/*',"
		   "'Condition':{'StringEquals':{'target:Tag/team':'a'}}}");
	enrol(w, "db-prod", "'team':'b'");
	return w;
}

static void test_who_enrols_a_target_anew_may_enrol_the_one_there(void **state)
{
	(void)state;
	struct world *w = up_with_teams();
	char bearer[100];
	expect(w, "POST", "/v1/enrollments", "", "ann", "{'target':'db-prod','tags':{'team':'a'}}", 403, "forbidden",
	       "tunnel:EnrollTarget");
	ask_token(w, "ann", "{'target':'db-test','tags':{'team':'a'}}", bearer);
	ask_token(w, "alice", "{'target':'db-prod','tags':{'team':'a'}}", bearer);
	world_down(w);
}

static void test_a_token_takes_no_target_that_came_later(void **state)
{
	(void)state;
	struct world *w = up_with_teams();
	char early[100], same[100], again[100], body[600];
	snprintf(body, sizeof body, "{'identity_key':'%s','link_key':'%s','version':'1'}", w->client_key,
		 w->client_key);
	ask_token(w, "ann", "{'target':'db-2','tags':{'team':'a','n':'1'}}", early);
	ask_token(w, "ann", "{'target':'db-2','tags':{'team':'a'}}", same);
	ask_token(w, "alice", "{'target':'db-prod','tags':{'team':'c'}}", again);
	enrol(w, "db-2", "'team':'b'");
	expect(w, "POST", "/v1/targets", "", early, body, 409, "conflict", "other tags");
	expect(w, "POST", "/v1/targets", "", early, body, 401, "unauthenticated", "used");
	/* Once more with the tags that its maker may enrol. */
	enrol(w, "db-2", "'team':'a'");
	expect(w, "POST", "/v1/targets", "", same, body, 201, "", "");
	/* What the record changes by at a connect is no other target. */
	hello(w, "db-prod", 7, "");
	expect(w, "POST", "/v1/targets", "", again, body, 201, "", "");
	world_down(w);
}

static void test_policies_and_audit_over_the_api(void **state)
{
	(void)state;
	struct world *w = up();
	struct answer a;
	expect(w, "PUT", "/v1/policies/x", "", "alice", "{'Version':'2026-01-01'}", 400, "invalid-request",
	       "Statement");
	a = call(w, "PUT", "/v1/policies/x", "", "alice",
		 "{'Version':'2026-01-01','Statement':[{'Effect':'Allow'},7]}");
	assert_int_equal(a.status, 400);
	assert_int_equal(json_integer_value(json_object_get(a.json, "mistake_count")), 4);
	json_t *last = json_array_get(json_object_get(a.json, "mistakes"), 3);
	assert_string_equal(text_at(last, "path"), "Statement[1]");
	assert_string_equal(text_at(last, "text"), "expected object");
	answer_free(&a);
	expect(w, "GET", "/v1/policies/x", "", "alice", NULL, 404, "not-found", "");
	a = call(w, "GET", "/v1/policies", "", "alice", NULL);
	assert_int_equal(json_array_size(json_object_get(a.json, "policies")), 1);
	answer_free(&a);
	a = call(w, "POST", "/v1/policies:simulate", "", "alice",
		 "{'subject':'bob','action':'tunnel:StartSession','resource':'target/web-1'}");
	assert_string_equal(text_at(a.json, "effect"), "no-match");
	answer_free(&a);
	expect(w, "DELETE", "/v1/policies/x", "", "alice", NULL, 404, "not-found", "");
	a = call(w, "GET", "/v1/audit", "from=1&limit=2", "alice", NULL);
	assert_int_equal(json_array_size(json_object_get(a.json, "records")), 2);
	assert_int_equal(json_integer_value(json_object_get(a.json, "next_from")), 3);
	assert_true(json_is_false(json_object_get(a.json, "at_end")));
	answer_free(&a);
	a = call(w, "GET", "/v1/audit", "event=target.*&since=2026-01-01T00:00:00Z&tail=1", "alice", NULL);
	assert_int_equal(json_array_size(json_object_get(a.json, "records")), 1);
	assert_non_null(json_object_get(a.json, "next_before"));
	assert_null(json_object_get(a.json, "at_end"));
	answer_free(&a);
	static const char *const bad[][2] = {
		{ "tail=0", "tail: expected a number from 1 to 1000" },
		{ "tail=2&from=1", "tail: gives the newest" },
		{ "before=3", "before: goes with tail" },
		{ "event=", "event: expected a name" },
		{ "since=yesterday", "since: expected a time" },
		{ "until=2h", "until: expected a time" },
		{ "who=alice", "who" },
	};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		expect(w, "GET", "/v1/audit", bad[i][0], "alice", NULL, 400, "invalid-request", bad[i][1]);
	world_down(w);
}

/* The log fails between the judgement and the change. The caller's repetition finds everything as it was. */
static void test_a_change_is_recorded_or_not_made(void **state)
{
	(void)state;
	static const char statement[] = "{'Version':'2026-01-01','Statement':[{'Sid':'x','Effect':'Deny','Principal':"
					"{'User':['bob']},'Action':['*'],'Resource':['*']}]}";
	char bearer[128], keys[700];
	struct world *w = up();
	struct answer a = call(w, "POST", "/v1/enrollments", "", "alice", "{'target':'web-1','tags':{'role':'web'}}");
	snprintf(bearer, sizeof bearer, "Bearer %s", text_at(a.json, "token"));
	answer_free(&a);
	snprintf(keys, sizeof keys, "{'identity_key':'%s','link_key':'%s','version':'1'}", w->client_key,
		 w->client_key);
	const struct {
		const char *method, *path, *who, *body, *event;
		int status;
	} rows[] = {
		{ "PUT", "/v1/policies/x", "alice", statement, "policy.put", 200 },
		{ "DELETE", "/v1/policies/x", "alice", NULL, "policy.delete", 204 },
		{ "DELETE", "/v1/targets/web-1", "alice", NULL, "target.deleted", 204 },
	};
	size_t enrolled = audited(w, "target.enrolled", NULL, NULL);
	fake_store_fail_after(-1, 0);
	expect(w, "POST", "/v1/targets", "", bearer, keys, 503, "busy", "the token is used up");
	assert_int_equal(fake_ws_closed(7), 0); /* nobody was replaced */
	fake_store_heal();
	assert_int_equal(audited(w, "target.enrolled", NULL, NULL), enrolled);
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		fake_store_fail_after(-1, 0);
		expect(w, rows[i].method, rows[i].path, "", rows[i].who, rows[i].body, 503, "busy", "");
		fake_store_heal();
		expect(w, rows[i].method, rows[i].path, "", rows[i].who, rows[i].body, rows[i].status, "", "");
		assert_int_equal(audited(w, rows[i].event, NULL, NULL), 1);
	}
	/* What is refused anyway leaves no record of a change. */
	expect(w, "PUT", "/v1/policies/y", "", "alice", "{'Version':'0'}", 400, "invalid-request", "");
	expect(w, "DELETE", "/v1/policies/y", "", "alice", NULL, 404, "not-found", "");
	assert_int_equal(audited(w, "policy.put", NULL, NULL), 1);
	assert_int_equal(audited(w, "policy.delete", NULL, NULL), 1);
	world_down(w);
}

static void test_a_draining_node_starts_nothing(void **state)
{
	(void)state;
	struct world *w = up();
	atomic_store(&w->server.draining, true);
	expect(w, "POST", "/v1/sessions", "", "alice", "{}", 503, "busy", "draining");
	expect(w, "GET", "/readyz", "", NULL, NULL, 503, "busy", "draining");
	world_down(w);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_routes),
		cmocka_unit_test(test_who_calls),
		cmocka_unit_test(test_start_names_each_mistake),
		cmocka_unit_test(test_a_forbidden_endpoint_is_named),
		cmocka_unit_test(test_ssh_gets_a_certificate_for_the_login),
		cmocka_unit_test(test_ssh_forwards_where_policy_allows_every_endpoint),
		cmocka_unit_test(test_an_ssh_certificate_is_for_where_sshd_sees_the_agent),
		cmocka_unit_test(test_an_idempotency_key_gives_the_same_session_and_a_new_token),
		cmocka_unit_test(test_an_offline_target_says_when_it_was_seen),
		cmocka_unit_test(test_a_selector_takes_the_least_loaded_connected_target),
		cmocka_unit_test(test_a_selector_tells_nothing_to_those_who_may_not),
		cmocka_unit_test(test_lists_are_filtered_and_paged),
		cmocka_unit_test(test_attach_and_delete_with_the_session_token),
		cmocka_unit_test(test_terminate_is_for_owners_and_operators),
		cmocka_unit_test(test_an_enrolment_token_works_once),
		cmocka_unit_test(test_a_deregistered_target_takes_its_tokens_along),
		cmocka_unit_test(test_a_target_that_is_deregistered_while_it_is_enrolled),
		cmocka_unit_test(test_a_token_that_is_used_in_its_last_moment),
		cmocka_unit_test(test_what_an_enrolment_takes_back_is_recorded),
		cmocka_unit_test(test_enrolling_again_replaces_the_machine),
		cmocka_unit_test(test_who_enrols_a_target_anew_may_enrol_the_one_there),
		cmocka_unit_test(test_a_token_takes_no_target_that_came_later),
		cmocka_unit_test(test_policies_and_audit_over_the_api),
		cmocka_unit_test(test_a_change_is_recorded_or_not_made),
		cmocka_unit_test(test_a_draining_node_starts_nothing),
	};
	return RUN_CASES(tests);
}
