/* ssh-config: a configuration with which plain ssh, and all that runs it, reaches targets by name.
 *
 * Each connection of ssh's is a session of its own, by ProxyCommand. The login's certificate is in an agent that the
 * session serves at a place which ssh knows before there is a session. The host's certificate bears the target's name,
 * without the suffix; HostKeyAlias takes no %-tokens, so a file with it is made by the Match's command and included
 * behind it.
 *
 * ssh puts names into commands as they are; a quotation mark in one would end the quotation, so such names match
 * nothing here. */
#include "cli/command.h"
#include "cli/ssh_name.h"

#include "base/buf.h"
#include "base/file.h"
#include "base/text.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define TEXT_MAX 16384u
#define USER_CONFIG_MAX (1024u * 1024) /* bytes of ~/.ssh/config */

struct ssh_config_options {
	struct common_options common;
	const char *suffix, *dir;
	bool install, include;
};
#define AT(member) offsetof(struct ssh_config_options, member)
static const struct arg_row rows[] = {
	{ "suffix", 0, ARG_TEXT, AT(suffix), "NAME", "what stands behind a target's name; default: " SSH_NAME_SUFFIX },
	{ "install", 0, ARG_FLAG, AT(install), NULL, "write the file instead of printing it" },
	{ "include", 0, ARG_FLAG, AT(include), NULL, "with --install: add the Include line to ~/.ssh/config, too" },
	{ "dir", 0, ARG_TEXT, AT(dir), "DIR", "folder for it and for sockets; default: ~/.ssh/tunnel" },
	{ .name = NULL },
};

struct places {
	char self[PATH_MAX], dir[PATH_MAX];
	char profile[256], config[PATH_MAX]; /* as options; "": none */
	const char *suffix;
};

/* Inside double quotes of ssh's, single quotes of the shell's, and an Include's pattern. */
static bool holds(const char *path)
{
	for (const char *c = path; *c; c++)
		if ((unsigned char)*c < 0x20 || strchr("'\"\\%$*?[]{}", *c))
			return false;
	return true;
}

static int find_self(char out[PATH_MAX], struct err *e)
{
	ssize_t n = readlink("/proc/self/exe", out, PATH_MAX - 1);
	if (n <= 0)
		return err_set_errno(e, ERR_IO, errno, "/proc/self/exe");
	out[n] = '\0';
	return 0;
}

static int find_dir(const char *given, char out[PATH_MAX], struct err *e)
{
	const char *home = getenv("HOME");
	char here[PATH_MAX];
	int n;
	if (given && *given == '/')
		n = snprintf(out, PATH_MAX, "%s", given);
	else if (given && getcwd(here, sizeof here))
		n = snprintf(out, PATH_MAX, "%s/%s", here, given);
	else if (!given && home && *home == '/')
		n = snprintf(out, PATH_MAX, "%s/.ssh/tunnel", home);
	else
		return err_set(e, ERR_INVALID, "HOME is not set; give --dir DIR");
	if (n <= 0 || n >= PATH_MAX)
		return err_set(e, ERR_INVALID, "--dir: path too long");
	while (n > 1 && out[n - 1] == '/')
		out[--n] = '\0';
	return 0;
}

/* An editor that is started from a menu has another environment than this shell: what it says is written down. */
static int find_profile(const struct common_options *common, struct places *p, struct err *e)
{
	const char *profile = common->profile ? common->profile : getenv("TUNNEL_PROFILE");
	const char *config = common->config ? common->config : getenv("TUNNEL_CONFIG");
	if (profile && *profile && snprintf(p->profile, sizeof p->profile, "%s", profile) >= (int)sizeof p->profile)
		return err_set(e, ERR_INVALID, "--profile: name too long");
	if (config && *config && !realpath(config, p->config))
		return err_set_errno(e, ERR_NOT_FOUND, errno, "%s", config);
	return 0;
}

static int find_places(const struct ssh_config_options *o, struct places *p, struct err *e)
{
	memset(p, 0, sizeof *p);
	p->suffix = o->suffix ? o->suffix : SSH_NAME_SUFFIX;
	if (!text_is_id(p->suffix))
		return err_set(e, ERR_INVALID, "--suffix %s: expected letters, digits, . _ -", p->suffix);
	for (const char *c = p->suffix; *c; c++)
		if (*c >= 'A' && *c <= 'Z')
			return err_set(e, ERR_INVALID, "--suffix %s: ssh puts host names in lower case", p->suffix);
	int rc = find_self(p->self, e);
	if (rc == 0)
		rc = find_dir(o->dir, p->dir, e);
	if (rc == 0)
		rc = find_profile(&o->common, p, e);
	const char *const words[] = { p->self, p->dir, p->profile, p->config };
	for (size_t i = 0; rc == 0 && i < sizeof words / sizeof *words; i++)
		if (!holds(words[i]))
			rc = err_set(e, ERR_INVALID, "%s: ssh's configuration cannot hold this path or name safely",
				     words[i]);
	return rc;
}

static int write_command(struct buf *b, const struct places *p, const char *command)
{
	int bad = buf_printf(b, "'%s' %s", p->self, command);
	if (p->profile[0])
		bad |= buf_printf(b, " --profile '%s'", p->profile);
	if (p->config[0])
		bad |= buf_printf(b, " --config '%s'", p->config);
	return bad | buf_printf(b, " --dir '%s' --suffix %s", p->dir, p->suffix);
}

