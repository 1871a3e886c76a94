/* Every file is written only when it is not there, so a second run finds the same CA, key and store. */
#include "server/dev.h"

#include "base/buf.h"
#include "base/file.h"
#include "base/limits.h"
#include "base/secret.h"
#include "base/text.h"
#include "server/dev_certificate.h"
#include "server/reactor.h"

#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ANY_PORT "127.0.0.1:0"

static int join(char out[DEV_PATH], const char *dir, const char *name, struct err *e)
{
	if (snprintf(out, DEV_PATH, "%s/%s", dir, name) >= DEV_PATH)
		return err_set(e, ERR_LIMIT, "%s/%s: path too long", dir, name);
	return 0;
}

static bool exists(const char *path)
{
	return access(path, F_OK) == 0;
}

static int default_dir(char out[DEV_PATH], struct err *e)
{
	const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
	if (state && state[0] == '/')
		return join(out, state, "tunnel-dev", e);
	if (home && home[0] == '/')
		return join(out, home, ".local/state/tunnel-dev", e);
	return err_set(e, ERR_INVALID, "--dev: neither XDG_STATE_HOME nor HOME is set; give --state-dir");
}

/* Beside a program that was built and not installed lie its plugins; else the setting's default holds. */
static void built_plugins(char out[DEV_PATH])
{
	char exe[DEV_PATH], probe[DEV_PATH + 32], real[DEV_PATH];
	ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);
	out[0] = '\0';
	if (n <= 0)
		return;
	exe[n] = '\0';
	snprintf(probe, sizeof probe, "%s/../plugins", dirname(exe));
	if (!realpath(probe, real))
		return;
	snprintf(probe, sizeof probe, "%s/store-sqlite.so", real);
	if (exists(probe))
		snprintf(out, DEV_PATH, "%s", real);
}

static int make_credentials(const char *dir, struct err *e)
{
	char server[DEV_PATH], cli[DEV_PATH], secret[SECRET_TOKEN_TEXT], id[17];
	int rc = join(server, dir, "credentials", e);
	if (rc == 0)
		rc = join(cli, dir, "cli-credentials", e);
	if (rc != 0 || (exists(server) && exists(cli)))
		return rc;
	struct buf a = BUF_INIT(LIMIT_SECRET_FILE), b = BUF_INIT(LIMIT_SECRET_FILE);
	secret_token(secret);
	secret_random_id(id, 16);
	rc = buf_printf(&a, "credentials = ( { key_id = \"%s\"; secret = \"%s\"; subject = \"dev\"; } );\n", id,
			secret);
	if (rc == 0)
		rc = buf_printf(&b, "key_id = \"%s\";\nsecret = \"%s\";\n", id, secret);
	rc = rc != 0 ? err_set(e, ERR_NOMEM, "out of memory") : secret_write_file(server, buf_data(&a), a.len, e);
	if (rc == 0)
		rc = secret_write_file(cli, buf_data(&b), b.len, e);
	secret_wipe(secret, sizeof secret);
	buf_wipe_free(&a);
	buf_wipe_free(&b);
	return rc;
}

static int make_policy(const char *dir, struct err *e)
{
	static const char policy[] =
		"{\n  \"Version\": \"2026-01-01\",\n  \"Statement\": [\n    {\n      \"Sid\": \"DevMayDoEverything\",\n"
		"      \"Effect\": \"Allow\",\n      \"Principal\": { \"User\": [\"dev\"] },\n"
		"      \"Action\": [\"tunnel:*\"],\n      \"Resource\": [\"*\"]\n    }\n  ]\n}\n";
	char folder[DEV_PATH], path[DEV_PATH];
	int rc = join(folder, dir, "policies", e);
	if (rc == 0)
		rc = file_mkdir(folder, 0700, e);
	if (rc == 0)
		rc = join(path, folder, "dev.json", e);
	return rc != 0 || exists(path) ? rc : file_write(path, policy, sizeof policy - 1, 0644, e);
}

static int write_config(const char *dir, const char *listen, const char *admin, const char *path, struct err *e)
{
	char plugins[DEV_PATH];
	built_plugins(plugins);
	struct buf b = BUF_INIT(LIMIT_CONFIG_FILE);
	int rc = buf_printf(&b,
			    "# Written by tunnel-server --dev.\n"
			    "listen = \"%s\";\nadmin: { listen = \"%s\"; };\n"
			    "node = \"dev\";\nstate_dir = \"%s/state\";\nready_file = \"%s/ready\";\n"
			    "policy_dir = \"%s/policies\";\n"
			    "tls: { certificate = \"%s/server.pem\"; key = \"%s/server.key\"; };\n"
			    "store: { plugin = \"store-sqlite\"; path = \"%s/state/tunnel.db\"; };\n"
			    "auth = ( { plugin = \"auth-hmac\"; credentials = \"%s/credentials\"; } );\n",
			    listen, admin, dir, dir, dir, dir, dir, dir, dir);
	if (rc == 0 && plugins[0])
		rc = buf_printf(&b, "plugin_dir = \"%s\";\n", plugins);
	rc = rc != 0 ? err_set(e, ERR_NOMEM, "out of memory") : file_write(path, buf_data(&b), b.len, 0644, e);
	buf_free(&b);
	return rc;
}

