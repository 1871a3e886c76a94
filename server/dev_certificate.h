#ifndef SERVER_DEV_CERTIFICATE_H
#define SERVER_DEV_CERTIFICATE_H

#include "base/err.h"

/* Writes a new CA (its key is thrown away) and a server certificate for localhost, 127.0.0.1, ::1 and this host's name
 * into ca_path, certificate_path and key_path (mode 0600). */
int dev_certificate_make(const char *ca_path, const char *certificate_path, const char *key_path, struct err *e);

#endif
