#include "support/case.h"

#include "cli/forward.h"

#include <string.h>

static void test_specs_and_what_they_need(void **state)
{
	(void)state;
	static const struct {
		enum forward_way way;
		const char *spec, *from, *allow, *again;
	} good[] = {
		{ FORWARD_LOCAL, "5432:db:5432", "127.0.0.1:5432", "db:5432", "127.0.0.1:5432:db:5432" },
		{ FORWARD_LOCAL, "0:[::1]:22", "127.0.0.1:0", "[::1]:22", "127.0.0.1:0:[::1]:22" },
		{ FORWARD_LOCAL, "127.0.0.2:80:web:80", "127.0.0.2:80", "web:80", "127.0.0.2:80:web:80" },
		{ FORWARD_LOCAL, "[::1]:8080:[fe80::1]:80", "[::1]:8080", "[fe80::1]:80", "[::1]:8080:[fe80::1]:80" },
		{ FORWARD_LOCAL, "*:8080:10.0.0.1:80", "*:8080", "10.0.0.1:80", "*:8080:10.0.0.1:80" },
		{ FORWARD_LOCAL, "/tmp/l.sock:db:5432", "/tmp/l.sock", "db:5432", "/tmp/l.sock:db:5432" },
		{ FORWARD_LOCAL, "80:/run/r:1.sock", "127.0.0.1:80", "unix:/run/r:1.sock",
		  "127.0.0.1:80:/run/r:1.sock" },
		{ FORWARD_LOCAL, "[::1]:80:/r", "[::1]:80", "unix:/r", "[::1]:80:/r" },
		{ FORWARD_LOCAL, "/l:/r", "/l", "unix:/r", "/l:/r" },
		{ FORWARD_SOCKS, "1080", "127.0.0.1:1080", "*", "127.0.0.1:1080" },
		{ FORWARD_SOCKS, "[::1]:0", "[::1]:0", "*", "[::1]:0" },
		{ FORWARD_SOCKS, "*:1080", "*:1080", "*", "*:1080" },
		{ FORWARD_REVERSE, "8080:web:80", "127.0.0.1:8080", "listen:127.0.0.1:8080", "127.0.0.1:8080:web:80" },
		{ FORWARD_REVERSE, "localhost:0:/run/a.sock", "127.0.0.1:0", "listen:127.0.0.1:0",
		  "127.0.0.1:0:/run/a.sock" },
		{ FORWARD_REVERSE, "[0::1]:80:[::1]:81", "[::1]:80", "listen:[::1]:80", "[::1]:80:[::1]:81" },
		{ FORWARD_REVERSE, "*:80:a:1", "0.0.0.0:80", "listen:0.0.0.0:80", "0.0.0.0:80:a:1" },
	};
	struct err e;
	struct forward_spec spec, same;
	char text[FORWARD_TEXT], entry[FORWARD_ENTRY];
	for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
		assert_int_equal(forward_parse(good[i].way, good[i].spec, &spec, &e), 0);
		forward_place_text(&spec.from, entry);
		assert_string_equal(entry, good[i].from);
		forward_allow(&spec, entry);
		assert_string_equal(entry, good[i].allow);
		forward_text(&spec, text);
		assert_string_equal(text, good[i].again);
		assert_int_equal(forward_parse(good[i].way, text, &same, &e), 0);
		assert_memory_equal(&same, &spec, sizeof spec);
	}
}

static void test_what_is_no_spec(void **state)
{
	(void)state;
	static const struct {
		enum forward_way way;
		const char *spec;
	} bad[] = {
		{ FORWARD_LOCAL, "" },
		{ FORWARD_LOCAL, "80" },
		{ FORWARD_LOCAL, "80:web" },
		{ FORWARD_LOCAL, "x:web:80" },
		{ FORWARD_LOCAL, "80:web:http" },
		{ FORWARD_LOCAL, "80:web:0" },
		{ FORWARD_LOCAL, "1:2:3:4:5" },
		{ FORWARD_LOCAL, "[::1:80:a:1" },
		{ FORWARD_LOCAL, "[::1]80:a:1" },
		{ FORWARD_LOCAL, "/l" },
		{ FORWARD_LOCAL, "/l:" },
		{ FORWARD_LOCAL, "/l:r" },
		{ FORWARD_LOCAL, "/l:/../r" },
		{ FORWARD_LOCAL, "/a/../l:/r" },
		{ FORWARD_LOCAL, "80:/" },
		{ FORWARD_LOCAL, "/:a:1" },
		{ FORWARD_LOCAL, "/l:/r/" },
		{ FORWARD_SOCKS, "/l" },
		{ FORWARD_SOCKS, "" },
		{ FORWARD_SOCKS, "1080:web:80" },
		{ FORWARD_SOCKS, "65536" },
		{ FORWARD_REVERSE, "8080" },
		{ FORWARD_REVERSE, "web:80:a:1" },
		{ FORWARD_REVERSE, "/l:a:1" },
		{ FORWARD_REVERSE, "80:a:0" },
		{ FORWARD_REVERSE, "127.1:80:a:1" },
		{ FORWARD_REVERSE, "" },
		{ FORWARD_SOCKS, "localhost" },
		{ FORWARD_SOCKS, ":1080" },
		{ FORWARD_SOCKS, "1080:1080:" },
	};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		struct forward_spec spec;
		struct err e;
		if (forward_parse(bad[i].way, bad[i].spec, &spec, &e) != ERR_INVALID)
			fail_msg("%s was taken", bad[i].spec);
		assert_non_null(strstr(e.text, forward_option(bad[i].way)));
	}
}

static void test_what_other_machines_reach(void **state)
{
	(void)state;
	static const struct {
		const char *spec;
		bool loopback;
	} cases[] = { { "80:a:1", true },    { "127.8.0.1:80:a:1", true }, { "[::1]:80:a:1", true },
		      { "*:80:a:1", false }, { "[::]:80:a:1", false },     { "10.0.0.1:80:a:1", false } };
	struct forward_spec spec;
	struct err e;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		assert_int_equal(forward_parse(FORWARD_REVERSE, cases[i].spec, &spec, &e), 0);
		assert_int_equal(forward_is_loopback(&spec.from), cases[i].loopback);
	}
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_specs_and_what_they_need),
		cmocka_unit_test(test_what_is_no_spec),
		cmocka_unit_test(test_what_other_machines_reach),
	};
	return RUN_CASES(tests);
}
