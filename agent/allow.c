/* A rule is either about names or about addresses. Names are matched as text and trusted (who writes "tcp:db:5432"
 * means whatever db resolves to); address rules hold a prefix and are asked with the bytes that connect(2) will get, so
 * a name that resolves to another place at the second look gains nothing. */
#include "agent/allow.h"

#include "base/limits.h"
#include "base/text.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct rule {
	enum { RULE_SSH, RULE_ANY, RULE_NAME, RULE_ADDRESS, RULE_SOCKET, RULE_FOLDER } kind;
	char name[254];          /* RULE_NAME: lower case, no dot at its end; a path of RULE_SOCKET, RULE_FOLDER */
	unsigned char bytes[16]; /* RULE_ADDRESS, IPv4 in its first four */
	int family, bits;
	uint16_t first_port, last_port;
	bool listen; /* RULE_ANY, RULE_ADDRESS: not where to connect, but where to listen */
};

struct allow {
	struct rule *rules;
	size_t n;
};

/* Lower case, without the root's dot. false when it is too long. */
static bool plain_name(const char *host, char out[254])
{
	size_t len = strlen(host);
	if (len > 1 && host[len - 1] == '.')
		len--;
	if (len > 253)
		return false;
	for (size_t i = 0; i < len; i++)
		out[i] = (char)tolower((unsigned char)host[i]);
	out[len] = '\0';
	return true;
}

static int parse_ports(const char *text, struct rule *r)
{
	int64_t first, last;
	char low[8];
	const char *dash = strchr(text, '-');
	if (strcmp(text, "*") == 0) {
		r->first_port = 1, r->last_port = 65535;
		return 0;
	}
	size_t len = dash ? (size_t)(dash - text) : strlen(text);
	if (len == 0 || len >= sizeof low)
		return -1;
	memcpy(low, text, len);
	low[len] = '\0';
	if (text_parse_int(low, 1, 65535, &first) || text_parse_int(dash ? dash + 1 : low, first, 65535, &last))
		return -1;
	r->first_port = (uint16_t)first, r->last_port = (uint16_t)last;
	return 0;
}

static bool parse_address(const char *text, int *out_family, unsigned char out[16])
{
	*out_family = strchr(text, ':') ? AF_INET6 : AF_INET;
	return inet_pton(*out_family, text, out) == 1;
}

/* ::ffff:10.0.0.1 is 10.0.0.1: a socket of either family goes to the same place. */
static void unmap(int *family, unsigned char bytes[16])
{
	static const unsigned char mapped[12] = { [10] = 0xff, [11] = 0xff };
	if (*family == AF_INET6 && memcmp(bytes, mapped, sizeof mapped) == 0) {
		memmove(bytes, bytes + 12, 4);
		*family = AF_INET;
	}
}

static bool in_prefix(const unsigned char *bytes, const unsigned char *net, int bits)
{
	int whole = bits / 8, rest = bits % 8;
	if (memcmp(bytes, net, (size_t)whole) != 0)
		return false;
	return !rest || ((bytes[whole] ^ net[whole]) >> (8 - rest)) == 0;
}

static int parse_network(char *host, struct rule *r, const char *entry, struct err *e)
{
	char *slash = strchr(host, '/');
	int64_t bits;
	if (slash)
		*slash = '\0';
	if (host[0] == '[') { /* [fd00::]/8 or [fd00::/8] */
		char *end = strchr(host, ']');
		if (end)
			*end = '\0';
		host++;
	}
	if (!parse_address(host, &r->family, r->bytes))
		return slash ? err_set(e, ERR_INVALID, "allow: \"%s\": expected an address before the slash", entry)
			     : 1;
	int most = r->family == AF_INET ? 32 : 128;
	bits = most;
	if (slash) {
		char *end = strchr(slash + 1, ']');
		if (end)
			*end = '\0';
		if (text_parse_int(slash + 1, 0, most, &bits))
			return err_set(e, ERR_INVALID, "allow: \"%s\": expected a prefix length of 0 to %d", entry,
				       most);
	}
	r->bits = (int)bits;
	for (int i = r->bits; i < most; i++)
		if (r->bytes[i / 8] & 0x80 >> i % 8)
			return err_set(e, ERR_INVALID,
				       "allow: \"%s\": the address has bits behind its prefix of %d bits", entry,
				       r->bits);
	if (r->family == AF_INET6 && r->bits >= 96) {
		unmap(&r->family, r->bytes);
		if (r->family == AF_INET)
			r->bits -= 96;
	}
	r->kind = RULE_ADDRESS;
	return 0;
}

