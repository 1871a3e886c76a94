/* Renewing a session that is bound to its caller's credential. Blocking: workers only. */
#ifndef SERVER_SESSION_RENEW_H
#define SERVER_SESSION_RENEW_H

#include "base/err.h"
#include "server/session_start.h"

#include <jansson.h>

struct server;

/* For the one who started it. 0 and the record as it then stands (new reference), also when there was nothing to
 * change: the session is not bound, or the credential ends no later than the one before. ERR_NOT_FOUND: unknown, or
 * another's; ERR_CLOSED: it has ended, *out_end says how (new reference); ERR_CONFLICT: it ends at this moment;
 * ERR_DENIED: policy; ERR_UNAVAILABLE. One that lives on another node is renewed there. */
int session_renew_blocking(struct server *server, const struct session_caller *caller, const char *session,
			   json_t **out_record, json_t **out_end, struct err *e);

#endif
