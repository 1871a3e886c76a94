/* URLs of our own servers: a scheme of four, a host, a port, a path. Everything else that RFC 3986 allows (user names,
 * fragments, other schemes) is refused with words, because it would mean something that we do not do. */
#include "net/url.h"

#include "base/text.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

struct scheme {
	const char *prefix;
	bool tls;
};
static const struct scheme schemes[] = {
	{ "https://", true }, { "wss://", true }, { "http://", false }, { "ws://", false }
};

static const struct scheme *find_scheme(const char *text)
{
	for (size_t i = 0; i < sizeof schemes / sizeof schemes[0]; i++)
		if (strncasecmp(text, schemes[i].prefix, strlen(schemes[i].prefix)) == 0)
			return &schemes[i];
	return NULL;
}

static bool is_host_name(const char *host)
{
	for (const char *p = host; *p; p++)
		if (!isalnum((unsigned char)*p) && !strchr("._-", *p))
			return false;
	return host[0] && host[0] != '.' && host[0] != '-';
}

static bool is_ipv6(const char *host)
{
	struct in6_addr address;
	return inet_pton(AF_INET6, host, &address) == 1;
}

/* "host", "host:1", "[::1]", "[::1]:1" in text[0..len). */
static int parse_authority(const char *text, size_t len, const char *whole, struct url *out, struct err *e)
{
	bool bracketed = len && text[0] == '[';
	const char *end = text + len, *host = text, *host_end;
	if (bracketed) {
		host = text + 1;
		host_end = memchr(text, ']', len);
		if (!host_end)
			return err_set(e, ERR_INVALID, "URL \"%s\": no ']' behind the IPv6 address", whole);
	} else {
		host_end = memchr(text, ':', len);
		if (!host_end)
			host_end = end;
	}
	size_t host_len = (size_t)(host_end - host);
	if (host_len == 0 || host_len >= sizeof out->host)
		return err_set(e, ERR_INVALID, "URL \"%s\": the host must have 1 to %zu characters", whole,
			       sizeof out->host - 1);
	for (size_t i = 0; i < host_len; i++)
		out->host[i] = (char)tolower((unsigned char)host[i]);
	out->host[host_len] = '\0';
	if (bracketed ? !is_ipv6(out->host) : !is_host_name(out->host))
		return err_set(e, ERR_INVALID, "URL \"%s\": \"%s\" is not a host name or address", whole, out->host);

	const char *rest = bracketed ? host_end + 1 : host_end;
	if (rest == end)
		return 0;
	char digits[6] = "";
	int64_t port;
	size_t digits_len = (size_t)(end - rest) - 1;
	if (*rest == ':' && digits_len >= 1 && digits_len < sizeof digits)
		memcpy(digits, rest + 1, digits_len);
	if (!digits[0] || text_parse_int(digits, 1, 65535, &port) != 0)
		return err_set(e, ERR_INVALID, "URL \"%s\": the port must be a number from 1 to 65535", whole);
	out->port = (uint16_t)port;
	return 0;
}

int url_parse(const char *text, struct url *out, struct err *e)
{
	struct url u = { 0 };
	const struct scheme *scheme = find_scheme(text);
	if (!scheme)
		return err_set(e, ERR_INVALID, "URL \"%s\": must start with https:// (or wss://, http://, ws://)",
			       text);
	for (const char *p = text; *p; p++)
		if (*p <= ' ' || *p >= 0x7f || *p == '#' || *p == '\\')
			return err_set(e, ERR_INVALID, "URL \"%s\": spaces, '#' and '\\' are not allowed", text);
	const char *authority = text + strlen(scheme->prefix);
	size_t authority_len = strcspn(authority, "/?");
	if (memchr(authority, '@', authority_len))
		return err_set(e, ERR_INVALID, "URL: a user name or password in it is not allowed");
	u.tls = scheme->tls;
	u.port = scheme->tls ? 443 : 80;
	int rc = parse_authority(authority, authority_len, text, &u, e);
	if (rc != 0)
		return rc;
	const char *path = authority + authority_len;
	int n = snprintf(u.path, sizeof u.path, "%s%s", *path == '/' ? "" : "/", path);
	if (n < 0 || (size_t)n >= sizeof u.path)
		return err_set(e, ERR_INVALID, "URL of host %s: the path is longer than %zu bytes", u.host,
			       sizeof u.path - 1);
	*out = u;
	return 0;
}

int url_parse_secure(const char *text, struct url *out, struct err *e)
{
	const struct scheme *scheme = find_scheme(text);
	if (!scheme || !scheme->tls)
		return err_set(e, ERR_INVALID, "URL \"%s\": must start with https://, since credentials are sent there",
			       text);
	return url_parse(text, out, e);
}

void url_authority(const struct url *u, char *out, size_t size)
{
	if (u->port != (u->tls ? 443 : 80))
		text_host_port(u->host, u->port, out, size);
	else
		snprintf(out, size, strchr(u->host, ':') ? "[%s]" : "%s", u->host);
}

int url_join(const char *base, const char *path, char *out, size_t size, struct err *e)
{
	struct url u;
	int rc = url_parse(base, &u, e);
	if (rc != 0)
		return rc;
	if (path[0] != '/' || strchr(u.path, '?'))
		return err_set(e, ERR_INVALID, "URL \"%s\": cannot put \"%s\" behind it", base, path);
	char authority[sizeof u.host + 10];
	url_authority(&u, authority, sizeof authority);
	size_t prefix_len = strlen(u.path);
	while (prefix_len && u.path[prefix_len - 1] == '/')
		prefix_len--;
	int n = snprintf(out, size, "%s://%s%.*s%s", u.tls ? "https" : "http", authority, (int)prefix_len, u.path,
			 path);
	if (n < 0 || (size_t)n >= size)
		return err_set(e, ERR_INVALID, "URL \"%s\" with \"%s\" is longer than %zu bytes", base, path, size - 1);
	return 0;
}
