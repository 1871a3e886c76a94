/* Names to addresses, for somebody who comes back: a name that was looked up before has addresses at once, whatever the
 * resolver does. Internal to lib/net. */
#ifndef NET_RESOLVE_H
#define NET_RESOLVE_H

#include "base/err.h"
#include "net/dial.h"

#include <netdb.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

struct resolve;

/* Once, never inside resolve_start, and not after resolve_cancel: addresses in the order of trying, or count 0 and
 * words. The resolve is gone when it is called. */
typedef void (*resolve_done)(void *user, const struct dial_address *addresses, size_t count, const char *why_not);

int resolve_start(uv_loop_t *loop, const char *host, uint16_t port, resolve_done done, void *user,
		  struct resolve **out_resolve, struct err *e);
void resolve_cancel(struct resolve **resolve);
/* This address of the host took a connection: it goes first from now on. */
void resolve_prefer(const char *host, const struct dial_address *address);
/* A lookup's answer. */
void resolve_note(const char *host, const struct addrinfo *list);

#define RESOLVE_PATIENCE_MS 100 /* a lookup gets so long when addresses are known */
#define RESOLVE_SECOND_MS 1000  /* a lookup that hangs for so long gets another one beside it */

#endif
