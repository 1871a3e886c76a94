/* The codec: what is written is read again, and whatever breaks a rule is named. */
#include "link/frame.h"
#include "support/case.h"

static void expect_text(int rc, const struct err *e, const char *text)
{
	assert_int_equal(rc, ERR_PROTOCOL);
	if (!strstr(e->text, text))
		fail_msg("\"%s\" does not say \"%s\"", e->text, text);
}

static void test_numbers_are_big_endian(void **state)
{
	(void)state;
	static const uint8_t expected[] = { 7, 1, 0, 0, 0x01, 0x02, 0x03, 0x04, 0, 0, 0, 16, 0, 0,
					    0, 1, 2, 3, 4,    5,    0,    0,    0, 0, 6, 7,  8, 9 };
	uint8_t out[FRAME_CONTROL_MAX];
	assert_int_equal(frame_write_ack(out, 0x01020304, 0x0102030405, 0x06070809, true), sizeof(expected));
	assert_memory_equal(out, expected, sizeof(expected));
}

static void check_head(const uint8_t *bytes, enum frame_type type, uint32_t stream, size_t total)
{
	struct frame_head head;
	struct err e;
	if (frame_read_head(bytes, &head, &e) != 0)
		fail_msg("%s", e.text);
	assert_int_equal(head.type, type);
	assert_int_equal(head.stream, stream);
	assert_int_equal(head.length + FRAME_HEAD, total);
}

static void test_frames_return(void **state)
{
	(void)state;
	uint8_t out[FRAME_CONTROL_MAX];
	const uint8_t *body = out + FRAME_HEAD;

	struct frame_hello hello;
	size_t n = frame_write_hello(out, &(struct frame_hello){ 256, 1 << 18 });
	check_head(out, FRAME_HELLO, 0, n);
	assert_int_equal(frame_read_hello(body, n - FRAME_HEAD, &hello, NULL), 0);
	assert_int_equal(hello.max_streams, 256);
	assert_int_equal(hello.initial_window, 1 << 18);

	struct link_dest dest = { .kind = LINK_KIND_TCP, .port = 65535 }, got;
	memset(dest.host, 'h', LIMIT_LINK_HOST);
	n = frame_write_open(out, 7, &dest);
	assert_int_equal(n, FRAME_CONTROL_MAX);
	check_head(out, FRAME_OPEN, 7, n);
	assert_int_equal(frame_read_open(body, n - FRAME_HEAD, &got, NULL), 0);
	assert_string_equal(got.host, dest.host);
	assert_int_equal(got.port, 65535);

	struct frame_reason reason;
	n = frame_write_reason(out, FRAME_RESET, 9, 6, "gr\xc3\xbc\xc3\x9f");
	check_head(out, FRAME_RESET, 9, n);
	assert_int_equal(frame_read_reason(body, n - FRAME_HEAD, &reason, NULL), 0);
	assert_int_equal(reason.code, 6);
	assert_string_equal(reason.text, "gr\xc3\xbc\xc3\x9f");

	n = frame_write_number(out, FRAME_FIN, 3, UINT64_MAX);
	check_head(out, FRAME_FIN, 3, n);
	assert_true(frame_read_u64(body) == UINT64_MAX);
	check_head(out, FRAME_FIN, 3, n);
	check_head(out, FRAME_OPENED, 5, (frame_write_opened(out, 5)));
	frame_write_data_head(out, 11, 5, 100);
	check_head(out, FRAME_DATA, 11, FRAME_DATA_HEAD + 100);
}

static void test_places_to_listen_and_what_came_there(void **state)
{
	(void)state;
	static const struct link_dest good[] = {
		{ .kind = LINK_KIND_LISTEN, .host = "127.0.0.1", .port = 8080 },
		{ .kind = LINK_KIND_LISTEN, .host = "::1" },
		{ .kind = LINK_KIND_ACCEPTED, .host = "4294967295" },
	};
	uint8_t out[FRAME_CONTROL_MAX];
	struct link_dest got;
	struct err e;
	for (size_t i = 0; i < sizeof(good) / sizeof(*good); i++) {
		assert_int_equal(frame_check_dest(&good[i], &e), 0);
		size_t n = frame_write_open(out, 7, &good[i]);
		assert_int_equal(frame_read_open(out + FRAME_HEAD, n - FRAME_HEAD, &got, &e), 0);
		assert_memory_equal(&got, &good[i], sizeof(got));
	}
}

