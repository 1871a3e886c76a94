/* The audit log's copies outside of the store, as settings audit.file and audit.syslog ask for them. One thread, that
 * of the keeper. */
#ifndef SERVER_AUDIT_EXPORT_H
#define SERVER_AUDIT_EXPORT_H

#include "base/err.h"

#include <stdbool.h>

struct server;
struct audit_export;

/* *out_export is NULL when none is asked for. An export that ends behind the log's end is of another log: ERR_CONFLICT.
 */
int audit_export_open_blocking(struct server *server, struct audit_export **out_export, struct err *e);
/* Writes some of what is not there yet; what fails is logged once and tried again the next time. true: there is more to
 * do at once. export may be NULL. */
bool audit_export_run_blocking(struct audit_export *export);
void audit_export_close(struct audit_export **export); /* accepts a pointer to NULL */

#endif
