/* A line is built in one buffer and leaves in one write(2), so lines of several threads and processes never mix. */
#include "base/log.h"

#include "base/clock.h"
#include "base/text.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const char *program_name = "tunnel";
static atomic_int current_level = LOG_LEVEL_INFO;
static enum log_format current_format = LOG_FORMAT_LOGFMT;
static const char *const level_names[] = { "error", "warn", "info", "debug" };

struct line {
	char text[2048];
	size_t len;
};

#define CLOSING 4 /* bytes that are kept for what ends a line: a quotation mark, a brace, a newline, NUL */

void log_init(const char *program, enum log_level level, enum log_format format)
{
	program_name = program;
	current_format = format;
	atomic_store(&current_level, (int)level);
}

void log_set_level(enum log_level level)
{
	atomic_store(&current_level, (int)level);
}

enum log_level log_get_level(void)
{
	return (enum log_level)atomic_load(&current_level);
}

int log_level_parse(const char *word, enum log_level *out_level)
{
	for (size_t i = 0; i < sizeof level_names / sizeof *level_names; i++) {
		if (strcmp(word, level_names[i]) == 0) {
			*out_level = (enum log_level)i;
			return 0;
		}
	}
	return -1;
}

/* All of it or, in a line that is full, nothing: the half of an escape would be another text. */
static bool put(struct line *l, const char *s)
{
	size_t n = strlen(s);
	if (l->len + n > sizeof l->text - CLOSING)
		return false;
	memcpy(l->text + l->len, s, n);
	l->len += n;
	return true;
}

/* Into the room that put leaves. */
static void put_closing(struct line *l, char c)
{
	l->text[l->len++] = c;
}

static void put_escaped(struct line *l, const char *s)
{
	for (; *s; s++) {
		char hex[8];
		unsigned char c = (unsigned char)*s;
		if (c == '"' || c == '\\')
			snprintf(hex, sizeof hex, "\\%c", c);
		else if (c == '\n')
			snprintf(hex, sizeof hex, "\\n");
		else if (c < 0x20 || c == 0x7f)
			snprintf(hex, sizeof hex, "\\u%04x", c);
		else if (c == 0xc2 && (unsigned char)s[1] >= 0x80 && (unsigned char)s[1] < 0xa0)
			snprintf(hex, sizeof hex, "\\u%04x", (unsigned char)*++s); /* C1 controls steer terminals too */
		else
			snprintf(hex, sizeof hex, "%c", c);
		if (!put(l, hex))
			return;
	}
}

static bool plain_word(const char *s)
{
	if (!*s)
		return false;
	for (; *s; s++) {
		unsigned char c = (unsigned char)*s;
		if (c <= ' ' || c == '"' || c == '=' || c == '\\' || c == 0x7f)
			return false;
	}
	return true;
}

/* In a line that has no room for the key and an empty value it is left out. */
static void put_pair(struct line *l, const char *key, const char *value)
{
	bool json = current_format == LOG_FORMAT_JSON, quoted = json || !plain_word(value);
	const char *between = l->len <= (json ? 1u : 0u) ? "" : json ? "," : " ";
	char head[64];
	if (json)
		snprintf(head, sizeof head, "%s\"%s\":\"", between, key);
	else
		snprintf(head, sizeof head, "%s%s=%s", between, key, quoted ? "\"" : "");
	if (!put(l, head))
		return;
	put_escaped(l, value);
	if (quoted)
		put_closing(l, '"');
}

void log_event(enum log_level level, const struct log_field *fields, const char *fmt, ...)
{
	if ((int)level > atomic_load(&current_level))
		return;
	char event[1024];
	va_list ap;
	va_start(ap, fmt);
	text_vprint(event, sizeof event, fmt, ap);
	va_end(ap);

	struct line l = { .len = 0 };
	if (current_format == LOG_FORMAT_PLAIN) {
		put(&l, program_name);
		put(&l, ": ");
		put_escaped(&l, event);
	} else {
		char when[CLOCK_TEXT_LEN];
		clock_text(clock_wall_ms(), when);
		if (current_format == LOG_FORMAT_JSON)
			put(&l, "{");
		put_pair(&l, "ts", when);
		put_pair(&l, "level", level_names[level]);
		put_pair(&l, "program", program_name);
		put_pair(&l, "msg", event);
	}
	for (; fields && fields->key; fields++)
		if (fields->value)
			put_pair(&l, fields->key, fields->value);
	if (current_format == LOG_FORMAT_JSON)
		put_closing(&l, '}');
	put_closing(&l, '\n');
	l.text[l.len] = '\0';
	text_repair(l.text); /* a value may be anything, or have been cut */
	ssize_t n = write(STDERR_FILENO, l.text, strlen(l.text));
	(void)n; /* nowhere left to complain */
}
