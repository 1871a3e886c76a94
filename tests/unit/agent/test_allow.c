#include "support/case.h"

#include "agent/allow.h"
#include "agent/grant.h"
#include "base/json.h"
#include "link/link.h"

#include <arpa/inet.h>
#include <netinet/in.h>

static struct allow *parse(const char *const *entries, size_t n)
{
	struct allow *a = NULL;
	struct err e = { 0 };
	if (allow_parse((char *const *)(uintptr_t)entries, n, &a, &e))
		fail_msg("%s", e.text);
	return a;
}
#define PARSE(...) \
	parse((const char *const[]){ __VA_ARGS__ }, sizeof((const char *const[]){ __VA_ARGS__ }) / sizeof(char *))

static bool address(const struct allow *a, const char *text, uint16_t port)
{
	struct sockaddr_storage s = { .ss_family = strchr(text, ':') ? AF_INET6 : AF_INET };
	void *to = s.ss_family == AF_INET ? (void *)&((struct sockaddr_in *)&s)->sin_addr
					  : (void *)&((struct sockaddr_in6 *)&s)->sin6_addr;
	assert_int_equal(inet_pton(s.ss_family, text, to), 1);
	return allow_address(a, (struct sockaddr *)&s, port);
}

static void test_ssh_is_only_ssh(void **state)
{
	(void)state;
	struct allow *a = PARSE("ssh");
	assert_true(allow_ssh(a));
	assert_int_equal(allow_host(a, "127.0.0.1", 22), ALLOW_NO);
	assert_int_equal(allow_host(a, "localhost", 22), ALLOW_NO);
	allow_free(&a);
	a = PARSE("tcp:*:*");
	assert_false(allow_ssh(a));
	allow_free(&a);
	a = parse(NULL, 0);
	assert_false(allow_ssh(a));
	assert_int_equal(allow_host(a, "x", 1), ALLOW_NO);
	allow_free(&a);
}

static void test_names(void **state)
{
	(void)state;
	struct allow *a = PARSE("tcp:db.internal:5432", "tcp:*.web.internal:80-443");
	assert_int_equal(allow_host(a, "db.internal", 5432), ALLOW_YES);
	assert_int_equal(allow_host(a, "DB.Internal.", 5432), ALLOW_YES);
	assert_int_equal(allow_host(a, "db.internal", 5433), ALLOW_NO);
	assert_int_equal(allow_host(a, "xdb.internal", 5432), ALLOW_NO);
	assert_int_equal(allow_host(a, "db.internal.evil", 5432), ALLOW_NO);
	assert_int_equal(allow_host(a, "a.web.internal", 80), ALLOW_YES);
	assert_int_equal(allow_host(a, "a.web.internal", 443), ALLOW_YES);
	assert_int_equal(allow_host(a, "a.web.internal", 444), ALLOW_NO);
	assert_int_equal(allow_host(a, "web.internal", 80), ALLOW_NO);
	assert_int_equal(allow_host(a, "10.0.0.1", 5432), ALLOW_NO);
	assert_false(address(a, "10.0.0.1", 5432));
	allow_free(&a);
}

static void test_addresses_and_networks(void **state)
{
	(void)state;
	struct allow *a = PARSE("tcp:127.0.0.1:5432", "tcp:10.0.0.0/8:*", "tcp:[fd00::]/8:22", "tcp:[::1]:*",
				"tcp:192.168.4.0/22:1-100");
	assert_int_equal(allow_host(a, "127.0.0.1", 5432), ALLOW_YES);
	assert_int_equal(allow_host(a, "127.0.0.1", 5431), ALLOW_NO);
	assert_int_equal(allow_host(a, "127.0.0.2", 5432), ALLOW_NO);
	assert_int_equal(allow_host(a, "10.255.255.255", 1), ALLOW_YES);
	assert_int_equal(allow_host(a, "11.0.0.0", 1), ALLOW_NO);
	assert_int_equal(allow_host(a, "192.168.7.255", 100), ALLOW_YES);
	assert_int_equal(allow_host(a, "192.168.8.0", 100), ALLOW_NO);
	assert_int_equal(allow_host(a, "192.168.3.255", 100), ALLOW_NO);
	assert_int_equal(allow_host(a, "fdff::1", 22), ALLOW_YES);
	assert_int_equal(allow_host(a, "fe00::1", 22), ALLOW_NO);
	assert_int_equal(allow_host(a, "::1", 9), ALLOW_YES);
	assert_int_equal(allow_host(a, "::ffff:10.1.2.3", 9), ALLOW_YES); /* goes where 10.1.2.3 goes */
	assert_int_equal(allow_host(a, "::ffff:11.1.2.3", 9), ALLOW_NO);
	/* A name, or what only getaddrinfo takes for an address, is judged by what it resolves to. */
	assert_int_equal(allow_host(a, "db.internal", 5432), ALLOW_BY_ADDRESS);
	assert_int_equal(allow_host(a, "127.1", 5432), ALLOW_BY_ADDRESS);
	assert_true(address(a, "127.0.0.1", 5432));
	assert_false(address(a, "127.0.0.2", 5432));
	assert_true(address(a, "::ffff:10.1.2.3", 7));
	allow_free(&a);
	a = PARSE("tcp:10.0.0.0/8:80");
	assert_int_equal(allow_host(a, "db.internal", 81), ALLOW_NO);
	allow_free(&a);
	a = PARSE("tcp:0.0.0.0/0:*");
	assert_int_equal(allow_host(a, "8.8.8.8", 53), ALLOW_YES);
	assert_int_equal(allow_host(a, "2001:db8::1", 53), ALLOW_NO);
	allow_free(&a);
	a = PARSE("tcp:[::ffff:10.0.0.0]/104:*");
	assert_int_equal(allow_host(a, "10.9.9.9", 53), ALLOW_YES);
	allow_free(&a);
}

