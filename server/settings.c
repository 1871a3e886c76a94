/* The table of tunnel-server's settings: parser, check, printout and manual come from it. */
#include "server/settings.h"

#include "base/limits.h"
#include "base/text.h"
#include "server/origin.h"
#include "server/reactor.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define AT(member) offsetof(struct settings, member)
#define DAY_MS (24 * 3600 * 1000LL)

const struct conf_row settings_rows[] = {
	{ "listen", CONF_STRING, AT(listen), 0, "0.0.0.0:8443", 1, 300, NULL,
	  "address and port to listen on: \"0.0.0.0:8443\", \"[::]:8443\"; port 0: any free one" },
	{ "admin.listen", CONF_STRING, AT(admin_listen), 0, "", 0, 300, NULL,
	  "another address and port to listen on, for the web console and the API: \"127.0.0.1:8444\"; \"\": none" },
	{ "advertise_url", CONF_STRING, AT(advertise_url), 0, "", 0, 500, NULL,
	  "how clients and agents reach this very node; default: https://, the listening address (or the host name) "
	  "and port" },
	{ "server_urls", CONF_STRINGS, AT(server_urls), 0, NULL, 0, 0, NULL,
	  "how they reach any node of the cluster; default: advertise_url" },
	{ "node", CONF_STRING, AT(node), 0, "", 0, LIMIT_ID, NULL,
	  "this node's name; default: the host name; under another one it keeps its sessions while advertise_url "
	  "stays" },
	{ "state_dir", CONF_PATH, AT(state_dir), 0, "/var/lib/tunnel", 1, 4000, NULL,
	  "folder for what the server itself writes; created with mode 0700" },
	{ "plugin_dir", CONF_PATH, AT(plugin_dir), 0, TUNNEL_PLUGIN_DIR, 1, 4000, NULL, "folder of the plugins" },
	{ "ready_file", CONF_PATH, AT(ready_file), 0, "", 0, 4000, NULL,
	  "written with the node's URL once it serves, removed when it stops; \"\": none" },
	{ "reactors", CONF_INT, AT(reactors), 0, "0", 0, LIMIT_REACTORS, NULL,
	  "threads that move bytes; 0: one a core" },
	{ "workers", CONF_INT, AT(workers), 0, "16", 1, LIMIT_WORKERS, NULL,
	  "threads for what may block; so many each for API calls, for attaches, and for what legs and agents say" },
	{ "direct_transport", CONF_BOOL, AT(direct_transport), 0, "true", 0, 0, NULL,
	  "connections of tunnel-agent and tunnel-cli are carried by the server's own code; false: by libwebsockets, "
	  "like all others" },
	{ "tls.certificate", CONF_PATH, AT(tls_certificate), CONF_REQUIRED, NULL, 0, 4000, NULL,
	  "PEM file: the server's certificate, then its chain; read again on SIGHUP" },
	{ "tls.key", CONF_PATH, AT(tls_key), CONF_REQUIRED, NULL, 0, 4000, NULL,
	  "PEM file of mode 0600: its key; read again on SIGHUP" },
	{ "ssh.ca_key", CONF_PATH, AT(ssh_ca_key), CONF_RELOAD, "", 0, 4000, NULL,
	  "file of mode 0600: the key of the SSH certificate authority; created when missing; the same on all nodes; "
	  "read again on SIGHUP; default: <state_dir>/ssh_ca" },
	{ "ssh.ca_trusted", CONF_PATH, AT(ssh_ca_trusted), CONF_RELOAD, "", 0, 4000, NULL,
	  "file of public keys, one a line, that are trusted like that of ssh.ca_key while it changes; read again on "
	  "SIGHUP; \"\": none" },
	{ "ssh.certificate_lifetime", CONF_DURATION_MS, AT(ssh_certificate_ms), 0, "10m", 60000, DAY_MS, NULL,
	  "how long a session's SSH certificate can open connections" },
	{ "policy_dir", CONF_PATH, AT(policy_dir), 0, "", 0, 4000, NULL,
	  "folder of policies (*.json), beside those in the store; read again on SIGHUP; \"\": none" },
	{ "session.max_duration", CONF_DURATION_MS, AT(session_max_ms), 0, "12h", 60000, 30 * DAY_MS, NULL,
	  "after this a session ends" },
	{ "session.idle_timeout", CONF_DURATION_MS, AT(session_idle_ms), 0, "0", 0, 30 * DAY_MS, NULL,
	  "a session without a byte for so long ends; 0: never" },
	{ "session.detach_grace", CONF_DURATION_MS, AT(detach_grace_ms), 0, "15m", 1000, 7 * DAY_MS, NULL,
	  "a session of which an end stays away for so long ends" },
	{ "session.control_lease", CONF_DURATION_MS, AT(session_lease_ms), 0, "0", 0, 7 * DAY_MS, NULL,
	  "a session freezes when its target's agent has been out of the control plane's reach for so long, until it "
	  "is back; 0: it goes on" },
	{ "session.warn", CONF_DURATION_MS, AT(session_warn_ms), 0, "5m", 0, DAY_MS, NULL,
	  "so long before a session ends by one of these times its client is told; 0: not" },
	{ "session.bind_to_identity", CONF_BOOL, AT(bind_to_identity), 0, "false", 0, 0, NULL,
	  "a session also ends when the credential it was started with expires, unless it is renewed with a fresh "
	  "one" },
	{ "audit.on_failure", CONF_ENUM, AT(audit_on_failure), 0, "stop", 0, 0, "stop|continue",
	  "while an audit record cannot be written: no session starts, or sessions start and their records wait in "
	  "memory" },
	{ "audit.file", CONF_PATH, AT(audit_file), 0, "", 0, 4000, NULL,
	  "the audit log is also appended to this file, a record as JSON a line; it may be rotated; \"\": none" },
	{ "audit.syslog", CONF_PATH, AT(audit_syslog), 0, "", 0, 100, NULL,
	  "and sent to the syslog daemon with this socket, \"/dev/log\"; \"\": none" },
	{ "limits.failures_per_credential", CONF_INT, AT(limit_per_credential), CONF_RELOAD, "10", 0, LIMIT_FAILURES,
	  NULL,
	  "credentials that may be refused a minute from one address under one name (key id, token, session, target) "
	  "before the next is looked at only after a wait (429); 0: any number; read again on SIGHUP" },
	{ "limits.failures_per_address", CONF_INT, AT(limit_per_address), CONF_RELOAD, "100", 0, LIMIT_FAILURES, NULL,
	  "the same from one address under all names together; who was right there within a day is not held up by it; "
	  "0: any number; read again on SIGHUP" },
	{ "limits.strangers", CONF_INT, AT(limit_strangers), CONF_RELOAD, "16384", 0, LIMIT_STRANGERS, NULL,
	  "connections that have shown no good credential yet; at most half of the open files that the process may "
	  "have; 0: any number; read again on SIGHUP" },
	{ "limits.strangers_per_address", CONF_INT, AT(limit_strangers_per_address), CONF_RELOAD, "500", 0,
	  LIMIT_STRANGERS, NULL,
	  "of these from one address, and at most a sixteenth of what is free; 0: any number; read again on SIGHUP" },
	{ "limits.except", CONF_STRINGS, AT(limit_except), CONF_RELOAD, NULL, 0, 0, NULL,
	  "addresses and networks without these limits: proxies and balancers, which stand for many; default: "
	  "[ \"127.0.0.1\", \"::1\" ]; read again on SIGHUP" },
	{ "drain_timeout", CONF_DURATION_MS, AT(drain_ms), 0, "10s", 0, 3600000, NULL,
	  "on SIGTERM: how long connections may take to move elsewhere" },
	{ "log.level", CONF_ENUM, AT(log_level), CONF_RELOAD, "info", 0, 0, "error|warn|info|debug",
	  "read again on SIGHUP" },
	{ "log.format", CONF_ENUM, AT(log_format), 0, "logfmt", 0, 0, "logfmt|json|plain", "of the lines on stderr" },
	{ "store", CONF_SECTION, AT(store), CONF_REQUIRED, NULL, 0, 0, NULL,
	  "{ plugin = \"store-sqlite\"; … }: where sessions, targets, policies and the audit log are kept" },
	{ "auth", CONF_SECTIONS, AT(auth), CONF_REQUIRED, NULL, 0, 0, NULL,
	  "( { plugin = \"auth-jwt\"; … }, … ): who may log in; asked in this order" },
	{ NULL, CONF_STRING, 0, 0, NULL, 0, 0, NULL, NULL },
};

