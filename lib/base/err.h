/* What went wrong, in words, on the caller's stack. Library code fills it and returns negative; program code logs it
 * once. */
#ifndef BASE_ERR_H
#define BASE_ERR_H

#include <stdarg.h>

#define PRINTF_LIKE(fmt, first) __attribute__((format(printf, fmt, first)))

/* Values of err.code. 0 is "no error"; every function that takes a struct err returns 0 or one of these. */
enum err_code {
	ERR_NONE = 0,
	ERR_INVALID = -1, /* the input breaks a rule; the text says which */
	ERR_NOT_FOUND = -2,
	ERR_CONFLICT = -3,
	ERR_DENIED = -4,
	ERR_UNAVAILABLE = -5, /* try again later */
	ERR_TIMEOUT = -6,
	ERR_LIMIT = -7, /* a ceiling of base/limits.h or of the caller's */
	ERR_NOMEM = -8,
	ERR_IO = -9,
	ERR_PROTOCOL = -10, /* the peer broke the protocol */
	ERR_CLOSED = -11,
	ERR_INTERNAL = -12,
};

struct err {
	int code;
	char text[256]; /* one line of UTF-8, no newline, NUL-terminated, cut when too long */
};

/* Sets code and text, returns code. e may be NULL. */
int err_set(struct err *e, int code, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* As err_set, with ": <strerror(errnum)>" behind the text. */
int err_set_errno(struct err *e, int code, int errnum, const char *fmt, ...) PRINTF_LIKE(4, 5);
/* As err_set, with ": <the last OpenSSL error>" behind the text; empties OpenSSL's queue of this thread. */
int err_set_openssl(struct err *e, int code, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* Puts "<prefix>: " before the text, keeps and returns the code. */
int err_wrap(struct err *e, const char *fmt, ...) PRINTF_LIKE(2, 3);

#endif
