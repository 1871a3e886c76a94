/* agent.conf, one table. */
#ifndef AGENT_SETTINGS_H
#define AGENT_SETTINGS_H

#include "base/conf.h"
#include "base/err.h"

#define AGENT_CONFIG_DEFAULT "/etc/tunnel/agent.conf"

struct settings {
	struct conf_strings servers, allow;
	char *ca_file, *proxy;
	char *state_dir, *runtime_dir, *ready_file;
	char *ssh, *sshd_path;
	bool ssh_forwarding;
	int64_t connect_timeout_ms, key_rotation_ms;
	int log_level, log_format;
};

extern const struct conf_row settings_rows[];

/* path NULL: the default file, or defaults alone when that is not there. state_dir: overrides; may be NULL. Checks
 * what one row cannot. */
int settings_load(const char *path, const char *state_dir, struct settings *out, struct err *e);
void settings_free(struct settings *s);
/* Exchanges what SIGHUP may change (CONF_RELOAD). *out_left: keys of what differs and needs a restart, "a, b" or "". */
void settings_take(struct settings *now, struct settings *fresh, char *out_left, size_t size);
/* Does the sshd that sessions get see their connections come from a loopback address? Its own, or one that listens
 * there. */
bool settings_ssh_is_loopback(const struct settings *s);
/* NULL when the text is "", else the text: for options where empty means absent. */
const char *settings_text(const char *text);

#endif