static void test_paths_of_sockets(void **state)
{
	(void)state;
	static const char *const good[] = { "/a", "/run/app.sock", "/run/..a/.b/c..", "/with space:and\xc3\xbc" };
	static const char *const bad[] = { "",     "/",     "a",     "//a",    "/a/",   "/a//b",  "/.",
					   "/a/.", "/a/..", "/../a", "/a/./b", "/a\nb", "/a\x7f", "/\xff" };
	uint8_t out[FRAME_CONTROL_MAX];
	struct link_dest dest = { .kind = LINK_KIND_UNIX }, got;
	struct err e;
	for (size_t i = 0; i < sizeof(good) / sizeof(*good); i++) {
		snprintf(dest.host, sizeof(dest.host), "%s", good[i]);
		assert_int_equal(frame_check_dest(&dest, &e), 0);
		size_t n = frame_write_open(out, 7, &dest);
		assert_int_equal(frame_read_open(out + FRAME_HEAD, n - FRAME_HEAD, &got, &e), 0);
		assert_int_equal(got.kind, LINK_KIND_UNIX);
		assert_string_equal(got.host, good[i]);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		snprintf(dest.host, sizeof(dest.host), "%s", bad[i]);
		expect_text(frame_check_dest(&dest, &e) ? ERR_PROTOCOL : 0, &e, "a destination of kind unix");
	}
	memset(dest.host, 'x', sizeof(dest.host));
	dest.host[0] = '/';
	dest.host[LIMIT_SOCKET_PATH] = '\0';
	assert_int_equal(frame_check_dest(&dest, &e), 0);
	dest.port = 1;
	assert_int_equal(frame_check_dest(&dest, &e), ERR_INVALID);
	dest.port = 0;
	dest.host[LIMIT_SOCKET_PATH] = 'x';
	dest.host[LIMIT_SOCKET_PATH + 1] = '\0';
	assert_int_equal(frame_check_dest(&dest, &e), ERR_INVALID);
}

static void test_entry_returns(void **state)
{
	(void)state;
	uint8_t bytes[FRAME_ENTRY];
	struct frame_entry in = { .stream = 3, .state = 0x1f, .received = 1ull << 40, .delivered = 5, .credit = 9 };
	struct frame_entry out;
	frame_write_entry(bytes, &in);
	assert_int_equal(frame_read_entry(bytes, &out, NULL), 0);
	assert_int_equal(out.stream, 3);
	assert_int_equal(out.state, 0x1f);
	assert_true(out.received == 1ull << 40 && out.delivered == 5 && out.credit == 9);
}

