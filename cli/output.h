/* Results on stdout: tables for people, JSON for programs. */
#ifndef CLI_OUTPUT_H
#define CLI_OUTPUT_H

#include <jansson.h>
#include <stddef.h>

enum output_format { OUTPUT_TEXT, OUTPUT_JSON };

/* One column: heading and the member of each row that it shows; "tags" shows an object as k=v,k=v. */
struct column {
	const char *heading, *member;
};

/* rows: an array of objects. columns end with heading NULL. */
void output_table(const json_t *rows, const struct column *columns);
/* "member: value" lines, nested objects indented. */
void output_object(const json_t *object);
void output_json(const json_t *json);

#endif
