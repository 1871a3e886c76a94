/* What agents are told of the SSH certificate authority: in the welcome, and again when its keys change.
 *
 * A hello and a change may cross. The hello looks at the keys' generation again once its connection can be found, and
 * the change comes before it asks which connections there are: whichever is second sees the other. The same loop keeps
 * an older message from being an agent's last. */
#include "server/control_message.h"

#include "base/json.h"
#include "base/limits.h"
#include "base/log.h"
#include "server/server.h"
#include "server/sshca.h"
#include "server/targets.h"

#include <stdlib.h>

#define HOST_CERTIFICATE_MS (365 * 24 * 3600 * 1000LL) /* renewed with each connection */

static json_t *certify_hosts(struct server *server, const char *target, const json_t *keys)
{
	json_t *out = json_array();
	for (size_t i = 0; i < json_array_size(keys); i++) {
		char certificate[SSHCERT_TEXT];
		struct err e;
		if (sshca_sign_host(server->sshca, target, json_string_value(json_array_get(keys, i)),
				    HOST_CERTIFICATE_MS, certificate, &e) == 0)
			json_array_append_new(out, json_string(certificate));
		else
			log_with(LOG_LEVEL_WARN, FIELDS({ "target", target }, { "error", e.text }),
				 "a host key of the agent's cannot be certified");
	}
	return out;
}

json_t *control_ssh_message(struct server *server, const char *type, const char *target, const json_t *host_keys,
			    uint64_t *out_generation)
{
	json_t *cas = sshca_public(server->sshca, out_generation);
	return json_pack("{s:s, s:O, s:o, s:o}", "type", type, "ssh_ca", json_array_get(cas, 0), "ssh_cas", cas,
			 "host_certificates", certify_hosts(server, target, host_keys));
}

/* Without its host keys' certificates when those cannot be looked up: the CA's keys are what sessions need. */
static json_t *host_keys_of(struct server *server, const char *target)
{
	json_auto_t *doc = NULL;
	struct err e;
	if (targets_get_blocking(server, target, &doc, &e) != 0)
		log_with(LOG_LEVEL_WARN, FIELDS({ "target", target }, { "error", e.text }),
			 "its host keys are not certified anew before it connects again");
	return json_incref(json_object_get(doc, "ssh_host_keys"));
}

void control_tell_ssh_blocking(struct server *server, const char *target, uint64_t known)
{
	uint64_t generation;
	json_decref(sshca_public(server->sshca, &generation));
	while (known != generation) {
		json_auto_t *keys = host_keys_of(server, target);
		json_auto_t *message = control_ssh_message(server, "ssh-ca", target, keys, &known);
		control_send_anythread(server->control, target, message);
		json_decref(sshca_public(server->sshca, &generation));
	}
}

int control_ssh_changed_blocking(struct server *server, struct err *e)
{
	size_t n;
	char(*targets)[LIMIT_ID + 1] = agent_table_targets(server->control->agents, &n);
	if (!targets)
		return err_set(e, ERR_NOMEM, "out of memory");
	for (size_t i = 0; i < n; i++)
		control_tell_ssh_blocking(server, targets[i], 0);
	free(targets);
	return 0;
}
