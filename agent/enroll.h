/* Makes this machine a target: new keys, and the one-time token spent on them. */
#ifndef AGENT_ENROLL_H
#define AGENT_ENROLL_H

#include "agent/settings.h"
#include "base/err.h"

/* server NULL: the first of the settings. token is not kept. Prints who the machine is now on stdout. */
int enroll_run(const struct settings *settings, const char *server, const char *token, struct err *e);
/* A token from a file ("-": stdin), without the space around it. *out_token is wiped and freed by the caller. */
int enroll_read_token(const char *path, char **out_token, struct err *e);

#endif