int dev_prepare(const char *state_dir, const char *listen, char out_dir[DEV_PATH], char out_config[DEV_PATH],
		struct err *e)
{
	char given[DEV_PATH], path[3][DEV_PATH], state[DEV_PATH];
	int rc = state_dir ? 0 : default_dir(given, e);
	if (rc == 0)
		rc = file_mkdir(state_dir ? state_dir : given, 0700, e);
	if (rc == 0 && !realpath(state_dir ? state_dir : given, out_dir))
		rc = err_set(e, ERR_IO, "%s: cannot be resolved", state_dir ? state_dir : given);
	if (rc == 0 && strpbrk(out_dir, "\"\\\n"))
		rc = err_set(e, ERR_INVALID, "%s: a path with quotes or backslashes does not fit into a config file",
			     out_dir);
	if (rc != 0 || (rc = join(path[0], out_dir, "ca.pem", e)) != 0 ||
	    (rc = join(path[1], out_dir, "server.pem", e)) != 0 ||
	    (rc = join(path[2], out_dir, "server.key", e)) != 0 || (rc = join(state, out_dir, "state", e)) != 0 ||
	    (rc = join(out_config, out_dir, "server.conf", e)) != 0 || (rc = file_mkdir(state, 0700, e)) != 0)
		return rc;
	if (!exists(path[0]) || !exists(path[1]) || !exists(path[2]))
		rc = dev_certificate_make(path[0], path[1], path[2], e);
	if (rc == 0)
		rc = make_credentials(out_dir, e);
	if (rc == 0)
		rc = make_policy(out_dir, e);
	if (rc == 0 && (listen || !exists(out_config)))
		rc = write_config(out_dir, listen ? listen : ANY_PORT, ANY_PORT, out_config, e);
	return rc;
}

/* true: the text has no port, and out has it with the one that was found. */
static bool complete(const char *listen, uint16_t port, char out[300])
{
	char host[256];
	uint16_t asked = 0;
	snprintf(out, 300, "%s", listen);
	if (reactors_parse_listen(listen, host, sizeof host, &asked) != 0 || asked == port)
		return false;
	text_host_port(host, port, out, 300);
	return true;
}

/* "Any port" becomes the port that was found, so that cli.conf, agents and bookmarks keep working. */
static int keep_ports(const char *dir, const struct dev_served *s, struct err *e)
{
	char path[DEV_PATH], listen[300], admin[300];
	bool found = complete(s->listen, s->port, listen);
	found |= complete(s->admin_listen, s->admin_port, admin);
	if (!found)
		return 0;
	int rc = join(path, dir, "server.conf", e);
	return rc != 0 ? rc : write_config(dir, listen, admin, path, e);
}

int dev_announce(const char *dir, const struct dev_served *served, struct err *e)
{
	char path[DEV_PATH];
	struct buf b = BUF_INIT(LIMIT_CONFIG_FILE);
	int rc = keep_ports(dir, served, e);
	if (rc == 0)
		rc = join(path, dir, "cli.conf", e);
	if (rc == 0 && buf_printf(&b,
				  "# Written by tunnel-server --dev.\n"
				  "default: { server = \"%s\"; ca_file = \"%s/ca.pem\"; auth = \"hmac\"; "
				  "credentials = \"%s/cli-credentials\"; };\n",
				  served->url, dir, dir) != 0)
		rc = err_set(e, ERR_NOMEM, "out of memory");
	if (rc == 0)
		rc = file_write(path, buf_data(&b), b.len, 0600, e);
	buf_free(&b);
	if (rc == 0) {
		printf("tunnel-server %s, for development, all in %s\n"
		       "  use it:  export TUNNEL_CONFIG=%s\n",
		       served->url, dir, path);
		if (served->admin_port)
			printf("  console: https://localhost:%u/ (the key is in %s/cli-credentials)\n",
			       served->admin_port, dir);
		printf("  agents:  server = [ \"%s\" ]; ca_file = \"%s/ca.pem\";\n", served->url, dir);
		fflush(stdout);
	}
	return rc;
}