static int write_config(struct buf *b, const struct places *p)
{
	int bad = buf_printf(b,
			     "# Written by tunnel-cli ssh-config: ssh LOGIN@TARGET.%s reaches the target.\n"
			     "# It has to be included above all Host and Match lines of ~/.ssh/config.\n"
			     "Match host \"*.%s,!*'*\" user \"*,!*'*\" exec \"",
			     p->suffix, p->suffix);
	bad |= write_command(b, p, "ssh-prepare");
	bad |= buf_printf(b, " '%%h' '%%n'\"\n\tInclude \"%s/" SSH_NAME_HOSTS "/*.%s.conf\"\n\tProxyCommand ", p->dir,
			  p->suffix);
	bad |= write_command(b, p, "ssh-proxy");
	bad |= buf_printf(b,
			  " --login '%%r' '%%h' '%%n'\n"
			  "\tIdentityAgent \"%s/" SSH_NAME_RUN "/%%r@%%h/agent\"\n"
			  "\tUserKnownHostsFile \"%s/" SSH_NAME_RUN "/%%r@%%h/known_hosts\"\n"
			  "\tGlobalKnownHostsFile /dev/null\n"
			  "\tStrictHostKeyChecking yes\n"
			  "\tCheckHostIP no\n"
			  "\tUpdateHostKeys no\n"
			  "\tIdentitiesOnly no\n"
			  "\tAddKeysToAgent no\n"
			  "\tPreferredAuthentications publickey\n"
			  "\tProxyUseFdpass no\n"
			  "\tServerAliveInterval 0\n"
			  "\tTCPKeepAlive no\n"
			  "Match all\n",
			  p->dir, p->dir);
	return bad;
}

static int add_include(const char *line, struct err *e)
{
	const char *home = getenv("HOME");
	char link[PATH_MAX], path[PATH_MAX];
	struct buf old;
	struct stat st;
	if (!home || snprintf(link, sizeof link, "%s/.ssh/config", home) >= (int)sizeof link)
		return err_set(e, ERR_INVALID, "--include: HOME is not set");
	if (!realpath(link, path)) /* a link to a file elsewhere stays one */
		snprintf(path, sizeof path, "%s", link);
	mode_t mode = stat(path, &st) == 0 ? st.st_mode & 0777 : 0600;
	int rc = file_read(path, USER_CONFIG_MAX, &old, e);
	if (rc != 0 && rc != ERR_NOT_FOUND)
		return rc;
	if (rc != 0)
		buf_init(&old, 1);
	struct buf text = BUF_INIT(USER_CONFIG_MAX + TEXT_MAX);
	bool there = old.len > 0 && memmem(buf_data(&old), old.len, line, strlen(line)) != NULL;
	rc = there ? 0 : buf_printf(&text, "%s\n", line);
	if (rc == 0 && !there)
		rc = buf_add(&text, buf_data(&old), old.len);
	if (rc == 0 && !there)
		rc = file_write(path, buf_data(&text), text.len, mode, e);
	buf_free(&text);
	buf_free(&old);
	return rc;
}

static int install(const struct ssh_config_options *o, const struct places *p, const struct buf *text, struct err *e)
{
	char path[PATH_MAX], line[PATH_MAX + 32];
	int rc = file_mkdir(p->dir, 0700, e);
	if (rc != 0)
		return rc;
	if (snprintf(path, sizeof path, "%s/%s.conf", p->dir, p->suffix) >= (int)sizeof path)
		return err_set(e, ERR_INVALID, "--dir: path too long");
	rc = file_write(path, buf_data(text), text->len, 0600, e);
	if (rc != 0)
		return rc;
	snprintf(line, sizeof line, "Include \"%s\"", path);
	if (o->include)
		rc = add_include(line, e);
	if (rc == 0 && o->include)
		printf("%s is written and included in ~/.ssh/config; now: ssh LOGIN@TARGET.%s\n", path, p->suffix);
	else if (rc == 0)
		printf("%s is written; this line is to be the first of ~/.ssh/config (--include adds it):\n%s\n", path,
		       line);
	return rc;
}

static int ssh_config(const void *options, int argc, char **argv)
{
	const struct ssh_config_options *o = options;
	struct places p;
	struct err e = { 0 };
	(void)argv;
	if (argc > 0 || (o->include && !o->install)) {
		complain("ssh-config: %s; see tunnel-cli ssh-config --help",
			 argc > 0 ? "no arguments expected" : "--include belongs to --install");
		return EXIT_CODE_USAGE;
	}
	if (find_places(o, &p, &e) != 0) {
		complain("ssh-config: %s", e.text);
		return EXIT_CODE_USAGE;
	}
	struct buf text = BUF_INIT(TEXT_MAX);
	int rc = write_config(&text, &p) ? err_set(&e, ERR_LIMIT, "the configuration is too long") : 0;
	if (rc == 0 && o->install)
		rc = install(o, &p, &text, &e);
	else if (rc == 0)
		fwrite(buf_data(&text), 1, text.len, stdout);
	buf_free(&text);
	if (rc == 0)
		return EXIT_CODE_OK;
	complain("ssh-config: %s", e.text);
	return EXIT_CODE_CONFIG;
}

const struct command command_ssh_config = {
	.name = "ssh-config",
	.usage = "[--install [--include]] [OPTIONS]",
	.summary = "Let plain ssh, scp, sftp, rsync, git and editors reach targets as TARGET." SSH_NAME_SUFFIX,
	.rows = rows,
	.options_size = sizeof(struct ssh_config_options),
	.run = ssh_config,
	.details = "The profile is the one that is named now, by --profile or TUNNEL_PROFILE; a second suffix can "
		   "stand for\n"
		   "another one.\n\n"
		   "Examples:\n"
		   "  tunnel-cli ssh-config --install --include\n"
		   "  ssh root@web-1.tunnel uptime\n"
		   "  scp -r site root@web-1.tunnel:/srv/\n"
		   "  git clone deploy@web-1.tunnel:/srv/git/site\n"
		   "  tunnel-cli ssh-config --profile lab --suffix lab --install --include\n",
};
