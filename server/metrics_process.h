/* What Prometheus' own libraries tell of a process, under the same names, and which build this is. */
#ifndef SERVER_METRICS_PROCESS_H
#define SERVER_METRICS_PROCESS_H

#include "base/buf.h"

/* As Prometheus text. What the system does not say is left out. 0, or ERR_LIMIT. Any thread. */
int metrics_process_print(struct buf *b);

#endif
