/* Command-line options as rows of a table: parsing, checking and --help come from it. */
#ifndef CLI_ARGS_H
#define CLI_ARGS_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

enum arg_type {
	ARG_FLAG, /* bool */
	ARG_TEXT, /* const char *, borrowed from argv; once only */
	ARG_LIST, /* struct arg_list; may be repeated */
	ARG_ENUM, /* int: index in choices "text|json" */
};

#define ARG_LIST_MAX 32
struct arg_list {
	const char *at[ARG_LIST_MAX];
	size_t n;
};

struct arg_row {
	const char *name; /* long name without dashes */
	char short_name;  /* 0: none */
	enum arg_type type;
	size_t offset;
	const char *value; /* what the value is called in --help; choices of an ARG_ENUM */
	const char *help;
};

/* Options may stand before and behind other arguments; with stop_at_first, what follows the first other argument is
 * left alone (a command of its own), as is what follows "--". The other arguments are moved to argv[0 .. *out_n).
 * Tables end with name NULL; second may be NULL. Both write into *out. Values: "--name value", "--name=value", "-n
 * value". ERR_INVALID names the option. */
int args_parse(const struct arg_row *first, const struct arg_row *second, bool stop_at_first, int argc, char **argv,
	       void *out, int *out_n, struct err *e);
/* The row of an option as it is typed, "--name" or "-n" (len bytes), or NULL. rows may be NULL. */
const struct arg_row *args_find(const struct arg_row *rows, const char *typed, size_t len);
void args_help(FILE *to, const struct arg_row *rows);

#endif
