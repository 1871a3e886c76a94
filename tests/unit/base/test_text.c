#include "support/case.h"

#include "base/clock.h"
#include "base/place.h"
#include "base/text.h"

static void test_base64url_round_trip_and_strictness(void **state)
{
	(void)state;
	uint8_t in[70], back[70];
	char text[TEXT_B64_SIZE(70)]; /* the padded form is the longer one */
	size_t n;
	for (size_t len = 0; len < sizeof in; len++) {
		for (size_t i = 0; i < len; i++)
			in[i] = (uint8_t)(i * 37 + len);
		size_t t = text_b64url(in, len, text, sizeof text);
		assert_int_equal(text_b64url_decode(text, t, back, sizeof back, &n), 0);
		assert_int_equal(n, len);
		assert_memory_equal(in, back, len);
		t = text_b64(in, len, text, sizeof text);
		assert_int_equal(t % 4, 0);
		assert_int_equal(text_b64_decode(text, t, back, sizeof back, &n), 0);
		assert_int_equal(n, len);
	}
	static const char *const bad[] = { "A", "AB=", "A B", "AB!", "AB\n", "AB", "+/+/" };
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		assert_int_not_equal(text_b64url_decode(bad[i], strlen(bad[i]), back, sizeof back, &n), 0);
	assert_int_equal(text_b64url_decode("AA", 2, back, sizeof back, &n), 0);
	assert_int_not_equal(text_b64url_decode("AAAA", 4, back, 2, &n), 0);

	char exact[TEXT_B64URL_SIZE(32)]; /* what a hash takes: 43 characters and the end */
	assert_int_equal(sizeof exact, 44);
	assert_int_equal(text_b64url(in, 32, exact, sizeof exact), 43);
	assert_int_equal(text_b64url(in, 32, exact, sizeof exact - 1), 0);
	assert_string_equal(exact, "");
}

static void test_globs(void **state)
{
	(void)state;
	assert_true(text_glob("*", ""));
	assert_true(text_glob("target/*", "target/web-1"));
	assert_true(text_glob("a*b*c", "aXXbYYbZc"));
	assert_true(text_glob("we?-1", "web-1"));
	assert_false(text_glob("a*b", "ac"));
	assert_false(text_glob("web", "web-1"));
	assert_false(text_glob("?", ""));
}

static void test_numbers_and_units(void **state)
{
	(void)state;
	int64_t v;
	assert_int_equal(text_parse_duration_ms("15m", &v), 0);
	assert_int_equal(v, 900000);
	assert_int_equal(text_parse_duration_ms("300ms", &v), 0);
	assert_int_equal(v, 300);
	assert_int_equal(text_parse_size("256k", &v), 0);
	assert_int_equal(v, 262144);
	static const char *const bad[] = { "", "-1", "m", "1x", " 1", "1 ", "9223372036854775807d" };
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		assert_int_not_equal(text_parse_duration_ms(bad[i], &v), 0);
	assert_int_not_equal(text_parse_int("70000", 1, 65535, &v), 0);
	assert_int_not_equal(text_parse_int("1e3", 1, 65535, &v), 0);
}

static void test_host_port(void **state)
{
	(void)state;
	char host[32], text[64];
	uint16_t port;
	assert_int_equal(text_parse_host_port("[::1]:22", host, sizeof host, &port), 0);
	assert_string_equal(host, "::1");
	assert_int_equal(port, 22);
	text_host_port(host, port, text, sizeof text);
	assert_string_equal(text, "[::1]:22");
	assert_int_equal(text_parse_host_port("db:5432", host, sizeof host, &port), 0);
	static const char *const bad[] = { "db", ":22", "db:0", "db:65536", "::1:22", "[::1]22", "db:", "[]:1" };
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		assert_int_not_equal(text_parse_host_port(bad[i], host, sizeof host, &port), 0);
}

static void test_places(void **state)
{
	(void)state;
	static const struct {
		const char *text, *address;
		uint16_t port;
	} good[] = {
		{ "127.0.0.1:8080", "127.0.0.1", 8080 },      { "[::1]:0", "::1", 0 },
		{ "0.0.0.0:65535", "0.0.0.0", 65535 },        { "[0:0::1]:1", "::1", 1 },
		{ "[::ffff:127.0.0.1]:80", "127.0.0.1", 80 }, { "[FE80::A]:80", "fe80::a", 80 },
	};
	static const char *const bad[] = { "",
					   "8080",
					   "127.0.0.1",
					   "127.0.0.1:",
					   ":80",
					   "localhost:80",
					   "*:80",
					   "127.1:80",
					   "::1:80",
					   "[::1]80",
					   "[127.0.0.1]:80",
					   "127.0.0.1:65536",
					   "127.0.0.1:-1",
					   "[]:1",
					   "[::1:80",
					   "[fe80::1%eth0]:80" };
	char address[PLACE_ADDRESS];
	uint16_t port;
	for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
		assert_int_equal(place_parse(good[i].text, address, &port), 0);
		assert_string_equal(address, good[i].address);
		assert_int_equal(port, good[i].port);
	}
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		if (place_parse(bad[i], address, &port) == 0)
			fail_msg("\"%s\" was accepted", bad[i]);
}