static int replace(char **text, char *with, struct err *e)
{
	if (!with)
		return err_set(e, ERR_NOMEM, "out of memory");
	free(*text);
	*text = with;
	return 0;
}

/* A node's name stands in records and in keys of the store. */
static int default_node(struct settings *s, struct err *e)
{
	char host[256] = "";
	if (s->node[0])
		return text_is_id(s->node)
			       ? 0
			       : err_set(e, ERR_INVALID,
					 "node: \"%s\": allowed are letters, digits, \".\", \"-\", \"_\"", s->node);
	gethostname(host, sizeof host - 1);
	host[LIMIT_ID] = '\0';
	return replace(&s->node, strdup(text_is_id(host) ? host : "node-1"), e);
}

static int check_url(const char *key, const char *url, struct err *e)
{
	if (!text_starts(url, "https://") || strlen(url) < 9 || strpbrk(url, " \t?#") ||
	    strchr(url + strlen("https://"), '/'))
		return err_set(e, ERR_INVALID, "%s: \"%s\": expected https://host or https://host:port, without a path",
			       key, url);
	return 0;
}

/* A proxy on the same machine. An empty list of the file stays empty. */
static int default_except(struct settings *s, struct err *e)
{
	static const char *const own[] = { "127.0.0.1", "::1" };
	struct origins parsed;
	if (!s->limit_except.at) {
		s->limit_except.at = calloc(2, sizeof *s->limit_except.at);
		for (size_t i = 0; s->limit_except.at && i < 2; i++)
			if ((s->limit_except.at[i] = strdup(own[i])))
				s->limit_except.n++;
		if (s->limit_except.n < 2)
			return err_set(e, ERR_NOMEM, "out of memory");
	}
	int rc = origins_parse("limits.except", &s->limit_except, &parsed, e);
	if (rc == 0)
		origins_free(&parsed);
	return rc;
}

