/* Reactors: threads with a libuv loop and an lws context each. One accept loop hands sockets round. Between threads
 * only copied values and ids travel, by reactors_post. */
#ifndef SERVER_REACTOR_H
#define SERVER_REACTOR_H

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

struct server;
struct reactors;

/* "host:port" of the setting listen, where port 0 is any free one. 0 or ERR_INVALID. */
int reactors_parse_listen(const char *listen, char *out_host, size_t host_size, uint16_t *out_port);
/* Creates all contexts, then listens; nothing is served before reactors_run. */
int reactors_new(struct server *server, size_t count, struct reactors **out_reactors, struct err *e);
int reactors_start(struct reactors *r, struct err *e);
size_t reactors_count(const struct reactors *r);
uint16_t reactors_port(const struct reactors *r);
uint16_t reactors_admin_port(const struct reactors *r); /* 0: no admin listener */
/* Runs fn(arg) on that reactor's thread, in order; 0 or ERR_CLOSED. Any thread. */
int reactors_post_anythread(struct reactors *r, int reactor, void (*fn)(void *arg), void *arg);
/* New certificate and key files are checked, then swapped in on every reactor. */
int reactors_reload_tls(struct reactors *r, struct err *e);
void reactors_stop_listening(struct reactors *r);
/* Connections open now, of all kinds. Any thread. */
size_t reactors_connections_anythread(const struct reactors *r);
/* Closes every connection and joins the threads; afterwards posts answer ERR_CLOSED. The pool is stopped after this and
 * before reactors_stop, so that what it still finishes has somewhere to report to. */
void reactors_halt(struct reactors *r);
void reactors_stop(struct reactors **r);

#endif
