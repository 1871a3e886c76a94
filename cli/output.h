/* Results on stdout: tables for people, JSON for programs. */
#ifndef CLI_OUTPUT_H
#define CLI_OUTPUT_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

enum output_format { OUTPUT_TEXT, OUTPUT_JSON };

#define TABLE_COLUMNS 16

/* One column: heading and the member of each row that it shows; "tags" shows an object as k=v,k=v. */
struct column {
	const char *heading, *member;
};

/* A table that grows: the heading comes with the first rows, and a column only becomes wider. Zeroed but for columns.
 */
struct table {
	const struct column *columns; /* end with heading NULL; at most TABLE_COLUMNS */
	size_t width[TABLE_COLUMNS];
	bool headed;
};
void output_rows(struct table *t, const json_t *rows);
/* rows: an array of objects. columns end with heading NULL. */
void output_table(const json_t *rows, const struct column *columns);
/* "member: value" lines, nested objects indented. */
void output_object(const json_t *object);
void output_json(const json_t *json);
void output_json_line(const json_t *json);

#endif
