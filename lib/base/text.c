#include "base/text.h"

#include "base/limits.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Length of the character at p; 0: there is none, or only its beginning. */
static size_t utf8_character(const unsigned char *p, const unsigned char *end)
{
	unsigned c = *p;
	size_t len;
	uint32_t cp, least;
	if (c < 0x80)
		return 1;
	if (c >= 0xc2 && c <= 0xdf)
		len = 2, cp = c & 0x1f, least = 0x80;
	else if (c >= 0xe0 && c <= 0xef)
		len = 3, cp = c & 0x0f, least = 0x800;
	else if (c >= 0xf0 && c <= 0xf4)
		len = 4, cp = c & 0x07, least = 0x10000;
	else
		return 0;
	if ((size_t)(end - p) < len)
		return 0;
	for (size_t i = 1; i < len; i++) {
		if ((p[i] & 0xc0) != 0x80)
			return 0;
		cp = cp << 6 | (p[i] & 0x3fu);
	}
	return cp < least || cp > 0x10ffff || (cp >= 0xd800 && cp <= 0xdfff) ? 0 : len;
}

bool text_is_utf8(const char *s, size_t len)
{
	const unsigned char *p = (const unsigned char *)s, *end = p + len;
	for (size_t n; p < end; p += n)
		if ((n = utf8_character(p, end)) == 0)
			return false;
	return true;
}

void text_repair(char *s)
{
	const unsigned char *p = (const unsigned char *)s, *end = p + strlen(s);
	while (p < end) {
		size_t n = utf8_character(p, end);
		memmove(s, p, n);
		s += n;
		p += n ? n : 1;
	}
	*s = '\0';
}

void text_make_plain(char *s)
{
	for (unsigned char *c = (unsigned char *)s; *c; c++) {
		bool c1 = c[0] == 0xc2 && c[1] >= 0x80 && c[1] < 0xa0; /* U+0080 to U+009F steer terminals too */
		if (c1)
			*c++ = '?';
		if (c1 || (*c < 0x20 && *c != '\n') || *c == 0x7f)
			*c = '?';
	}
}

void text_vprint(char *out, size_t size, const char *fmt, va_list ap)
{
	if (vsnprintf(out, size, fmt, ap) < 0)
		*out = '\0';
	text_repair(out);
}

void text_print(char *out, size_t size, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	text_vprint(out, size, fmt, ap);
	va_end(ap);
}

