/* Files in the runtime folder, named after workers (agent/name.h). The exit record holds what a worker had to say and
 * nobody had acknowledged: waitpid cannot see a worker whose supervisor was replaced. */
#ifndef AGENT_EXITS_H
#define AGENT_EXITS_H

#include "base/err.h"
#include "base/limits.h"

#include <jansson.h>

#define EXITS_PATH 512
#define EXITS_REPORTS LIMIT_AGENT_SPOOL /* bytes of reports in a record, each with a separator; one more still fits */

/* runtime_dir/name.suffix; suffix: "sock", "exit", "sshd". */
int exits_path(const char *runtime_dir, const char *name, const char *suffix, char out[EXITS_PATH], struct err *e);
/* reports: array of {"n", "body"}. Durable when it returns 0. */
int exits_write(const char *runtime_dir, const char *name, const json_t *reports, struct err *e);
/* ERR_NOT_FOUND: there is none; other errors say nothing about that. */
int exits_read(const char *runtime_dir, const char *name, json_t **out_reports, struct err *e);
void exits_remove(const char *runtime_dir, const char *name); /* all files of the worker */

#endif
