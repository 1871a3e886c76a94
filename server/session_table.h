/* The live sessions of this node, in memory: what the sweep, the reconciliation with agents and "least loaded" need
 * without asking the store. The store's record stays the truth; a row here is only values. Any thread. */
#ifndef SERVER_SESSION_TABLE_H
#define SERVER_SESSION_TABLE_H

#include "base/limits.h"
#include "server/plugin_host.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct session_table;

#define SESSION_END_TEXT 256
#define SESSION_END_BY (LIMIT_SUBJECT + 1)

struct session_live {
	char id[LIMIT_ID + 1], target[LIMIT_ID + 1];
	int64_t expires_ms;  /* wall */
	int64_t lifetime_ms; /* from its start, or the last renewal, to there */
	bool by_identity;    /* and then because of the credential it is bound to */
	int64_t generation;
	int64_t here_mono_ms;    /* since when this process knows it */
	int64_t missing_mono_ms; /* since when its connected agent does not run it; 0: it does, or nobody knows */
	int64_t active_mono_ms;  /* when payload last moved, as far as the sweep can tell */
	int64_t sampled_mono_ms; /* the idle check's window */
	uint64_t sampled_bytes;
	bool accepted;      /* the agent runs this generation of it */
	bool paired;        /* its record says "active" */
	bool end_busy;      /* somebody is writing its end right now */
	bool was_cut;       /* legs and agent were told of the end, and whoever writes it need not do so again */
	bool resuming;      /* a new client is taking it over; ends by the older one wait for how that goes */
	unsigned held_code; /* such an end */
	/* Its agent was told of a grant that could not be recorded, and may have another than the record's. */
	bool grant_unsure;
	int64_t judged;    /* number of the judgement that counts */
	unsigned end_code; /* not 0: it is to end with this; the store has not taken it yet */
	/* And only if its record still says so; 0: in any case. */
	int64_t end_expired_ms; /* it ends at that time */
	int64_t end_generation; /* no later client has it */
	char end_text[SESSION_END_TEXT], end_by[SESSION_END_BY];
	char principal[LIMIT_SUBJECT + 1], credential[TUNNEL_CREDENTIAL_MAX]; /* of who started or resumed it last */
	char client_address[64]; /* of the client that was let in last; "": none was since this process knows it */
};

uint32_t session_table_hash(const char *id);
struct session_table *session_table_new(void);
void session_table_free(struct session_table **t);
/* false when out of memory; an id that is there is replaced. */
bool session_table_add(struct session_table *t, const struct session_live *row);
void session_table_remove(struct session_table *t, const char *id);
bool session_table_get(struct session_table *t, const char *id, struct session_live *out);
/* Runs change on the row under the table's lock; false when it is not there. change must not call the table, nor touch
 * id and target. */
bool session_table_change(struct session_table *t, const char *id, void (*change)(struct session_live *row, void *arg),
			  void *arg);
/* The token of the offer that the session's agent has not answered. It is wiped when the row says "accepted",
 * or goes. false: none is kept. out is SECRET_TOKEN_TEXT long. */
void session_table_keep_token(struct session_table *t, const char *id, const char *token);
bool session_table_token(struct session_table *t, const char *id, char *out);
size_t session_table_count(struct session_table *t, const char *target); /* NULL: all */
/* A malloc'd copy of all rows (of a target; NULL: of all). NULL with *out_n 0 when there are none. */
struct session_live *session_table_copy(struct session_table *t, const char *target, size_t *out_n);

#endif
