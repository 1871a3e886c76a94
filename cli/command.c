#include "cli/command.h"

#include "base/text.h"

#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#define AT(member) offsetof(struct common_options, member)
const struct arg_row common_rows[] = {
	{ "profile", 'p', ARG_TEXT, AT(profile), "NAME",
	  "profile of the config file (TUNNEL_PROFILE; default \"default\")" },
	{ "config", 0, ARG_TEXT, AT(config), "FILE", "config file (TUNNEL_CONFIG; default ~/.config/tunnel/config)" },
	{ "output", 'o', ARG_ENUM, AT(output), "text|json", "how results are printed" },
	{ "quiet", 'q', ARG_FLAG, AT(quiet), NULL, "no progress lines on stderr" },
	{ "debug", 0, ARG_FLAG, AT(debug), NULL, "tell on stderr what is done" },
	{ "help", 'h', ARG_FLAG, AT(help), NULL, "this text" },
	{ .name = NULL },
};

static char *kept;
static size_t kept_size;

void keep_complaints(char *out, size_t size)
{
	kept = out;
	kept_size = size;
}

void complain(const char *fmt, ...)
{
	char text[1024];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	text_make_plain(text);
	if (kept) {
		snprintf(kept, kept_size, "%s", text);
		return;
	}
	/* ssh may hold the terminal in raw mode. */
	fprintf(stderr, isatty(STDERR_FILENO) ? "\rtunnel-cli: %s\r\n" : "tunnel-cli: %s\n", text);
}

int exit_for_err(const struct err *e)
{
	switch (e->code) {
	case ERR_UNAVAILABLE:
	case ERR_TIMEOUT:
	case ERR_CLOSED:
		return EXIT_CODE_UNREACHABLE;
	case ERR_INVALID:
	case ERR_NOT_FOUND:
	case ERR_DENIED:
		return EXIT_CODE_CONFIG;
	default:
		return EXIT_CODE_FAILED;
	}
}