static void test_star_is_everything(void **state)
{
	(void)state;
	struct allow *a = PARSE("tcp:*:8080");
	assert_int_equal(allow_host(a, "8.8.8.8", 8080), ALLOW_YES);
	assert_int_equal(allow_host(a, "any.name", 8080), ALLOW_YES);
	assert_int_equal(allow_host(a, "::1", 8080), ALLOW_YES);
	assert_int_equal(allow_host(a, "any.name", 8081), ALLOW_NO);
	allow_free(&a);
}

static void test_bad_entries_are_named(void **state)
{
	(void)state;
	static const char *const bad[] = {
		"",
		"sshd",
		"SSH",
		"tcp",
		"tcp:",
		"tcp:22",
		"tcp:host:",
		"tcp:host:0",
		"tcp:host:65536",
		"tcp:host:2-1",
		"tcp:host:x",
		"tcp::22",
		"tcp:10.0.0.0/33:1",
		"tcp:10.0.0.1/8:1",
		"tcp:name/8:1",
		"tcp:ho st:1",
		"tcp:::1:22",
		"tcp:[::1/200]:1",
		"tcp:a*b:1",
		"udp:host:1",
		"tcp:host:-1",
		"tcp:[fd00::1]/8:22",
		"tcp:*.:1",
		"tcp:10.0.0.0/-1:1",
		"tcp:[]:1",
		"unix:",
		"unix:/",
		"unix:/a/",
		"unix:/a/../b",
		"unix:/*",
		"unix:/a*",
		"unix:/a*/b",
		"unix:a",
		"listen:",
		"listen:8080",
		"listen:localhost:80",
		"listen:127.0.0.1:0",
		"listen:127.0.0.1",
		"listen:127.0.0.1/8:80",
		"listen:*.local:80",
	};
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		struct allow *a = NULL;
		struct err e = { 0 };
		char *entry = (char *)(uintptr_t)bad[i];
		if (allow_parse(&entry, 1, &a, &e) != ERR_INVALID)
			fail_msg("\"%s\" was accepted", bad[i]);
		assert_null(a);
		assert_non_null(strstr(e.text, bad[i]));
	}
}

static void test_where_to_listen(void **state)
{
	(void)state;
	struct allow *a = PARSE("listen:127.0.0.1:8000-8999", "listen:[::1]:80", "listen:10.0.0.0/8:*");
	assert_true(allow_listen(a, "127.0.0.1", 8000));
	assert_true(allow_listen(a, "127.0.0.1", 0)); /* with some port: which one is judged when it is known */
	assert_true(allow_listen(a, "::ffff:127.0.0.1", 8000));
	assert_true(allow_listen(a, "::1", 80));
	assert_true(allow_listen(a, "10.1.2.3", 22));
	static const struct {
		const char *address;
		uint16_t port;
	} no[] = { { "127.0.0.1", 7999 }, { "127.0.0.1", 9000 }, { "127.0.0.2", 8000 }, { "0.0.0.0", 8000 },
		   { "::", 80 },          { "::1", 81 },         { "11.0.0.0", 22 },    { "11.0.0.0", 0 },
		   { "localhost", 8000 }, { "", 8000 } };
	for (size_t i = 0; i < sizeof no / sizeof *no; i++)
		if (allow_listen(a, no[i].address, no[i].port))
			fail_msg("%s %u", no[i].address, no[i].port);
	assert_false(allow_tcp(a));
	assert_int_equal(allow_host(a, "127.0.0.1", 8000), ALLOW_NO);
	assert_false(address(a, "10.1.2.3", 22));
	allow_free(&a);
	a = PARSE("tcp:*:*", "ssh", "unix:/run/x");
	assert_false(allow_listen(a, "127.0.0.1", 8000));
	assert_false(allow_listen(a, "127.0.0.1", 0));
	allow_free(&a);
	a = PARSE("listen:*:8080");
	assert_true(allow_listen(a, "0.0.0.0", 8080));
	assert_true(allow_listen(a, "::", 8080));
	assert_false(allow_listen(a, "0.0.0.0", 8081));
	allow_free(&a);
}

