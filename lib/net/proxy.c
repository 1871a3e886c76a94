/* Which proxy, if any, stands between us and a server; and the words of CONNECT. The environment is read as curl reads
 * it, so that both halves of a program (REST by curl, WebSockets by us) take the same way. */
#include "net/proxy.h"

#include "base/secret.h"
#include "base/text.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define CREDENTIALS_MAX 512

/* user:password of text[0..len), percent-decoded, as base64. */
static int parse_credentials(const char *text, size_t len, struct proxy *out, struct err *e)
{
	char plain[CREDENTIALS_MAX];
	size_t n = 0;
	for (size_t i = 0; i < len && n < sizeof plain; i++, n++) {
		uint8_t byte;
		size_t one;
		if (text[i] != '%') {
			plain[n] = text[i];
		} else if (i + 2 < len && text_hex_decode(text + i + 1, 2, &byte, 1, &one) == 0) {
			plain[n] = (char)byte;
			i += 2;
		} else {
			return err_set(e, ERR_INVALID,
				       "proxy: a '%%' in user or password is not followed by two "
				       "hexadecimal digits");
		}
	}
	if (n == sizeof plain)
		return err_set(e, ERR_INVALID, "proxy: user and password are longer than %d bytes", CREDENTIALS_MAX);
	size_t size = TEXT_B64_SIZE(n) + 4;
	out->basic = malloc(size);
	if (out->basic)
		text_b64(plain, n, out->basic, size);
	secret_wipe(plain, sizeof plain);
	return out->basic ? 0 : err_set(e, ERR_NOMEM, "out of memory");
}

/* Texts of errors leave the value out: it may hold a password. */
int proxy_parse(const char *text, struct proxy *out, struct err *e)
{
	memset(out, 0, sizeof *out);
	const char *authority = text;
	const char *scheme_end = strstr(text, "://");
	if (scheme_end) {
		if (strncasecmp(text, "http://", 7) != 0)
			return err_set(e, ERR_INVALID,
				       "proxy: \"%.*s\" proxies are not supported; allowed: "
				       "http://[user:password@]host:port",
				       (int)(scheme_end - text < 16 ? scheme_end - text : 16), text);
		authority = scheme_end + 3;
	}
	size_t len = strcspn(authority, "/");
	const char *at = memrchr(authority, '@', len);
	const char *where = at ? at + 1 : authority;
	char address[300], with_scheme[320];
	size_t where_len = (size_t)(authority + len - where);
	struct url u;
	if (where_len >= sizeof address)
		return err_set(e, ERR_INVALID, "proxy: the address is too long");
	snprintf(address, sizeof address, "%.*s", (int)where_len, where);
	snprintf(with_scheme, sizeof with_scheme, "http://%s", address);
	if ((authority[len] && strcmp(authority + len, "/") != 0) || url_parse(with_scheme, &u, NULL) != 0)
		return err_set(e, ERR_INVALID, "proxy: \"%s\" is not host:port", address);
	if (at) {
		int rc = parse_credentials(authority, (size_t)(at - authority), out, e);
		if (rc != 0)
			return rc;
	}
	out->used = true;
	memcpy(out->host, u.host, sizeof out->host);
	out->port = u.port;
	return 0;
}

static bool in_block(const char *block, size_t block_len, const char *host)
{
	char network[64];
	int64_t bits = -1;
	const char *slash = memchr(block, '/', block_len);
	size_t network_len = slash ? (size_t)(slash - block) : block_len;
	if (network_len >= sizeof network)
		return false;
	memcpy(network, block, network_len);
	network[network_len] = '\0';
	if (slash) {
		char digits[8];
		size_t n = block_len - network_len - 1;
		if (n == 0 || n >= sizeof digits)
			return false;
		memcpy(digits, slash + 1, n);
		digits[n] = '\0';
		if (text_parse_int(digits, 0, 128, &bits) != 0)
			return false;
	}
	unsigned char a[16], b[16];
	int family = strchr(host, ':') ? AF_INET6 : AF_INET, most = family == AF_INET ? 32 : 128;
	if (inet_pton(family, network, a) != 1 || inet_pton(family, host, b) != 1 || bits > most)
		return false;
	if (bits < 0)
		bits = most;
	size_t whole = (size_t)bits / 8;
	if (memcmp(a, b, whole) != 0)
		return false;
	unsigned rest = (unsigned)bits % 8;
	return rest == 0 || ((a[whole] ^ b[whole]) >> (8 - rest)) == 0;
}

static bool name_matches(const char *name, size_t len, const char *host)
{
	if (len && name[0] == '.')
		name++, len--;
	size_t host_len = strlen(host);
	if (len == 0 || len > host_len || strncasecmp(host + host_len - len, name, len) != 0)
		return false;
	return len == host_len || host[host_len - len - 1] == '.';
}

bool proxy_is_excepted(const char *list, const char *host)
{
	for (const char *p = list; *p;) {
		size_t len = strcspn(p, ", \t");
		if ((len == 1 && *p == '*') || in_block(p, len, host) || name_matches(p, len, host))
			return true;
		p += len;
		p += strspn(p, ", \t");
	}
	return false;
}

static const char *first_of(const char *const *names)
{
	for (; *names; names++) {
		const char *value = getenv(*names);
		if (value && *value)
			return value;
	}
	return NULL;
}

int proxy_choose(const char *option, const struct url *target, struct proxy *out, struct err *e)
{
	static const char *const for_tls[] = { "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", NULL };
	/* HTTP_PROXY in capitals can be set by a request's header where a web server runs us (httpoxy). */
	static const char *const for_plain[] = { "http_proxy", "all_proxy", "ALL_PROXY", NULL };
	static const char *const exceptions[] = { "no_proxy", "NO_PROXY", NULL };
	memset(out, 0, sizeof *out);
	if (option)
		return *option ? proxy_parse(option, out, e) : 0;
	const char *chosen = first_of(target->tls ? for_tls : for_plain);
	const char *excepted = first_of(exceptions);
	if (!chosen || (excepted && proxy_is_excepted(excepted, target->host)))
		return 0;
	int rc = proxy_parse(chosen, out, e);
	return rc == 0 ? 0 : err_wrap(e, "from the environment");
}

void proxy_free(struct proxy *p)
{
	if (!p)
		return;
	secret_free_text(&p->basic);
	memset(p, 0, sizeof *p);
}

int proxy_connect_request(const struct proxy *p, const char *host, uint16_t port, struct buf *out)
{
	char address[254 + 10];
	text_host_port(host, port, address, sizeof address);
	int rc = buf_printf(out, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n", address, address);
	if (rc == 0 && p->basic)
		rc = buf_printf(out, "Proxy-Authorization: Basic %s\r\n", p->basic);
	return rc == 0 ? buf_add_text(out, "\r\n") : rc;
}