static void test_bad_heads(void **state)
{
	(void)state;
	static const struct {
		uint8_t type, flags, reserved, stream;
		uint32_t length;
		const char *text;
	} cases[] = {
		{ 0, 0, 0, 0, 0, "type 0 is unknown" },
		{ 13, 0, 0, 0, 0, "type 13 is unknown" },
		{ 255, 0, 0, 0, 0, "type 255 is unknown" },
		{ 1, 1, 0, 0, 24, "HELLO has flags 0x01" },
		{ 2, 2, 0, 0, 0, "RESUME has flags 0x02" },
		{ 7, 0x81, 0, 1, 16, "ACK has flags 0x81" },
		{ 6, 1, 0, 1, 9, "DATA has flags 0x01" },
		{ 10, 0, 1, 0, 8, "PING has a reserved" },
		{ 1, 0, 0, 1, 24, "HELLO for stream 1" },
		{ 6, 0, 0, 0, 9, "DATA for stream 0" },
		{ 3, 0, 0, 0, 6, "OPEN for stream 0" },
		{ 10, 0, 0, 3, 8, "PING for stream 3" },
		{ 12, 0, 0, 3, 2, "BYE for stream 3" },
		{ 1, 0, 0, 0, 23, "HELLO of 23" },
		{ 1, 0, 0, 0, 25, "HELLO of 25" },
		{ 2, 0, 0, 0, 31, "RESUME of 31" },
		{ 2, 0, 0, 0, 65568, "RESUME of 65568" },
		{ 3, 0, 0, 1, 5, "OPEN of 5" },
		{ 3, 0, 0, 1, 260, "OPEN of 260" },
		{ 4, 0, 0, 1, 1, "OPENED of 1" },
		{ 5, 0, 0, 1, 1, "REFUSED of 1" },
		{ 5, 0, 0, 1, 203, "REFUSED of 203" },
		{ 6, 0, 0, 1, 8, "DATA of 8" },
		{ 6, 0, 0, 1, 65537, "DATA of 65537" },
		{ 6, 0, 0, 1, UINT32_MAX, "DATA of 4294967295" },
		{ 7, 0, 0, 1, 15, "ACK of 15" },
		{ 8, 0, 0, 1, 9, "FIN of 9" },
		{ 9, 0, 0, 1, 203, "RESET of 203" },
		{ 10, 0, 0, 0, 7, "PING of 7" },
		{ 11, 0, 0, 0, 9, "PONG of 9" },
		{ 12, 0, 0, 0, 1, "BYE of 1" },
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		uint8_t bytes[FRAME_HEAD];
		struct frame_head head;
		struct err e;
		frame_write_head(bytes, (enum frame_type)cases[i].type, cases[i].flags, cases[i].stream,
				 cases[i].length);
		bytes[3] = cases[i].reserved;
		expect_text(frame_read_head(bytes, &head, &e), &e, cases[i].text);
	}
}

static void test_bad_hello(void **state)
{
	(void)state;
	uint8_t body[24] = { 0, 2 };
	struct frame_hello hello;
	struct err e;
	expect_text(frame_read_hello(body, sizeof(body), &hello, &e), &e, "link version 2, this end speaks 1");
	expect_text(frame_read_hello(body, 4, &hello, &e), &e, "HELLO of 4");
}

static void test_bad_entries(void **state)
{
	(void)state;
	static const struct {
		struct frame_entry entry;
		const char *text;
	} cases[] = {
		{ { .stream = 0 }, "stream 0" },
		{ { .stream = 1, .state = 0x20 }, "state 0x20" },
		{ { .stream = 1, .received = 4, .delivered = 5 }, "more delivered than received" },
		{ { .stream = 1, .state = FRAME_STATE_FIN_DONE }, "delivered but not received" },
		{ { .stream = 1, .state = FRAME_STATE_ABORTED }, "reset but not done" },
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		uint8_t bytes[FRAME_ENTRY];
		struct frame_entry out;
		struct err e;
		frame_write_entry(bytes, &cases[i].entry);
		expect_text(frame_read_entry(bytes, &out, &e), &e, cases[i].text);
	}
}

