#include "server/endpoint_text.h"

#include "base/limits.h"
#include "base/text.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

/* Writes the one spelling of an IP address; false when it is none. */
static bool canonical_address(const char *host, char *out, size_t size)
{
	struct in_addr v4;
	struct in6_addr v6;
	if (inet_pton(AF_INET, host, &v4) == 1)
		return inet_ntop(AF_INET, &v4, out, (socklen_t)size) != NULL;
	if (inet_pton(AF_INET6, host, &v6) != 1)
		return false;
	if (IN6_IS_ADDR_V4MAPPED(&v6))
		return inet_ntop(AF_INET, &v6.s6_addr[12], out, (socklen_t)size) != NULL;
	return inet_ntop(AF_INET6, &v6, out, (socklen_t)size) != NULL;
}

/* Resolvers take "127.1", "2130706433" and "0x7f.1" for addresses: names never end in a number. */
static bool looks_numeric(const char *host)
{
	const char *last = strrchr(host, '.');
	last = last ? last + 1 : host;
	bool hex = last[0] == '0' && (last[1] == 'x' || last[1] == 'X');
	const char *digits = hex ? "0123456789abcdefABCDEF" : "0123456789";
	last += hex ? 2 : 0;
	return (hex || *last) && last[strspn(last, digits)] == '\0';
}

static int canonical_name(const char *host, char *out, size_t size, struct err *e)
{
	size_t n = strlen(host);
	if (looks_numeric(host))
		return err_set(e, ERR_INVALID, "'%.100s' is neither an IPv4 address of four decimals nor a host name",
			       host);
	for (size_t i = 0; i < n; i++)
		if (!isalnum((unsigned char)host[i]) && !strchr("-_.", host[i]))
			return err_set(e, ERR_INVALID,
				       "'%.100s' is not a host name; allowed: letters, digits, '-', '_', "
				       "'.'",
				       host);
	if (n == 0 || host[0] == '.' || strstr(host, ".."))
		return err_set(e, ERR_INVALID, "'%.100s' is not a host name", host);
	snprintf(out, size, "%s", host);
	if (out[n - 1] == '.')
		out[n - 1] = '\0';
	for (char *c = out; *c; c++)
		*c = (char)tolower((unsigned char)*c);
	return 0;
}

/* Connecting to these reaches the machine itself, past a policy that names 127.0.0.1. */
static bool is_unspecified(const char *plain)
{
	return strcmp(plain, "0.0.0.0") == 0 || strcmp(plain, "::") == 0;
}

int endpoint_text_check(const char *text, struct err *e)
{
	char host[LIMIT_LINK_HOST + 1], plain[LIMIT_LINK_HOST + 1], wanted[LIMIT_LINK_HOST + 16];
	uint16_t port;
	if (text_parse_host_port(text, host, sizeof host, &port) || port == 0)
		return err_set(e, ERR_INVALID, "'%.100s' is not host:port", text);
	if (!canonical_address(host, plain, sizeof plain)) {
		int rc = canonical_name(host, plain, sizeof plain, e);
		if (rc)
			return rc;
	}
	if (is_unspecified(plain))
		return err_set(e, ERR_INVALID, "'%.100s' is no address of a host; write 127.0.0.1 or [::1]", text);
	text_host_port(plain, port, wanted, sizeof wanted);
	if (strcmp(wanted, text) != 0)
		return err_set(e, ERR_INVALID, "'%.100s' must be written as '%.100s'", text, wanted);
	return 0;
}
