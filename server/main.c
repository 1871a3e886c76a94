/* tunnel-server's command line. Whatever keeps it from starting is one line on stderr and exit code 1; a wrong command
 * line is 2. */
#include "base/certain.h"
#include "base/file.h"
#include "base/log.h"
#include "base/process.h"
#include "base/text.h"
#include "server/auth.h"
#include "server/dev.h"
#include "server/metrics.h"
#include "server/plugin_host.h"
#include "server/policy_set.h"
#include "server/run.h"
#include "server/settings.h"
#include "server/sshca.h"
#include "server/tls_check.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum action { RUN, CHECK_CONFIG, PRINT_CONFIG, DESCRIBE_CONFIG, DESCRIBE_PLUGIN, VERSION, HELP };

struct arguments {
	enum action action;
	const char *config, *state_dir, *listen, *plugin, *plugin_dir;
	bool dev;
	const struct err *unguarded; /* code 0: all is as process_guard wants it */
};

enum option_id { O_CONFIG = 1, O_DEV, O_STATE_DIR, O_LISTEN, O_PLUGIN_DIR, O_ACTION };

struct option_row {
	const char *name, *argument;
	enum option_id id;
	enum action action; /* of O_ACTION */
	const char *help;
};

static const struct option_row option_rows[] = {
	{ "config", "FILE", O_CONFIG, RUN, "run with this config file" },
	{ "dev", NULL, O_DEV, RUN, "run a server to try things with; all of it lives in one folder" },
	{ "state-dir", "DIR", O_STATE_DIR, RUN, "--dev: that folder; default: ~/.local/state/tunnel-dev" },
	{ "listen", "HOST:PORT", O_LISTEN, RUN, "--dev: where to listen; default: 127.0.0.1, any free port" },
	{ "check-config", NULL, O_ACTION, CHECK_CONFIG, "with --config: say what is wrong with it, or nothing" },
	{ "print-config", NULL, O_ACTION, PRINT_CONFIG, "with --config: print every setting, secrets as ***" },
	{ "describe-config", NULL, O_ACTION, DESCRIBE_CONFIG, "print the table of settings" },
	{ "describe-plugin", "NAME", O_ACTION, DESCRIBE_PLUGIN, "print a plugin's version and options" },
	{ "plugin-dir", "DIR", O_PLUGIN_DIR, RUN, "--describe-plugin: where to look; default: " TUNNEL_PLUGIN_DIR },
	{ "version", NULL, O_ACTION, VERSION, "print the version" },
	{ "help", NULL, O_ACTION, HELP, "print this" },
};
#define OPTIONS (sizeof option_rows / sizeof option_rows[0])

static void usage(FILE *to)
{
	fputs("usage: tunnel-server --config FILE | --dev [--state-dir DIR] | …\n", to);
	for (size_t i = 0; i < OPTIONS; i++) {
		char left[40];
		snprintf(left, sizeof left, "--%s %s", option_rows[i].name,
			 option_rows[i].argument ? option_rows[i].argument : "");
		fprintf(to, "  %-24s %s\n", left, option_rows[i].help);
	}
}

static int parse(int argc, char **argv, struct arguments *out)
{
	struct option longs[OPTIONS + 1] = { 0 };
	for (size_t i = 0; i < OPTIONS; i++)
		longs[i] =
			(struct option){ option_rows[i].name, option_rows[i].argument ? required_argument : no_argument,
					 NULL, (int)i + 1 };
	for (int c; (c = getopt_long(argc, argv, "", longs, NULL)) != -1;) {
		if (c < 1 || c > (int)OPTIONS)
			return -1;
		const struct option_row *row = &option_rows[c - 1];
		switch (row->id) {
		case O_CONFIG:
			out->config = optarg;
			break;
		case O_DEV:
			out->dev = true;
			break;
		case O_STATE_DIR:
			out->state_dir = optarg;
			break;
		case O_LISTEN:
			out->listen = optarg;
			break;
		case O_PLUGIN_DIR:
			out->plugin_dir = optarg;
			break;
		case O_ACTION:
			out->action = row->action;
			out->plugin = optarg;
			break;
		}
	}
	bool needs_config = out->action == RUN || out->action == CHECK_CONFIG || out->action == PRINT_CONFIG;
	if (optind != argc) {
		fprintf(stderr, "tunnel-server: %s: unexpected argument\n", argv[optind]);
		return -1;
	}
	if (needs_config && !!out->config + out->dev != 1) {
		fprintf(stderr, "tunnel-server: give either --config FILE or --dev\n");
		return -1;
	}
	if (!out->dev && (out->state_dir || out->listen)) {
		fprintf(stderr, "tunnel-server: --state-dir and --listen go with --dev\n");
		return -1;
	}
	return 0;
}

