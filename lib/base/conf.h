/* Config files (libconfig syntax) read through one table of settings. The table is the parser, the check, the printout
 * and the manual: a key that is in no row, is there twice, or is out of range is refused with file:line and what is
 * allowed. */
#ifndef BASE_CONF_H
#define BASE_CONF_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum conf_type {
	CONF_STRING,      /* char * */
	CONF_PATH,        /* char *; a relative path is taken from the file's folder */
	CONF_INT,         /* int64_t */
	CONF_BOOL,        /* bool */
	CONF_DURATION_MS, /* int64_t; "15m", "300ms", bare number = seconds */
	CONF_SIZE,        /* int64_t; "256k" */
	CONF_ENUM,        /* int: the index of the word in choices, "logfmt|json" */
	CONF_STRINGS,     /* struct conf_strings: one string, or an array of them */
	CONF_SECTION,  /* struct conf_section: a group whose keys this table does not know (a plugin's options, tags) */
	CONF_SECTIONS, /* struct conf_sections: one such group, or a list of them */
};

#define CONF_REQUIRED 1u
#define CONF_SECRET 2u /* printed as *** */
#define CONF_RELOAD 4u /* takes effect on SIGHUP; others need a restart */

struct conf_row {
	const char *key; /* "tls.certificate": dots are nested groups */
	enum conf_type type;
	size_t offset; /* of the value in the settings struct */
	unsigned flags;
	const char *def;     /* default as text; NULL: zero value */
	int64_t min, max;    /* of a text: 1 as min, or CONF_REQUIRED: not empty; max characters, 0: any number */
	const char *choices; /* CONF_ENUM */
	const char *help;
};

struct conf_strings {
	char **at; /* NULL: not given, and no default; an empty list of the file has 0 items and is given */
	size_t n;
};
struct conf_pair {
	char *key, *value; /* scalars as text; an array gives several pairs of the same key */
	char *where;       /* "server.conf:42" */
};
struct conf_section {
	struct conf_pair *pairs;
	size_t n;
	char *where;
	char *folder; /* of the file: relative paths among the values are taken from it; NULL: the working folder */
};
struct conf_sections {
	struct conf_section *at;
	size_t n;
};

/* Fills *settings (a zeroed struct described by rows, which end with key NULL). On failure nothing is left allocated
 * and settings is zero. path NULL: defaults only. */
int conf_load(const char *path, const struct conf_row *rows, void *settings, struct err *e);
/* The same for one top-level group of a file that holds only groups (profiles). ERR_NOT_FOUND names the groups there
 * are. */
int conf_load_group(const char *path, const char *group, const struct conf_row *rows, void *settings, struct err *e);
/* Calls each for the name of every group of such a file, in its order. */
int conf_each_group(const char *path, void (*each)(void *user, const char *name), void *user, struct err *e);
/* Where the file has the key: "server.conf:42"; path as it is when the key is not in it. For who learns after loading
 * that a value will not do. */
void conf_where(const char *path, const char *key, char *out, size_t size);
/* The pair with that key, which is there at most once; NULL: it is not. ERR_INVALID: it is there twice. */
int conf_section_key(const struct conf_section *section, const char *key, const struct conf_pair **out, struct err *e);
void conf_free(const struct conf_row *rows, void *settings);
/* In config syntax, secrets as ***. A pair of a section is secret when is_secret says so (may be NULL). */
void conf_print(FILE *to, const struct conf_row *rows, const void *settings,
		bool (*is_secret)(const struct conf_section *, const char *key));
/* The table as text: key, type, default, range, help. */
void conf_describe(FILE *to, const struct conf_row *rows);
/* The keys of what differs and has no CONF_RELOAD, "a, b" or ""; cut off where out is full. */
void conf_left(const struct conf_row *rows, const void *now, const void *fresh, char *out, size_t size);
/* Sets one value from text with the row's checks (command-line overrides, defaults). where names it in the error. */
int conf_set(const struct conf_row *row, const char *text, const char *where, void *settings, struct err *e);

#endif