static bool is_name_pattern(const char *s)
{
	if (strncmp(s, "*.", 2) == 0)
		s += 2;
	if (!*s)
		return false;
	for (; *s; s++)
		if (!isalnum((unsigned char)*s) && !strchr("-._", *s))
			return false;
	return true;
}

static int parse_socket(const char *entry, struct rule *r, struct err *e)
{
	const char *path = entry + strlen("unix:");
	size_t len = strlen(path);
	bool folder = len > 2 && strcmp(path + len - 2, "/*") == 0;
	len -= folder ? 2 : 0;
	if (len <= LIMIT_SOCKET_PATH)
		snprintf(r->name, sizeof r->name, "%.*s", (int)len, path);
	if (!text_is_socket_path(r->name) || strchr(r->name, '*'))
		return err_set(e, ERR_INVALID,
			       "allow: \"%s\": expected an absolute path of at most %u bytes without \".\", \"..\" and "
			       "\"//\", or /FOLDER/*",
			       entry, LIMIT_SOCKET_PATH);
	r->kind = folder ? RULE_FOLDER : RULE_SOCKET;
	return 0;
}

static int parse_rule(const char *entry, struct rule *r, struct err *e)
{
	char host[300];
	if (strcmp(entry, "ssh") == 0) {
		r->kind = RULE_SSH;
		return 0;
	}
	if (text_starts(entry, "unix:/"))
		return parse_socket(entry, r, e);
	r->listen = text_starts(entry, "listen:");
	const char *at = entry + (r->listen ? 7 : 4), *colon = strrchr(entry, ':');
	if ((!text_starts(entry, "tcp:") && !r->listen) || !colon || colon < at)
		return err_set(
			e, ERR_INVALID,
			"allow: \"%s\": expected \"ssh\", \"tcp:HOST:PORT\", \"unix:/PATH\" or \"listen:ADDRESS:PORT\"",
			entry);
	size_t len = (size_t)(colon - at);
	if (len == 0 || len >= sizeof host)
		return err_set(e, ERR_INVALID, "allow: \"%s\": expected a host of 1 to 253 characters", entry);
	memcpy(host, at, len);
	host[len] = '\0';
	if (parse_ports(colon + 1, r))
		return err_set(e, ERR_INVALID, "allow: \"%s\": expected a port of 1 to 65535, first-last or *", entry);
	if (strchr(host, ':') && host[0] != '[')
		return err_set(e, ERR_INVALID, "allow: \"%s\": write IPv6 addresses as [address]:port", entry);
	if (strcmp(host, "*") == 0) {
		r->kind = RULE_ANY;
		return 0;
	}
	int rc = parse_network(host, r, entry, e);
	if (rc <= 0)
		return rc;
	if (r->listen)
		return err_set(e, ERR_INVALID, "allow: \"%s\": expected an IP address, a network or *", entry);
	if (!is_name_pattern(host) || !plain_name(host, r->name))
		return err_set(e, ERR_INVALID, "allow: \"%s\": the host is no address, network, name, *.name or *",
			       entry);
	r->kind = RULE_NAME;
	return 0;
}

int allow_parse(char *const *entries, size_t n, struct allow **out_allow, struct err *e)
{
	struct allow *a = calloc(1, sizeof *a);
	if (a)
		a->rules = calloc(n ? n : 1, sizeof *a->rules);
	if (!a || !a->rules) {
		allow_free(&a);
		return err_set(e, ERR_NOMEM, "allow: out of memory");
	}
	for (; a->n < n; a->n++) {
		int rc = parse_rule(entries[a->n], &a->rules[a->n], e);
		if (rc) {
			allow_free(&a);
			return rc;
		}
	}
	*out_allow = a;
	return 0;
}

