#include "text.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int say(int result, char *err, size_t err_len, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	if (err && err_len)
		vsnprintf(err, err_len, format, args);
	va_end(args);
	return result;
}

const char *shown(const char *text, char out[SHOWN_MAX])
{
	size_t n = 0;
	for (; n < SHOWN_MAX - 4 && text[n]; n++) {
		unsigned char c = (unsigned char)text[n];
		out[n] = text[n];
		if (c < 0x20 || c >= 0x7f || c == '"')
			out[n] = '?';
	}
	snprintf(out + n, SHOWN_MAX - n, "%s", text[n] ? "…" : "");
	return out;
}

void string_add_n(struct string *s, const char *text, size_t n)
{
	if (s->failed)
		return;
	if (n >= s->max - s->len) {
		s->failed = 1;
		return;
	}
	if (s->len + n + 1 > s->room) {
		size_t room = (s->len + n + 1) * 2;
		char *more = realloc(s->at, room);
		if (!more) {
			s->failed = 1;
			return;
		}
		s->at = more;
		s->room = room;
	}
	memcpy(s->at + s->len, text, n);
	s->len += n;
	s->at[s->len] = '\0';
}

void string_add(struct string *s, const char *text)
{
	string_add_n(s, text, strlen(text));
}

void string_free(struct string *s)
{
	free(s->at);
	*s = (struct string){ .max = s->max };
}

void hex_of(const unsigned char *bytes, size_t n, char *out)
{
	static const char digits[] = "0123456789abcdef";
	for (size_t i = 0; i < n; i++) {
		out[2 * i] = digits[bytes[i] >> 4];
		out[2 * i + 1] = digits[bytes[i] & 15];
	}
	out[2 * n] = '\0';
}
