/* Reading JSON from strangers: strict parse, and objects checked against a table of fields.
 * Every mistake is named by its place: "body.allow[2]: expected string". */
#ifndef BASE_JSON_H
#define BASE_JSON_H

#include "base/err.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* One document, no duplicate keys, no NUL in strings, UTF-8 only. *out_json is owned by the caller (json_decref). */
int json_parse(const char *text, size_t len, json_t **out_json, struct err *e);

enum json_field_type {
	JSON_FIELD_STRING,
	JSON_FIELD_INT,
	JSON_FIELD_BOOL,
	JSON_FIELD_OBJECT,
	JSON_FIELD_ARRAY,
	JSON_FIELD_STRINGS
};

struct json_field {
	const char *name;
	enum json_field_type type;
	bool required;
	int64_t min, max; /* INT: range. STRING: length range in bytes (max 0: no bound). ARRAY, STRINGS: max count */
	void *out; /* STRING: const char **. INT: int64_t *. BOOL: bool *. others: json_t **. Borrowed from the object.
		      Left alone when the field is absent or null, so set the defaults before. */
};

/* Fields end with one whose name is NULL. Unknown fields are an error when strict (requests), else ignored (messages
 * between versions). where names the object in texts. */
int json_read(json_t *object, const char *where, bool strict, const struct json_field *fields, struct err *e);

/* Compact text, malloc'd; NULL when out of memory. Keys keep their order. */
char *json_text(const json_t *json);

#endif
