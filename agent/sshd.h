/* sshd -i for one stream: no daemon, no port. On a loop, one thread. */
#ifndef AGENT_SSHD_H
#define AGENT_SSHD_H

#include "agent/grant.h"
#include "agent/settings.h"
#include "base/err.h"

#include <sys/types.h>
#include <uv.h>

/* Writes the sshd configuration of a worker (agent/name.h): only certificates of the control plane's CA, only the
 * granted logins. ERR_UNAVAILABLE when the control plane has not sent its CA key yet; ERR_DENIED when the machine has
 * no user of these names, or the agent, which is not root, could not become one. Asks for users, which may block. */
int sshd_configure(const struct settings *settings, const char *name, const struct grant *grant, struct err *e);

struct sshd;
/* Called once, when sshd has exited and its last words are logged. */
typedef void sshd_gone(void *user, struct sshd *sshd, int status);

/* *out_fd: our end of its connection. */
int sshd_start(uv_loop_t *loop, const struct settings *settings, const char *name, uint32_t stream, sshd_gone *gone,
	       void *user, struct sshd **out_sshd, int *out_fd, struct err *e);
/* After SIGCHLD. */
void sshd_reap(struct sshd *sshd);
pid_t sshd_pid(const struct sshd *sshd);
/* Lets go of it; its connection's end makes it exit. No callback any more. */
void sshd_free(struct sshd **sshd);

#endif
