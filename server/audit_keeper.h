/* The thread that looks after the audit log: what waits is written when the store answers again, and what was written
 * is exported. */
#ifndef SERVER_AUDIT_KEEPER_H
#define SERVER_AUDIT_KEEPER_H

#include "base/err.h"

struct server;
struct audit_keeper;

int audit_keeper_start_blocking(struct server *server, struct audit_keeper **out_keeper, struct err *e);
/* Before the log is closed. Accepts a pointer to NULL. */
void audit_keeper_stop(struct audit_keeper **keeper);

#endif
