/* Small text helpers of this plugin. */
#ifndef AUTH_JWT_TEXT_H
#define AUTH_JWT_TEXT_H

#include <stddef.h>
#include <stdint.h>

/* Formats into err (which may have no room at all) and returns result, so that a refusal is one line. */
int say(int result, char *err, size_t err_len, const char *format, ...) __attribute__((format(printf, 4, 5)));

/* Strict base64url (RFC 4648 section 5): no padding, no blanks, no other characters, unused bits zero, so that one
 * value has one spelling. out needs n * 3 / 4 bytes. -1 when it is not that. */
int base64url_decode(const char *in, size_t n, unsigned char *out, size_t *out_len);

#define SHOWN_MAX 80
/* A stranger's text made fit for a message: printable, without quotes, cut with "…" where it is long. */
const char *shown(const char *text, char out[SHOWN_MAX]);

/* Does it fit a field of that size (with NUL), and is it free of control characters and not empty? */
int text_is_name(const char *text, size_t size);

#endif
