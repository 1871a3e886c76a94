#include "net/http1.h"

#include "base/limits.h"
#include "base/text.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

static int parse_status_line(const char *line, size_t len, const char *who, struct http1_head *out, struct err *e)
{
	char text[160];
	snprintf(text, sizeof text, "%.*s", (int)(len < sizeof text ? len : sizeof text - 1), line);
	int status = 0;
	bool fits = text_starts(text, "HTTP/1.") && isdigit((unsigned char)text[7]) && text[8] == ' ';
	for (size_t i = 9; fits && i < 12; i++) {
		fits = isdigit((unsigned char)text[i]);
		status = status * 10 + (text[i] - '0');
	}
	if (!fits || status < 100 || status > 599)
		return err_set(e, ERR_PROTOCOL, "%s does not speak HTTP/1.1", who);
	out->status = status;
	const char *reason = text[12] == ' ' ? text + 13 : "";
	size_t n = 0;
	for (; reason[n] && n + 1 < sizeof out->reason; n++)
		out->reason[n] = isprint((unsigned char)reason[n]) ? reason[n] : '?';
	out->reason[n] = '\0';
	return 0;
}

int http1_parse_head(const struct buf *in, const char *who, struct http1_head *out, struct err *e)
{
	if (in->len == 0)
		return 0;
	const char *text = (const char *)buf_data(in);
	const char *end = memmem(text, in->len, "\r\n\r\n", 4);
	size_t size = end ? (size_t)(end + 4 - text) : in->len, seen = in->len < 5 ? in->len : 5;
	if (memcmp(text, "HTTP/", seen) != 0)
		return err_set(e, ERR_PROTOCOL, "%s does not speak HTTP/1.1", who);
	if (size > LIMIT_HTTP_HEADERS)
		return err_set(e, ERR_LIMIT, "%s: the head of its answer is longer than %u bytes", who,
			       LIMIT_HTTP_HEADERS);
	if (!end)
		return 0;
	const char *line_end = memmem(text, in->len, "\r\n", 2);
	int rc = parse_status_line(text, (size_t)(line_end - text), who, out, e);
	if (rc != 0)
		return rc;
	out->headers = line_end + 2;
	out->headers_len = line_end == end ? 0 : (size_t)(end + 2 - out->headers);
	out->size = size;
	return 1;
}

/* The next value of that header at or behind *at. */
static bool next_value(const struct http1_head *head, const char *name, size_t *at, const char **out, size_t *out_len)
{
	size_t name_len = strlen(name);
	while (*at < head->headers_len) {
		const char *line = head->headers + *at;
		const char *end = memmem(line, head->headers_len - *at, "\r\n", 2);
		if (!end)
			return false;
		*at += (size_t)(end - line) + 2;
		if ((size_t)(end - line) <= name_len || line[name_len] != ':' || strncasecmp(line, name, name_len) != 0)
			continue;
		const char *value = line + name_len + 1;
		while (value < end && (*value == ' ' || *value == '\t'))
			value++;
		while (end > value && (end[-1] == ' ' || end[-1] == '\t'))
			end--;
		*out = value;
		*out_len = (size_t)(end - value);
		return true;
	}
	return false;
}

bool http1_header(const struct http1_head *head, const char *name, char *out, size_t size)
{
	size_t at = 0, len;
	const char *value;
	if (!next_value(head, name, &at, &value, &len) || len >= size)
		return false;
	memcpy(out, value, len);
	out[len] = '\0';
	return true;
}

bool http1_header_has(const struct http1_head *head, const char *name, const char *word)
{
	size_t at = 0, len, word_len = strlen(word);
	const char *value;
	while (next_value(head, name, &at, &value, &len)) {
		const char *p = value, *end = value + len;
		while (p < end) {
			const char *comma = memchr(p, ',', (size_t)(end - p));
			const char *stop = comma ? comma : end;
			while (p < stop && (*p == ' ' || *p == '\t'))
				p++;
			const char *last = stop;
			while (last > p && (last[-1] == ' ' || last[-1] == '\t'))
				last--;
			if ((size_t)(last - p) == word_len && strncasecmp(p, word, word_len) == 0)
				return true;
			p = stop + 1;
		}
	}
	return false;
}

static bool add_cut(struct buf *out, const void *data, size_t len, size_t max)
{
	size_t room = out->len < max ? max - out->len : 0;
	return buf_add(out, data, len < room ? len : room) == 0;
}

/* Chunked coding; a broken one counts as complete, since the text is only for people. */
static int chunked_body(const char *in, size_t in_len, size_t max, struct buf *out)
{
	for (size_t at = 0; in_len > 0;) {
		const char *line_end = memmem(in + at, in_len - at, "\r\n", 2);
		if (!line_end)
			return in_len - at > 64;
		size_t size = 0, digits = 0;
		for (const char *p = in + at; isxdigit((unsigned char)*p) && digits < 8; p++, digits++) {
			int c = tolower((unsigned char)*p);
			size = size * 16 + (size_t)(c <= '9' ? c - '0' : c - 'a' + 10);
		}
		if (digits == 0 || size == 0)
			return 1;
		at = (size_t)(line_end - in) + 2;
		bool whole = in_len - at >= size + 2;
		bool enough = whole || out->len + (in_len - at) >= max;
		if (enough && !add_cut(out, in + at, whole ? size : in_len - at, max))
			return 1; /* what follows would stand in its place */
		if (out->len >= max)
			return 1;
		if (!whole)
			return 0;
		at += size + 2;
	}
	return 0;
}

int http1_body(const struct http1_head *head, const uint8_t *in, size_t in_len, bool eof, size_t max, struct buf *out)
{
	buf_clear(out);
	if (http1_header_has(head, "Transfer-Encoding", "chunked"))
		return chunked_body((const char *)in, in_len, max, out) || eof;
	char length[24];
	int64_t want = INT64_MAX;
	if (http1_header(head, "Content-Length", length, sizeof length) &&
	    text_parse_int(length, 0, INT64_MAX, &want) != 0)
		want = 0;
	size_t have = (int64_t)in_len < want ? in_len : (size_t)want;
	(void)add_cut(out, in, have, max);
	return eof || (int64_t)in_len >= want || out->len >= max;
}
