/* Tells systemd (sd_notify's protocol) and whoever watches the ready file how the agent is. */
#ifndef AGENT_NOTIFY_H
#define AGENT_NOTIFY_H

/* Takes NOTIFY_SOCKET out of the environment, so that no child speaks for us. Before any thread. */
void notify_init(void);
void notify_send(const char *state);                 /* "READY=1\nSTATUS=…"; nothing without systemd */
void notify_ready_file(const char *path, int ready); /* path NULL: none */

#endif
