#include "cli/args.h"

#include "base/text.h"

#include <string.h>

#define HELP_COLUMN 34

static const struct arg_row *find(const struct arg_row *rows, const char *name, size_t len, char short_name)
{
	for (; rows && rows->name; rows++) {
		if (short_name ? rows->short_name == short_name
			       : strlen(rows->name) == len && memcmp(rows->name, name, len) == 0)
			return rows;
	}
	return NULL;
}

const struct arg_row *args_find(const struct arg_row *rows, const char *typed, size_t len)
{
	if (len > 2 && typed[0] == '-' && typed[1] == '-')
		return find(rows, typed + 2, len - 2, '\0');
	return len == 2 && typed[0] == '-' ? find(rows, "", 0, typed[1]) : NULL;
}

static int set_choice(const struct arg_row *row, const char *value, int *at, struct err *e)
{
	int index = 0;
	size_t len = strlen(value);
	for (const char *p = row->value; p; index++) {
		size_t n = strcspn(p, "|");
		if (n == len && memcmp(p, value, n) == 0) {
			*at = index;
			return 0;
		}
		p = p[n] ? p + n + 1 : NULL;
	}
	return err_set(e, ERR_INVALID, "--%s %s: allowed: %s", row->name, value, row->value);
}

/* What goes to a server is JSON, which would be without it; names of files and words for ssh are what they are. */
static bool may_be_any_bytes(const struct arg_row *row)
{
	return strcmp(row->value, "FILE") == 0 || strcmp(row->value, "DIR") == 0 || strcmp(row->value, "ARG") == 0;
}

static int set(const struct arg_row *row, const char *value, char *out, struct err *e)
{
	void *at = out + row->offset;
	if (value && !text_is_utf8(value, strlen(value)) && !may_be_any_bytes(row))
		return err_set(e, ERR_INVALID, "--%s: the value is not UTF-8", row->name);
	switch (row->type) {
	case ARG_FLAG:
		*(bool *)at = true;
		return 0;
	case ARG_TEXT:
		if (*(const char **)at)
			return err_set(e, ERR_INVALID, "--%s is given twice", row->name);
		*(const char **)at = value;
		return 0;
	case ARG_LIST: {
		struct arg_list *list = at;
		if (list->n == ARG_LIST_MAX)
			return err_set(e, ERR_INVALID, "--%s is given more than %d times", row->name, ARG_LIST_MAX);
		list->at[list->n++] = value;
		return 0;
	}
	case ARG_ENUM:
		return set_choice(row, value, at, e);
	}
	return err_set(e, ERR_INTERNAL, "--%s: unknown type", row->name);
}

static bool is_option(const char *arg)
{
	return arg[0] == '-' && arg[1] != '\0'; /* "-" alone is a file name */
}

/* One option at argv[*at]; moves *at behind it and its value. */
static int parse_option(const struct arg_row *first, const struct arg_row *second, int argc, char **argv, int *at,
			void *out, struct err *e)
{
	const char *arg = argv[(*at)++];
	bool is_long = arg[1] == '-';
	const char *name = arg + (is_long ? 2 : 1);
	const char *equals = is_long ? strchr(name, '=') : NULL;
	size_t len = equals ? (size_t)(equals - name) : strlen(name);
	char short_name = is_long || len != 1 ? '\0' : name[0];
	const struct arg_row *row = NULL;
	if (is_long || short_name) {
		row = find(first, name, len, short_name);
		row = row ? row : find(second, name, len, short_name);
	}
	if (!row)
		return err_set(e, ERR_INVALID, "unknown option %s", arg);
	const char *value = equals ? equals + 1 : NULL;
	if (row->type == ARG_FLAG && value)
		return err_set(e, ERR_INVALID, "--%s takes no value", row->name);
	if (row->type != ARG_FLAG && !value) {
		if (*at == argc)
			return err_set(e, ERR_INVALID, "--%s needs a value (%s)", row->name, row->value);
		value = argv[(*at)++];
	}
	return set(row, value, out, e);
}

int args_parse(const struct arg_row *first, const struct arg_row *second, bool stop_at_first, int argc, char **argv,
	       void *out, int *out_n, struct err *e)
{
	int n = 0;
	bool options = true;
	for (int i = 0; i < argc;) {
		if (options && strcmp(argv[i], "--") == 0) {
			options = false;
			i++;
		} else if (options && is_option(argv[i])) {
			int rc = parse_option(first, second, argc, argv, &i, out, e);
			if (rc != 0)
				return rc;
		} else {
			argv[n++] = argv[i++];
			options = options && !stop_at_first;
		}
	}
	*out_n = n;
	return 0;
}

void args_help(FILE *to, const struct arg_row *rows)
{
	for (; rows->name; rows++) {
		char left[80];
		int n = rows->short_name ? snprintf(left, sizeof left, "-%c, ", rows->short_name) : 0;
		snprintf(left + n, sizeof left - (size_t)n, "--%s%s%s", rows->name, rows->type == ARG_FLAG ? "" : " ",
			 rows->type == ARG_FLAG ? "" : rows->value);
		if (strlen(left) > HELP_COLUMN)
			fprintf(to, "  %s\n  %-*s %s\n", left, HELP_COLUMN, "", rows->help);
		else
			fprintf(to, "  %-*s %s\n", HELP_COLUMN, left, rows->help);
	}
}
