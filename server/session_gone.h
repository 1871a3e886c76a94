/* Waiting until sessions are gone from everywhere: no leg of theirs moves a byte, and their agents have said that
 * nothing of them runs any more. */
#ifndef SERVER_SESSION_GONE_H
#define SERVER_SESSION_GONE_H

#include "server/session_state.h"

#include <jansson.h>

struct gone_watch;

/* Made before they are cut, so that no answer is missed. verdicts are borrowed. NULL: out of memory. */
struct gone_watch *gone_watch_new(struct server *server, const struct session_verdict *verdicts, size_t n);
/* How many are not gone. One thread at a time looks or waits. */
size_t gone_watch_look_anythread(struct gone_watch *w);
/* Until all are gone, or the agent is not connected, or the time is over. */
void gone_watch_wait_blocking(struct gone_watch *w, int64_t limit_ms);
/* Arrays of targets and of sessions, new references: whose agent is not connected, which did not answer in time.
 * When the last was gone, or the time was over (mono); 0: there were none. */
int64_t gone_watch_result(const struct gone_watch *w, json_t **out_unreached, json_t **out_unconfirmed);
void gone_watch_free(struct gone_watch **w);

#endif
