/* One connection to a Redis server: commands out, replies in, in order. One thread at a time. Failures of the wire
 * poison it: close it and dial again. */
#ifndef CONN_H
#define CONN_H

#include "command.h"
#include "wire.h"

#include <hiredis/hiredis.h>

/* Who logs in. The password file is read for each connection. */
struct account {
	char *user;          /* NULL: the default user */
	char *password_file; /* NULL: no password */
};

/* How a connection is made. */
struct dial {
	const struct tunnel_host *host;
	const struct tls_options *tls;
	const struct account *account;
	long database;
	int stop_fd;        /* ends every wait when it becomes readable; < 0: none */
	int64_t connect_ms; /* for connecting and logging in */
};

struct conn;

/* Connects, logs in, selects the database. 0; TUNNEL_TIMEOUT, TUNNEL_UNAVAILABLE, TUNNEL_CONFIG (TLS, password), with
 * words that name the server. */
int conn_open(const struct dial *dial, const struct endpoint *to, int64_t deadline_ms, struct conn **out_conn,
	      struct words w);
void conn_close(struct conn **conn);
int conn_fd(const struct conn *c);
bool conn_is_quiet(const struct conn *c);
/* Has a further reply been read already, or its beginning? Then its socket does not say so. */
bool conn_has_more(const struct conn *c);

/* Where the next commands go. */
struct command *conn_out(struct conn *c);
int conn_flush(struct conn *c, int64_t until_ms, struct words w);
/* The next reply; free it with freeReplyObject. A reply that is an error is a reply. Not 0: the connection is poisoned.
 */
int conn_hear(struct conn *c, int64_t until_ms, redisReply **out_reply, struct words w);
/* Flushes and hears one reply; an error is a failure here, as reply_words says it. */
int conn_ask(struct conn *c, int64_t until_ms, const char *doing, redisReply **out_reply, struct words w);

/* What an error reply means: TUNNEL_CONFIG for rights and passwords, TUNNEL_INTERNAL for what is wrong with a script or
 * with what is stored, else TUNNEL_UNAVAILABLE. */
int reply_words(const redisReply *reply, const char *doing, struct words w);
bool reply_is_error(const redisReply *reply, const char *code);
/* Does the server say with this error that it is not, or no longer, the one to ask? */
bool reply_sends_away(const redisReply *reply);
/* element i of an array as text or number; NULL or -1 when it is not one */
const redisReply *reply_text(const redisReply *reply, size_t i);
long long reply_number(const redisReply *reply, size_t i);

#endif
