#include "cli/profile.h"

#include "base/buf.h"
#include "base/limits.h"
#include "base/secret.h"
#include "cli/signin.h"
#include "net/url.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define AT(member) offsetof(struct profile, member)
const struct conf_row profile_rows[] = {
	{ "server", CONF_STRINGS, AT(servers), CONF_REQUIRED, NULL, 0, 0, NULL,
	  "URL of tunnel-server, or several: \"https://tunnel.example.com\"" },
	{ "ca_file", CONF_PATH, AT(ca_file), 0, NULL, 1, 0, NULL, "PEM file of CAs to trust instead of the system's" },
	{ "proxy", CONF_STRING, AT(proxy), 0, NULL, 0, 0, NULL, "HTTP proxy; default: https_proxy of the environment" },
	{ "auth", CONF_ENUM, AT(auth), 0, "jwt", 0, 0, "jwt|hmac|oidc", "kind of credential" },
	{ "token_file", CONF_PATH, AT(token_file), 0, NULL, 1, 0, NULL, "jwt: file that holds the token" },
	{ "token_command", CONF_STRING, AT(token_command), 0, NULL, 1, 0, NULL,
	  "jwt: shell command that prints the token" },
	{ "issuer", CONF_STRING, AT(oidc.issuer), 0, NULL, 1, 1024, NULL,
	  "oidc: the issuer's URL, as its tokens have it; tunnel-cli login signs in there" },
	{ "client_id", CONF_STRING, AT(oidc.client_id), 0, NULL, 1, 256, NULL, "oidc: this client's name there" },
	{ "client_secret_file", CONF_PATH, AT(oidc.client_secret_file), 0, NULL, 1, 0, NULL,
	  "oidc: file (mode 0600) with the client's secret, if it has one" },
	{ "scopes", CONF_STRING, AT(oidc.scopes), 0, "openid offline_access", 1, 1024, NULL,
	  "oidc: what is asked for; offline_access is what most issuers give a refresh token for" },
	{ "audience", CONF_STRING, AT(oidc.audience), 0, NULL, 1, 1024, NULL,
	  "oidc: parameter audience, for issuers that want it" },
	{ "resource", CONF_STRING, AT(oidc.resource), 0, NULL, 1, 1024, NULL,
	  "oidc: parameter resource (RFC 8707), for issuers that want it" },
	{ "token", CONF_ENUM, AT(oidc.token), 0, "id_token", 0, 0, "id_token|access_token",
	  "oidc: which of the issuer's tokens goes to the server" },
	{ "issuer_ca_file", CONF_PATH, AT(oidc.ca_file), 0, NULL, 1, 0, NULL,
	  "oidc: PEM file of CAs to trust for the issuer instead of the system's" },
	{ "credentials", CONF_PATH, AT(credentials), 0, NULL, 1, 0, NULL,
	  "hmac: file (mode 0600) with key_id and secret" },
	{ "region", CONF_STRING, AT(region), 0, "default", 1, 64, NULL, "hmac: region of the signature" },
	{ "service", CONF_STRING, AT(service), 0, "tunnel", 1, 64, NULL, "hmac: service of the signature" },
	{ "login", CONF_STRING, AT(login), 0, NULL, 1, LIMIT_LOGIN, NULL,
	  "login on targets; default: the local user's name" },
	{ .key = NULL },
};

static int config_path(const struct common_options *common, char *out, size_t size, struct err *e)
{
	const char *path = common->config ? common->config : getenv("TUNNEL_CONFIG");
	const char *xdg = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");
	int n;
	if (path)
		n = snprintf(out, size, "%s", path);
	else if (xdg && *xdg)
		n = snprintf(out, size, "%s/tunnel/config", xdg);
	else if (home && *home)
		n = snprintf(out, size, "%s/.config/tunnel/config", home);
	else
		return err_set(e, ERR_INVALID, "no config file: HOME is not set; give --config FILE");
	if (n < 0 || (size_t)n >= size)
		return err_set(e, ERR_INVALID, "the config file's path is too long");
	if (!path && access(out, F_OK) != 0)
		return err_set(e, ERR_NOT_FOUND, "%s is missing; it holds: default: { server = \"https://…\"; };", out);
	return 0;
}

static int check_servers(const struct profile *p, const char *path, struct err *e)
{
	struct url url;
	for (size_t i = 0; i < p->servers.n; i++)
		if (url_parse_secure(p->servers.at[i], &url, e) != 0)
			return err_wrap(e, "%s: server", path);
	return 0;
}

static int check_issuer(const struct profile *p, const char *path, struct err *e)
{
	struct url url;
	if (p->auth != PROFILE_OIDC)
		return 0;
	if (!p->oidc.issuer || !p->oidc.client_id)
		return err_set(e, ERR_INVALID, "%s: auth = \"oidc\" needs issuer and client_id", path);
	if (url_parse_secure(p->oidc.issuer, &url, e) != 0)
		return err_wrap(e, "%s: issuer", path);
	if (strpbrk(p->oidc.issuer, "?#"))
		return err_set(e, ERR_INVALID, "%s: issuer: an issuer's URL has no query and no fragment", path);
	return 0;
}

int profile_load(const struct common_options *common, struct profile *out, struct err *e)
{
	char path[PATH_MAX];
	const char *name = common->profile ? common->profile : getenv("TUNNEL_PROFILE");
	memset(out, 0, sizeof *out);
	int rc = config_path(common, path, sizeof path, e);
	if (rc == 0)
		rc = conf_load_group(path, name && *name ? name : "default", profile_rows, out, e);
	if (rc != 0)
		return rc;
	snprintf(out->name, sizeof out->name, "%s", name && *name ? name : "default");
	if ((rc = check_servers(out, path, e)) == 0)
		rc = check_issuer(out, path, e);
	if (rc != 0)
		profile_free(out);
	return rc;
}

