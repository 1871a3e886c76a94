/* The host names of plain ssh: "web-1.tunnel" is the target web-1. */
#ifndef CLI_SSH_NAME_H
#define CLI_SSH_NAME_H

#include "base/err.h"
#include "base/limits.h"

#define SSH_NAME_SUFFIX "tunnel"

/* Below the folder of ssh-config (--dir), what ssh and we share: */
#define SSH_NAME_HOSTS "hosts" /* HOST.conf for each host that was asked for: under which name its key is certified */
#define SSH_NAME_RUN "run"     /* LOGIN@HOST/agent, …/known_hosts */

/* host: as ssh's %h, which it has put in lower case; given: as its %n, or an alias. ERR_INVALID says what is wrong. */
int ssh_name_target(const char *host, const char *given, const char *suffix, char out[LIMIT_ID + 1], struct err *e);

#endif
