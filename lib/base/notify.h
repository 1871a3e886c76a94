/* Tells systemd (sd_notify's protocol) and whoever watches the ready file how a program is. */
#ifndef BASE_NOTIFY_H
#define BASE_NOTIFY_H

#include <stdint.h>

/* Takes NOTIFY_SOCKET and WATCHDOG_USEC out of the environment, so that no child speaks for us. Before any thread. */
void notify_init(void);
void notify_send(const char *state); /* "READY=1\nSTATUS=…"; nothing without systemd. Any thread. */
/* How often at least to send "WATCHDOG=1", in ms: a third of the time after which systemd takes us for dead; 0: it does
 * not watch. */
int64_t notify_watchdog_ms(void);
void notify_ready_file(const char *path, int ready); /* path NULL: none */

#endif
