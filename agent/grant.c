#include "agent/grant.h"

#include "base/json.h"
#include "base/place.h"
#include "base/text.h"

#include <arpa/inet.h>
#include <string.h>
#include <strings.h>

static int parse_logins(const json_t *list, struct grant *g, struct err *e)
{
	for (size_t i = 0; i < json_array_size(list); i++) {
		const char *login = json_string_value(json_array_get(list, i));
		if (!text_is_login(login)) /* they go into sshd's configuration */
			return err_set(e, ERR_INVALID, "grant.logins[%zu]: not a login name", i);
		strcpy(g->logins[g->login_count++], login);
	}
	return 0;
}

static int parse_tcp(const json_t *list, struct grant *g, struct err *e)
{
	for (size_t i = 0; i < json_array_size(list); i++) {
		struct grant_endpoint *at = &g->tcp[g->tcp_count];
		const char *text = json_string_value(json_array_get(list, i));
		if (strcmp(text, "*") == 0)
			g->tcp_any = true;
		else if (text_parse_host_port(text, at->host, sizeof at->host, &at->port) == 0)
			g->tcp_count++;
		else
			return err_set(e, ERR_INVALID, "grant.tcp[%zu]: expected host:port or *", i);
	}
	return 0;
}

static int parse_listen(const json_t *list, struct grant *g, struct err *e)
{
	for (size_t i = 0; i < json_array_size(list); i++) {
		struct grant_endpoint *at = &g->listen[g->listen_count++];
		if (place_parse(json_string_value(json_array_get(list, i)), at->host, &at->port))
			return err_set(e, ERR_INVALID, "grant.listen[%zu]: expected address:port", i);
	}
	return 0;
}

static int parse_sockets(const json_t *list, struct grant *g, struct err *e)
{
	for (size_t i = 0; i < json_array_size(list); i++) {
		const char *path = json_string_value(json_array_get(list, i));
		if (!text_is_socket_path(path))
			return err_set(e, ERR_INVALID, "grant.unix[%zu]: expected a socket's path", i);
		strcpy(g->sockets[g->socket_count++], path);
	}
	return 0;
}

int grant_parse(const json_t *json, struct grant *out, struct err *e)
{
	struct grant g = { .max_streams = LIMIT_LINK_STREAMS, .ssh_forwarding = true };
	json_t *logins = NULL, *tcp = NULL, *sockets = NULL, *listen = NULL;
	int64_t streams = LIMIT_LINK_STREAMS;
	const struct json_field fields[] = {
		{ "ssh", JSON_FIELD_BOOL, false, 0, 0, &g.ssh },
		{ "logins", JSON_FIELD_STRINGS, false, 0, LIMIT_ALLOW, (void *)&logins },
		{ "ssh_forwarding", JSON_FIELD_BOOL, false, 0, 0, &g.ssh_forwarding },
		{ "tcp", JSON_FIELD_STRINGS, false, 0, LIMIT_ALLOW, (void *)&tcp },
		{ "unix", JSON_FIELD_STRINGS, false, 0, LIMIT_ALLOW, (void *)&sockets },
		{ "listen", JSON_FIELD_STRINGS, false, 0, LIMIT_ALLOW, (void *)&listen },
		{ "max_streams", JSON_FIELD_INT, false, 0, INT32_MAX, &streams },
		{ "expires_at_ms", JSON_FIELD_INT, true, 0, INT64_MAX, &g.expires_at_ms },
		{ "bound", JSON_FIELD_BOOL, false, 0, 0, &g.bound },
		{ .name = NULL },
	};
	int rc = json_read((json_t *)(uintptr_t)json, "grant", false, fields, e);
	if (!rc)
		rc = parse_logins(logins, &g, e);
	if (!rc)
		rc = parse_tcp(tcp, &g, e);
	if (!rc)
		rc = parse_sockets(sockets, &g, e);
	if (!rc)
		rc = parse_listen(listen, &g, e);
	if (rc)
		return rc;
	if (streams < LIMIT_LINK_STREAMS)
		g.max_streams = (uint32_t)streams;
	*out = g;
	return 0;
}

static bool same_host(const char *a, const char *b)
{
	unsigned char x[16], y[16];
	size_t a_len = strlen(a), b_len = strlen(b);
	int family = strchr(a, ':') ? AF_INET6 : AF_INET;
	if (inet_pton(family, a, x) == 1)
		return inet_pton(family, b, y) == 1 && memcmp(x, y, family == AF_INET6 ? 16 : 4) == 0;
	a_len -= a_len > 1 && a[a_len - 1] == '.';
	b_len -= b_len > 1 && b[b_len - 1] == '.';
	return a_len == b_len && strncasecmp(a, b, a_len) == 0;
}

void grant_first(const struct grant *grant, char *out, size_t size)
{
	char endpoint[sizeof grant->tcp[0].host + 8];
	out[0] = '\0';
	if (grant->ssh) {
		text_print(out, size, "ssh");
	} else if (grant->tcp_count) {
		text_host_port(grant->tcp[0].host, grant->tcp[0].port, endpoint, sizeof endpoint);
		text_print(out, size, "tcp:%s", endpoint);
	} else if (grant->tcp_any) {
		text_print(out, size, "tcp:*:*");
	} else if (grant->socket_count) {
		text_print(out, size, "unix:%s", grant->sockets[0]);
	} else if (grant->listen_count) {
		text_host_port(grant->listen[0].host, grant->listen[0].port, endpoint, sizeof endpoint);
		text_print(out, size, "listen:%s", endpoint);
	}
}

bool grant_allows_socket(const struct grant *grant, const char *path)
{
	for (size_t i = 0; i < grant->socket_count; i++)
		if (strcmp(grant->sockets[i], path) == 0)
			return true;
	return false;
}

bool grant_allows_listen(const struct grant *grant, const char *host, uint16_t port)
{
	for (size_t i = 0; i < grant->listen_count; i++)
		if (grant->listen[i].port == port && same_host(grant->listen[i].host, host))
			return true;
	return false;
}

bool grant_allows_tcp(const struct grant *grant, const char *host, uint16_t port)
{
	if (grant->tcp_any)
		return true;
	for (size_t i = 0; i < grant->tcp_count; i++)
		if (grant->tcp[i].port == port && same_host(grant->tcp[i].host, host))
			return true;
	return false;
}
