/* ssh-prepare and ssh-proxy: what the configuration of ssh-config has ssh run. The first, while ssh reads that
 * configuration, says under which name the host's key is certified; the second is the ProxyCommand. */
#include "cli/ssh_name.h"
#include "cli/ssh_session.h"

#include "base/file.h"
#include "base/text.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

struct proxy_options {
	struct common_options common;
	const char *dir, *suffix, *login;
};
#define AT(member) offsetof(struct proxy_options, member)
static const struct arg_row rows[] = {
	{ "dir", 0, ARG_TEXT, AT(dir), "DIR", "ssh-config's folder" },
	{ "suffix", 0, ARG_TEXT, AT(suffix), "NAME", "what stands behind a target's name" },
	{ "login", 'l', ARG_TEXT, AT(login), "NAME", "whom to be there" },
	{ .name = NULL },
};

static int check(const struct proxy_options *o, int argc, char **argv, char target[LIMIT_ID + 1])
{
	struct err e = { 0 };
	if (argc != 2 || !o->dir || !o->suffix) {
		complain("this is run by ssh; see tunnel-cli ssh-config --help");
		return EXIT_CODE_USAGE;
	}
	if (ssh_name_target(argv[0], argv[1], o->suffix, target, &e) == 0)
		return EXIT_CODE_OK;
	complain("%s", e.text);
	return EXIT_CODE_USAGE;
}

static int write_changed(const char *path, const char *text, struct err *e)
{
	struct buf old;
	if (file_read(path, 4096, &old, NULL) == 0) {
		bool same = old.len == strlen(text) && memcmp(buf_data(&old), text, old.len) == 0;
		buf_free(&old);
		if (same)
			return 0;
	}
	return file_write(path, text, strlen(text), 0600, e);
}

static int prepare(const void *options, int argc, char **argv)
{
	const struct proxy_options *o = options;
	char target[LIMIT_ID + 1], path[PATH_MAX], text[512];
	struct err e = { 0 };
	int code = check(o, argc, argv, target);
	if (code != EXIT_CODE_OK)
		return code;
	int n = snprintf(path, sizeof path, "%s/" SSH_NAME_HOSTS, o->dir);
	int rc = n < 0 || (size_t)n + LIMIT_ID + 8 > sizeof path ? err_set(&e, ERR_INVALID, "--dir: too long")
								 : file_mkdir(path, 0700, &e);
	if (rc == 0) {
		snprintf(path + n, sizeof path - (size_t)n, "/%s.conf", argv[0]);
		snprintf(text, sizeof text, "Host %s\n\tHostKeyAlias %s\n", argv[0], target);
		rc = write_changed(path, text, &e);
	}
	if (rc == 0)
		return EXIT_CODE_OK;
	complain("%s", e.text);
	return EXIT_CODE_CONFIG;
}

static int proxy(const void *options, int argc, char **argv)
{
	const struct proxy_options *o = options;
	char target[LIMIT_ID + 1], dir[PATH_MAX];
	int code = check(o, argc, argv, target);
	if (code != EXIT_CODE_OK)
		return code;
	if (!o->login || !text_is_login(o->login)) {
		complain("%s: not a login name; choose another one with ssh LOGIN@%s, or User in ssh's config",
			 o->login ? o->login : "", argv[0]);
		return EXIT_CODE_USAGE;
	}
	if (snprintf(dir, sizeof dir, "%s/" SSH_NAME_RUN "/%s@%s", o->dir, o->login, argv[0]) >= (int)sizeof dir) {
		complain("--dir: too long");
		return EXIT_CODE_USAGE;
	}
	struct client c;
	code = client_open(&c, &o->common);
	if (code != EXIT_CODE_OK)
		return code;
	const struct ssh_session_wish wish = {
		.target = target, .login = o->login, .dir = dir, .stdio = true, .leave_terminal = true
	};
	code = ssh_session_run(&c, &wish);
	client_close(&c);
	return code;
}

const struct command command_ssh_prepare = {
	.name = "ssh-prepare",
	.usage = "--dir DIR --suffix NAME %h %n",
	.summary = "Tell ssh the name of a host key",
	.rows = rows,
	.options_size = sizeof(struct proxy_options),
	.run = prepare,
	.hidden = true,
};

const struct command command_ssh_proxy = {
	.name = "ssh-proxy",
	.usage = "--dir DIR --suffix NAME --login %r %h %n",
	.summary = "Carry a connection of ssh's",
	.rows = rows,
	.options_size = sizeof(struct proxy_options),
	.run = proxy,
	.hidden = true,
};
