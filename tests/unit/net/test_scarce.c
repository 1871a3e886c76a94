/* Each single allocation fails once while frames are written and read, and an answer's head and body. Then what was
 * said is there, or it is refused for want of memory; never is half of a frame sent or a part of a message handed on.
 */
#include "support/case.h"
#include "support/failing_alloc.h"

#include "net/http1.h"
#include "net/ws_codec.h"

static const char text[] = "{\"type\":\"hello\",\"agent\":\"web-1\",\"more\":[1,2,3]}";

static bool write_frames(void *arg)
{
	(void)arg;
	struct buf out = BUF_INIT(1u << 20);
	size_t whole = 0;
	for (unsigned i = 0; i < 40; i++) {
		int rc = ws_encode(&out, WS_TEXT, true, true, text, sizeof text - 1);
		assert_true(rc == 0 || rc == ERR_NOMEM);
		whole += rc == 0;
	}
	bool failed = failing_alloc_over();
	assert_true(whole == 40 || failed);
	assert_int_equal(out.len, whole * (2 + 4 + sizeof text - 1));
	buf_free(&out);
	return failed;
}

struct frames {
	uint8_t *bytes;
	size_t len;
};

/* A text in three frames with a ping in between, a few bytes at a time. */
static bool read_frames(void *arg)
{
	const struct frames *f = arg;
	struct ws_decoder d;
	struct ws_piece piece;
	struct err e = { 0 };
	unsigned texts = 0, pings = 0;
	int rc = 0;
	static uint8_t copy[512];
	memcpy(copy, f->bytes, f->len);
	ws_decoder_init(&d, true, 4096);
	for (size_t at = 0; rc >= 0 && at < f->len;) {
		uint8_t *in = copy + at;
		size_t n = f->len - at < 7 ? f->len - at : 7, left = n;
		while ((rc = ws_decode(&d, &in, &left, &piece, &e)) == 1) {
			texts += piece.op == WS_TEXT;
			pings += piece.op == WS_PING;
			assert_int_equal(piece.len, piece.op == WS_TEXT ? 3 * (sizeof text - 1) : 2);
			assert_memory_equal(piece.data, piece.op == WS_TEXT ? text : "hi",
					    piece.op == WS_TEXT ? sizeof text - 1 : 2);
		}
		at += n;
	}
	bool failed = failing_alloc_over();
	assert_true(rc >= 0 ? texts == 1 && pings == 1 : failed && rc == ERR_NOMEM && e.text[0]);
	ws_decoder_free(&d);
	return failed;
}

static bool read_answer(void *arg)
{
	static const char answer[] = "HTTP/1.1 403 Forbidden\r\nContent-Type: text/plain\r\nTransfer-Encoding: "
				     "chunked\r\n\r\n5\r\nhello\r\n6\r\n there\r\n0\r\n\r\n";
	(void)arg;
	struct buf in = BUF_INIT(4096), body = BUF_INIT(4096);
	struct http1_head head;
	struct err e = { 0 };
	int added = buf_add(&in, answer, sizeof answer - 1);
	int rc = added == 0 ? http1_parse_head(&in, "it", &head, &e) : added;
	int whole = rc == 1 ? http1_body(&head, buf_data(&in) + head.size, in.len - head.size, true, 4096, &body) : 0;
	bool failed = failing_alloc_over();
	assert_true(rc == 1 ? head.status == 403 : failed && rc < 0);
	assert_true(!whole || failed || (body.len == 11 && memcmp(buf_data(&body), "hello there", 11) == 0));
	assert_true(body.len <= 11 && (body.len == 0 || memcmp(buf_data(&body), "hello there", body.len) == 0));
	buf_free(&in);
	buf_free(&body);
	return failed;
}

static void test_frames_that_are_written(void **state)
{
	(void)state;
	assert_true(failing_alloc_sweep(write_frames, NULL) > 1);
}

static void test_frames_that_are_read(void **state)
{
	(void)state;
	struct buf out = BUF_INIT(4096);
	assert_int_equal(ws_encode(&out, WS_TEXT, false, true, text, sizeof text - 1), 0);
	assert_int_equal(ws_encode(&out, WS_PING, true, true, "hi", 2), 0);
	assert_int_equal(ws_encode(&out, WS_CONT, false, true, text, sizeof text - 1), 0);
	assert_int_equal(ws_encode(&out, WS_CONT, true, true, text, sizeof text - 1), 0);
	struct frames f = { (uint8_t *)(uintptr_t)buf_data(&out), out.len };
	assert_true(failing_alloc_sweep(read_frames, &f) > 1);
	buf_free(&out);
}

static void test_answers(void **state)
{
	(void)state;
	assert_true(failing_alloc_sweep(read_answer, NULL) > 1);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_frames_that_are_written),
		cmocka_unit_test(test_frames_that_are_read),
		cmocka_unit_test(test_answers),
	};
	return RUN_CASES(tests);
}
