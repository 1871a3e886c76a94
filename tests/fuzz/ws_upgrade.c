/* Both halves of a WebSocket's beginning. "header name|value|subprotocol|path|answer": whatever the first four are, the
 * request has the lines that it should have and no other; and the answer is taken only if it holds the right key. */
#include "fuzz.h"

#include "base/limits.h"
#include "net/ws_upgrade.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* RFC 6455, section 1.3 */
#define KEY "dGhlIHNhbXBsZSBub25jZQ=="
#define ACCEPT "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

static size_t count(const char *text, const char *what)
{
	size_t n = 0;
	for (const char *p = text; (p = strstr(p, what)); p++)
		n++;
	return n;
}

static void check_request(const char *request, const char *name, const char *value, bool has_subprotocol)
{
	char line[2048];
	snprintf(line, sizeof line, "\r\n%s: %s\r\n", name, value);
	FUZZ_CHECK(strlen(line) + 1 == sizeof line || strstr(request, line));
	size_t lines = count(request, "\r\n");
	FUZZ_CHECK(lines == 8u + has_subprotocol && count(request, "\n") == lines && count(request, "\r") == lines);
	FUZZ_CHECK(strcmp(request + strlen(request) - 4, "\r\n\r\n") == 0 && count(request, "\r\n\r\n") == 1);
	size_t spaces = 0;
	for (const char *c = request; *c != '\r'; c++)
		spaces += *c == ' ';
	FUZZ_CHECK(spaces == 2);
}

static void make_request(const char *name, const char *value, const char *subprotocol, const char *path)
{
	const struct ws_header headers[] = { { name, value }, { NULL, NULL } };
	struct buf out = BUF_INIT(LIMIT_HTTP_HEADERS);
	struct url url;
	struct err e;
	char key[WS_UPGRADE_KEY], text[2048];
	snprintf(text, sizeof text, "https://host:8443/%s", path);
	if (url_parse(text, &url, &e) != 0)
		return;
	const char *wanted = *subprotocol ? subprotocol : NULL;
	int rc = ws_upgrade_request(&url, wanted, headers, key, &out, &e);
	FUZZ_CHECK(rc == 0 || (e.code == rc && e.text[0]));
	if (rc == 0) {
		char *request = buf_take_text(&out);
		check_request(request, name, value, wanted != NULL);
		free(request);
	}
	buf_wipe_free(&out);
}

static void take_answer(const uint8_t *data, size_t len, const char *subprotocol)
{
	struct buf text = BUF_INIT(LIMIT_HTTP_HEADERS);
	struct http1_head head;
	struct err e;
	char accept[64];
	if (buf_add(&text, data, len) == 0 && http1_parse_head(&text, "it", &head, &e) == 1) {
		int rc = ws_upgrade_check(&head, KEY, *subprotocol ? subprotocol : NULL, &e);
		FUZZ_CHECK(rc == 0 || (rc == ERR_PROTOCOL && e.code == rc && e.text[0]));
		FUZZ_CHECK(rc != 0 || (http1_header(&head, "Sec-WebSocket-Accept", accept, sizeof accept) &&
				       strcmp(accept, ACCEPT) == 0));
		FUZZ_CHECK(rc != 0 || !http1_header(&head, "Sec-WebSocket-Extensions", accept, sizeof accept));
	}
	buf_free(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = { data, size };
	char *name = fuzz_part(&in, '|'), *value = fuzz_part(&in, '|'), *subprotocol = fuzz_part(&in, '|'),
	     *path = fuzz_part(&in, '|');
	make_request(name, value, subprotocol, path);
	take_answer(in.at, in.left, subprotocol);
	free(name);
	free(value);
	free(subprotocol);
	free(path);
	return 0;
}
