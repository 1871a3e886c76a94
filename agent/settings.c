#include "agent/settings.h"

#include "agent/allow.h"
#include "base/limits.h"
#include "base/text.h"
#include "net/url.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stddef.h>
#include <string.h>
#include <strings.h>
#include <sys/un.h>
#include <unistd.h>

#define AT(member) offsetof(struct settings, member)
const struct conf_row settings_rows[] = {
	{ .key = "server",
	  .type = CONF_STRINGS,
	  .flags = CONF_RELOAD,
	  .offset = AT(servers),
	  .help = "URLs of the control plane; when absent, the one used to enrol" },
	{ .key = "ca_file",
	  .type = CONF_PATH,
	  .flags = CONF_RELOAD,
	  .offset = AT(ca_file),
	  .def = "",
	  .help = "PEM bundle to trust for the servers instead of the system's" },
	{ .key = "proxy",
	  .type = CONF_STRING,
	  .flags = CONF_SECRET | CONF_RELOAD,
	  .offset = AT(proxy),
	  .help = "http://[user:password@]host:port; \"\" for none; absent: https_proxy and no_proxy" },
	{ .key = "state_dir",
	  .type = CONF_PATH,
	  .offset = AT(state_dir),
	  .def = "/var/lib/tunnel-agent",
	  .min = 1,
	  .help = "keys, host key and reports that the server does not have yet" },
	{ .key = "runtime_dir",
	  .type = CONF_PATH,
	  .offset = AT(runtime_dir),
	  .def = "/run/tunnel-agent",
	  .min = 1,
	  .help = "sockets of this agent's running sessions; must outlive its restart" },
	{ .key = "allow",
	  .type = CONF_STRINGS,
	  .flags = CONF_RELOAD,
	  .offset = AT(allow),
	  .def = "ssh",
	  .help = "what may be opened from here: \"ssh\", \"tcp:HOST:PORT\" (name, *.name, address, network, *), "
		  "\"unix:/PATH\", \"unix:/FOLDER/*\"; and "
		  "where to listen for clients: \"listen:ADDRESS:PORT\" (address, network, *)" },
	{ .key = "ssh",
	  .type = CONF_STRING,
	  .flags = CONF_RELOAD,
	  .offset = AT(ssh),
	  .def = "sshd",
	  .min = 1,
	  .help = "\"sshd\": start sshd -i for each stream; host:port: use the daemon that listens there" },
	{ .key = "sshd_path",
	  .type = CONF_PATH,
	  .flags = CONF_RELOAD,
	  .offset = AT(sshd_path),
	  .def = "/usr/sbin/sshd",
	  .min = 1,
	  .help = "the sshd to start" },
	{ .key = "ssh_forwarding",
	  .type = CONF_BOOL,
	  .flags = CONF_RELOAD,
	  .offset = AT(ssh_forwarding),
	  .def = "true",
	  .help = "whether SSH sessions may forward ports and the client's SSH agent, where their certificate "
		  "permits it (editors need it)" },
	{ .key = "connect_timeout",
	  .type = CONF_DURATION_MS,
	  .flags = CONF_RELOAD,
	  .offset = AT(connect_timeout_ms),
	  .def = "10s",
	  .min = 100,
	  .max = 300000,
	  .help = "for name lookup and connection of one stream" },
	{ .key = "key_rotation",
	  .type = CONF_DURATION_MS,
	  .flags = CONF_RELOAD,
	  .offset = AT(key_rotation_ms),
	  .def = "0",
	  .min = 0,
	  .max = 3650 * 24 * 3600000LL,
	  .help = "the agent changes its key when it is so old (60s at least); 0: when rotate-key says so" },
	{ .key = "ready_file",
	  .type = CONF_PATH,
	  .offset = AT(ready_file),
	  .def = "",
	  .help = "exists while the control connection is up" },
	{ .key = "log.level",
	  .type = CONF_ENUM,
	  .flags = CONF_RELOAD,
	  .offset = AT(log_level),
	  .def = "info",
	  .choices = "error|warn|info|debug",
	  .help = "least important lines that are written" },
	{ .key = "log.format",
	  .type = CONF_ENUM,
	  .offset = AT(log_format),
	  .def = "logfmt",
	  .choices = "logfmt|json|plain",
	  .help = "how lines look" },
	{ .key = NULL },
};

