/* The changes, each one script: looked up, compared and written in one step, with its indexes. All of them, and only
 * these, write documents and logs. */
#ifndef SCRIPTS_H
#define SCRIPTS_H

#include "conn.h"

enum script { SCRIPT_FENCE, SCRIPT_PUT, SCRIPT_DEL, SCRIPT_APPEND, SCRIPT_PURGE, SCRIPT_PROBE, SCRIPT_PAGE, SCRIPTS };

/* What a script answers: { one of these, number }. */
#define ANSWER_FENCED (-1) /* sent by a connection that is no longer the one for changes; nothing was done */
#define ANSWER_FORMAT (-2) /* what is stored is in another form than ours; only from SCRIPT_FENCE */
#define ANSWER_DONE 0
#define ANSWER_NOT_FOUND 2
#define ANSWER_CONFLICT 3

/* Puts all into the server. */
int scripts_load(struct conn *c, int64_t until_ms, struct words w);
/* Begins a call of a script with so many keys, and so many words in all behind the number of keys; by_text: for a
 * server that does not know it. */
void script_begin(struct command *c, enum script which, bool by_text, size_t keys, size_t words);

/* A stored document is one line of its version, its expiry and its index entries, and behind it the value as it came.
 */
struct stored {
	uint64_t version;
	int64_t expires_ms;
	const char *value;
	size_t value_len;
};
bool stored_read(const char *bytes, size_t n, struct stored *out);
/* Digits and then stop, all before end; *at is behind it then. */
bool number_read(const char **at, const char *end, char stop, uint64_t *out);

#define STORE_FORMAT 1
/* The keys of a store: {prefix}:…; the braces put all into one hash slot. */
#define KEY_DOCUMENT "{%s}:d:%s:%s"      /* prefix, collection, key: a string */
#define KEY_COLLECTION "{%s}:c:%s"       /* prefix, collection: sorted set of keys */
#define KEY_ENTRY "{%s}:i:%s:%s:%s"      /* prefix, collection, index, value: sorted set of keys */
#define KEY_ENTRIES "{%s}:i:%s:"         /* what those of a collection begin with */
#define KEY_DOCUMENTS "{%s}:d:%s:"       /* the same of its documents */
#define KEY_ALL "{%s}:"                  /* and of everything */
#define KEY_EXPIRIES "{%s}:x"            /* sorted set of "collection:key" by Unix ms */
#define KEY_LOG "{%s}:l:%s"              /* prefix, log: a stream with ids 0-1, 0-2, … */
#define KEY_FENCE "{%s}:f:%s"            /* prefix, instance: number of its connection for changes; has a TTL */
#define KEY_FORMAT "{%s}:format"         /* which form all of this has: STORE_FORMAT */
#define KEY_PROBE "{%s}:probe"           /* what health writes; has a TTL */
#define CHANNEL_EVENTS "{%s}:events:%ld" /* prefix, database */

#endif