int profile_each(const struct common_options *common, void (*each)(void *user, const char *name), void *user,
		 struct err *e)
{
	char path[PATH_MAX];
	int rc = config_path(common, path, sizeof path, e);
	return rc == 0 ? conf_each_group(path, each, user, e) : rc;
}

void profile_free(struct profile *p)
{
	conf_free(profile_rows, p);
}

static FILE *start_command(const char *command, bool background)
{
	static const char quiet[] = "exec </dev/null 2>/dev/null\n";
	size_t size = sizeof quiet + strlen(command);
	char *text = malloc(size);
	if (!text)
		return NULL;
	snprintf(text, size, "%s%s", background ? quiet : "", command);
	FILE *f = popen(text, "re");
	free(text);
	return f;
}

static int run_command(const char *command, bool background, char **out, struct err *e)
{
	FILE *f = start_command(command, background);
	if (!f)
		return err_set(e, ERR_IO, "token_command cannot be run");
	struct buf b = BUF_INIT(LIMIT_TOKEN + 2);
	char part[1024];
	size_t n;
	int rc = 0;
	while (rc == 0 && (n = fread(part, 1, sizeof part, f)) > 0)
		rc = buf_add(&b, part, n);
	secret_wipe(part, sizeof part);
	int status = pclose(f);
	if (rc != 0)
		rc = err_set(e, ERR_INVALID, "token_command printed more than %u bytes", LIMIT_TOKEN);
	else if (status != 0 && WIFEXITED(status))
		rc = err_set(e, ERR_INVALID, "token_command exited with %d", WEXITSTATUS(status));
	else if (status != 0)
		rc = err_set(e, ERR_INVALID, "token_command did not end well");
	else if (!(*out = buf_take_text(&b)))
		rc = err_set(e, ERR_NOMEM, "out of memory");
	buf_wipe_free(&b);
	return rc;
}

int profile_token(const struct profile *p, bool background, int64_t outlast_ms, char **out_token, struct err *e)
{
	const char *env = getenv("TUNNEL_TOKEN");
	int rc = 0;
	char *token = NULL;
	if (env && *env)
		token = strdup(env);
	else if (p->auth == PROFILE_OIDC)
		rc = signin_token_blocking(p, outlast_ms, &token, e);
	else if (p->token_file)
		rc = secret_read_text(p->token_file, &token, e);
	else if (p->token_command)
		rc = run_command(p->token_command, background, &token, e);
	else
		rc = err_set(e, ERR_INVALID,
			     "no token: set token_file or token_command in the profile, or TUNNEL_TOKEN");
	if (rc != 0)
		return rc;
	secret_trim(token);
	if (!*token || strlen(token) > LIMIT_TOKEN || strpbrk(token, "\r\n ")) {
		secret_free_text(&token);
		return err_set(e, ERR_INVALID, "the token is empty, has blanks in it, or is longer than %u bytes",
			       LIMIT_TOKEN);
	}
	*out_token = token;
	return 0;
}

struct hmac_file {
	char *key_id, *secret;
};
#define HMAC_AT(member) offsetof(struct hmac_file, member)
static const struct conf_row hmac_rows[] = {
	{ "key_id", CONF_STRING, HMAC_AT(key_id), CONF_REQUIRED, NULL, 1, 128, NULL, "which key" },
	{ "secret", CONF_STRING, HMAC_AT(secret), CONF_REQUIRED | CONF_SECRET, NULL, 1, 256, NULL, "its secret" },
	{ .key = NULL },
};

/* A signature names it as "Credential=<key id>/<date>/…, …", and curl is told "<key id>:<secret>". */
static int check_key_id(const char *where, const char *id, struct err *e)
{
	for (const char *c = id; *c; c++)
		if (*c <= ' ' || *c > '~' || strchr(":/,", *c))
			return err_set(e, ERR_INVALID,
				       "%s: has a character that cannot be signed with; allowed: printable ASCII, "
				       "without space and : / ,",
				       where);
	return 0;
}

int profile_hmac(const struct profile *p, char **out_userpwd, struct err *e)
{
	const char *id = getenv("TUNNEL_KEY_ID"), *secret = getenv("TUNNEL_SECRET");
	struct hmac_file file = { 0 };
	if (!id || !*id || !secret || !*secret) {
		struct buf b;
		if (!p->credentials)
			return err_set(e, ERR_INVALID,
				       "no key: set credentials in the profile, or TUNNEL_KEY_ID and TUNNEL_SECRET");
		int rc = secret_read_file(p->credentials, &b, e); /* for its checks of mode and owner */
		if (rc != 0)
			return rc;
		buf_wipe_free(&b);
		rc = conf_load(p->credentials, hmac_rows, &file, e);
		if (rc != 0)
			return rc;
		id = file.key_id;
		secret = file.secret;
	}
	char where[PATH_MAX];
	snprintf(where, sizeof where, "%s%s", file.key_id ? p->credentials : "TUNNEL_KEY_ID",
		 file.key_id ? ": key_id" : "");
	int rc = check_key_id(where, id, e);
	size_t size = strlen(id) + strlen(secret) + 2;
	char *both = rc == 0 ? malloc(size) : NULL;
	if (both)
		snprintf(both, size, "%s:%s", id, secret);
	else if (rc == 0)
		rc = err_set(e, ERR_NOMEM, "out of memory");
	secret_free_text(&file.secret);
	conf_free(hmac_rows, &file);
	*out_userpwd = both;
	return rc;
}
