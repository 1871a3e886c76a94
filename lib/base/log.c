/* A line is built in one buffer and leaves in one write(2), so lines of several threads and processes never mix. */
#include "base/log.h"

#include "base/clock.h"

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

static void put(struct line *l, const char *s)
{
	while (*s && l->len < sizeof l->text - 2)
		l->text[l->len++] = *s++;
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
		else
			snprintf(hex, sizeof hex, "%c", c);
		put(l, hex);
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

static void put_pair(struct line *l, const char *key, const char *value)
{
	if (current_format == LOG_FORMAT_JSON) {
		put(l, l->len > 1 ? ",\"" : "\"");
		put_escaped(l, key);
		put(l, "\":\"");
		put_escaped(l, value);
		put(l, "\"");
		return;
	}
	if (l->len)
		put(l, " ");
	put(l, key);
	put(l, "=");
	bool bare = plain_word(value);
	if (!bare)
		put(l, "\"");
	put_escaped(l, value);
	if (!bare)
		put(l, "\"");
}

void log_event(enum log_level level, const struct log_field *fields, const char *fmt, ...)
{
	if ((int)level > atomic_load(&current_level))
		return;
	char event[1024];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(event, sizeof event, fmt, ap);
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
		put(&l, "}");
	l.text[l.len++] = '\n';
	ssize_t n = write(STDERR_FILENO, l.text, l.len);
	(void)n; /* nowhere left to complain */
}
