#include "support/case.h"

#include "net/ws_codec.h"

#define MAX_TEXT 4096

/* What a decoder gave, as one line: "T:hello B:abc| C:1000:bye P: …"; binary pieces are joined, '|' ends a message. */
struct seen {
	struct buf line;
	bool in_binary;
	int rc;
	struct err e;
};

static void note(struct seen *s, const struct ws_piece *p)
{
	if (p->op == WS_BINARY) {
		if (!s->in_binary)
			buf_add_text(&s->line, "B:");
		buf_add(&s->line, p->data, p->len);
		s->in_binary = !p->end;
		if (p->end)
			buf_add_text(&s->line, "| ");
		return;
	}
	if (s->in_binary)
		buf_add_text(&s->line, "~");
	buf_printf(&s->line, "%c:", p->op == WS_TEXT ? 'T' : p->op == WS_PING ? 'P' : p->op == WS_PONG ? 'Q' : 'C');
	if (p->op == WS_CLOSE)
		buf_printf(&s->line, "%u:", p->close_code);
	buf_add(&s->line, p->data, p->len);
	buf_add_text(&s->line, " ");
	s->in_binary = false;
}

/* Feeds bytes in pieces of at most step. */
static void decode_all(struct seen *s, bool masked, const void *bytes, size_t len, size_t step)
{
	struct ws_decoder d;
	ws_decoder_init(&d, masked, MAX_TEXT);
	memset(s, 0, sizeof *s);
	buf_init(&s->line, 1 << 20);
	for (size_t at = 0; at < len && s->rc >= 0; at += step) {
		size_t n = len - at < step ? len - at : step;
		uint8_t *copy = malloc(n); /* exact, so that a sanitizer sees a byte too far */
		memcpy(copy, (const uint8_t *)bytes + at, n);
		uint8_t *in = copy;
		struct ws_piece p;
		while ((s->rc = ws_decode(&d, &in, &n, &p, &s->e)) == 1)
			note(s, &p);
		if (s->rc == 0)
			assert_int_equal(n, 0);
		free(copy);
	}
	buf_add_u8(&s->line, 0);
	ws_decoder_free(&d);
}

static void expect_line(bool masked, const struct buf *wire, const char *line)
{
	for (size_t step = 1; step <= wire->len; step++) {
		struct seen s;
		decode_all(&s, masked, buf_data(wire), wire->len, step);
		assert_int_equal(s.rc, 0);
		assert_string_equal((const char *)buf_data(&s.line), line);
		buf_free(&s.line);
	}
}

static void write_conversation(struct buf *w, bool mask)
{
	char close[] = "\x03\xe8"
		       "bye";
	assert_int_equal(ws_encode(w, WS_TEXT, true, mask, "hello", 5), 0);
	assert_int_equal(ws_encode(w, WS_BINARY, false, mask, "abcdefghijk", 11), 0);
	assert_int_equal(ws_encode(w, WS_PING, true, mask, "are you there", 13), 0);
	assert_int_equal(ws_encode(w, WS_CONT, false, mask, "", 0), 0);
	assert_int_equal(ws_encode(w, WS_CONT, true, mask, "lm", 2), 0);
	assert_int_equal(ws_encode(w, WS_TEXT, false, mask, "gr\xc3", 3), 0);
	assert_int_equal(ws_encode(w, WS_PONG, true, mask, "", 0), 0);
	assert_int_equal(ws_encode(w, WS_CONT, true, mask, "\xbc\xc3\x9f", 3), 0);
	assert_int_equal(ws_encode(w, WS_BINARY, true, mask, "", 0), 0);
	assert_int_equal(ws_encode(w, WS_TEXT, true, mask, "", 0), 0);
	assert_int_equal(ws_encode(w, WS_CLOSE, true, mask, close, 5), 0);
}

static void test_any_cut_of_the_input_gives_the_same(void **state)
{
	(void)state;
	for (int mask = 0; mask < 2; mask++) {
		struct buf w = BUF_INIT(1 << 20);
		write_conversation(&w, mask);
		expect_line(mask, &w,
			    "T:hello B:abcdefghijk~P:are you there B:lm| Q: T:gr\xc3\xbc\xc3\x9f B:| T: C:1000:bye ");
		buf_free(&w);
	}
}

