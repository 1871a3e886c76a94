/* URLs of servers and proxies, and lists of exceptions: "url\nproxy\nlist". */
#include "fuzz.h"

#include "net/proxy.h"
#include "net/url.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void print(const struct url *u, char *out, size_t size)
{
	char authority[300];
	url_authority(u, authority, sizeof authority);
	FUZZ_CHECK((size_t)snprintf(out, size, "%s://%s%s", u->tls ? "wss" : "ws", authority, u->path) < size);
}

static void check_url(const struct url *u)
{
	char text[1024], joined[1024];
	struct url back;
	struct err e;
	FUZZ_CHECK(u->host[0] && u->port != 0 && u->path[0] == '/');
	for (const char *c = u->host; *c; c++)
		FUZZ_CHECK(!isupper((unsigned char)*c) && (isalnum((unsigned char)*c) || strchr("._-:", *c)));
	for (const char *c = u->path; *c; c++)
		FUZZ_CHECK(*c > ' ' && *c < 0x7f && *c != '#');
	print(u, text, sizeof text);
	FUZZ_CHECK(url_parse(text, &back, &e) == 0);
	FUZZ_CHECK(back.tls == u->tls && back.port == u->port && strcmp(back.host, u->host) == 0 &&
		   strcmp(back.path, u->path) == 0);
	fuzz_fill(joined, sizeof joined);
	if (url_join(text, "/v1/x", joined, sizeof joined, &e) != 0)
		FUZZ_CHECK(strchr(u->path, '?'));
	else if (url_parse(joined, &back, &e) == 0)
		FUZZ_CHECK(back.tls == u->tls && back.port == u->port && strcmp(back.host, u->host) == 0);
	else
		FUZZ_CHECK(strlen(u->path) + 6 > sizeof u->path);
}

static void check_proxy(const char *text, const struct url *target)
{
	struct proxy p, chosen;
	struct err e;
	int rc = proxy_parse(text, &p, &e);
	FUZZ_CHECK(rc == 0 ? p.used && p.host[0] && p.port != 0 : e.code == rc && e.text[0]);
	FUZZ_CHECK((proxy_choose(text, target, &chosen, &e) == 0) == (rc == 0 || !*text));
	if (rc == 0) {
		struct buf request = BUF_INIT(4096);
		FUZZ_CHECK(proxy_connect_request(&p, target->host, target->port, &request) == 0);
		char *words = buf_take_text(&request);
		size_t lines = 0;
		for (const char *c = words; *c; c++)
			lines += *c == '\n';
		FUZZ_CHECK(lines == (p.basic ? 4u : 3u));
		free(words);
	}
	proxy_free(&chosen);
	proxy_free(&p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = { data, size };
	char *text = fuzz_part(&in, '\n'), *proxy = fuzz_part(&in, '\n'), *list = fuzz_part(&in, '\n');
	struct url u;
	struct err e;
	fuzz_fill(&u, sizeof u);
	int rc = url_parse(text, &u, &e);
	FUZZ_CHECK(rc == 0 || (rc == ERR_INVALID && e.code == rc && e.text[0] && fuzz_is_untouched(&u, sizeof u)));
	if (rc == 0) {
		check_url(&u);
		check_proxy(proxy, &u);
		bool excepted = proxy_is_excepted(list, u.host);
		FUZZ_CHECK(excepted || strcmp(list, u.host) != 0);
	}
	free(text);
	free(proxy);
	free(list);
	return 0;
}
