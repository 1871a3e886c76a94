/* Small text helpers of this plugin. */
#ifndef AUTH_HMAC_TEXT_H
#define AUTH_HMAC_TEXT_H

#include <stddef.h>

/* Formats into err (which may have no room at all) and returns result, so that a refusal is one line. */
int say(int result, char *err, size_t err_len, const char *format, ...) __attribute__((format(printf, 4, 5)));

#define SHOWN_MAX 80
/* A stranger's text made fit for a message: printable, without quotes, cut with "…" where it is long. */
const char *shown(const char *text, char out[SHOWN_MAX]);

/* A text that grows up to a bound. After a failure (bound, memory) it stays failed and takes nothing more. */
struct string {
	char *at; /* NUL-terminated; NULL before the first add */
	size_t len, room, max;
	int failed;
};
void string_add(struct string *s, const char *text);
void string_add_n(struct string *s, const char *text, size_t n);
void string_free(struct string *s);

void hex_of(const unsigned char *bytes, size_t n, char *out); /* 2n digits and NUL */

#endif
