/* One server from its settings to its end. */
#ifndef SERVER_RUN_H
#define SERVER_RUN_H

#include "server/settings.h"

/* Starts, serves until SIGTERM or SIGINT, drains. 0, or negative when it could not start. The caller has called
 * run_prepare. settings is completed with what is only known once it listens. config_path is read again on SIGHUP.
 * dev_dir: of --dev, which is told the URL; else NULL. */
int run_server(struct settings *settings, const char *config_path, const char *dev_dir, struct err *e);
/* Blocks the signals that run_server waits for, and takes what systemd says in the environment; before any thread
 * starts. */
void run_prepare(void);

#endif
