/* SSH host keys: what the agent tells the control plane, and the certificates and CA keys it gets for them. */
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
/* Writes what the server said of its SSH CA, where it changed: the public keys to trust (at most LIMIT_SSH_CAS; one
 * that is none leaves all as they were), and host certificates. */
int hostkeys_take(const struct settings *settings, const json_t *cas, const json_t *certificates, struct err *e);

#endif