/* *out_key: the setting that will not do. */
static int check(struct settings *s, const char **out_key, struct err *e)
{
	char host[256];
	uint16_t port;
	*out_key = "node";
	if (default_node(s, e) != 0)
		return ERR_INVALID;
	*out_key = "listen";
	if (reactors_parse_listen(s->listen, host, sizeof host, &port) != 0)
		return err_set(e, ERR_INVALID, "listen: \"%s\": expected host:port, the port from 0 to 65535",
			       s->listen);
	*out_key = "admin.listen";
	if (s->admin_listen[0] && reactors_parse_listen(s->admin_listen, host, sizeof host, &port) != 0)
		return err_set(e, ERR_INVALID, "admin.listen: \"%s\": expected host:port, the port from 0 to 65535",
			       s->admin_listen);
	*out_key = "advertise_url";
	if (s->advertise_url[0] && check_url("advertise_url", s->advertise_url, e) != 0)
		return ERR_INVALID;
	*out_key = "server_urls";
	for (size_t i = 0; i < s->server_urls.n; i++)
		if (check_url("server_urls", s->server_urls.at[i], e) != 0)
			return ERR_INVALID;
	*out_key = "limits.except";
	return default_except(s, e);
}

static int default_ca_key(struct settings *s, struct err *e)
{
	char *path = NULL;
	if (s->ssh_ca_key[0])
		return 0;
	if (asprintf(&path, "%s/ssh_ca", s->state_dir) < 0)
		path = NULL;
	return replace(&s->ssh_ca_key, path, e);
}

int settings_load(const char *path, struct settings *out, struct err *e)
{
	char where[PATH_MAX];
	const char *key;
	memset(out, 0, sizeof *out);
	int rc = conf_load(path, settings_rows, out, e);
	if (rc == 0 && (rc = check(out, &key, e)) != 0) {
		conf_where(path, key, where, sizeof where);
		err_wrap(e, "%s", where);
	} else if (rc == 0) {
		rc = default_ca_key(out, e);
	}
	if (rc != 0)
		settings_free(out);
	return rc;
}

void settings_free(struct settings *s)
{
	conf_free(settings_rows, s);
}
