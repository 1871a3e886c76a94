/* The always-on process: holds the control connection and the workers. */
#ifndef AGENT_SUPERVISOR_H
#define AGENT_SUPERVISOR_H

#include "agent/settings.h"
#include "base/err.h"

/* Runs until SIGTERM or SIGINT; sessions go on without it. config: the file to read again on SIGHUP; may be NULL. */
int supervisor_run(struct settings *settings, const char *config, const char *state_dir, struct err *e);

#endif
