/* The calls that only ask and print: lists with pages, one object by its id. */
#ifndef CLI_QUERY_H
#define CLI_QUERY_H

#include "cli/command.h"
#include "cli/output.h"

struct query_param {
	const char *name, *value; /* value NULL: left out */
};

/* path?name=value&…, percent-encoded. params end with name NULL, sorted by name (SigV4 signs them in that order); may
 * be NULL. */
void query_path(const char *path, const struct query_param *params, char *out, size_t size);
/* All pages of a list; prints a table or a JSON array of those that keep (NULL: all). Returns the exit code. */
typedef bool query_keep(const json_t *row);
int query_list(const struct common_options *common, const char *path, const struct query_param *params,
	       const char *member, query_keep *keep, const struct column *columns);
/* METHOD prefix + the one argument (what: its name for complaints; NULL: the call takes none); prints the answer, if
 * any. */
int query_one(const struct common_options *common, const char *method, const char *prefix, const char *what, int argc,
	      char **argv);

#endif
