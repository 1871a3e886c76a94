#include "text.h"

#include <stdarg.h>
#include <stdio.h>
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

static int base64url_digit(char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	return c == '-' ? 62 : c == '_' ? 63 : -1;
}

int base64url_decode(const char *in, size_t n, unsigned char *out, size_t *out_len)
{
	size_t len = 0;
	uint32_t bits = 0;
	unsigned have = 0;
	if (n % 4 == 1)
		return -1;
	for (size_t i = 0; i < n; i++) {
		int digit = base64url_digit(in[i]);
		if (digit < 0)
			return -1;
		bits = (bits << 6 | (uint32_t)digit) & 0xffffu;
		have += 6;
		if (have >= 8) {
			have -= 8;
			out[len++] = (unsigned char)(bits >> have & 0xffu);
		}
	}
	if (bits & ((1u << have) - 1u))
		return -1;
	*out_len = len;
	return 0;
}

const char *shown(const char *text, char out[SHOWN_MAX])
{
	size_t n = 0;
	for (; n < SHOWN_MAX - 4 && text[n]; n++) {
		unsigned char c = (unsigned char)text[n];
		out[n] = text[n];
		if (c < 0x20 || c == 0x7f || c == '"')
			out[n] = '?';
	}
	if (text[n]) {
		while (n && ((unsigned char)text[n] & 0xc0u) == 0x80u) /* not inside a UTF-8 sequence */
			n--;
		memcpy(out + n, "…", sizeof "…" - 1);
		n += sizeof "…" - 1;
	}
	out[n] = '\0';
	return out;
}

int text_is_name(const char *text, size_t size)
{
	size_t n = 0;
	for (; text[n]; n++) {
		unsigned char c = (unsigned char)text[n];
		if (c < 0x20 || c == 0x7f || n + 1 >= size)
			return 0;
	}
	return n > 0;
}
