#include "server/endpoint_text.h"

#include "base/limits.h"
#include "base/place.h"
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

static int check_host_port(const char *text, struct err *e)
{
	char host[LIMIT_LINK_HOST + 1], plain[LIMIT_LINK_HOST + 1], wanted[LIMIT_LINK_HOST + 16];
	uint16_t port;
	if (text_parse_host_port(text, host, sizeof host, &port) || port == 0)
		return err_set(e, ERR_INVALID, "'%.100s' is not host:port, unix:/path, listen:address:port or *", text);
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

#define UNIX_PREFIX "unix:"
#define LISTEN_PREFIX "listen:"

/* A host may be called "listen", but then one colon is all there is. */
static bool is_listen(const char *text)
{
	return text_starts(text, LISTEN_PREFIX) && strchr(text + strlen(LISTEN_PREFIX), ':');
}

static int check_listen(const char *text, struct err *e)
{
	char plain[PLACE_ADDRESS], wanted[PLACE_ADDRESS + 16];
	uint16_t port;
	if (place_parse(text, plain, &port))
		return err_set(e, ERR_INVALID, "'listen:%.100s': expected listen:ADDRESS:PORT, with an IP address",
			       text);
	text_host_port(plain, port, wanted, sizeof wanted);
	if (strcmp(wanted, text) != 0)
		return err_set(e, ERR_INVALID, "'listen:%.100s' must be written as 'listen:%.100s'", text, wanted);
	return 0;
}

static enum endpoint_kind kind_of(const char *text)
{
	if (is_listen(text))
		return ENDPOINT_LISTEN;
	if (strcmp(text, "*") == 0)
		return ENDPOINT_ANY;
	return text_starts(text, UNIX_PREFIX "/") ? ENDPOINT_UNIX : ENDPOINT_TCP;
}

static int check_path(const char *path, struct err *e)
{
	if (text_is_socket_path(path))
		return 0;
	return err_set(
		e, ERR_INVALID,
		"'%.110s' is no path of a socket; allowed: absolute, at most %u bytes, without '.', '..' and '//'",
		path, LIMIT_SOCKET_PATH);
}

int endpoint_text_check(const char *text, struct err *e)
{
	switch (kind_of(text)) {
	case ENDPOINT_ANY:
		return 0;
	case ENDPOINT_UNIX:
		return check_path(text + strlen(UNIX_PREFIX), e);
	case ENDPOINT_LISTEN:
		return check_listen(text + strlen(LISTEN_PREFIX), e);
	default:
		return check_host_port(text, e);
	}
}

int endpoint_text_read(const char *text, struct endpoint_parts *out, struct err *e)
{
	out->kind = kind_of(text);
	out->path = out->kind == ENDPOINT_UNIX ? text + strlen(UNIX_PREFIX) : NULL;
	int rc = 0;
	if (out->kind == ENDPOINT_TCP)
		rc = text_parse_host_port(text, out->host, sizeof out->host, &out->port);
	else if (out->kind == ENDPOINT_LISTEN)
		rc = place_parse(text + strlen(LISTEN_PREFIX), out->host, &out->port);
	if (rc)
		return err_set(e, ERR_INVALID, "allow: '%.100s' is not host:port, unix:/path, listen:address:port or *",
			       text);
	return 0;
}

/* The word of an agent's hello without which it does not know the kind; NULL: every agent does. */
static const char *const features[] = {
	[ENDPOINT_TCP] = NULL,
	[ENDPOINT_ANY] = "any-endpoint",
	[ENDPOINT_UNIX] = "unix",
	[ENDPOINT_LISTEN] = "listen",
};

static bool has(const json_t *list, const char *word)
{
	for (size_t i = 0; i < json_array_size(list); i++)
		if (strcmp(json_string_value(json_array_get(list, i)), word) == 0)
			return true;
	return false;
}

int endpoint_text_check_agent(const json_t *target_doc, const json_t *allow, struct err *e)
{
	for (size_t i = 0; i < json_array_size(allow); i++) {
		const char *text = json_string_value(json_array_get(allow, i));
		const char *feature = features[kind_of(text)];
		if (feature && !has(json_object_get(target_doc, "features"), feature))
			return err_set(
				e, ERR_INVALID,
				"allow[%zu]: the agent of target %s is too old for '%.100s': it lacks %s; upgrade "
				"it",
				i, json_string_value(json_object_get(target_doc, "id")), text, feature);
	}
	return 0;
}
