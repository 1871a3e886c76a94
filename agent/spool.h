/* Reports for the control plane, on disk until it has acknowledged them. Each gets a seq that only grows, over restarts
 * too. A report comes from a worker with the worker's own number; a repetition of it is dropped. Not for several
 * threads. */
#ifndef AGENT_SPOOL_H
#define AGENT_SPOOL_H

#include "base/err.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#define SPOOL_SEQ_MAX (INT64_MAX / 2) /* a higher one, or a higher number of a worker, is damage and does not count */

struct spool;

/* What a crash left of the last line is dropped. */
int spool_open(const char *path, struct spool **out_spool, struct err *e);
void spool_close(struct spool **spool);

/* session is here a worker's name (agent/name.h): each worker counts from 1. Writes the report of a session with the
 * worker's number (from 1). 0: kept, or known already. It is durable after spool_sync. ERR_LIMIT when LIMIT_AGENT_SPOOL
 * is full; the end of a session is taken even then. */
int spool_add(struct spool *spool, const char *session, uint64_t number, const json_t *report, struct err *e);
int spool_sync(struct spool *spool, struct err *e);
/* Is there one that spool_sync would make durable? *out_hurry: somebody waits for it, since a session ends. */
bool spool_waits(const struct spool *spool, bool *out_hurry);
/* The worker's number of the session's newest report; 0: none known. */
uint64_t spool_last_number(const struct spool *spool, const char *session);
/* The session's worker is gone and will repeat nothing. */
void spool_forget(struct spool *spool, const char *session);
/* So are all that is_known does not know. */
void spool_forget_others(struct spool *spool, bool (*is_known)(const void *user, const char *session),
			 const void *user);

/* All up to seq are the server's now. */
void spool_ack(struct spool *spool, uint64_t seq);
/* The first report behind seq that has been synced, as the message to send (borrowed until the next call on the spool);
 * NULL: none. */
const char *spool_next(const struct spool *spool, uint64_t after, uint64_t *out_seq);

#endif
