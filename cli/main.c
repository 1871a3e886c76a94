#include "cli/command.h"
#include "cli/profile.h"

#include "base/certain.h"
#include "base/file.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/nearest.h"
#include "base/process.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

const struct command *const commands[] = {
	&command_start_session,
	&command_resume_session,
	&command_ssh_config,
	&command_status,
	&command_list_sessions,
	&command_describe_session,
	&command_terminate_session,
	&command_list_targets,
	&command_describe_target,
	&command_deregister_target,
	&command_create_enrollment,
	&command_list_policies,
	&command_get_policy,
	&command_put_policy,
	&command_delete_policy,
	&command_simulate_policy,
	&command_who_can,
	&command_revoke,
	&command_list_revocations,
	&command_lift_revocation,
	&command_list_nodes,
	&command_audit,
	&command_verify_audit,
	&command_login,
	&command_logout,
	&command_whoami,
	&command_doctor,
	&command_completion,
	/* hidden: run by a shell for its completion; by ssh and for it */
	&command_complete,
	&command_pass_fd,
	&command_ssh_prepare,
	&command_ssh_proxy,
	&command_exec_ignoring,
	NULL,
};

static void help(FILE *to)
{
	fprintf(to, "Usage: tunnel-cli COMMAND [OPTIONS]\n\nSecure tunnels to machines that accept no "
		    "connection.\n\nCommands:\n");
	for (size_t i = 0; commands[i]; i++)
		if (!commands[i]->hidden)
			fprintf(to, "  %-20s %s\n", commands[i]->name, commands[i]->summary);
	fprintf(to, "\nOptions of every command:\n");
	args_help(to, common_rows);
	fprintf(to, "\nExample:\n  tunnel-cli start-session --target web-1 --login root\n"
		    "\n\"tunnel-cli COMMAND --help\" tells more, \"tunnel-cli --describe-config\" what a profile can "
		    "have.\n"
		    "Exit codes: 0 done, 1 failed, 2 wrong usage, 230 local config or\n"
		    "credentials, 231 unauthenticated, 232 forbidden, 233 not found, 234 target offline, 235 server "
		    "unreachable,\n"
		    "236 session ended from elsewhere, 237 refused by the target, 238 session expired, 239 idle, 240 "
		    "detached too\n"
		    "long, 241 revoked by policy, 242 resumed by another client, 243 target deregistered, 244 audit "
		    "log\n"
		    "not whole, 245 not allowed (simulate-policy); a command run on the target passes on its own.\n");
}

static void command_help(const struct command *c)
{
	printf("Usage: tunnel-cli %s%s%s\n\n%s.\n", c->name, *c->usage ? " " : "", c->usage, c->summary);
	if (c->rows) {
		printf("\nOptions:\n");
		args_help(stdout, c->rows);
	}
	printf("\nOptions of every command:\n");
	args_help(stdout, common_rows);
	if (c->details)
		printf("\n%s", c->details);
}

const struct command *command_find(const char *name)
{
	for (size_t i = 0; commands[i]; i++)
		if (strcmp(commands[i]->name, name) == 0)
			return commands[i];
	return NULL;
}

static struct err unguarded; /* code 0: all is as process_guard wants it */

static int unknown_command(const char *name)
{
	struct nearest nearest = { .wanted = name };
	for (size_t i = 0; commands[i]; i++)
		if (!commands[i]->hidden)
			nearest_offer(&nearest, commands[i]->name);
	complain("unknown command \"%s\";%s see tunnel-cli --help", name, nearest_words(&nearest));
	return EXIT_CODE_USAGE;
}

/* Whoever reads us may have enough; but what did not get to where it was to go is no success. */
static int judge_output(int code)
{
	errno = 0;
	bool lost = ferror(stdout);
	lost |= fflush(stdout) != 0;
	if (!lost || errno == EPIPE || code != EXIT_CODE_OK)
		return code;
	complain("standard output: %s", errno ? strerror(errno) : "not all of it could be written");
	return EXIT_CODE_FAILED;
}

static int run(const struct command *c, int argc, char **argv)
{
	_Alignas(max_align_t) char options[COMMAND_OPTIONS_MAX] = { 0 };
	struct err e = { 0 };
	int n;
	if (args_parse(common_rows, c->rows, c->takes_command, argc, argv, options, &n, &e) != 0) {
		complain("%s: %s; see tunnel-cli %s --help", c->name, e.text, c->name);
		return EXIT_CODE_USAGE;
	}
	const struct common_options *common = (const struct common_options *)(const void *)options;
	if (common->help) {
		command_help(c);
		return EXIT_CODE_OK;
	}
	log_init("tunnel-cli", common->debug ? LOG_LEVEL_DEBUG : LOG_LEVEL_WARN, LOG_FORMAT_PLAIN);
	if (unguarded.code)
		log_debug("%s", unguarded.text);
	return judge_output(c->run(options, n, argv));
}

static void on_shortage(const char *words)
{
	complain("%s", words);
}

int main(int argc, char **argv)
{
	file_fill_standard_descriptors();
	certain_init(on_shortage);
	process_guard(LIMIT_SECRETS, &unguarded);
	signal(SIGPIPE, SIG_IGN);
	if (argc < 2) {
		help(stderr);
		return EXIT_CODE_USAGE;
	}
	const char *name = argv[1];
	if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 || strcmp(name, "help") == 0) {
		help(stdout);
		return EXIT_CODE_OK;
	}
	if (strcmp(name, "--version") == 0) {
		printf("tunnel-cli %s\n", TUNNEL_VERSION);
		return EXIT_CODE_OK;
	}
	if (strcmp(name, "--describe-config") == 0) {
		conf_describe(stdout, profile_rows);
		return EXIT_CODE_OK;
	}
	const struct command *c = command_find(name);
	if (!c && name[0] == '-') {
		complain("%s: the command comes first, then its options; see tunnel-cli --help", name);
		return EXIT_CODE_USAGE;
	}
	if (!c)
		return unknown_command(name);
	return run(c, argc - 2, argv + 2);
}
