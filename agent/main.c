#include "agent/doctor.h"
#include "agent/enroll.h"
#include "agent/rotate_key.h"
#include "agent/settings.h"
#include "agent/supervisor.h"
#include "agent/worker.h"
#include "base/certain.h"
#include "base/file.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/notify.h"
#include "base/process.h"
#include "base/secret.h"
#include "base/text.h"

#include <getopt.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define EXIT_USAGE 2

enum mode { MODE_WORK, MODE_CHECK, MODE_PRINT, MODE_DESCRIBE };

struct arguments {
	const char *config, *state_dir, *server, *ca_file, *token_file, *token, *output;
	int mode;
	const struct err *unguarded; /* code 0: all is as process_guard wants it */
};

static void usage(FILE *to)
{
	fputs("Usage: tunnel-agent [run] [OPTIONS]\n"
	      "       tunnel-agent enroll --server URL --token-file FILE|- [OPTIONS]\n"
	      "       tunnel-agent rotate-key [OPTIONS]\n"
	      "       tunnel-agent doctor [--output text|json] [OPTIONS]\n"
	      "\n"
	      "run         keeps this machine connected to the control plane and serves its sessions (default)\n"
	      "enroll      makes this machine a target, with a one-time token of the control plane\n"
	      "rotate-key  changes the key that this machine proves itself with; its sessions go on\n"
	      "doctor      looks whether this machine can serve sessions, and says what to do when it cannot\n"
	      "\n"
	      "  --config FILE      settings (default " AGENT_CONFIG_DEFAULT ", if it is there)\n"
	      "  --state-dir DIR    instead of state_dir of the settings\n"
	      "  --check-config     reads the settings, says what is wrong, and exits\n"
	      "  --print-config     prints the settings in force, and exits\n"
	      "  --describe-config  prints what can be set, and exits\n"
	      "  --version, --help\n"
	      "\n"
	      "enroll:\n"
	      "  --server URL       control plane (default: the first server of the settings)\n"
	      "  --token-file FILE  where the token is; - for stdin\n"
	      "  --token TOKEN      the token itself (others on this machine can see it in the process list)\n"
	      "  --ca-file FILE     PEM bundle to trust instead of the system's; ca_file in the settings says it for "
	      "good\n"
	      "\n"
	      "doctor:\n"
	      "  --output FORMAT    text (default), or json\n"
	      "\n"
	      "Exit codes: 0 done, 1 failed, 2 wrong usage.\n",
	      to);
}

static int complain(const char *text)
{
	char plain[1024];
	snprintf(plain, sizeof plain, "%s", text);
	text_make_plain(plain);
	fprintf(stderr, "tunnel-agent: %s\n", plain);
	return EXIT_FAILURE;
}

enum {
	OPT_CONFIG = 1,
	OPT_STATE_DIR,
	OPT_SERVER,
	OPT_CA_FILE,
	OPT_TOKEN_FILE,
	OPT_TOKEN,
	OPT_OUTPUT,
	OPT_HELP,
	OPT_VERSION
};

/* 0: go on; else exit with *out_code. */
static int parse(int argc, char **argv, struct arguments *a, const char *command, int *out_code)
{
	const struct option options[] = {
		{ "config", required_argument, NULL, OPT_CONFIG },
		{ "state-dir", required_argument, NULL, OPT_STATE_DIR },
		{ "server", required_argument, NULL, OPT_SERVER },
		{ "ca-file", required_argument, NULL, OPT_CA_FILE },
		{ "token-file", required_argument, NULL, OPT_TOKEN_FILE },
		{ "token", required_argument, NULL, OPT_TOKEN },
		{ "output", required_argument, NULL, OPT_OUTPUT },
		{ "check-config", no_argument, &a->mode, MODE_CHECK },
		{ "print-config", no_argument, &a->mode, MODE_PRINT },
		{ "describe-config", no_argument, &a->mode, MODE_DESCRIBE },
		{ "help", no_argument, NULL, OPT_HELP },
		{ "version", no_argument, NULL, OPT_VERSION },
		{ NULL, 0, NULL, 0 },
	};
	const struct {
		const char **place, *command; /* NULL: of every command */
	} rows[] = { [OPT_CONFIG] = { &a->config, NULL },
		     [OPT_STATE_DIR] = { &a->state_dir, NULL },
		     [OPT_SERVER] = { &a->server, "enroll" },
		     [OPT_CA_FILE] = { &a->ca_file, "enroll" },
		     [OPT_TOKEN_FILE] = { &a->token_file, "enroll" },
		     [OPT_TOKEN] = { &a->token, "enroll" },
		     [OPT_OUTPUT] = { &a->output, "doctor" } };
	int c, at = 0;
	*out_code = EXIT_SUCCESS;
	while ((c = getopt_long(argc, argv, "+", options, &at)) != -1) {
		if (c == 0)
			continue;
		if (c == OPT_HELP)
			return usage(stdout), 1;
		if (c == OPT_VERSION)
			return puts("tunnel-agent " TUNNEL_VERSION), 1;
		bool elsewhere = c != '?' && rows[c].command && strcmp(rows[c].command, command) != 0;
		if (elsewhere)
			fprintf(stderr, "tunnel-agent: --%s belongs to %s\n", options[at].name, rows[c].command);
		if (c == '?' || elsewhere) {
			fputs("Try: tunnel-agent --help\n", stderr);
			*out_code = EXIT_USAGE;
			return 1;
		}
		*rows[c].place = optarg;
	}
	if (optind < argc) {
		fprintf(stderr, "tunnel-agent: what is \"%s\"? Try: tunnel-agent --help\n", argv[optind]);
		*out_code = EXIT_USAGE;
		return 1;
	}
	return 0;
}

