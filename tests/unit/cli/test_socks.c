#include "support/case.h"

#include "cli/socks.h"

#include <stdlib.h>
#include <string.h>

#define BYTES(text) (text), (sizeof(text) - 1)

/* What is said, as it goes to the client. */
struct talk {
	struct socks socks;
	uint8_t said[64];
	size_t said_len;
};

static void hear(struct talk *t)
{
	assert_true(t->said_len + t->socks.say_len <= sizeof t->said);
	memcpy(t->said + t->said_len, t->socks.say, t->socks.say_len);
	t->said_len += t->socks.say_len;
	t->socks.say_len = 0;
}

/* In pieces of that size; returns how many bytes were taken. */
static size_t feed(struct talk *t, const char *bytes, size_t len, size_t piece)
{
	size_t n = 0;
	memset(t, 0, sizeof *t);
	while (n < len && t->socks.state == SOCKS_ASKING) {
		size_t taken = socks_feed(&t->socks, bytes + n, len - n < piece ? len - n : piece);
		assert_true(taken > 0);
		hear(t);
		n += taken;
	}
	return n;
}

static const struct {
	const char *bytes;
	size_t len;
	const char *host;
	uint16_t port;
} requests[] = {
	{ BYTES("\5\1\0"
		"\5\1\0\3\7db.corp\x15\x38"),
	  "db.corp", 5432 },
	{ BYTES("\5\3\2\0\1"
		"\5\1\0\1\12\0\0\7\0\26"),
	  "10.0.0.7", 22 },
	{ BYTES("\5\1\0"
		"\5\1\0\4\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1\0\120"),
	  "::1", 80 },
	{ BYTES("\4\1\0\120\12\0\0\7ann\0"), "10.0.0.7", 80 },
	{ BYTES("\4\1\0\120\0\0\0\1\0web.corp\0"), "web.corp", 80 },
};

static void test_requests_in_pieces_of_every_size(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof requests / sizeof *requests; i++) {
		for (size_t piece = 1; piece <= requests[i].len + 4; piece++) {
			char ahead[64];
			struct talk t;
			memcpy(ahead, requests[i].bytes, requests[i].len);
			memcpy(ahead + requests[i].len, "GET ", 4); /* the stream's own */
			assert_int_equal(feed(&t, ahead, requests[i].len + 4, piece), requests[i].len);
			assert_int_equal(t.socks.state, SOCKS_ASKED);
			assert_int_equal(t.socks.dest.kind, LINK_KIND_TCP);
			assert_string_equal(t.socks.dest.host, requests[i].host);
			assert_int_equal(t.socks.dest.port, requests[i].port);
			assert_int_equal(t.said_len, requests[i].bytes[0] == 5 ? 2 : 0);
		}
	}
}

static void test_less_than_a_request_waits(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof requests / sizeof *requests; i++)
		for (size_t len = 0; len < requests[i].len; len++) {
			struct talk t;
			assert_int_equal(feed(&t, requests[i].bytes, len, len), len);
			assert_int_equal(t.socks.state, SOCKS_ASKING);
		}
}

