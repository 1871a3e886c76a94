/* "host:port" as a session asks for it. Only one spelling of an address is taken, so that a policy that names
 * "127.0.0.1" or "db.internal" cannot be walked around with "127.1", "::ffff:127.0.0.1" or "DB.internal.". */
#ifndef SERVER_ENDPOINT_TEXT_H
#define SERVER_ENDPOINT_TEXT_H

#include "base/err.h"

/* 0, or ERR_INVALID with what is wrong and, where there is one, the spelling that is taken. */
int endpoint_text_check(const char *text, struct err *e);

#endif