static int print_settings(const struct arguments *a, const struct settings *s)
{
	if (a->mode == MODE_PRINT)
		conf_print(stdout, settings_rows, s, NULL);
	else
		puts("the settings are fine");
	return EXIT_SUCCESS;
}

static int enroll(const struct arguments *a, struct settings *s)
{
	struct err e = { 0 };
	char *token = NULL;
	bool configured = s->ca_file && s->ca_file[0];
	if (!a->token == !a->token_file)
		return complain("enroll needs --token-file FILE (- for stdin), or --token TOKEN"), EXIT_USAGE;
	int rc = a->token_file ? enroll_read_token(a->token_file, &token, &e) : 0;
	if (!rc && a->token && !(token = strdup(a->token)))
		rc = err_set(&e, ERR_NOMEM, "out of memory");
	if (a->token) /* out of the process list, as early as we can */
		secret_wipe((char *)(uintptr_t)a->token, strlen(a->token));
	for (const struct conf_row *row = settings_rows; !rc && a->ca_file && row->key; row++)
		if (strcmp(row->key, "ca_file") == 0)
			rc = conf_set(row, a->ca_file, "--ca-file", s, &e);
	if (!rc)
		rc = enroll_run(s, a->server, token, &e);
	secret_free_text(&token);
	if (!rc && a->ca_file && !configured)
		fprintf(stderr, "tunnel-agent: %s needs it as well: ca_file = \"%s\";\n",
			a->config ? a->config : AGENT_CONFIG_DEFAULT, a->ca_file);
	return rc ? complain(e.text) : EXIT_SUCCESS;
}

static int rotate_key(const struct arguments *a, struct settings *s)
{
	struct err e = { 0 };
	(void)a;
	return rotate_key_run(s, &e) ? complain(e.text) : EXIT_SUCCESS;
}

static int run(const struct arguments *a, struct settings *s)
{
	struct err e = { 0 };
	log_init("tunnel-agent", (enum log_level)s->log_level, (enum log_format)s->log_format);
	if (a->unguarded->code)
		log_warn("%s", a->unguarded->text);
	notify_init();
	if (supervisor_run(s, a->config, a->state_dir, &e) == 0)
		return EXIT_SUCCESS;
	log_error("%s", e.text);
	return EXIT_FAILURE;
}

/* Its settings may be what is wrong. */
static int doctor(const struct arguments *a, struct settings *s, const struct err *why_not)
{
	bool json = a->output && strcmp(a->output, "json") == 0;
	if (a->output && !json && strcmp(a->output, "text") != 0)
		return complain("--output: expected text or json"), EXIT_USAGE;
	return doctor_run(s, a->config, why_not, json) ? EXIT_SUCCESS : EXIT_FAILURE;
}

struct command {
	const char *name;
	int (*work)(const struct arguments *a, struct settings *s);
};

/* The first is meant when none is named. */
static const struct command commands[] = {
	{ "run", run }, { "enroll", enroll }, { "rotate-key", rotate_key }, { "doctor", NULL }
};

static const struct command *take_command(int *argc, char ***argv)
{
	for (size_t i = 0; *argc > 1 && i < sizeof commands / sizeof *commands; i++)
		if (strcmp(commands[i].name, (*argv)[1]) == 0) {
			--*argc, ++*argv;
			return &commands[i];
		}
	return &commands[0];
}

static void on_shortage(const char *words)
{
	log_error("%s", words);
}

int main(int argc, char **argv)
{
	struct err e = { 0 }, unguarded = { 0 };
	struct arguments a = { .mode = MODE_WORK, .unguarded = &unguarded };
	struct settings settings = { .ssh = NULL };
	int code;
	file_fill_standard_descriptors();
	certain_init(on_shortage);
	process_guard(LIMIT_SECRETS, &unguarded);
	if (argc > 1 && strcmp(argv[1], "worker") == 0)
		return worker_main();
	const struct command *command = take_command(&argc, &argv);
	if (parse(argc, argv, &a, command->name, &code))
		return code;
	if (a.mode == MODE_DESCRIBE) {
		conf_describe(stdout, settings_rows);
		return EXIT_SUCCESS;
	}
	int rc = settings_load(a.config, a.state_dir, &settings, &e);
	if (a.mode == MODE_WORK && !command->work)
		code = doctor(&a, rc ? NULL : &settings, &e);
	else if (rc)
		code = complain(e.text);
	else
		code = a.mode != MODE_WORK ? print_settings(&a, &settings) : command->work(&a, &settings);
	settings_free(&settings);
	return code;
}
