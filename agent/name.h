/* What a worker's files and reports are kept under: "<session>" in the first generation, "<session>@<generation>" in
 * later ones. A session that was resumed by another client has two workers for a moment. */
#ifndef AGENT_NAME_H
#define AGENT_NAME_H

#include "base/limits.h"

#include <stdbool.h>
#include <stdint.h>

#define WORKER_NAME (LIMIT_ID + 8) /* with NUL; LIMIT_GENERATION has 6 digits */

void name_make(const char *session, int64_t generation, char out[WORKER_NAME]);
bool name_parse(const char *name, char out_session[LIMIT_ID + 1], int64_t *out_generation);

#endif
