/* What a session's allow may hold beside host:port, and how it is judged. */
#include "world.h"

static void greet(struct world *w, wsconn_id conn, const char *features)
{
	char text[256];
	snprintf(text, sizeof text, "{'type':'hello','version':'1','ssh_host_keys':[],'features':[%s],'sessions':[]}",
		 features);
	say(w, "web-1", conn, text);
}

static struct world *up(const char *features)
{
	struct world *w = world_up();
	enrol(w, "web-1", "");
	greet(w, 7, features);
	return w;
}

static void expect(struct world *w, const char *who, const char *body, int status, const char *words)
{
	struct answer a = call(w, "POST", "/v1/sessions", "", who, body);
	if (a.status != status || !strstr(text_at(a.json, "detail"), words))
		fail_msg("%s: %d %s", body, a.status, a.raw.body ? a.raw.body : "");
	answer_free(&a);
}

/* Without host and port, as forwarding by sshd: an Allow that depends on them is not enough, a Deny denies it. */
static void test_every_endpoint_at_once(void **state)
{
	(void)state;
	struct world *w = up("");
	char body[512];
	put_policy(w, "bob",
		   "{'Effect':'Allow','Principal':{'User':['bob','eve']},'Action':['tunnel:StartSession'],'Resource':['"
		   "*']},"
		   "{'Effect':'Allow','Principal':{'User':['bob']},'Action':['tunnel:OpenTcp'],'Resource':['*'],"
		   "'Condition':{'NumericLessThan':{'tunnel:Port':65536}}},"
		   "{'Effect':'Allow','Principal':{'User':['eve']},'Action':['tunnel:OpenTcp'],'Resource':['*']},"
		   "{'Sid':'NotThere','Effect':'Deny','Principal':{'User':['eve']},'Action':['tunnel:OpenTcp'],'"
		   "Resource':['*'],"
		   "'Condition':{'StringEquals':{'tunnel:Host':['10.0.0.1']}}}");
	snprintf(body, sizeof body, "{'target':'web-1','kind':'tcp','allow':['127.0.0.1:22','*'],'client_key':'%s'}",
		 w->client_key);
	expect(w, "bob", body, 403, "endpoint *");
	expect(w, "eve", body, 403, "NotThere");
	expect(w, "alice", body, 400, "too old for '*'");
	greet(w, 8, "'any-endpoint','what'");
	expect(w, "bob", body, 403, "endpoint *");
	expect(w, "alice", body, 201, "");
	json_t *offer = fake_ws_last(8, "offer");
	json_t *tcp = json_object_get(json_object_get(offer, "grant"), "tcp");
	assert_string_equal(json_string_value(json_array_get(tcp, 1)), "*");
	json_decref(offer);
	put_policy(
		w, "office",
		"{'Effect':'Deny','Principal':'*','Action':'tunnel:OpenTcp','Resource':'*','Condition':{'StringEquals':"
		"{'tunnel:Host':'10.0.0.1'}}}");
	sessions_rejudge_blocking(&w->server);
	json_t *grant = fake_ws_last(8, "grant");
	tcp = json_object_get(json_object_get(grant, "grant"), "tcp");
	assert_int_equal(json_array_size(tcp), 1); /* what is named goes on */
	json_decref(grant);
	world_down(w);
}

static void test_sockets(void **state)
{
	(void)state;
	struct world *w = up("'any-endpoint'");
	char body[512];
	static const char *const bad[] = {
		"unix:/", "unix:/a/../b", "unix:/a/", "unix://a", "unix:/a\\u0001", "unix:a"
	};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		snprintf(body, sizeof body, "{'target':'web-1','kind':'tcp','allow':['%s'],'client_key':'%s'}", bad[i],
			 w->client_key);
		expect(w, "alice", body, 400, "body.allow[0]");
	}
	put_policy(w, "bob",
		   "{'Effect':'Allow','Principal':{'User':['bob']},'Action':['tunnel:StartSession','tunnel:OpenTcp'],"
		   "'Resource':['*']},"
		   "{'Effect':'Allow','Principal':{'User':['bob']},'Action':['tunnel:OpenUnix'],'Resource':['*'],"
		   "'Condition':{'StringLike':{'tunnel:Path':['/run/app/*']}}}");
	snprintf(body, sizeof body,
		 "{'target':'web-1','kind':'tcp','allow':['unix:/run/app/a','*','127.0.0.1:80'],'client_key':'%s'}",
		 w->client_key);
	expect(w, "bob", body, 400, "lacks unix");
	greet(w, 8, "'unix','any-endpoint'");
	expect(w, "bob", body, 201, "");
	json_t *offer = fake_ws_last(8, "offer");
	json_t *grant = json_object_get(offer, "grant");
	assert_int_equal(json_array_size(json_object_get(grant, "tcp")), 2);
	assert_int_equal(json_array_size(json_object_get(grant, "unix")), 1);
	assert_string_equal(json_string_value(json_array_get(json_object_get(grant, "unix"), 0)), "/run/app/a");
	json_decref(offer);
	snprintf(
		body, sizeof body,
		"{'target':'web-1','kind':'tcp','allow':['unix:/run/app/a','unix:/run/docker.sock'],'client_key':'%s'}",
		w->client_key);
	expect(w, "bob", body, 403, "endpoint unix:/run/docker.sock");
	put_policy(w, "bob",
		   "{'Effect':'Allow','Principal':{'User':['bob']},'Action':['tunnel:StartSession','tunnel:OpenTcp'],"
		   "'Resource':['*']}");
	sessions_rejudge_blocking(&w->server);
	json_t *now = fake_ws_last(8, "grant");
	grant = json_object_get(now, "grant");
	assert_int_equal(json_array_size(json_object_get(grant, "tcp")), 2);
	assert_int_equal(json_array_size(json_object_get(grant, "unix")), 0);
	json_decref(now);
	world_down(w);
}

