/* Is a certificate file and a key file a pair that TLS can serve with? Checked apart from what is in use, since a pair
 * that does not match breaks a live TLS context. */
#ifndef SERVER_TLS_CHECK_H
#define SERVER_TLS_CHECK_H

#include "base/err.h"

int tls_check_files(const char *certificate, const char *key, struct err *e);
/* A certificate that is not for the URL's host refuses every session, unless something in front of the server ends TLS:
 * so it is a warning in the log. */
void tls_warn_of_name(const char *certificate, const char *setting, const char *url);

#endif
