#include "base/err.h"

#include "base/text.h"

#include <openssl/err.h>
#include <stdio.h>
#include <string.h>

__attribute__((format(printf, 4, 0))) static int set_with_tail(struct err *e, int code, const char *tail,
							       const char *fmt, va_list ap)
{
	if (!e)
		return code;
	e->code = code;
	int n = vsnprintf(e->text, sizeof e->text, fmt, ap);
	if (tail && n >= 0 && (size_t)n < sizeof e->text)
		snprintf(e->text + n, sizeof e->text - (size_t)n, ": %s", tail);
	text_repair(e->text);
	return code;
}

int err_set(struct err *e, int code, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	set_with_tail(e, code, NULL, fmt, ap);
	va_end(ap);
	return code;
}

int err_set_errno(struct err *e, int code, int errnum, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	set_with_tail(e, code, strerror(errnum), fmt, ap);
	va_end(ap);
	return code;
}

int err_set_openssl(struct err *e, int code, const char *fmt, ...)
{
	char reason[160] = "no reason given";
	unsigned long first = ERR_get_error();
	if (first)
		ERR_error_string_n(first, reason, sizeof reason);
	ERR_clear_error();
	va_list ap;
	va_start(ap, fmt);
	set_with_tail(e, code, reason, fmt, ap);
	va_end(ap);
	return code;
}

int err_wrap(struct err *e, const char *fmt, ...)
{
	if (!e)
		return ERR_INTERNAL;
	char inner[sizeof e->text];
	memcpy(inner, e->text, sizeof inner);
	va_list ap;
	va_start(ap, fmt);
	set_with_tail(e, e->code, inner, fmt, ap);
	va_end(ap);
	return e->code;
}
