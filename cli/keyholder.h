/* An SSH agent for one session: its identity behind a unix socket, for an ssh that started us as its ProxyCommand. Such
 * an ssh has read its key files before there was a session, but asks its agent (IdentityAgent) only when it logs in. */
#ifndef CLI_KEYHOLDER_H
#define CLI_KEYHOLDER_H

#include "ident/sshagent.h"

#include <stdbool.h>
#include <uv.h>

#define KEYHOLDER_PEERS 8 /* connections at once, further ones wait; an ssh has one */
#define KEYHOLDER_CHUNK 4096u

/* Either reads a request or writes its answer, so that neither piles up. */
struct keyholder_peer {
	struct keyholder *holder; /* NULL: free */
	uv_pipe_t pipe;
	uv_write_t write;
	struct buf in, out;
	char chunk[KEYHOLDER_CHUNK];
};

struct keyholder {
	const struct sshagent_identity *identity;
	uv_pipe_t pipe;
	struct keyholder_peer peers[KEYHOLDER_PEERS];
	bool active, waiting; /* somebody waits for a free peer */
};

/* k: zero. fd: a listening socket, owned from here on. k and identity must outlive the loop. */
int keyholder_start(struct keyholder *k, uv_loop_t *loop, int fd, const struct sshagent_identity *identity,
		    struct err *e);
/* Takes nobody any more; who is there is answered until he leaves. Both also when it never started. */
void keyholder_retire(struct keyholder *k);
void keyholder_stop(struct keyholder *k);

#endif
