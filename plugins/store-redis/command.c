#include "command.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KEPT_MAX (64u * 1024) /* bytes of a buffer that is not in use */

bool command_reserve(struct command *c, size_t n)
{
	size_t room = c->room ? c->room : 256;
	if (c->failed || n <= c->room - c->used)
		return !c->failed;
	while (room - c->used < n)
		room *= 2;
	char *bytes = realloc(c->bytes, room);
	if (!bytes) {
		c->failed = true;
		return false;
	}
	c->bytes = bytes;
	c->room = room;
	return true;
}

void command_append(struct command *c, const char *bytes, size_t n)
{
	if (!command_reserve(c, n) || n == 0)
		return;
	memcpy(c->bytes + c->used, bytes, n);
	c->used += n;
}

void command_begin(struct command *c, size_t n)
{
	char head[32];
	command_append(c, head, (size_t)snprintf(head, sizeof head, "*%zu\r\n", n));
}

void command_bytes(struct command *c, const char *bytes, size_t n)
{
	char head[32];
	command_append(c, head, (size_t)snprintf(head, sizeof head, "$%zu\r\n", n));
	command_append(c, bytes, n);
	command_append(c, "\r\n", 2);
}

void command_text(struct command *c, const char *text)
{
	command_bytes(c, text, strlen(text));
}

void command_format(struct command *c, const char *fmt, ...)
{
	char text[1024]; /* names, keys and numbers; none is longer */
	va_list ap;
	va_start(ap, fmt);
	int n = vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	if (n < 0 || (size_t)n >= sizeof text)
		c->failed = true;
	else
		command_bytes(c, text, (size_t)n);
}

void command_clear(struct command *c)
{
	if (c->room > KEPT_MAX)
		command_free(c);
	c->used = 0;
	c->failed = false;
}

void command_free(struct command *c)
{
	free(c->bytes);
	memset(c, 0, sizeof *c);
}
