#include "cli/forward.h"

#include "base/place.h"
#include "base/text.h"

#include <stdio.h>
#include <string.h>

static const struct {
	const char *option, *expected;
} ways[FORWARD_WAYS] = {
	[FORWARD_LOCAL] = { "--port-forward", "[BIND:]PORT:HOST:PORT, such as 5432:127.0.0.1:5432, or /PATH of a "
					      "unix socket for either side" },
	[FORWARD_SOCKS] = { "--socks", "[BIND:]PORT, such as 1080" },
	[FORWARD_REVERSE] = { "--reverse",
			      "[BIND:]PORT:HOST:PORT, such as 8080:127.0.0.1:8000, with an address of the "
			      "target, localhost or * as BIND; or /PATH of a unix socket here for HOST:PORT" },
};

const char *forward_option(enum forward_way way)
{
	return ways[way].option;
}

size_t forward_count(const struct forward_texts *texts)
{
	size_t n = 0;
	for (size_t way = 0; way < FORWARD_WAYS; way++)
		n += texts->at[way].n;
	return n;
}

/* One part of the text, up to a colon that is not in brackets, which are left out. NULL: too long, or an open bracket;
 * else what comes behind the colon, "" at the end. */
static const char *take_part(const char *text, char *out, size_t size)
{
	bool brackets = *text == '[';
	const char *end = brackets ? strchr(text, ']') : text + strcspn(text, ":");
	if (!end || (brackets && end[1] && end[1] != ':'))
		return NULL;
	text += brackets;
	if ((size_t)(end - text) >= size)
		return NULL;
	snprintf(out, size, "%.*s", (int)(end - text), text);
	end += brackets;
	return *end ? end + 1 : end;
}

static bool take_port(const char *text, uint16_t *out)
{
	int64_t port;
	if (text_parse_int(text, 0, 65535, &port) != 0)
		return false;
	*out = (uint16_t)port;
	return true;
}

/* "[bind:]port" at the front; returns what comes behind it, NULL when it is none. */
static const char *take_from(const char *text, struct forward_place *out)
{
	char part[LIMIT_LINK_HOST + 1];
	snprintf(out->host, sizeof out->host, "127.0.0.1");
	const char *rest = take_part(text, part, sizeof part);
	if (!rest || !*part)
		return NULL;
	if (*text != '[' && take_port(part, &out->port))
		return rest;
	snprintf(out->host, sizeof out->host, "%s", part);
	rest = take_part(rest, part, sizeof part);
	return rest && take_port(part, &out->port) ? rest : NULL;
}

/* The whole text, or up to a colon. NULL when it is no path; else what comes behind the colon, "" at the end. */
static const char *take_path(const char *text, bool whole, char out[LIMIT_SOCKET_PATH + 1])
{
	size_t n = whole ? strlen(text) : strcspn(text, ":");
	if (n > LIMIT_SOCKET_PATH)
		return NULL;
	snprintf(out, LIMIT_SOCKET_PATH + 1, "%.*s", (int)n, text);
	return text_is_socket_path(out) ? text + n + (text[n] == ':') : NULL;
}

static bool take_to(const char *text, struct forward_place *out)
{
	if (*text == '/')
		return take_path(text, true, out->path) != NULL;
	return text_parse_host_port(text, out->host, sizeof out->host, &out->port) == 0;
}

/* In the spelling that a session's allow takes; without what was there before, so that equal places are equal bytes. */
static bool make_bind_plain(struct forward_place *place)
{
	char plain[PLACE_ADDRESS];
	const char *host = place->host;
	if (strcmp(host, "*") == 0)
		host = "0.0.0.0";
	else if (strcmp(host, "localhost") == 0)
		host = "127.0.0.1";
	if (place_address(host, plain) != 0)
		return false;
	memset(place->host, 0, sizeof place->host);
	strcpy(place->host, plain);
	return true;
}

bool forward_is_loopback(const struct forward_place *place)
{
	return text_starts(place->host, "127.") || strcmp(place->host, "::1") == 0;
}

int forward_parse(enum forward_way way, const char *text, struct forward_spec *out, struct err *e)
{
	struct forward_spec spec = { .way = way };
	bool path = way == FORWARD_LOCAL && *text == '/';
	const char *rest = path ? take_path(text, false, spec.from.path) : take_from(text, &spec.from);
	bool good = rest != NULL;
	if (good && way == FORWARD_SOCKS)
		good = *rest == '\0';
	else if (good)
		good = take_to(rest, &spec.to);
	if (good && way == FORWARD_REVERSE)
		good = make_bind_plain(&spec.from);
	if (!good)
		return err_set(e, ERR_INVALID, "%s %.120s: expected %s; IPv6 addresses in brackets", ways[way].option,
			       text, ways[way].expected);
	*out = spec;
	return 0;
}

void forward_place_text(const struct forward_place *place, char out[FORWARD_ENTRY])
{
	if (place->path[0])
		snprintf(out, FORWARD_ENTRY, "%s", place->path);
	else
		text_host_port(place->host, place->port, out, FORWARD_ENTRY);
}

void forward_text(const struct forward_spec *spec, char out[FORWARD_TEXT])
{
	char from[FORWARD_ENTRY], to[FORWARD_ENTRY];
	forward_place_text(&spec->from, from);
	forward_place_text(&spec->to, to);
	if (spec->way == FORWARD_SOCKS)
		snprintf(out, FORWARD_TEXT, "%s", from);
	else
		snprintf(out, FORWARD_TEXT, "%s:%s", from, to);
}

void forward_allow(const struct forward_spec *spec, char out[FORWARD_ENTRY])
{
	char from[FORWARD_ENTRY];
	forward_place_text(&spec->from, from);
	if (spec->way == FORWARD_SOCKS)
		strcpy(out, "*");
	else if (spec->way == FORWARD_REVERSE)
		text_print(out, FORWARD_ENTRY, "listen:%s", from);
	else if (spec->to.path[0])
		snprintf(out, FORWARD_ENTRY, "unix:%s", spec->to.path);
	else
		forward_place_text(&spec->to, out);
}
