/* doctor: one check after the other, each with a verdict, words, and what to do about it. */
#ifndef CLI_DOCTOR_H
#define CLI_DOCTOR_H

#include "cli/client.h"
#include "net/url.h"

#include <stdbool.h>

enum doctor_verdict { DOCTOR_OK, DOCTOR_FAILED, DOCTOR_SKIPPED };

/* What a check found. */
struct doctor_found {
	enum doctor_verdict verdict;
	char text[400];
	char next[300]; /* with DOCTOR_FAILED: what to do */
};

struct doctor {
	struct client client;
	const char *target, *login; /* target NULL: nothing is asked about one */
	struct url server;          /* the profile's first */
	bool proxied;
	struct doctor_found policy, session, resume; /* of doctor_try_session, which finds all three */
	bool tried;
};

void doctor_say(struct doctor_found *f, enum doctor_verdict verdict, const char *fmt, ...) PRINTF_LIKE(3, 4);
void doctor_advise(struct doctor_found *f, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* doctor_net.c */
void doctor_check_proxy(struct doctor *d, struct doctor_found *f);
void doctor_check_dns(struct doctor *d, struct doctor_found *f);
void doctor_check_tcp(struct doctor *d, struct doctor_found *f);
void doctor_check_tls(struct doctor *d, struct doctor_found *f);
void doctor_check_clock(struct doctor *d, struct doctor_found *f);

/* doctor_session.c: a session of seconds, whose leg is cut. Fills d->policy, d->session and d->resume. */
void doctor_try_session(struct doctor *d);

#endif
