/* The subcommands: one file each, one row each in main.c's table. */
#ifndef CLI_COMMAND_H
#define CLI_COMMAND_H

#include "cli/args.h"

#include <stdbool.h>

/* Exit codes. A command run over SSH passes its own on; so ours stay clear of the small numbers and of ssh's 255. */
enum exit_code {
	EXIT_CODE_OK = 0,
	EXIT_CODE_FAILED = 1,
	EXIT_CODE_USAGE = 2,
	EXIT_CODE_CONFIG = 230, /* profile, credentials or local files are wrong */
	EXIT_CODE_UNAUTHENTICATED = 231,
	EXIT_CODE_FORBIDDEN = 232,
	EXIT_CODE_NOT_FOUND = 233,
	EXIT_CODE_OFFLINE = 234,      /* the target's agent is not connected */
	EXIT_CODE_UNREACHABLE = 235,  /* no server could be reached, or it is busy */
	EXIT_CODE_SESSION_OVER = 236, /* the session was ended from elsewhere: by an operator, by its owner */
	EXIT_CODE_REFUSED = 237,      /* the target's agent refused the session or the stream */
	EXIT_CODE_EXPIRED = 238,      /* the session reached its maximum duration */
	EXIT_CODE_IDLE = 239,
	EXIT_CODE_DETACHED = 240, /* one of its ends was away too long */
	EXIT_CODE_REVOKED = 241,  /* policy no longer allows the session */
	EXIT_CODE_REPLACED = 242, /* another client resumed the session */
	EXIT_CODE_TARGET_GONE = 243,
	EXIT_CODE_NOT_WHOLE = 244,   /* verify-audit: a record is missing, changed, or out of its chain */
	EXIT_CODE_NOT_ALLOWED = 245, /* simulate-policy: the policies would not allow it */
};

/* Options that every command knows; first member of each command's own options. */
struct common_options {
	const char *profile, *config;
	int output; /* enum output_format */
	bool help, quiet, debug;
};
extern const struct arg_row common_rows[];

struct command {
	const char *name;
	const char *usage; /* what comes behind the name */
	const char *summary;
	const struct arg_row *rows; /* its own options; NULL: none */
	size_t options_size;        /* sizeof its options struct, at most COMMAND_OPTIONS_MAX */
	int (*run)(const void *options, int argc,
		   char **argv); /* argv: what is left behind the options; returns the exit code */
	const char *details;     /* examples; may be NULL */
	bool hidden;
	bool takes_command; /* what follows the first argument that is no option belongs to a command on the target */
};

#define COMMAND_OPTIONS_MAX 2048

extern const struct command command_start_session, command_resume_session, command_list_sessions,
	command_describe_session, command_terminate_session, command_list_targets, command_list_nodes,
	command_describe_target, command_deregister_target, command_create_enrollment, command_put_policy,
	command_get_policy, command_delete_policy, command_list_policies, command_simulate_policy, command_who_can,
	command_audit, command_verify_audit, command_revoke, command_list_revocations, command_lift_revocation,
	command_login, command_logout, command_whoami, command_completion, command_status, command_doctor,
	command_complete, command_ssh_config, command_ssh_prepare, command_ssh_proxy, command_pass_fd,
	command_exec_ignoring;

/* main.c: all of them; ends with NULL. */
extern const struct command *const commands[];
const struct command *command_find(const char *name);

/* Prints "tunnel-cli: <text>" on stderr. */
void complain(const char *fmt, ...) PRINTF_LIKE(1, 2);
/* From here on the last complaint is kept in out instead of printed; NULL: printed again. */
void keep_complaints(char *out, size_t size);
/* The exit code for a local failure. */
int exit_for_err(const struct err *e);

#endif
