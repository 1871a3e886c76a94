/* What a client keeps of its port-forward session, so that another client of the same person can come back to it:
 * $XDG_STATE_HOME/tunnel/sessions/<id>.json, mode 0600. No secrets: who resumes proves himself to the server. */
#ifndef CLI_KEPT_H
#define CLI_KEPT_H

#include "base/err.h"
#include "cli/forward.h"

#include <jansson.h>
#include <stdint.h>

struct kept_session {
	const char *session, *target, *server;
	const char *profile, *config;  /* as they were given; NULL: not */
	struct forward_texts forwards; /* with the ports that were bound here */
	int64_t expires_ms;
	json_t *json; /* of kept_read: what the texts point into */
};

/* Replaces; sweeps out what has expired since. */
int kept_write(const struct kept_session *k, int64_t wall_ms, struct err *e);
/* ERR_NOT_FOUND: nothing was kept. ERR_INVALID: the file is damaged, or of another session. */
int kept_read(const char *session, struct kept_session *out, struct err *e);
void kept_free(struct kept_session *k);
void kept_remove(const char *session);

#endif
