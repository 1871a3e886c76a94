/* Tells when this machine's ways out may have changed: an address, a route or a link came or went, or it slept. One
 * thread: the loop's. */
#ifndef NET_WATCH_H
#define NET_WATCH_H

#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

struct watch;

enum watch_event {
	WATCH_NETWORK, /* the first of a burst is told at once, what follows is told together */
	WATCH_WOKE,    /* it slept, connections may be dead */
};

/* Negative where the kernel offers neither; an end can live without. */
int watch_start(uv_loop_t *loop, void (*changed)(void *user, enum watch_event event), void *user,
		struct watch **out_watch, struct err *e);
void watch_free(struct watch **watch); /* allowed inside changed */

/* The kernel would not send to this TCP socket's peer from the socket's address any more. */
bool watch_is_misrouted(int fd);

#define WATCH_BURST_MS 100
#define WATCH_SLEPT_MS 2000 /* shorter sleeps are silences like others */

/* For tests: the clock that counts sleep and the one that does not. */
void watch_note_clocks(struct watch *watch, int64_t boot_ms, int64_t mono_ms);

#endif
