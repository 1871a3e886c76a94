/* One name in a folder behind which always somebody answers: a symbolic link to the socket of one of the sessions that
 * share the folder. The newest takes the name; who leaves passes it on to one that lives. */
#ifndef CLI_RENDEZVOUS_H
#define CLI_RENDEZVOUS_H

#include "base/err.h"

#include <limits.h>

#define RENDEZVOUS_NAME 16 /* bytes of the name, with NUL */

struct rendezvous {
	char folder[PATH_MAX];
	char name[RENDEZVOUS_NAME];
	char own[RENDEZVOUS_NAME + 16]; /* file name of this process's socket; "": not there */
};

/* r: zero. Returns the listening socket, or an error; then r is as before. name has at most 15 bytes. */
int rendezvous_join(struct rendezvous *r, const char *folder, const char *name, struct err *e);
/* Whoever connects from here on reaches another one, if there is one; who had connected before is still to be answered.
 * Also when r never joined. */
void rendezvous_leave(struct rendezvous *r);

#endif
