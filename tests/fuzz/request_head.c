/* The head of an upgrade request, however little of it is there yet. What is taken has one reading: written again line
 * by line it is the same bytes, but for case and blanks; and nothing behind it belongs to it. */
#include "fuzz.h"

#include "base/limits.h"
#include "server/request_head.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define CUTS_MAX 700u

static enum request_head parse(const uint8_t *data, size_t len, struct http_head *out, size_t *out_size)
{
	const char *why = NULL;
	char *copy = malloc(len ? len : 1);
	if (len)
		memcpy(copy, data, len);
	fuzz_fill(out, sizeof *out);
	fuzz_fill(out_size, sizeof *out_size);
	enum request_head rc = request_head_parse(copy, len, out, out_size, &why);
	free(copy);
	FUZZ_CHECK(rc == REQUEST_HEAD_OK ||
		   (fuzz_is_untouched(out, sizeof *out) && fuzz_is_untouched(out_size, sizeof *out_size)));
	FUZZ_CHECK(rc != REQUEST_HEAD_WRONG || (why && *why));
	return rc;
}

/* The next line of the wire is this name and value. */
static const char *check_line(const char *at, const struct tunnel_header *h)
{
	size_t n = strlen(h->name), v = strlen(h->value);
	FUZZ_CHECK(strncasecmp(at, h->name, n) == 0 && at[n] == ':' && n > 0);
	for (size_t i = 0; i < n; i++)
		FUZZ_CHECK(!isupper((unsigned char)h->name[i]) && h->name[i] > ' ');
	at += n + 1;
	at += strspn(at, " \t");
	FUZZ_CHECK(strncmp(at, h->value, v) == 0);
	at += v;
	at += strspn(at, " \t");
	FUZZ_CHECK(strncmp(at, "\r\n", 2) == 0);
	return at + 2;
}

static void check_head(const struct http_head *head, const uint8_t *data, size_t size)
{
	char *text = fuzz_text(data, size), line[8192];
	FUZZ_CHECK(strlen(text) == size && strstr(text, "\r\n\r\n") == text + size - 4);
	bool query = strchr(text, '?') && strchr(text, '?') < strchr(text, '\r');
	int n = snprintf(line, sizeof line, "%s %s%s%s HTTP/1.1\r\n", head->method, head->path, query ? "?" : "",
			 head->query);
	FUZZ_CHECK(n >= (int)sizeof line || strncmp(text, line, (size_t)n) == 0);
	FUZZ_CHECK(head->path[0] == '/' && head->header_count <= LIMIT_HTTP_HEADER_COUNT);
	const char *at = strstr(text, "\r\n") + 2;
	for (size_t i = 0; i < head->header_count; i++) {
		at = check_line(at, &head->headers[i]);
		FUZZ_CHECK(http_head_get(head, head->headers[i].name) == head->headers[i].value); /* there is one */
	}
	FUZZ_CHECK(strcmp(at, "\r\n") == 0);
	FUZZ_CHECK(head->content_length >= HTTP_BODY_INVALID);
	free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct http_head head, part;
	size_t head_size = 0, part_size = 0;
	enum request_head whole = parse(data, size, &head, &head_size), before = REQUEST_HEAD_MORE;
	for (size_t cut = 0; cut < size && cut < CUTS_MAX; cut++) {
		enum request_head rc = parse(data, cut, &part, &part_size);
		FUZZ_CHECK(before == REQUEST_HEAD_MORE || rc == before);
		FUZZ_CHECK(rc == REQUEST_HEAD_MORE || rc == whole);
		if (rc == REQUEST_HEAD_OK) {
			FUZZ_CHECK(part_size == head_size && cut >= head_size);
			http_head_free(&part);
		}
		before = rc;
	}
	FUZZ_CHECK(whole != REQUEST_HEAD_MORE || size < REQUEST_HEAD_MAX);
	if (whole == REQUEST_HEAD_OK) {
		check_head(&head, data, head_size);
		http_head_free(&head);
	}
	return 0;
}
