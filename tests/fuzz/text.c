/* The small readers that everything else stands on: encodings, numbers, dates, endpoints. All of them get the whole
 * input; what is read and written again must be the same. */
#include "fuzz.h"

#include "base/clock.h"
#include "base/text.h"
#include "server/endpoint_text.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define INPUT_MAX 1000u

static void check_encodings(const char *s, size_t len)
{
	uint8_t bytes[INPUT_MAX];
	char again[INPUT_MAX * 2 + 8];
	size_t n = 0;
	if (text_b64url_decode(s, len, bytes, sizeof bytes, &n) == 0)
		FUZZ_CHECK(text_b64url(bytes, n, again, sizeof again) == len && memcmp(again, s, len) == 0);
	if (text_b64_decode(s, len, bytes, sizeof bytes, &n) == 0)
		FUZZ_CHECK(text_b64(bytes, n, again, sizeof again) == len && memcmp(again, s, len) == 0);
	if (n)
		FUZZ_CHECK(text_b64_decode(s, len, bytes, n - 1, &n) != 0);
	if (text_hex_decode(s, len, bytes, sizeof bytes, &n) == 0) {
		text_hex(bytes, n, again);
		FUZZ_CHECK(strncasecmp(again, s, len) == 0 && n * 2 == len);
	}
	text_b64url(s, len, again, sizeof again);
	FUZZ_CHECK(text_b64url_decode(again, strlen(again), bytes, sizeof bytes, &n) == 0);
	FUZZ_CHECK(n == len && memcmp(bytes, s, len) == 0);
}

static void check_numbers(const char *text)
{
	int64_t n = 0, again = 0;
	char printed[64];
	if (text_parse_int(text, INT64_MIN, INT64_MAX, &n) == 0) {
		snprintf(printed, sizeof printed, "%lld", (long long)n);
		FUZZ_CHECK(text_parse_int(printed, n, n, &again) == 0 && again == n);
		FUZZ_CHECK(n == INT64_MAX || text_parse_int(text, n + 1, INT64_MAX, &again) != 0);
	}
	if (text_parse_duration_ms(text, &n) == 0) {
		snprintf(printed, sizeof printed, "%lldms", (long long)n);
		FUZZ_CHECK(n >= 0 && text_parse_duration_ms(printed, &again) == 0 && again == n);
	}
	if (text_parse_size(text, &n) == 0) {
		snprintf(printed, sizeof printed, "%lld", (long long)n);
		FUZZ_CHECK(n >= 0 && text_parse_size(printed, &again) == 0 && again == n);
	}
}

static void check_date(const char *text)
{
	int64_t ms = 0, again = 0;
	char printed[CLOCK_TEXT_LEN];
	if (clock_parse(text, &ms) != 0)
		return;
	clock_text(ms, printed);
	bool has_four_digits = ms >= -62135596800000 && ms <= 253402300799999; /* years 1 to 9999 */
	FUZZ_CHECK(!has_four_digits || (clock_parse(printed, &again) == 0 && again == ms));
	const char *time = strchr(text, 'T'), *zone = time ? strpbrk(time, "+-") : NULL;
	FUZZ_CHECK(!zone || strspn(zone + 1, "0123456789:") == 5);
}

/* "listen:", and an address and a port as they are written. */
static bool is_listen(const char *text)
{
	char address[64], printed[96];
	unsigned char bytes[16];
	if (strncmp(text, "listen:", strlen("listen:")) != 0)
		return false;
	const char *place = text + strlen("listen:"), *colon = strrchr(text, ':');
	if (colon < place || (size_t)(colon - place) >= sizeof address)
		return false;
	bool in_brackets = *place == '[';
	snprintf(address, sizeof address, "%.*s", (int)(colon - place) - 2 * in_brackets, place + in_brackets);
	text_host_port(address, (uint16_t)atoi(colon + 1), printed, sizeof printed);
	return inet_pton(in_brackets ? AF_INET6 : AF_INET, address, bytes) == 1 && strcmp(printed, place) == 0;
}

static void check_endpoint(const char *text)
{
	char host[254], printed[300];
	uint16_t port = 0;
	struct err e;
	bool is_pair = text_parse_host_port(text, host, sizeof host, &port) == 0;
	if (is_pair) {
		FUZZ_CHECK(host[0] && port > 0);
		text_host_port(host, port, printed, sizeof printed);
		FUZZ_CHECK(strpbrk(host, "[]") || text_parse_host_port(printed, host, sizeof host, &port) == 0);
	}
	int rc = endpoint_text_check(text, &e);
	bool socket = strncmp(text, "unix:/", 6) == 0 && text_is_socket_path(text + 5);
	bool whole = strcmp(text, "*") == 0 || socket || is_listen(text) || (is_pair && strcmp(printed, text) == 0);
	FUZZ_CHECK(rc == 0 ? whole : rc == ERR_INVALID && e.text[0]);
}

/* By recursion, so that it is obvious. */
static bool matches(const char *pattern, const char *s)
{
	if (*pattern == '*')
		return matches(pattern + 1, s) || (*s && matches(pattern, s + 1));
	if (!*s || !*pattern)
		return *s == *pattern;
	return (*pattern == '?' || *pattern == *s) && matches(pattern + 1, s + 1);
}

/* "pattern=text" */
static void check_glob(const char *text)
{
	struct fuzz_input in = { (const uint8_t *)text, strlen(text) };
	char *pattern = fuzz_part(&in, '='), *s = fuzz_part(&in, '=');
	size_t stars = 0;
	for (const char *c = pattern; *c; c++)
		stars += *c == '*';
	if (stars <= 4 && strlen(s) <= 30)
		FUZZ_CHECK(text_glob(pattern, s) == matches(pattern, s));
	text_glob(pattern, s);
	free(pattern);
	free(s);
}

/* A sequence is right when its bytes are what its code point encodes to. */
static bool is_utf8(const uint8_t *s, size_t len)
{
	static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };
	for (size_t i = 0, n; i < len; i += n) {
		n = s[i] < 0x80 ? 1 : s[i] >> 5 == 6 ? 2 : s[i] >> 4 == 14 ? 3 : s[i] >> 3 == 30 ? 4 : 0;
		uint32_t point = n > 1 ? s[i] & (0xffu >> (n + 1)) : 0;
		if (n == 0 || n > len - i)
			return false;
		for (size_t k = 1; k < n; k++) {
			if (s[i + k] >> 6 != 2)
				return false;
			point = point << 6 | (s[i + k] & 63u);
		}
		if (n > 1 && (point < least[n] || point > 0x10ffff || (point >= 0xd800 && point <= 0xdfff)))
			return false;
	}
	return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size > INPUT_MAX)
		return 0;
	char *text = fuzz_text(data, size);
	check_encodings(text, size);
	check_numbers(text);
	check_date(text);
	check_endpoint(text);
	check_glob(text);
	FUZZ_CHECK(text_is_utf8(text, size) == is_utf8(data, size));
	FUZZ_CHECK(!text_is_id(text) || (size > 0 && strlen(text) <= 64));
	FUZZ_CHECK(!text_is_login(text) || strlen(text) <= 32);
	free(text);
	return 0;
}
