/* The answer of a proxy or a server: its head, however little of it is there yet, and the body of a refusal. */
#include "fuzz.h"

#include "base/limits.h"
#include "net/http1.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#define BODY_MAX 200
#define CUTS_MAX 600u /* bytes: shorter heads are tried at each length */

/* *text is the caller's to free when there is a head. */
static int parse(const uint8_t *data, size_t len, struct http1_head *out, struct buf *text)
{
	struct err e;
	*text = (struct buf)BUF_INIT(len);
	buf_add(text, data, len);
	fuzz_fill(out, sizeof *out);
	int rc = http1_parse_head(text, "it", out, &e);
	FUZZ_CHECK(rc == 0 || rc == 1 || rc == ERR_PROTOCOL || rc == ERR_LIMIT);
	FUZZ_CHECK(rc >= 0 || (e.code == rc && e.text[0]));
	if (rc != 1)
		buf_free(text);
	return rc;
}

/* A shorter input is refused for the same reason, or waits for more. */
static void check_cuts(const uint8_t *data, size_t len, int whole, size_t head_size)
{
	struct http1_head head;
	struct buf text;
	int refused = 0;
	for (size_t cut = 0; cut < len && cut < CUTS_MAX; cut++) {
		int rc = parse(data, cut, &head, &text);
		if (rc == 1)
			buf_free(&text);
		FUZZ_CHECK(!refused || rc == refused);
		FUZZ_CHECK(rc == 0 || rc == whole);
		FUZZ_CHECK(rc != 1 || (head.size == head_size && cut >= head_size));
		refused = rc < 0 ? rc : 0;
	}
}

static void check_head(const struct http1_head *head, const uint8_t *data, size_t len)
{
	static const char *const names[] = { "Content-Length", "Transfer-Encoding", "X", "" };
	char value[40];
	FUZZ_CHECK(head->size <= len && memcmp(data + head->size - 4, "\r\n\r\n", 4) == 0);
	FUZZ_CHECK(head->headers_len < head->size);
	for (int i = 0, status = head->status; i < 3; i++, status /= 10)
		FUZZ_CHECK(data[11 - i] == '0' + status % 10);
	FUZZ_CHECK(head->status >= 100 && head->status <= 599);
	for (const char *c = head->reason; *c; c++)
		FUZZ_CHECK(isprint((unsigned char)*c));
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		bool found = http1_header(head, names[i], value, sizeof value);
		size_t n = found ? strlen(value) : 0;
		if (n && !strchr(value, ',') && names[i][0])
			FUZZ_CHECK(http1_header_has(head, names[i], value) || memchr(data, '\0', len));
	}
}

static bool read_body(const struct http1_head *head, const uint8_t *data, size_t len, bool eof, struct buf *out)
{
	uint8_t *copy = malloc(len ? len : 1);
	if (len)
		memcpy(copy, data, len);
	bool done = http1_body(head, copy, len, eof, BODY_MAX, out);
	free(copy);
	FUZZ_CHECK(out->len <= BODY_MAX && out->len <= len);
	return done;
}

static void check_body(const struct http1_head *head, const uint8_t *data, size_t len)
{
	struct buf whole = BUF_INIT(BODY_MAX), part = BUF_INIT(BODY_MAX);
	FUZZ_CHECK(read_body(head, data, len, true, &whole));
	for (size_t n = 0; n < len && n < CUTS_MAX; n++)
		read_body(head, data, n, false, &part);
	read_body(head, data, len, false, &part);
	FUZZ_CHECK(part.len == whole.len && memcmp(buf_data(&part), buf_data(&whole), part.len) == 0);
	buf_free(&whole);
	buf_free(&part);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct http1_head head;
	struct buf text;
	if (size > LIMIT_HTTP_HEADERS)
		return 0;
	int rc = parse(data, size, &head, &text);
	check_cuts(data, size, rc, rc == 1 ? head.size : 0);
	if (rc != 1)
		return 0;
	check_head(&head, data, size);
	check_body(&head, data + head.size, size - head.size);
	buf_free(&text);
	return 0;
}