static int fail(const struct err *e)
{
	fprintf(stderr, "tunnel-server: %s\n", e->text);
	return 1;
}

static const struct settings *printed; /* conf_print hands no argument on */

static bool is_secret(const struct conf_section *section, const char *key)
{
	return plugin_option_is_secret(printed->plugin_dir, section, key);
}

/* Providers are opened, since that is when they read their files. */
static int check_auth(const struct settings *s, struct err *e)
{
	struct metrics *metrics = metrics_new();
	struct auth_chain *chain = NULL;
	int rc = metrics ? auth_open(s->plugin_dir, &s->auth, metrics, &chain, e)
			 : err_set(e, ERR_NOMEM, "out of memory");
	if (rc == 0)
		auth_close(&chain);
	metrics_free(&metrics);
	return rc;
}

/* Everything that can be found out without serving, and without touching the store: opening that would create it. */
static int check(const struct settings *s)
{
	struct err e = { 0 };
	struct policy_set *policies = NULL;
	int rc = tls_check_files(s->tls_certificate, s->tls_key, &e);
	if (rc == 0 && s->advertise_url[0])
		tls_warn_of_name(s->tls_certificate, "advertise_url", s->advertise_url);
	if (rc == 0)
		rc = plugin_check(s->plugin_dir, &s->store, TUNNEL_KIND_STORE, &e);
	if (rc == 0)
		rc = check_auth(s, &e);
	if (rc == 0)
		rc = policy_set_load_blocking(s->policy_dir, NULL, &policies, &e);
	policy_set_drop(&policies);
	const struct sshca_files ca = { s->ssh_ca_key, s->ssh_ca_trusted };
	if (rc == 0)
		rc = sshca_check(&ca, &e);
	return rc == 0 ? 0 : fail(&e);
}

static int run(struct settings *s, const struct arguments *a, const char *config, const char *dev_dir)
{
	struct err e = { 0 };
	const char *dir = a->dev ? dev_dir : NULL;
	log_init("tunnel-server", (enum log_level)s->log_level, (enum log_format)s->log_format);
	if (a->unguarded->code)
		log_warn("%s", a->unguarded->text);
	if (geteuid() == 0 && !a->dev)
		log_warn("runs as root, whose rights it has no use for: give it a user of its own (tunnel-server(8))");
	run_prepare();
	return run_server(s, config, dir, &e) == 0 ? 0 : fail(&e);
}

static int with_settings(const struct arguments *a)
{
	struct err e = { 0 };
	char dir[DEV_PATH] = "", path[DEV_PATH] = "";
	struct settings s;
	if (a->dev && dev_prepare(a->state_dir, a->listen, dir, path, &e) != 0)
		return fail(&e);
	const char *config = a->dev ? path : a->config;
	if (settings_load(config, &s, &e) != 0)
		return fail(&e);
	int code = 0;
	if (a->action == CHECK_CONFIG) {
		log_init("tunnel-server", LOG_LEVEL_WARN, LOG_FORMAT_PLAIN); /* what plugins say when all is well */
		code = check(&s);
	} else if (a->action == PRINT_CONFIG) {
		printed = &s;
		conf_print(stdout, settings_rows, &s, is_secret);
	} else {
		code = run(&s, a, config, dir);
	}
	settings_free(&s);
	return code;
}

static void on_shortage(const char *words)
{
	log_error("%s", words);
}

int main(int argc, char **argv)
{
	struct err e = { 0 }, unguarded = { 0 };
	struct arguments a = { .action = RUN, .plugin_dir = TUNNEL_PLUGIN_DIR, .unguarded = &unguarded };
	file_fill_standard_descriptors();
	certain_init(on_shortage);
	process_guard(process_secrets_for_descriptors(), &unguarded);
	if (parse(argc, argv, &a) != 0) {
		fprintf(stderr, "Try tunnel-server --help\n");
		return 2;
	}
	switch (a.action) {
	case HELP:
		usage(stdout);
		return 0;
	case VERSION:
		puts("tunnel-server " TUNNEL_VERSION);
		return 0;
	case DESCRIBE_CONFIG:
		conf_describe(stdout, settings_rows);
		return 0;
	case DESCRIBE_PLUGIN:
		return plugin_describe(a.plugin_dir, a.plugin, stdout, &e) == 0 ? 0 : fail(&e);
	case RUN:
	case CHECK_CONFIG:
	case PRINT_CONFIG:
		break;
	}
	return with_settings(&a);
}
