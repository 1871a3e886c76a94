/* Inside of the doctor: what its checks share. */
#ifndef AGENT_DOCTOR_CHECKS_H
#define AGENT_DOCTOR_CHECKS_H

#include "agent/doctor.h"
#include "agent/state.h"

#include <jansson.h>

enum verdict { VERDICT_OK, VERDICT_WARN, VERDICT_FAIL, VERDICT_SKIP };

struct doctor {
	const struct settings *settings;
	const char *config;
	struct state state; /* target "" when it is not enrolled */
	json_t *checks;     /* {check, verdict, text, advice} */
	bool failed, warned;
};

/* advice: what to do next; NULL: nothing. */
void doctor_say(struct doctor *d, const char *check, enum verdict verdict, const char *advice, const char *fmt, ...)
	PRINTF_LIKE(5, 6);
/* The way to each server, and what it thinks of this machine: dns, proxy, tcp, tls, identity, clock. */
void doctor_check_servers(struct doctor *d);

#endif
