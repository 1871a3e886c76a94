/* SSH host keys: what the agent tells the control plane, and the certificates and CA key it gets for them. */
#ifndef AGENT_HOSTKEYS_H
#define AGENT_HOSTKEYS_H

#include "agent/settings.h"
#include "base/err.h"

#include <jansson.h>

/* Files in the state folder that sshd is given. */
#define HOSTKEYS_KEY "ssh_host_ed25519_key"
#define HOSTKEYS_CERT "ssh_host_ed25519_key-cert.pub"
#define HOSTKEYS_CA "ssh_ca.pub"

/* Array of public key texts. ssh = "sshd": the agent's own key, made when it is missing; else those of
 * /etc/ssh/ssh_host_*_key.pub. */
int hostkeys_list(const struct settings *settings, json_t **out_keys, struct err *e);
/* Writes what a welcome carried, where it changed. Certificates of keys that are not ours are left out. */
int hostkeys_take(const struct settings *settings, const char *ca, const json_t *certificates, struct err *e);

#endif
