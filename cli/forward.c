#include "cli/forward.h"

#include "base/text.h"

#include <stdio.h>
#include <string.h>

static const struct {
	const char *option, *expected;
} ways[FORWARD_WAYS] = {
	[FORWARD_LOCAL] = { "--port-forward", "[BIND:]PORT:HOST:PORT, such as 5432:127.0.0.1:5432" },
	[FORWARD_SOCKS] = { "--socks", "[BIND:]PORT, such as 1080" },
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

int forward_parse(enum forward_way way, const char *text, struct forward_spec *out, struct err *e)
{
	struct forward_spec spec = { .way = way };
	const char *rest = take_from(text, &spec.from);
	bool good = rest != NULL;
	if (good && way == FORWARD_SOCKS)
		good = *rest == '\0';
	else if (good)
		good = text_parse_host_port(rest, spec.to.host, sizeof spec.to.host, &spec.to.port) == 0;
	if (!good)
		return err_set(e, ERR_INVALID, "%s %.120s: expected %s; IPv6 addresses in brackets", ways[way].option,
			       text, ways[way].expected);
	*out = spec;
	return 0;
}

void forward_place_text(const struct forward_place *place, char out[FORWARD_ENTRY])
{
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
	if (spec->way == FORWARD_SOCKS)
		strcpy(out, "*");
	else
		forward_place_text(&spec->to, out);
}
