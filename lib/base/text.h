/* Text, encodings and the small parsers that every program needs. */
#ifndef BASE_TEXT_H
#define BASE_TEXT_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

bool text_is_utf8(const char *s, size_t len);
/* Takes out the bytes that belong to no whole UTF-8 character. */
void text_repair(char *s);
/* Text from elsewhere must not steer a terminal: control characters become "?" (newlines stay). */
void text_make_plain(char *s);
/* snprintf for text that goes into JSON or a close frame, where half a character spoils the whole: what the size or a
 * "%.64s" cuts through is left out. */
void text_print(char *out, size_t size, const char *fmt, ...) PRINTF_LIKE(3, 4);
void text_vprint(char *out, size_t size, const char *fmt, va_list ap) PRINTF_LIKE(3, 0);
/* [A-Za-z0-9][A-Za-z0-9._-]*, at most LIMIT_ID characters: targets, sessions, policies, plugin names. */
bool text_is_id(const char *s);
/* A POSIX login: [a-z_][a-z0-9_.-]*[$]?, at most LIMIT_LOGIN characters. */
bool text_is_login(const char *s);
/* Adds a name to a list for people, "a, b"; what does not fit in size bytes is told by "…" at the end. */
void text_list_add(char *list, size_t size, const char *name);
bool text_starts(const char *s, const char *prefix);
/* Of a unix socket: absolute, no "//", "." or ".." in it, no slash at its end, UTF-8 without control characters, at
 * most LIMIT_SOCKET_PATH bytes. So one file has one spelling, but for symbolic links. */
bool text_is_socket_path(const char *s);
/* '*' any run, '?' one character; no escapes. */
bool text_glob(const char *pattern, const char *s);
/* Constant time in len for equal lengths. */
bool text_equal_secret(const void *a, size_t a_len, const void *b, size_t b_len);

/* Whole-string number in [min, max]; 0 or ERR_INVALID. */
int text_parse_int(const char *s, int64_t min, int64_t max, int64_t *out);
/* "250ms", "30s", "15m", "12h", "7d"; a bare number is seconds. */
int text_parse_duration_ms(const char *s, int64_t *out_ms);
/* "4096", "64k", "4M", "1G" (1024-based). */
int text_parse_size(const char *s, int64_t *out_bytes);
/* "host:port" or "[v6]:port"; host is copied without brackets. Returns 0 or ERR_INVALID. */
int text_parse_host_port(const char *s, char *out_host, size_t host_size, uint16_t *out_port);
/* The reverse, with brackets where the host has a colon. */
void text_host_port(const char *host, uint16_t port, char *out, size_t out_size);

/* base64url without padding (RFC 4648, section 5). out_size >= TEXT_B64URL_SIZE(len), else out is "". Returns the
 * length written. */
#define TEXT_B64URL_SIZE(len) ((4 * (len) + 2) / 3 + 1)
size_t text_b64url(const void *data, size_t len, char *out, size_t out_size);
/* Strict: no padding, no space, no stray bits. 0 and *out_len, or ERR_INVALID (also when out is too small). */
int text_b64url_decode(const char *s, size_t s_len, uint8_t *out, size_t out_size, size_t *out_len);
/* Standard alphabet with padding (RFC 4648, section 4), as OpenSSH and PEM use it. out_size >= TEXT_B64_SIZE(len). */
#define TEXT_B64_SIZE(len) (((len) + 2) / 3 * 4 + 1)
size_t text_b64(const void *data, size_t len, char *out, size_t out_size);
int text_b64_decode(const char *s, size_t s_len, uint8_t *out, size_t out_size, size_t *out_len);
void text_hex(const void *data, size_t len, char *out); /* lower case; out has 2 * len + 1 bytes */
int text_hex_decode(const char *s, size_t s_len, uint8_t *out, size_t out_size, size_t *out_len);

#endif
