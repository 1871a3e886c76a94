/* One pass over the lines of a copy, which becomes the block that the head's texts live in. What two readers could take
 * for two different requests (RFC 9112, sections 2.2 and 5) is refused: bare CR or LF, a line that is folded, a blank
 * before the colon, a second header of a name. */
#include "server/request_head.h"

#include "base/limits.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

static bool is_token(const char *text)
{
	for (const char *p = text; *p; p++)
		if (!isalnum((unsigned char)*p) && !strchr("!#$%&'*+-.^_`|~", *p))
			return false;
	return *text != '\0';
}

/* Lines end in CRLF; there is no other CR, LF or control character but a tab. */
static bool is_clean(const char *data, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		unsigned char ch = (unsigned char)data[i];
		if (ch == '\r' && i + 1 < len && data[i + 1] == '\n')
			i++;
		else if ((ch < ' ' && ch != '\t') || ch == 127)
			return false;
	}
	return true;
}

/* "GET /path?query HTTP/1.1" */
static const char *read_request_line(char *line, struct http_head *out)
{
	char *target = strchr(line, ' '), *version = target ? strchr(target + 1, ' ') : NULL;
	if (!version || strcmp(version + 1, "HTTP/1.1") != 0)
		return "the request line is not one of HTTP/1.1";
	*target++ = *version = '\0';
	if (!is_token(line) || target[0] != '/')
		return "the request line is not a method and a path";
	for (const char *p = target; *p; p++)
		if (*p <= ' ' || *p == '#' || (unsigned char)*p >= 127)
			return "the path has characters that a path cannot have";
	char *query = strchr(target, '?');
	if (query)
		*query++ = '\0';
	out->method = line;
	out->path = target;
	out->query = query ? query : "";
	return NULL;
}

static const char *read_header(char *line, struct http_head *out)
{
	char *colon = strchr(line, ':');
	if (colon)
		*colon = '\0';
	if (!colon || !is_token(line))
		return "a header's name is not a token and a colon";
	for (char *p = line; *p; p++)
		*p = (char)tolower((unsigned char)*p);
	char *value = colon + 1 + strspn(colon + 1, " \t");
	size_t len = strlen(value);
	while (len && (value[len - 1] == ' ' || value[len - 1] == '\t'))
		value[--len] = '\0';
	if (http_head_get(out, line))
		return "a header stands there twice";
	out->headers[out->header_count++] = (struct tunnel_header){ line, value };
	out->size += strlen(line) + len + 4;
	return NULL;
}

static const char *read_lines(char *text, struct http_head *out)
{
	const char *why = NULL;
	for (char *line = text, *end; !why && (end = strstr(line, "\r\n")) && end != line; line = end + 2) {
		*end = '\0';
		why = out->method ? read_header(line, out) : read_request_line(line, out);
	}
	return why ? why : out->method ? NULL : "the request has no request line";
}

static void read_framing(struct http_head *out)
{
	const char *length = http_head_get(out, "content-length");
	out->chunked = http_head_get(out, "transfer-encoding") != NULL;
	out->content_length = HTTP_BODY_NONE;
	if (length && (strspn(length, "0123456789") != strlen(length) || !*length || strlen(length) > 15))
		out->content_length = HTTP_BODY_INVALID;
	else if (length)
		out->content_length = strtoll(length, NULL, 10);
}

static size_t count_lines(const char *data, size_t len)
{
	size_t n = 0;
	for (size_t i = 0; i < len; i++)
		n += data[i] == '\n';
	return n;
}

enum request_head request_head_parse(const char *data, size_t len, struct http_head *out, size_t *out_size,
				     const char **out_why)
{
	if (len == 0)
		return REQUEST_HEAD_MORE;
	size_t looked = len < REQUEST_HEAD_MAX ? len : REQUEST_HEAD_MAX;
	const char *end = memmem(data, looked, "\r\n\r\n", 4);
	size_t size = end ? (size_t)(end - data) + 4 : looked;
	/* The last byte may be the CR of a CRLF that is still to come. */
	if (!is_clean(data, end || data[size - 1] != '\r' ? size : size - 1)) {
		*out_why = "the request's head has control characters, or lines that do not end in CRLF";
		return REQUEST_HEAD_WRONG;
	}
	if (!end)
		return len >= REQUEST_HEAD_MAX ? REQUEST_HEAD_TOO_LARGE : REQUEST_HEAD_MORE;
	size_t lines = count_lines(data, size);
	if (lines > LIMIT_HTTP_HEADER_COUNT + 2) /* with the request line and the empty one */
		return REQUEST_HEAD_TOO_LARGE;
	size_t array = lines * sizeof(struct tunnel_header);
	struct http_head head = { .block_size = array + size + 1 };
	head.block = malloc(head.block_size);
	if (!head.block)
		return REQUEST_HEAD_NOMEM;
	head.headers = (struct tunnel_header *)(void *)head.block;
	memcpy(head.block + array, data, size);
	head.block[array + size] = '\0';
	const char *why = read_lines(head.block + array, &head);
	if (why) {
		http_head_free(&head);
		*out_why = why;
		return REQUEST_HEAD_WRONG;
	}
	read_framing(&head);
	*out = head;
	*out_size = size;
	return REQUEST_HEAD_OK;
}
