/* --dev: a server to try things with, all of it in one folder. */
#ifndef SERVER_DEV_H
#define SERVER_DEV_H

#include "base/err.h"

#include <stdint.h>

#define DEV_PATH 4096

/* Makes what is missing in the folder (CA, certificate, credentials, policy, server.conf, cli.conf); what is there
 * stays. state_dir NULL: $XDG_STATE_HOME/tunnel-dev or ~/.local/state/tunnel-dev. listen NULL: 127.0.0.1 and, on a
 * second run, the port of the first. out_config gets server.conf's path. */
int dev_prepare(const char *state_dir, const char *listen, char out_dir[DEV_PATH], char out_config[DEV_PATH],
		struct err *e);
struct dev_served {
	const char *listen, *admin_listen; /* as the config has them; admin_listen "": no console */
	uint16_t port, admin_port;         /* in use */
	const char *url;
};
/* Once it listens: keeps the ports that were found for the next run, writes cli.conf, and says on stdout where all is.
 */
int dev_announce(const char *dir, const struct dev_served *served, struct err *e);

#endif