static void test_bad_opens(void **state)
{
	(void)state;
	static const struct {
		uint8_t body[12];
		size_t len;
		const char *text;
	} cases[] = {
		{ { 2, 0, 0, 22 }, 5, "OPEN of 5 bytes" },
		{ { 2, 0, 0, 22, 0, 4, 'h', 'o', 's' }, 9, "with a host of 4" },
		{ { 2, 0, 0, 22, 0, 2, 'h', 'o', 's' }, 9, "with a host of 2" },
		{ { 2, 0, 0, 22, 0, 3, 'h', 0, 's' }, 9, "NUL" },
		{ { 2, 0, 0, 22, 0, 3, 'h', '\n', 's' }, 9, "printable" },
		{ { 2, 0, 0, 22, 0, 3, 'h', 0xc3, 0xbc }, 9, "printable" },
		{ { 2, 0, 0, 22, 0, 0 }, 6, "printable" },
		{ { 2, 0, 0, 0, 0, 1, 'h' }, 7, "port must be 1" },
		{ { 4, 0, 0, 22, 0, 1, 'h' }, 7, "kind listen" },
		{ { 4, 0, 0, 22, 0, 0 }, 6, "kind listen" },
		{ { 5, 0, 0, 22, 0, 1, '1' }, 7, "kind accepted" },
		{ { 5, 0, 0, 0, 0, 1, 'x' }, 7, "kind accepted" },
		{ { 5, 0, 0, 0, 0, 1, '0' }, 7, "kind accepted" },
		{ { 5, 0, 0, 0, 0, 0 }, 6, "kind accepted" },
		{ { 6, 0, 0, 22, 0, 1, 'h' }, 7, "kind 6" },
		{ { 3, 0, 0, 22, 0, 2, '/', 'h' }, 8, "kind unix" },
		{ { 3, 0, 0, 0, 0, 1, 'h' }, 7, "kind unix" },
		{ { 0, 0, 0, 22, 0, 1, 'h' }, 7, "kind 0" },
		{ { 1, 0, 0, 22, 0, 0 }, 6, "neither host nor port" },
		{ { 1, 0, 0, 0, 0, 1, 'h' }, 7, "neither host nor port" },
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct link_dest dest;
		struct err e;
		expect_text(frame_read_open(cases[i].body, cases[i].len, &dest, &e), &e, cases[i].text);
	}
}

static void test_bad_reasons(void **state)
{
	(void)state;
	struct frame_reason reason;
	struct err e;
	expect_text(frame_read_reason((const uint8_t *)"\0\1\xff", 3, &reason, &e), &e, "not UTF-8");
	expect_text(frame_read_reason((const uint8_t *)"\0\1a\0b", 5, &reason, &e), &e, "not UTF-8");
	expect_text(frame_read_reason((const uint8_t *)"\0", 1, &reason, &e), &e, "1 bytes");
}

static void test_reason_cannot_drive_a_terminal(void **state)
{
	(void)state;
	static const uint8_t body[] = "\0\2a\x1b[2Jb\x07\x7f\xc2\x9b"
				      "1mc\xc2\xa9\n";
	struct frame_reason reason;
	assert_int_equal(frame_read_reason(body, sizeof(body) - 1, &reason, NULL), 0);
	assert_string_equal(reason.text, "a?[2Jb????1mc\xc2\xa9?");
}

static void test_long_reason_is_cut_between_characters(void **state)
{
	(void)state;
	char text[402];
	for (size_t i = 0; i < 400; i += 2)
		memcpy(text + 1 + i, "\xc3\xbc", 2);
	text[0] = 'x';
	text[401] = '\0';
	uint8_t out[FRAME_CONTROL_MAX];
	struct frame_reason reason;
	size_t n = frame_write_reason(out, FRAME_BYE, 0, 1, text);
	assert_int_equal(n, FRAME_HEAD + 2 + 199);
	assert_int_equal(frame_read_reason(out + FRAME_HEAD, n - FRAME_HEAD, &reason, NULL), 0);
}

static void test_code_names(void **state)
{
	(void)state;
	assert_string_equal(link_code_name(LINK_OK), "ok");
	assert_string_equal(link_code_name(LINK_EXPIRED), "expired");
	assert_string_equal(link_code_name(12), "unknown");
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_numbers_are_big_endian),
		cmocka_unit_test(test_frames_return),
		cmocka_unit_test(test_paths_of_sockets),
		cmocka_unit_test(test_places_to_listen_and_what_came_there),
		cmocka_unit_test(test_entry_returns),
		cmocka_unit_test(test_bad_heads),
		cmocka_unit_test(test_bad_hello),
		cmocka_unit_test(test_bad_entries),
		cmocka_unit_test(test_bad_opens),
		cmocka_unit_test(test_bad_reasons),
		cmocka_unit_test(test_reason_cannot_drive_a_terminal),
		cmocka_unit_test(test_long_reason_is_cut_between_characters),
		cmocka_unit_test(test_code_names),
	};
	return RUN_CASES(tests);
}