void allow_free(struct allow **allow)
{
	if (!*allow)
		return;
	free((*allow)->rules);
	free(*allow);
	*allow = NULL;
}

bool allow_ssh(const struct allow *allow)
{
	for (size_t i = 0; i < allow->n; i++)
		if (allow->rules[i].kind == RULE_SSH)
			return true;
	return false;
}

static bool is_tcp(const struct rule *r)
{
	return !r->listen && (r->kind == RULE_ANY || r->kind == RULE_NAME || r->kind == RULE_ADDRESS);
}

bool allow_tcp(const struct allow *allow)
{
	for (size_t i = 0; i < allow->n; i++)
		if (is_tcp(&allow->rules[i]))
			return true;
	return false;
}

static bool holds_listen(const struct rule *r, int family, const unsigned char bytes[16], uint16_t port)
{
	if (!r->listen || (port && (port < r->first_port || port > r->last_port)))
		return false;
	return r->kind == RULE_ANY ||
	       (r->kind == RULE_ADDRESS && r->family == family && in_prefix(bytes, r->bytes, r->bits));
}

bool allow_listen(const struct allow *allow, const char *address, uint16_t port)
{
	unsigned char bytes[16];
	int family;
	if (!parse_address(address, &family, bytes))
		return false;
	unmap(&family, bytes);
	for (size_t i = 0; i < allow->n; i++)
		if (holds_listen(&allow->rules[i], family, bytes, port))
			return true;
	return false;
}

static bool holds_socket(const struct rule *r, const char *path)
{
	size_t len = strlen(r->name);
	if (r->kind == RULE_FOLDER)
		return strncmp(path, r->name, len) == 0 && path[len] == '/' && !strchr(path + len + 1, '/');
	return r->kind == RULE_SOCKET && strcmp(path, r->name) == 0;
}

bool allow_socket(const struct allow *allow, const char *path)
{
	for (size_t i = 0; i < allow->n; i++)
		if (holds_socket(&allow->rules[i], path))
			return true;
	return false;
}

static bool port_fits(const struct rule *r, uint16_t port)
{
	return is_tcp(r) && port >= r->first_port && port <= r->last_port;
}

static bool bytes_allowed(const struct allow *allow, int family, unsigned char bytes[16], uint16_t port)
{
	unmap(&family, bytes);
	for (size_t i = 0; i < allow->n; i++) {
		const struct rule *r = &allow->rules[i];
		if (!port_fits(r, port))
			continue;
		if (r->kind == RULE_ANY ||
		    (r->kind == RULE_ADDRESS && r->family == family && in_prefix(bytes, r->bytes, r->bits)))
			return true;
	}
	return false;
}

enum allow_answer allow_host(const struct allow *allow, const char *host, uint16_t port)
{
	unsigned char bytes[16];
	char name[254];
	int family;
	if (parse_address(host, &family, bytes))
		return bytes_allowed(allow, family, bytes, port) ? ALLOW_YES : ALLOW_NO;
	if (!plain_name(host, name))
		return ALLOW_NO;
	enum allow_answer answer = ALLOW_NO;
	for (size_t i = 0; i < allow->n; i++) {
		const struct rule *r = &allow->rules[i];
		if (!port_fits(r, port))
			continue;
		if (r->kind == RULE_ANY || (r->kind == RULE_NAME && text_glob(r->name, name)))
			return ALLOW_YES;
		if (r->kind == RULE_ADDRESS)
			answer = ALLOW_BY_ADDRESS;
	}
	return answer;
}

bool allow_address(const struct allow *allow, const struct sockaddr *address, uint16_t port)
{
	unsigned char bytes[16] = { 0 };
	if (address->sa_family == AF_INET)
		memcpy(bytes, &((const struct sockaddr_in *)(const void *)address)->sin_addr, 4);
	else if (address->sa_family == AF_INET6)
		memcpy(bytes, &((const struct sockaddr_in6 *)(const void *)address)->sin6_addr, 16);
	else
		return false;
	return bytes_allowed(allow, address->sa_family, bytes, port);
}
