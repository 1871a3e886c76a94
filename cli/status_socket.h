/* Whoever asks how a running session is: a unix socket in this user's runtime folder, which tells each that connects
 * one JSON object and hangs up. docs/cli-json.md has its members. */
#ifndef CLI_STATUS_SOCKET_H
#define CLI_STATUS_SOCKET_H

#include "base/err.h"

#include <jansson.h>
#include <limits.h>
#include <stdbool.h>
#include <uv.h>

#define STATUS_TEXT 4096 /* bytes of an answer; they fit a socket's buffer */

struct status_socket {
	uv_poll_t poll;
	json_t *(*tell)(void *user); /* a new object */
	void *user;
	char path[PATH_MAX];
	int fd;
	bool active;
};

/* s: zero, with tell and user. Nobody needs it: when it fails the session goes on, and e says why. */
int status_socket_start(struct status_socket *s, uv_loop_t *loop, const char *session, struct err *e);
void status_socket_stop(struct status_socket *s); /* also when it never started */

/* What all sessions of this user on this machine tell, or the one of that name (session NULL: all); an array. Those
 * that do not answer at once are left out, those that are gone swept away. */
int status_ask_all(const char *session, json_t **out_rows, struct err *e);

#endif
