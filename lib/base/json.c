#include "base/json.h"

#include <inttypes.h>
#include <string.h>

int json_parse(const char *text, size_t len, json_t **out_json, struct err *e)
{
	json_error_t why;
	if (len && memchr(text, '\0', len)) /* jansson passes over one behind a number or a word */
		return err_set(e, ERR_INVALID, "not valid JSON: it holds a NUL byte");
	json_t *json = json_loadb(text, len, JSON_REJECT_DUPLICATES, &why);
	if (!json)
		return err_set(e, ERR_INVALID, "not valid JSON: line %d column %d: %s", why.line, why.column, why.text);
	*out_json = json;
	return 0;
}

static const char *const type_names[] = { "string", "integer", "boolean", "object", "array", "array of strings" };

static int wrong_type(const char *where, const struct json_field *f, struct err *e)
{
	return err_set(e, ERR_INVALID, "%s.%s: expected %s", where, f->name, type_names[f->type]);
}

static int read_string(const json_t *v, const char *where, const struct json_field *f, struct err *e)
{
	if (!json_is_string(v))
		return wrong_type(where, f, e);
	size_t n = json_string_length(v);
	if (n < (size_t)f->min || (f->max && n > (size_t)f->max))
		return err_set(e, ERR_INVALID, "%s.%s: %zu bytes long; allowed: %" PRId64 " to %" PRId64, where,
			       f->name, n, f->min, f->max);
	*(const char **)f->out = json_string_value(v);
	return 0;
}

static int read_int(const json_t *v, const char *where, const struct json_field *f, struct err *e)
{
	if (!json_is_integer(v))
		return wrong_type(where, f, e);
	int64_t n = json_integer_value(v);
	if (n < f->min || n > f->max)
		return err_set(e, ERR_INVALID, "%s.%s: %" PRId64 " is out of range; allowed: %" PRId64 " to %" PRId64,
			       where, f->name, n, f->min, f->max);
	*(int64_t *)f->out = n;
	return 0;
}

static int read_array(json_t *v, const char *where, const struct json_field *f, struct err *e)
{
	if (!json_is_array(v))
		return wrong_type(where, f, e);
	size_t n = json_array_size(v);
	if (f->max && n > (size_t)f->max)
		return err_set(e, ERR_INVALID, "%s.%s: %zu entries; allowed: at most %" PRId64, where, f->name, n,
			       f->max);
	for (size_t i = 0; f->type == JSON_FIELD_STRINGS && i < n; i++)
		if (!json_is_string(json_array_get(v, i)))
			return err_set(e, ERR_INVALID, "%s.%s[%zu]: expected string", where, f->name, i);
	*(json_t **)f->out = v;
	return 0;
}

static int read_field(json_t *v, const char *where, const struct json_field *f, struct err *e)
{
	switch (f->type) {
	case JSON_FIELD_STRING:
		return read_string(v, where, f, e);
	case JSON_FIELD_INT:
		return read_int(v, where, f, e);
	case JSON_FIELD_BOOL:
		if (!json_is_boolean(v))
			return wrong_type(where, f, e);
		*(bool *)f->out = json_is_true(v);
		return 0;
	case JSON_FIELD_OBJECT:
		if (!json_is_object(v))
			return wrong_type(where, f, e);
		*(json_t **)f->out = v;
		return 0;
	case JSON_FIELD_ARRAY:
	case JSON_FIELD_STRINGS:
		return read_array(v, where, f, e);
	}
	return err_set(e, ERR_INTERNAL, "%s.%s: unknown field type", where, f->name);
}

static int reject_unknown(json_t *object, const char *where, const struct json_field *fields, struct err *e)
{
	const char *key;
	json_t *value;
	json_object_foreach(object, key, value)
	{
		const struct json_field *f = fields;
		while (f->name && strcmp(f->name, key) != 0)
			f++;
		if (!f->name)
			return err_set(e, ERR_INVALID, "%s.%s: unknown field", where, key);
	}
	return 0;
}

int json_read(json_t *object, const char *where, bool strict, const struct json_field *fields, struct err *e)
{
	if (!json_is_object(object))
		return err_set(e, ERR_INVALID, "%s: expected object", where);
	if (strict) {
		int rc = reject_unknown(object, where, fields, e);
		if (rc != 0)
			return rc;
	}
	for (const struct json_field *f = fields; f->name; f++) {
		json_t *v = json_object_get(object, f->name);
		if (!v || json_is_null(v)) {
			if (f->required)
				return err_set(e, ERR_INVALID, "%s.%s: missing (%s)", where, f->name,
					       type_names[f->type]);
			continue;
		}
		int rc = read_field(v, where, f, e);
		if (rc != 0)
			return rc;
	}
	return 0;
}

char *json_text(const json_t *json)
{
	return json_dumps(json, JSON_COMPACT | JSON_ENCODE_ANY);
}
