/* Which server is the one to use now. One thread finds out (changes.c): it looks up names, asks Sentinels, checks what
 * it finds; everybody else follows, and so never reads from another server than changes go to. */
#ifndef MASTER_H
#define MASTER_H

#include "options.h"

struct master;

int master_new(const struct tunnel_host *host, struct master **out_master, struct words w);
void master_free(struct master **master);

/* The server that was found; a generation begins when it is another one, or has been something else in between. */
void master_is(struct master *m, const struct endpoint *server, const char *identity);
/* Its connection was lost: whoever asks waits until it is found again, or not. */
void master_is_sought(struct master *m);
/* It could not be found: whoever asks is told why, at once. */
void master_is_away(struct master *m, const char *why);

struct where {
	struct endpoint server;
	uint64_t generation;
};
/* 0; TUNNEL_UNAVAILABLE with why; TUNNEL_TIMEOUT when it is sought until then. */
int master_where(struct master *m, int64_t until_ms, struct where *out, struct words w);
uint64_t master_generation(struct master *m);
/* 0, or TUNNEL_UNAVAILABLE with why when it is away. Never waits. */
int master_refuses(struct master *m, struct words w);

/* sentinel.c: what the Sentinels say; sets the endpoints of the server they name. Tries one after the other, the one
 * that answered last first. */
int sentinel_ask_blocking(const struct dial *dial, struct redis_options *o, struct endpoint *out, size_t max,
			  size_t *out_n, struct words w);

/* inspect.c: is this a server that a store may be kept on? 0; TUNNEL_CONFIG or TUNNEL_UNAVAILABLE with a sentence.
 * out_identity: another text when the server was started again, or its role has changed. */
#define IDENTITY_MAX 128u
int inspect(struct conn *c, const struct endpoint *server, int64_t until_ms, char out_identity[IDENTITY_MAX],
	    struct words w);
/* Tells what of its settings a crash, or a mere restart, could cost. */
void inspect_durability(struct conn *c, const struct tunnel_host *host, const struct endpoint *server,
			const char *prefix, int64_t until_ms);

#endif