static int parse_grant(const char *text, struct grant *out, struct err *e)
{
	json_t *json = NULL;
	assert_int_equal(json_parse(text, strlen(text), &json, e), 0);
	int rc = grant_parse(json, out, e);
	json_decref(json);
	return rc;
}

static void test_grant(void **state)
{
	(void)state;
	struct grant g;
	struct err e = { 0 };
	assert_int_equal(parse_grant("{\"ssh\":true,\"logins\":[\"deploy\"],\"tcp\":[\"127.0.0.1:5432\",\"[::1]:80\","
				     "\"Db.internal:1\"],\"max_streams\":9999,\"expires_at_ms\":5,\"new\":1}",
				     &g, &e),
			 0);
	assert_true(g.ssh);
	assert_string_equal(g.logins[0], "deploy");
	assert_int_equal(g.max_streams, LIMIT_LINK_STREAMS);
	assert_true(grant_allows_tcp(&g, "127.0.0.1", 5432));
	assert_false(grant_allows_tcp(&g, "127.0.0.1", 5433));
	assert_false(grant_allows_tcp(&g, "localhost", 5432));
	assert_true(grant_allows_tcp(&g, "0:0::1", 80));
	assert_true(grant_allows_tcp(&g, "db.INTERNAL.", 1));
	assert_false(grant_allows_tcp(&g, "db.internal2", 1));
	assert_int_equal(parse_grant("{\"logins\":[\"a b\"],\"expires_at_ms\":5}", &g, &e), ERR_INVALID);
	assert_int_equal(parse_grant("{\"logins\":[\"*\"],\"expires_at_ms\":5}", &g, &e), ERR_INVALID);
	assert_int_equal(parse_grant("{\"tcp\":[\"nowhere\"],\"expires_at_ms\":5}", &g, &e), ERR_INVALID);
	assert_int_equal(parse_grant("{\"ssh\":true}", &g, &e), ERR_INVALID);
	assert_int_equal(parse_grant("{\"listen\":[\"localhost:80\"],\"expires_at_ms\":5}", &g, &e), ERR_INVALID);
	assert_int_equal(
		parse_grant("{\"listen\":[\"127.0.0.1:80\",\"[::1]:0\"],\"tcp\":[\"*\"],\"expires_at_ms\":5}", &g, &e),
		0);
	assert_true(grant_allows_listen(&g, "127.0.0.1", 80));
	assert_true(grant_allows_listen(&g, "::1", 0));
	assert_false(grant_allows_listen(&g, "::1", 80));
	assert_false(grant_allows_listen(&g, "127.0.0.1", 0));
	assert_false(grant_allows_listen(&g, "0.0.0.0", 80));
	assert_int_equal(parse_grant("{\"expires_at_ms\":5}", &g, &e), 0);
	assert_false(grant_allows_listen(&g, "127.0.0.1", 80));
	assert_false(g.ssh);
}

static void test_sockets(void **state)
{
	(void)state;
	struct allow *a = PARSE("unix:/run/app.sock", "unix:/srv/sockets/*");
	static const char *const yes[] = { "/run/app.sock", "/srv/sockets/a", "/srv/sockets/b.sock" };
	static const char *const no[] = { "/run/app.soc",
					  "/run/app.sock2",
					  "/run/app.sock/x",
					  "/srv/sockets",
					  "/srv/socketsx/a",
					  "/srv/sockets/a/b",
					  "/run",
					  "/x" };
	for (size_t i = 0; i < sizeof yes / sizeof *yes; i++)
		assert_true(allow_socket(a, yes[i]));
	for (size_t i = 0; i < sizeof no / sizeof *no; i++)
		assert_false(allow_socket(a, no[i]));
	assert_false(allow_ssh(a));
	assert_false(allow_tcp(a));
	assert_int_equal(allow_host(a, "/run/app.sock", 80), ALLOW_NO);
	allow_free(&a);
	a = PARSE("tcp:*:*", "ssh");
	assert_false(allow_socket(a, "/run/app.sock"));
	assert_true(allow_tcp(a));
	allow_free(&a);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ssh_is_only_ssh),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_addresses_and_networks),
		cmocka_unit_test(test_star_is_everything),
		cmocka_unit_test(test_bad_entries_are_named),
		cmocka_unit_test(test_grant),
		cmocka_unit_test(test_sockets),
		cmocka_unit_test(test_where_to_listen),
	};
	return RUN_CASES(tests);
}
