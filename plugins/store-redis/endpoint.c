#include "options.h"

#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/un.h>

struct parts {
	char host[256], port[8];
};

static int split(const char *text, struct parts *out, struct words w)
{
	const char *colon = strrchr(text, ':');
	size_t host = colon ? (size_t)(colon - text) : 0;
	long port = colon ? strtol(colon + 1, NULL, 10) : 0;
	if (host > 1 && text[0] == '[' && text[host - 1] == ']') {
		text++;
		host -= 2;
	} else if (host && memchr(text, ':', host))
		host = 0;
	if (host == 0 || host >= sizeof out->host || port < 1 || port > 65535 ||
	    strspn(colon + 1, "0123456789") != strlen(colon + 1))
		return words_set(w, TUNNEL_CONFIG,
				 "\"%.100s\" is no server's address; allowed: host:port, [IPv6 address]:port, or "
				 "/path/of/socket",
				 text);
	snprintf(out->host, sizeof out->host, "%.*s", (int)host, text);
	snprintf(out->port, sizeof out->port, "%ld", port);
	return 0;
}

int endpoint_check(const char *text, struct words w)
{
	struct parts parts;
	if (text[0] != '/')
		return split(text, &parts, w);
	size_t max = sizeof((struct sockaddr_un *)0)->sun_path - 1;
	if (strlen(text) > max)
		return words_set(w, TUNNEL_CONFIG, "the path of the socket has %zu bytes; allowed: %zu", strlen(text),
				 max);
	return 0;
}

static void of_path(const char *path, struct endpoint *out)
{
	struct sockaddr_un *un = (struct sockaddr_un *)&out->address;
	memset(out, 0, sizeof *out);
	un->sun_family = AF_UNIX;
	memcpy(un->sun_path, path, strlen(path) + 1);
	out->address_len = sizeof *un;
	snprintf(out->name, sizeof out->name, "%s", path);
}

int endpoint_find_blocking(const char *text, struct endpoint *out, size_t max, size_t *out_n, struct words w)
{
	struct parts parts;
	struct addrinfo want = { .ai_socktype = SOCK_STREAM }, *found = NULL;
	int rc = endpoint_check(text, w);
	if (rc != 0)
		return rc;
	if (text[0] == '/') {
		of_path(text, out);
		*out_n = 1;
		return 0;
	}
	split(text, &parts, w);
	int code = getaddrinfo(parts.host, parts.port, &want, &found);
	if (code != 0)
		return words_set(w, TUNNEL_UNAVAILABLE, "Redis at %s: %s", text, gai_strerror(code));
	size_t n = 0;
	for (struct addrinfo *one = found; one && n < max; one = one->ai_next, n++) {
		memset(&out[n], 0, sizeof out[n]);
		memcpy(&out[n].address, one->ai_addr, one->ai_addrlen);
		out[n].address_len = one->ai_addrlen;
		snprintf(out[n].host, sizeof out[n].host, "%s", parts.host);
		snprintf(out[n].name, sizeof out[n].name, "%s", text);
	}
	freeaddrinfo(found);
	*out_n = n;
	return 0;
}