static void test_all_sizes_survive_the_mask(void **state)
{
	(void)state;
	static const size_t sizes[] = { 0, 1, 7, 8, 9, 125, 126, 127, 65535, 65536, 70001 };
	for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
		for (size_t step = 1; step < 70; step += 13) {
			struct buf w = BUF_INIT(1 << 20);
			uint8_t *data = malloc(sizes[i] + 1);
			for (size_t k = 0; k < sizes[i]; k++)
				data[k] = (uint8_t)(k * 31 + k / 256);
			assert_int_equal(ws_encode(&w, WS_BINARY, true, true, data, sizes[i]), 0);
			struct seen s;
			decode_all(&s, true, buf_data(&w), w.len, step);
			assert_int_equal(s.line.len, sizes[i] + 5);
			assert_memory_equal(buf_data(&s.line) + 2, data, sizes[i]);
			buf_free(&s.line);
			buf_free(&w);
			free(data);
		}
}

/* The published example of RFC 6455, 5.7. */
static void test_rfc_example_unmasks(void **state)
{
	(void)state;
	struct buf w = BUF_INIT(100);
	buf_add(&w, "\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58", 11);
	expect_line(true, &w, "T:Hello ");
	buf_free(&w);
}

static void test_masks_differ_between_frames(void **state)
{
	(void)state;
	struct buf w = BUF_INIT(100);
	for (int i = 0; i < 3; i++)
		ws_encode(&w, WS_BINARY, true, true, "", 0);
	const uint8_t *b = buf_data(&w);
	assert_true(memcmp(b + 2, b + 8, 4) != 0 || memcmp(b + 8, b + 14, 4) != 0);
	buf_free(&w);
}

struct bad {
	const char *what, *bytes;
	size_t len;
	int code;
};
#define BAD(what, bytes, code)                      \
	{                                           \
		what, bytes, sizeof bytes - 1, code \
	}

static void test_malformed_frames_are_refused(void **state)
{
	(void)state;
	static const struct bad cases[] = {
		BAD("RSV1", "\xc2\x01x", ERR_PROTOCOL),
		BAD("RSV3", "\x92\x01x", ERR_PROTOCOL),
		BAD("opcode 3", "\x83\x00", ERR_PROTOCOL),
		BAD("opcode 11", "\x8b\x00", ERR_PROTOCOL),
		BAD("masked by a server", "\x82\x81\x01\x02\x03\x04x", ERR_PROTOCOL),
		BAD("long ping", "\x89\x7e\x00\x7e", ERR_PROTOCOL),
		BAD("fragmented ping", "\x09\x01x", ERR_PROTOCOL),
		BAD("continuation of nothing", "\x80\x01x", ERR_PROTOCOL),
		BAD("text inside a message", "\x02\x01x\x81\x01y", ERR_PROTOCOL),
		BAD("continuation after the end", "\x82\x01x\x80\x01y", ERR_PROTOCOL),
		BAD("16-bit length too long a form", "\x82\x7e\x00\x05hello", ERR_PROTOCOL),
		BAD("64-bit length too long a form", "\x82\x7f\0\0\0\0\0\0\xff\xff", ERR_PROTOCOL),
		BAD("64-bit length with top bit", "\x82\x7f\x80\0\0\0\0\1\0\0", ERR_PROTOCOL),
		BAD("close of one byte", "\x88\x01\x03", ERR_PROTOCOL),
		BAD("close 1005", "\x88\x02\x03\xed", ERR_PROTOCOL),
		BAD("close 999", "\x88\x02\x03\xe7", ERR_PROTOCOL),
		BAD("close 2000", "\x88\x02\x07\xd0", ERR_PROTOCOL),
		BAD("close 5000", "\x88\x02\x13\x88", ERR_PROTOCOL),
		BAD("close reason", "\x88\x03\x03\xe8\xff", ERR_INVALID),
		BAD("text not UTF-8", "\x81\x02\xc3\x28", ERR_INVALID),
		BAD("text cut inside a character", "\x81\x01\xc3", ERR_INVALID),
		BAD("text with a surrogate", "\x81\x03\xed\xa0\x80", ERR_INVALID),
		BAD("text too long", "\x81\x7e\x10\x01", ERR_LIMIT),
		BAD("text too long in pieces", "\x01\x01x\x80\x7e\x10\x00", ERR_LIMIT),
		BAD("text of 2^62", "\x81\x7f\x40\0\0\0\0\0\0\0", ERR_LIMIT),
	};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
		for (size_t step = 1; step <= cases[i].len; step++) {
			struct seen s;
			decode_all(&s, false, cases[i].bytes, cases[i].len, step);
			if (s.rc != cases[i].code || s.e.code != cases[i].code)
				fail_msg("%s, %zu bytes a step: %d", cases[i].what, step, s.rc);
			buf_free(&s.line);
		}
}

