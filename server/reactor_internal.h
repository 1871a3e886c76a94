/* What reactor.c, accept.c, conn.c and the two transports share. */
#ifndef SERVER_REACTOR_INTERNAL_H
#define SERVER_REACTOR_INTERNAL_H

#include "base/limits.h"
#include "base/list.h"
#include "server/conn.h"
#include "server/reactor.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <uv.h>

#define REACTOR_BUCKETS 1024u
#define REACTOR_TICK_MS 250

struct lws_context;
struct lws_vhost;
struct acceptor;
struct direct_loop;

/* A socket as the accept loop gives it on. */
struct accepted {
	int fd;
	enum listener from;
	int64_t by_ms;  /* monotonic: until when its first request must be there; 0: from now on as long as ever */
	uint64_t place; /* among the strangers; who has the struct gives it back, or to a conn; 0: none */
	char remote[64];
};

struct post {
	struct post *next;
	void (*fn)(void *arg);
	void *arg;
};

struct reactor {
	struct server *server;
	struct reactors *all;
	int index;
	pthread_t thread;
	bool running;
	uv_loop_t loop;
	uv_async_t wake;
	uv_timer_t tick;
	struct lws_context *context;
	struct lws_vhost *vhost;
	bool lws_touched; /* by a post: it may have timers to look at */
	struct ssl_ctx_st *client_ctx;
	struct direct_loop *direct; /* NULL: turned off */
	/* posts */
	pthread_mutex_t lock;
	struct post *first, *last;
	bool closed;
	bool quit;          /* reactor's thread */
	int64_t ticked_us;  /* its last regular turn */
	atomic_bool turned; /* since the last word to the watchdog */
	/* connections; reactor's thread */
	struct list conns[REACTOR_BUCKETS];
	uint64_t next_serial;
	struct accepted *adopting; /* the socket that lws adopts */
};

struct reactors {
	struct server *server;
	struct acceptor *acceptor;
	uint16_t port, admin_port; /* admin_port 0: it does not listen there */
	atomic_size_t connections;
	size_t count;
	bool started;
	_Atomic int64_t watchdog_told_ms; /* when systemd was last told that every reactor turns */
	struct reactor at[];
};

/* Nobody has it: the socket is closed, its place is free. */
void accepted_drop(struct server *server, struct accepted *a);
/* conn.c, for the transports. Takes the place of a. Such a connection waits for an HTTP head, with the deadline of one.
 * NULL: out of memory.
 */
struct conn *conn_new(struct reactor *r, const struct conn_transport *via, void *transport, struct accepted *a);
void conn_leave(struct conn *c); /* the layer above is told of the end, if it was not */
void conn_free(struct conn *c);
void conn_tick(struct reactor *r, int64_t now_mono_ms);

/* conn_lws.c */
int conn_lws_new(struct reactor *r, const char *certificate, const char *key, struct err *e);
void conn_lws_free(struct reactor *r); /* context is NULL once it is all gone; else once more, later */
void conn_lws_adopt(struct reactor *r, struct accepted *a); /* takes its fd */
void conn_lws_reload(struct reactor *r, const char *certificate, const char *key);
/* Makes the transport look at timers that were set outside its callbacks. */
void conn_poke(struct reactor *r);

/* accept.c: one thread that accepts and hands sockets round. */
int acceptor_new(struct reactors *all, struct acceptor **out_acceptor, struct err *e);
/* Once for each listener, before the start. setting names it in errors; *out_port is the one in use when text's is 0.
 */
int acceptor_listen(struct acceptor *a, const char *setting, const char *text, enum listener of, uint16_t *out_port,
		    struct err *e);
int acceptor_start(struct acceptor *a, struct err *e);
void acceptor_stop(struct acceptor **acceptor);
/* Gives an accepted socket to that reactor. */
void reactor_adopt_anythread(struct reactors *all, size_t reactor, struct accepted *socket);

/* The reactor whose thread this is; NULL elsewhere. */
struct reactor *reactor_current(void);

#endif