static bool is_alnum(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

bool text_is_id(const char *s)
{
	size_t n = 0;
	for (; s[n]; n++) {
		bool punct = s[n] == '.' || s[n] == '_' || s[n] == '-';
		if (n >= LIMIT_ID || !(is_alnum(s[n]) || (n > 0 && punct)))
			return false;
	}
	return n > 0;
}

bool text_is_login(const char *s)
{
	size_t n = 0;
	for (; s[n]; n++) {
		char c = s[n];
		bool lower = (c >= 'a' && c <= 'z') || c == '_';
		bool later = (c >= '0' && c <= '9') || c == '-' || c == '.' || (c == '$' && s[n + 1] == '\0');
		if (n >= LIMIT_LOGIN || !(lower || (n > 0 && later)))
			return false;
	}
	return n > 0;
}

void text_list_add(char *list, size_t size, const char *name)
{
	static const char more[] = "…";
	size_t used = strlen(list), room = size - used;
	const char *comma = used ? ", " : "";
	if (used >= strlen(more) && strcmp(list + used - strlen(more), more) == 0)
		return;
	if (strlen(comma) + strlen(name) + strlen(", …") < room)
		snprintf(list + used, room, "%s%s", comma, name);
	else
		snprintf(list + used, room, "%s%s", comma, more);
}

bool text_starts(const char *s, const char *prefix)
{
	return strncmp(s, prefix, strlen(prefix)) == 0;
}

bool text_is_socket_path(const char *s)
{
	size_t len = strnlen(s, LIMIT_SOCKET_PATH + 1);
	if (len > LIMIT_SOCKET_PATH || s[0] != '/' || !text_is_utf8(s, len))
		return false;
	for (size_t i = 0; i < len; i++)
		if ((unsigned char)s[i] < 0x20 || s[i] == 0x7f)
			return false;
	for (const char *slash = s; slash; slash = strchr(slash + 1, '/')) {
		const char *part = slash + 1;
		size_t n = strcspn(part, "/");
		if (n == 0 || (n == 1 && part[0] == '.') || (n == 2 && part[0] == '.' && part[1] == '.'))
			return false;
	}
	return true;
}

bool text_glob(const char *pattern, const char *s)
{
	/* On a mismatch, fall back to the last '*' and let it eat one more character: linear memory, no recursion. */
	const char *star = NULL, *resume = NULL;
	while (*s) {
		if (*pattern == '*') {
			star = pattern++;
			resume = s;
		} else if (*pattern == '?' || *pattern == *s) {
			pattern++;
			s++;
		} else if (star) {
			pattern = star + 1;
			s = ++resume;
		} else {
			return false;
		}
	}
	while (*pattern == '*')
		pattern++;
	return *pattern == '\0';
}

bool text_equal_secret(const void *a, size_t a_len, const void *b, size_t b_len)
{
	return a_len == b_len && CRYPTO_memcmp(a, b, a_len) == 0;
}

int text_parse_int(const char *s, int64_t min, int64_t max, int64_t *out)
{
	if (!is_alnum(*s) && *s != '-')
		return ERR_INVALID;
	char *end;
	errno = 0;
	long long v = strtoll(s, &end, 10);
	if (errno || end == s || *end || v < min || v > max)
		return ERR_INVALID;
	*out = v;
	return 0;
}

struct unit {
	const char *name;
	int64_t factor;
};

static int parse_with_unit(const char *s, const struct unit *units, int64_t *out)
{
	if (*s < '0' || *s > '9')
		return ERR_INVALID;
	char *end;
	errno = 0;
	long long v = strtoll(s, &end, 10);
	if (errno)
		return ERR_INVALID;
	for (; units->name; units++) {
		if (strcmp(end, units->name) == 0) {
			int64_t product;
			if (__builtin_mul_overflow((int64_t)v, units->factor, &product))
				return ERR_INVALID;
			*out = product;
			return 0;
		}
	}
	return ERR_INVALID;
}

int text_parse_duration_ms(const char *s, int64_t *out_ms)
{
	static const struct unit units[] = { { "", 1000 },       { "ms", 1 },          { "s", 1000 },
					     { "m", 60 * 1000 }, { "h", 3600 * 1000 }, { "d", 86400 * 1000 },
					     { NULL, 0 } };
	return parse_with_unit(s, units, out_ms);
}

int text_parse_size(const char *s, int64_t *out_bytes)
{
	static const struct unit units[] = { { "", 1 },        { "k", 1 << 10 }, { "K", 1 << 10 },
					     { "M", 1 << 20 }, { "G", 1 << 30 }, { NULL, 0 } };
	return parse_with_unit(s, units, out_bytes);
}

int text_parse_host_port(const char *s, char *out_host, size_t host_size, uint16_t *out_port)
{
	const char *host = s, *host_end, *colon;
	if (*s == '[') {
		host = s + 1;
		host_end = strchr(host, ']');
		if (!host_end || host_end[1] != ':')
			return ERR_INVALID;
		colon = host_end + 1;
	} else {
		colon = strchr(s, ':');
		if (!colon || strchr(colon + 1, ':'))
			return ERR_INVALID;
		host_end = colon;
	}
	size_t n = (size_t)(host_end - host);
	int64_t port;
	if (n == 0 || n >= host_size || text_parse_int(colon + 1, 1, 65535, &port) != 0)
		return ERR_INVALID;
	memcpy(out_host, host, n);
	out_host[n] = '\0';
	*out_port = (uint16_t)port;
	return 0;
}

void text_host_port(const char *host, uint16_t port, char *out, size_t out_size)
{
	snprintf(out, out_size, strchr(host, ':') ? "[%s]:%u" : "%s:%u", host, port);
}

static const char b64_std[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
static const char b64_url[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

static size_t b64_encode(const char *alphabet, bool pad, const uint8_t *d, size_t len, char *out, size_t out_size)
{
	if (out_size < (pad ? TEXT_B64_SIZE(len) : TEXT_B64URL_SIZE(len))) {
		if (out_size)
			out[0] = '\0';
		return 0;
	}
	size_t n = 0;
	for (size_t i = 0; i < len; i += 3) {
		size_t have = len - i < 3 ? len - i : 3;
		uint32_t v = (uint32_t)d[i] << 16;
		if (have > 1)
			v |= (uint32_t)d[i + 1] << 8;
		if (have > 2)
			v |= d[i + 2];
		for (size_t k = 0; k < 4; k++) {
			if (k <= have)
				out[n++] = alphabet[v >> (18 - 6 * k) & 63];
			else if (pad)
				out[n++] = '=';
		}
	}
	out[n] = '\0';
	return n;
}

static int b64_decode(const char *alphabet, const char *s, size_t s_len, uint8_t *out, size_t out_size, size_t *out_len)
{
	uint32_t acc = 0;
	unsigned bits = 0;
	size_t n = 0;
	if (s_len % 4 == 1)
		return ERR_INVALID;
	for (size_t i = 0; i < s_len; i++) {
		const char *at = s[i] ? strchr(alphabet, s[i]) : NULL;
		if (!at)
			return ERR_INVALID;
		acc = acc << 6 | (uint32_t)(at - alphabet);
		bits += 6;
		if (bits >= 8) {
			bits -= 8;
			if (n == out_size)
				return ERR_INVALID;
			out[n++] = (uint8_t)(acc >> bits);
		}
	}
	if (acc & ((1u << bits) - 1))
		return ERR_INVALID;
	*out_len = n;
	return 0;
}

size_t text_b64url(const void *data, size_t len, char *out, size_t out_size)
{
	return b64_encode(b64_url, false, data, len, out, out_size);
}

int text_b64url_decode(const char *s, size_t s_len, uint8_t *out, size_t out_size, size_t *out_len)
{
	return b64_decode(b64_url, s, s_len, out, out_size, out_len);
}

size_t text_b64(const void *data, size_t len, char *out, size_t out_size)
{
	return b64_encode(b64_std, true, data, len, out, out_size);
}

int text_b64_decode(const char *s, size_t s_len, uint8_t *out, size_t out_size, size_t *out_len)
{
	if (s_len % 4)
		return ERR_INVALID;
	for (int i = 0; i < 2 && s_len && s[s_len - 1] == '='; i++)
		s_len--;
	return b64_decode(b64_std, s, s_len, out, out_size, out_len);
}

void text_hex(const void *data, size_t len, char *out)
{
	static const char digits[] = "0123456789abcdef";
	const uint8_t *d = data;
	for (size_t i = 0; i < len; i++) {
		out[2 * i] = digits[d[i] >> 4];
		out[2 * i + 1] = digits[d[i] & 15];
	}
	out[2 * len] = '\0';
}

static int hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

int text_hex_decode(const char *s, size_t s_len, uint8_t *out, size_t out_size, size_t *out_len)
{
	if (s_len % 2 || s_len / 2 > out_size)
		return ERR_INVALID;
	for (size_t i = 0; i < s_len; i += 2) {
		int hi = hex_value(s[i]), lo = hex_value(s[i + 1]);
		if (hi < 0 || lo < 0)
			return ERR_INVALID;
		out[i / 2] = (uint8_t)(hi << 4 | lo);
	}
	*out_len = s_len / 2;
	return 0;
}