static void test_names_and_utf8(void **state)
{
	(void)state;
	assert_true(text_is_id("web-1.eu_west"));
	assert_false(text_is_id("-web"));
	assert_false(text_is_id("web/1"));
	assert_false(text_is_id(""));
	assert_true(text_is_login("root"));
	assert_false(text_is_login("-oProxyCommand=x"));
	assert_false(text_is_login("Root"));
	assert_true(text_is_utf8("gr\xc3\xbc\xc3\x9f", 6));
	assert_false(text_is_utf8("\xc0\x80", 2));
	assert_false(text_is_utf8("\xed\xa0\x80", 3));
	assert_false(text_is_utf8("\xe2\x82", 2));
}

static void test_what_is_cut_ends_at_a_character(void **state)
{
	(void)state;
	char out[8];
	struct err e;
	text_print(out, sizeof out, "%s", "abcdef\xc3\xbc");
	assert_string_equal(out, "abcdef");
	text_print(out, sizeof out, "%s", "abcde\xc3\xbc");
	assert_string_equal(out, "abcde\xc3\xbc");
	text_print(out, sizeof out, "%.3s|%.2s|", "\xe2\x82\xac\xe2\x82\xac",
		   "\xe2\x82\xac"); /* inside the text, too */
	assert_string_equal(out, "\xe2\x82\xac||");
	text_print(out, sizeof out, "\xf0\x9f\x98\x80\xf0\x9f\x98\x80");
	assert_string_equal(out, "\xf0\x9f\x98\x80");
	text_print(out, sizeof out, "a\xff\xc0\x80z");
	assert_string_equal(out, "az");
	char name[300] = "";
	for (size_t i = 0; i + 2 < sizeof name; i += 2)
		memcpy(name + i, "\xc3\xbc", 3);
	err_set(&e, ERR_INVALID, "x%s", name);
	assert_true(text_is_utf8(e.text, strlen(e.text)));
	assert_int_equal(strlen(e.text), 255);
	err_wrap(&e, "y");
	assert_true(text_is_utf8(e.text, strlen(e.text)));
	assert_int_equal(strlen(e.text), 254);
}

static void test_dates(void **state)
{
	(void)state;
	char text[CLOCK_TEXT_LEN];
	int64_t ms;
	assert_int_equal(clock_parse("2026-01-31T09:15:00.25Z", &ms), 0);
	assert_string_equal(clock_text(ms, text), "2026-01-31T09:15:00.250Z");
	assert_int_equal(clock_parse("2026-01-31T10:15:00+01:00", &ms), 0);
	assert_string_equal(clock_text(ms, text), "2026-01-31T09:15:00.000Z");
	assert_string_equal(clock_text(-62135596800000, text), "0001-01-01T00:00:00.000Z");
	assert_int_not_equal(clock_parse("2026-01-31", &ms), 0);
	assert_int_equal(clock_parse("2028-02-29T09:15:00Z", &ms), 0);
	static const char *const none[] = {
		"2026-01-31T10:15:00",
		" 2026-01-31T10:15:00Z",
		"2026-1-31T10:15:00Z",
		"2026-02-29T10:15:00Z",
		"2026-04-31T10:15:00Z",
		"2026-13-01T10:15:00Z",
		"2026-01-31T24:15:00Z",
		"2026-01-31 10:15:00Z",
		"2026-01-31T10:15:00Zx",
		"2026-01-31T10:15:00+1",
		"tomorrow",
		"",
	};
	for (size_t i = 0; i < sizeof none / sizeof *none; i++)
		if (clock_parse(none[i], &ms) == 0)
			fail_msg("%s is taken", none[i]);
}

static void test_lists_end_at_a_name(void **state)
{
	(void)state;
	char list[16] = "", empty[8] = "";
	text_list_add(list, sizeof list, "one");
	assert_string_equal(list, "one");
	text_list_add(list, sizeof list, "two");
	assert_string_equal(list, "one, two");
	text_list_add(list, sizeof list, "three"); /* it would fit, and nothing that tells of more */
	text_list_add(list, sizeof list, "x");
	assert_string_equal(list, "one, two, …");
	text_list_add(empty, sizeof empty, "longer than it");
	assert_string_equal(empty, "…");
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_base64url_round_trip_and_strictness),
		cmocka_unit_test(test_globs),
		cmocka_unit_test(test_numbers_and_units),
		cmocka_unit_test(test_host_port),
		cmocka_unit_test(test_places),
		cmocka_unit_test(test_names_and_utf8),
		cmocka_unit_test(test_what_is_cut_ends_at_a_character),
		cmocka_unit_test(test_dates),
		cmocka_unit_test(test_lists_end_at_a_name),
	};
	return RUN_CASES(tests);
}