const char *settings_text(const char *text)
{
	return text && *text ? text : NULL;
}

bool settings_ssh_is_loopback(const struct settings *s)
{
	char host[254];
	unsigned char address[16];
	uint16_t port;
	if (text_parse_host_port(s->ssh, host, sizeof host, &port))
		return true;
	if (inet_pton(AF_INET, host, address) == 1)
		return address[0] == 127;
	if (inet_pton(AF_INET6, host, address) == 1)
		return memcmp(address, &in6addr_loopback, sizeof address) == 0;
	return strcasecmp(host, "localhost") == 0;
}

static int check(const struct settings *s, struct err *e)
{
	struct allow *allow = NULL;
	struct url url;
	char host[254];
	uint16_t port;
	int rc = allow_parse(s->allow.at, s->allow.n, &allow, e);
	if (rc)
		return rc;
	bool ssh = allow_ssh(allow);
	allow_free(&allow);
	if (s->allow.n > LIMIT_AGENT_ALLOW)
		return err_set(e, ERR_INVALID, "allow: %zu entries; allowed: at most %u", s->allow.n,
			       LIMIT_AGENT_ALLOW);
	for (size_t i = 0; i < s->servers.n; i++)
		if ((rc = url_parse_secure(s->servers.at[i], &url, e)))
			return err_wrap(e, "server[%zu]", i);
	if (s->key_rotation_ms && s->key_rotation_ms < 60000)
		return err_set(e, ERR_INVALID, "key_rotation: expected 0 (never) or at least 60s");
	if (strcmp(s->ssh, "sshd") != 0 && text_parse_host_port(s->ssh, host, sizeof host, &port))
		return err_set(e, ERR_INVALID, "ssh: \"%s\": expected \"sshd\" or host:port", s->ssh);
	if (ssh && strcmp(s->ssh, "sshd") == 0 && access(s->sshd_path, X_OK) != 0)
		return err_set(
			e, ERR_INVALID,
			"sshd_path: %s is not there or cannot be run; install openssh-server, or take \"ssh\" out "
			"of allow",
			s->sshd_path);
	/* Sockets are named after workers: "/" + 24 characters of a session + "@999999" + ".sock" */
	if (strlen(s->runtime_dir) + 1 + 24 + 7 + 5 >= sizeof((struct sockaddr_un *)0)->sun_path)
		return err_set(e, ERR_INVALID,
			       "runtime_dir: %s is too long for sockets in it; expected at most 70 characters",
			       s->runtime_dir);
	return 0;
}

int settings_load(const char *path, const char *state_dir, struct settings *out, struct err *e)
{
	struct settings s = { .ssh = NULL };
	if (!path && access(AGENT_CONFIG_DEFAULT, F_OK) == 0)
		path = AGENT_CONFIG_DEFAULT;
	int rc = conf_load(path, settings_rows, &s, e);
	for (const struct conf_row *row = settings_rows; !rc && state_dir && row->key; row++)
		if (strcmp(row->key, "state_dir") == 0)
			rc = conf_set(row, state_dir, "--state-dir", &s, e);
	if (!rc)
		rc = check(&s, e);
	if (rc)
		settings_free(&s);
	else
		*out = s;
	return rc;
}

void settings_free(struct settings *s)
{
	conf_free(settings_rows, s);
}

static const size_t sizes[] = {
	[CONF_STRING] = sizeof(char *),       [CONF_PATH] = sizeof(char *),
	[CONF_INT] = sizeof(int64_t),         [CONF_SIZE] = sizeof(int64_t),
	[CONF_BOOL] = sizeof(bool),           [CONF_ENUM] = sizeof(int),
	[CONF_DURATION_MS] = sizeof(int64_t), [CONF_STRINGS] = sizeof(struct conf_strings),
};

void settings_take(struct settings *now, struct settings *fresh, char *out_left, size_t size)
{
	conf_left(settings_rows, now, fresh, out_left, size);
	for (const struct conf_row *row = settings_rows; row->key; row++) {
		char value[sizeof(struct conf_strings)];
		char *a = (char *)now + row->offset, *b = (char *)fresh + row->offset;
		if (!(row->flags & CONF_RELOAD))
			continue;
		memcpy(value, a, sizes[row->type]);
		memcpy(a, b, sizes[row->type]);
		memcpy(b, value, sizes[row->type]);
	}
}
