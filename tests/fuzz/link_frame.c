/* The frame codec alone: a header, and the rest as the body of each type. What is read and written again is the same.
 */
#include "fuzz.h"

#include "link/frame.h"

#include <string.h>

static uint8_t again[FRAME_CONTROL_MAX];

static void check_refusal(int rc, const struct err *e, const void *out, size_t size)
{
	FUZZ_CHECK(rc == ERR_PROTOCOL && e->code == rc && e->text[0]);
	FUZZ_CHECK(fuzz_is_untouched(out, size));
}

static void read_head(const uint8_t *in)
{
	struct frame_head head;
	struct err e;
	fuzz_fill(&head, sizeof head);
	int rc = frame_read_head(in, &head, &e);
	if (rc != 0) {
		check_refusal(rc, &e, &head, sizeof head);
		return;
	}
	FUZZ_CHECK(strcmp(frame_name(head.type), "unknown") != 0 && head.length <= LIMIT_LINK_FRAME_BODY);
	frame_write_head(again, head.type, head.flags, head.stream, head.length);
	FUZZ_CHECK(memcmp(again, in, FRAME_HEAD) == 0);
}

static void read_entry(const uint8_t *in)
{
	struct frame_entry entry, back;
	struct err e;
	fuzz_fill(&entry, sizeof entry);
	int rc = frame_read_entry(in, &entry, &e);
	if (rc != 0) {
		check_refusal(rc, &e, &entry, sizeof entry);
		return;
	}
	frame_write_entry(again, &entry);
	FUZZ_CHECK(frame_read_entry(again, &back, &e) == 0);
	FUZZ_CHECK(back.stream == entry.stream && back.state == entry.state && back.received == entry.received &&
		   back.delivered == entry.delivered && back.credit == entry.credit);
}

static void read_hello(const uint8_t *body, size_t len)
{
	struct frame_hello hello, back;
	struct err e;
	fuzz_fill(&hello, sizeof hello);
	int rc = frame_read_hello(body, len, &hello, &e);
	if (rc != 0) {
		check_refusal(rc, &e, &hello, sizeof hello);
		return;
	}
	size_t n = frame_write_hello(again, &hello);
	FUZZ_CHECK(frame_read_hello(again + FRAME_HEAD, n - FRAME_HEAD, &back, &e) == 0);
	FUZZ_CHECK(memcmp(&back, &hello, sizeof back) == 0);
}

static void read_open(const uint8_t *body, size_t len)
{
	struct link_dest dest, back;
	struct err e;
	fuzz_fill(&dest, sizeof dest);
	int rc = frame_read_open(body, len, &dest, &e);
	if (rc != 0) {
		check_refusal(rc, &e, &dest, sizeof dest);
		return;
	}
	FUZZ_CHECK(frame_check_dest(&dest, &e) == 0);
	size_t n = frame_write_open(again, 1, &dest);
	FUZZ_CHECK(n == FRAME_HEAD + len);
	FUZZ_CHECK(frame_read_open(again + FRAME_HEAD, len, &back, &e) == 0);
	FUZZ_CHECK(back.kind == dest.kind && back.port == dest.port && strcmp(back.host, dest.host) == 0);
}

static void read_reason(const uint8_t *body, size_t len)
{
	struct frame_reason reason, back;
	struct err e;
	fuzz_fill(&reason, sizeof reason);
	int rc = frame_read_reason(body, len, &reason, &e);
	if (rc != 0) {
		check_refusal(rc, &e, &reason, sizeof reason);
		return;
	}
	FUZZ_CHECK(strlen(reason.text) == len - 2);
	for (const char *c = reason.text; *c; c++)
		FUZZ_CHECK((unsigned char)*c >= ' ' && *c != 0x7f);
	size_t n = frame_write_reason(again, FRAME_RESET, 1, reason.code, reason.text);
	FUZZ_CHECK(n == FRAME_HEAD + len);
	FUZZ_CHECK(frame_read_reason(again + FRAME_HEAD, len, &back, &e) == 0);
	FUZZ_CHECK(back.code == reason.code && strcmp(back.text, reason.text) == 0);
}

static void read_numbers(const uint8_t *body)
{
	struct frame_ack ack = frame_read_ack(body);
	frame_write_ack(again, 1, ack.delivered, ack.credit, true);
	FUZZ_CHECK(memcmp(again + FRAME_HEAD, body, 16) == 0);
	frame_write_number(again, FRAME_FIN, 1, frame_read_u64(body));
	FUZZ_CHECK(memcmp(again + FRAME_HEAD, body, 8) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < FRAME_HEAD)
		return 0;
	size_t len = size - FRAME_HEAD;
	const uint8_t *body = data + FRAME_HEAD;
	read_head(data);
	read_hello(body, len);
	read_open(body, len);
	read_reason(body, len);
	if (len >= FRAME_ENTRY)
		read_entry(body);
	if (len >= 16)
		read_numbers(body);
	return 0;
}
