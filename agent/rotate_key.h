/* tunnel-agent rotate-key. */
#ifndef AGENT_ROTATE_KEY_H
#define AGENT_ROTATE_KEY_H

#include "agent/settings.h"
#include "base/err.h"

/* Makes the next key and has the running agent change to it; prints how that went. Without a running agent that
 * is done when it runs. ERR_TIMEOUT: the server has not taken it yet, the agent tries again by itself. */
int rotate_key_run(const struct settings *settings, struct err *e);

#endif