static void test_client_frames_must_be_masked(void **state)
{
	(void)state;
	struct seen s;
	decode_all(&s, true, "\x82\x01x", 3, 3);
	assert_int_equal(s.rc, ERR_PROTOCOL);
	buf_free(&s.line);
}

static void test_large_text_up_to_the_limit(void **state)
{
	(void)state;
	char text[MAX_TEXT + 1];
	memset(text, 'x', sizeof text);
	struct buf w = BUF_INIT(1 << 20);
	ws_encode(&w, WS_TEXT, false, false, text, MAX_TEXT - 1);
	ws_encode(&w, WS_CONT, true, false, text, 1);
	struct seen s;
	decode_all(&s, false, buf_data(&w), w.len, 1000);
	assert_int_equal(s.rc, 0);
	assert_int_equal(s.line.len, MAX_TEXT + 4);
	buf_free(&s.line);
	buf_free(&w);
}

static void test_control_frames_are_not_too_long(void **state)
{
	(void)state;
	char text[126] = { 0 };
	struct buf w = BUF_INIT(1 << 20);
	assert_int_equal(ws_encode(&w, WS_PING, true, true, text, 126), ERR_LIMIT);
	assert_int_equal(ws_encode(&w, WS_PING, false, true, text, 1), ERR_LIMIT);
	assert_int_equal(ws_encode(&w, WS_PING, true, true, text, 125), 0);
	buf_free(&w);
	struct buf small = BUF_INIT(10);
	assert_int_equal(ws_encode(&small, WS_BINARY, true, true, text, 5), ERR_LIMIT);
	assert_int_equal(small.len, 0);
	buf_free(&small);
}

/* Text of any length comes as it arrives, and a control frame inside it does not wait. */
static void test_text_in_pieces(void **state)
{
	struct buf wire = BUF_INIT(1 << 20);
	static char big[3 * MAX_TEXT];
	struct ws_decoder d;
	struct ws_piece p;
	struct err e;
	(void)state;
	memset(big, 'x', sizeof big);
	assert_int_equal(ws_encode(&wire, WS_TEXT, false, true, big, sizeof big), 0);
	assert_int_equal(ws_encode(&wire, WS_PING, true, true, "p", 1), 0);
	assert_int_equal(ws_encode(&wire, WS_CONT, true, true, "end", 3), 0);
	assert_int_equal(ws_encode(&wire, WS_TEXT, true, true, "", 0), 0);
	ws_decoder_init(&d, true, MAX_TEXT);
	d.pieces = true;
	size_t text = 0, pings = 0, ends = 0;
	for (uint8_t *at = wire.bytes + wire.head, *end = at + wire.len; at < end;) {
		size_t n = end - at < 1000 ? (size_t)(end - at) : 1000;
		int rc;
		while ((rc = ws_decode(&d, &at, &n, &p, &e)) == 1) {
			pings += p.op == WS_PING;
			ends += p.op == WS_TEXT && p.end;
			text += p.op == WS_TEXT ? p.len : 0;
			assert_true(p.op == WS_PING || p.op == WS_TEXT);
			assert_true(pings == (text >= sizeof big && (p.op == WS_PING || text > sizeof big || ends)));
		}
		assert_int_equal(rc, 0);
	}
	assert_int_equal(text, sizeof big + 3);
	assert_true(pings == 1 && ends == 2);
	ws_decoder_free(&d);
	buf_free(&wire);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_any_cut_of_the_input_gives_the_same),
		cmocka_unit_test(test_all_sizes_survive_the_mask),
		cmocka_unit_test(test_rfc_example_unmasks),
		cmocka_unit_test(test_masks_differ_between_frames),
		cmocka_unit_test(test_malformed_frames_are_refused),
		cmocka_unit_test(test_client_frames_must_be_masked),
		cmocka_unit_test(test_large_text_up_to_the_limit),
		cmocka_unit_test(test_control_frames_are_not_too_long),
		cmocka_unit_test(test_text_in_pieces),
	};
	return RUN_CASES(tests);
}
