/* What a supervisor tells a new worker over the inherited socket: the offer, and the settings it needs. One JSON line;
 * it holds the session token, so it is never an argument or a file. */
#ifndef AGENT_JOB_H
#define AGENT_JOB_H

#include "agent/settings.h"
#include "base/err.h"
#include "base/limits.h"

#include <jansson.h>

struct offer {
	const char *session, *kind, *relay_url, *token, *client_pin, *principal; /* borrowed from the message */
	json_t *grant;
	int64_t generation; /* 1 unless another client resumed the session */
	int64_t expires_at_ms;
	int64_t server_clock_ms; /* the server's clock, of clock_mono_ms; the agent's own finding */
	int64_t lease_s;         /* without the control plane; then the session freezes. 0: it goes on */
	int64_t detach_grace_s;  /* how long the server waits for an end that is away; 0: it did not say */
};

int offer_parse(json_t *message, struct offer *out, struct err *e);
/* The job's line with its newline; wiped and freed by the caller. NULL when out of memory. */
char *job_make(const struct offer *offer, const struct settings *settings, const char *target, json_t *server_urls);

struct job {
	json_t *json, *fresh; /* own all below; fresh: settings that replaced those of the job */
	struct offer offer;
	const char *target;
	struct settings settings; /* as far as a worker needs them; strings borrowed */
	const char *server_urls[LIMIT_SERVER_URLS + 1];
	char *allow[LIMIT_AGENT_ALLOW];
};

/* text is changed by nobody but holds the token: the caller wipes it. */
int job_parse(const char *text, size_t len, struct job *out, struct err *e);
/* What a worker needs of the settings; new reference, NULL when out of memory. */
json_t *job_settings(const struct settings *settings);
/* Settings of a supervisor that read its own again. Folders, ca_file and proxy stay: the session began with them. */
int job_take_settings(struct job *job, json_t *settings, struct err *e);
void job_wipe_token(struct job *job);
void job_free(struct job *job);

#endif
