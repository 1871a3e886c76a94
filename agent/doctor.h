/* Looks whether this machine can serve sessions, and says for each thing how it is and what to do: tunnel-agent doctor.
 */
#ifndef AGENT_DOCTOR_H
#define AGENT_DOCTOR_H

#include "agent/settings.h"
#include "base/err.h"

#include <stdbool.h>

/* settings NULL: they could not be read, for this reason. Prints to stdout: a line for each check, or one JSON object.
 * true: nothing fails. Changes nothing, and disturbs no agent that runs; may take as long as a dead network does. */
bool doctor_run(const struct settings *settings, const char *config, const struct err *why_not, bool json);

#endif