/* Rights to open are none to listen; the agent gets what is left, in a list of its own. */
static void test_places_to_listen(void **state)
{
	(void)state;
	struct world *w = up("'any-endpoint','unix'");
	char body[512];
	static const char *const bad[] = { "listen:localhost:80",       "listen:127.0.0.1:65536", "listen:127.1:80",
					   "listen:[0::1]:80",          "listen:::1:80",          "listen:*:80",
					   "listen:[::ffff:1.2.3.4]:1", "listen:127.0.0.1:" };
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		snprintf(body, sizeof body, "{'target':'web-1','kind':'tcp','allow':['%s'],'client_key':'%s'}", bad[i],
			 w->client_key);
		expect(w, "alice", body, 400, "body.allow[0]");
	}
	put_policy(
		w, "bob",
		"{'Effect':'Allow','Principal':{'User':['bob','eve']},'Action':['tunnel:StartSession','tunnel:Open*',"
		"'tunnel:List*'],'Resource':['*']},"
		"{'Effect':'Allow','Principal':{'User':['bob']},'Action':['tunnel:AcceptTcp'],'Resource':['*'],"
		"'Condition':{'StringEquals':{'tunnel:Host':'127.0.0.1'},'NumericGreaterThan':{'tunnel:Port':1023}}}");
	snprintf(body, sizeof body,
		 "{'target':'web-1','kind':'tcp','allow':['listen:127.0.0.1:8080','*'],'client_key':'%s'}",
		 w->client_key);
	expect(w, "bob", body, 400, "lacks listen");
	greet(w, 8, "'listen','any-endpoint'");
	expect(w, "eve", body, 403, "endpoint listen:127.0.0.1:8080");
	expect(w, "bob", body, 201, "");
	json_t *offer = fake_ws_last(8, "offer");
	json_t *grant = json_object_get(offer, "grant");
	assert_int_equal(json_array_size(json_object_get(grant, "tcp")), 1);
	assert_int_equal(json_array_size(json_object_get(grant, "listen")), 1);
	assert_string_equal(json_string_value(json_array_get(json_object_get(grant, "listen"), 0)), "127.0.0.1:8080");
	json_decref(offer);
	static const char *const no[] = { "listen:127.0.0.1:80", "listen:0.0.0.0:8080", "listen:[::1]:8080",
					  "listen:127.0.0.1:0" };
	for (size_t i = 0; i < sizeof no / sizeof *no; i++) {
		snprintf(body, sizeof body, "{'target':'web-1','kind':'tcp','allow':['%s'],'client_key':'%s'}", no[i],
			 w->client_key);
		expect(w, "bob", body, 403, no[i]);
	}
	put_policy(w, "bob",
		   "{'Effect':'Allow','Principal':{'User':['bob']},'Action':['tunnel:StartSession','tunnel:Open*'],"
		   "'Resource':['*']}");
	sessions_rejudge_blocking(&w->server);
	json_t *now = fake_ws_last(8, "grant");
	grant = json_object_get(now, "grant");
	assert_int_equal(json_array_size(json_object_get(grant, "tcp")), 1);
	assert_int_equal(json_array_size(json_object_get(grant, "listen")), 0);
	json_decref(now);
	world_down(w);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_endpoint_at_once),
		cmocka_unit_test(test_sockets),
		cmocka_unit_test(test_places_to_listen),
	};
	return RUN_CASES(tests);
}