static void test_what_is_refused(void **state)
{
	(void)state;
	static const struct {
		const char *bytes;
		size_t len;
		const char *said;
		size_t said_len;
	} cases[] = {
		{ BYTES("GET / HTTP/1.1\r\n"), BYTES("") },
		{ BYTES("\6\1\0"), BYTES("") },
		{ BYTES("\5\0"), BYTES("\5\xff") },
		{ BYTES("\5\2\1\2"), BYTES("\5\xff") },
		{ BYTES("\5\1\0\5\2\0\1\1"), BYTES("\5\0\5\7\0\1\0\0\0\0\0\0") },       /* BIND */
		{ BYTES("\5\1\0\5\3\0\1\1"), BYTES("\5\0\5\7\0\1\0\0\0\0\0\0") },       /* UDP */
		{ BYTES("\5\1\0\5\1\0\2\1"), BYTES("\5\0\5\10\0\1\0\0\0\0\0\0") },      /* address type 2 */
		{ BYTES("\5\1\0\4\1\0\1\1"), BYTES("\5\0\5\1\0\1\0\0\0\0\0\0") },       /* version changes */
		{ BYTES("\5\1\0\5\1\0\3\0\0\120"), BYTES("\5\0\5\1\0\1\0\0\0\0\0\0") }, /* no name */
		{ BYTES("\5\1\0\5\1\0\3\2a\0\0\120"), BYTES("\5\0\5\1\0\1\0\0\0\0\0\0") },
		{ BYTES("\5\1\0\5\1\0\1\1\2\3\4\0\0"), BYTES("\5\0\5\1\0\1\0\0\0\0\0\0") }, /* port 0 */
		{ BYTES("\4\2\0\120\12\0\0\7"), BYTES("\0\x5b\0\0\0\0\0\0") },
		{ BYTES("\4\1\0\120\0\0\0\1\0\0"), BYTES("\0\x5b\0\0\0\0\0\0") },
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		for (size_t piece = 1; piece <= cases[i].len; piece++) {
			struct talk t;
			feed(&t, cases[i].bytes, cases[i].len, piece);
			assert_int_equal(t.socks.state, SOCKS_REFUSED);
			assert_non_null(t.socks.why);
			assert_int_equal(t.said_len, cases[i].said_len);
			assert_memory_equal(t.said, cases[i].said, t.said_len);
		}
	}
}

static void test_a_request_without_end(void **state)
{
	(void)state;
	char bytes[4096];
	struct talk t;
	memset(bytes, 'x', sizeof bytes);
	memcpy(bytes, "\4\1\0\120\0\0\0\1", 8);
	assert_true(feed(&t, bytes, sizeof bytes, 100) < 600);
	assert_int_equal(t.socks.state, SOCKS_REFUSED);
	assert_memory_equal(t.said, "\0\x5b", 2);
	bytes[9] = '\0'; /* the user ends, the name does not */
	assert_true(feed(&t, bytes, sizeof bytes, 100) < 600);
	assert_int_equal(t.socks.state, SOCKS_REFUSED);
	memcpy(bytes, "\5\1\0\5\1\0\3\xff", 8); /* longer than a name can be */
	feed(&t, bytes, sizeof bytes, 100);
	assert_int_equal(t.socks.state, SOCKS_REFUSED);
}

static void test_answers(void **state)
{
	(void)state;
	static const struct {
		unsigned code;
		uint8_t reply;
	} cases[] = {
		{ LINK_OK, 0 },      { LINK_NOT_ALLOWED, 2 }, { LINK_REFUSED, 5 }, { LINK_UNREACHABLE, 4 },
		{ LINK_TIMEOUT, 6 }, { LINK_LIMIT, 1 },       { 4711, 1 },
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct talk t;
		feed(&t, requests[0].bytes, requests[0].len, 100);
		socks_answer(&t.socks, cases[i].code);
		assert_int_equal(t.socks.say_len, 10);
		assert_int_equal(t.socks.say[1], cases[i].reply);
		feed(&t, requests[3].bytes, requests[3].len, 100);
		socks_answer(&t.socks, cases[i].code);
		assert_int_equal(t.socks.say_len, 8);
		assert_int_equal(t.socks.say[1], cases[i].code ? 91 : 90);
	}
}

static void test_noise(void **state)
{
	(void)state;
	srand(4711);
	for (int run = 0; run < 20000; run++) {
		char bytes[64];
		struct talk t;
		for (size_t i = 0; i < sizeof bytes; i++)
			bytes[i] = (char)(rand() % 3 ? rand() % 6 : rand());
		size_t n = feed(&t, bytes, sizeof bytes, 1 + (size_t)(rand() % 64));
		assert_true(t.socks.state != SOCKS_ASKING || n == sizeof bytes);
	}
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_requests_in_pieces_of_every_size),
		cmocka_unit_test(test_less_than_a_request_waits),
		cmocka_unit_test(test_what_is_refused),
		cmocka_unit_test(test_a_request_without_end),
		cmocka_unit_test(test_answers),
		cmocka_unit_test(test_noise),
	};
	return RUN_CASES(tests);
}
