/* Options of a plugin: the rows it declares are the check. Rows are walked by the size the plugin's own build gave
 * them, so a newer plugin with longer rows reads right. */
#include "server/plugin_internal.h"

#include "base/nearest.h"
#include "base/secret.h"
#include "base/text.h"

#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ROWS_MAX 256u
#define ROW_MIN (offsetof(struct tunnel_option_spec, help) + sizeof(char *))

static const char *const type_words[] = { "text",
					  "a whole number",
					  "true or false",
					  "a duration (\"300ms\", \"30s\", \"15m\")",
					  "a size (\"4096\", \"64k\", \"4M\")",
					  "a path",
					  "one of" };
static const char *const type_names[] = { "string", "int", "bool", "duration", "size", "path", "enum" };

bool plugin_options_row(const struct plugin *p, size_t i, struct tunnel_option_spec *out)
{
	const char *first = (const char *)p->desc.options;
	size_t stride;
	if (!first)
		return false;
	memcpy(&stride, first, sizeof stride);
	const char *row = first + i * stride;
	const char *key;
	memcpy(&key, row + offsetof(struct tunnel_option_spec, key), sizeof key);
	if (!key)
		return false;
	memset(out, 0, sizeof *out);
	memcpy(out, row, stride < sizeof *out ? stride : sizeof *out);
	return true;
}

static bool find_row(const struct plugin *p, const char *key, struct tunnel_option_spec *out)
{
	for (size_t i = 0; plugin_options_row(p, i, out); i++)
		if (strcmp(out->key, key) == 0)
			return true;
	return false;
}

static bool is_choice(const char *choices, const char *word)
{
	size_t len = strlen(word);
	for (const char *c = choices; c;) {
		size_t n = strcspn(c, "|");
		if (n == len && memcmp(c, word, n) == 0)
			return true;
		c = c[n] ? c + n + 1 : NULL;
	}
	return false;
}

static const char *shown(const struct tunnel_option_spec *row, const char *value)
{
	return row->flags & TUNNEL_OPTION_SECRET ? "***" : value;
}

static int check_length(const struct tunnel_option_spec *row, const char *text, const char *where, struct err *e)
{
	int64_t n = (int64_t)strlen(text);
	if (!text_is_utf8(text, (size_t)n))
		return err_set(e, ERR_INVALID, "%s: %s: not valid UTF-8", where, row->key);
	if ((row->min || row->max) && (n < row->min || n > row->max))
		return err_set(e, ERR_INVALID,
			       "%s: %s: %" PRId64 " bytes long; allowed: %" PRId64 " to %" PRId64 " bytes", where,
			       row->key, n, row->min, row->max);
	return 0;
}

static int convert_number(const struct tunnel_option_spec *row, const char *text, const char *where, char **out,
			  struct err *e)
{
	int64_t v = 0;
	int rc = row->type == TUNNEL_OPTION_INT        ? text_parse_int(text, INT64_MIN, INT64_MAX, &v)
		 : row->type == TUNNEL_OPTION_DURATION ? text_parse_duration_ms(text, &v)
						       : text_parse_size(text, &v);
	if (rc != 0)
		return err_set(e, ERR_INVALID, "%s: %s: \"%s\" is not a value for it; allowed: %s", where, row->key,
			       shown(row, text), type_words[row->type]);
	if ((row->min || row->max) && (v < row->min || v > row->max))
		return err_set(e, ERR_INVALID, "%s: %s: %s is out of range; allowed: %" PRId64 " to %" PRId64 "%s",
			       where, row->key, shown(row, text), row->min, row->max,
			       row->type == TUNNEL_OPTION_DURATION ? " ms"
			       : row->type == TUNNEL_OPTION_SIZE   ? " bytes"
								   : "");
	char number[32];
	snprintf(number, sizeof number, "%" PRId64, v);
	*out = strdup(number);
	return 0;
}

static int convert_path(const struct tunnel_option_spec *row, const char *text, const char *folder, const char *where,
			char **out, struct err *e)
{
	if (!*text)
		return err_set(e, ERR_INVALID, "%s: %s: an empty path; expected %s", where, row->key,
			       row->help ? row->help : "a file or folder");
	char cwd[PATH_MAX], full[2 * PATH_MAX];
	int n;
	if (text[0] == '/') {
		n = snprintf(full, sizeof full, "%s", text);
	} else {
		if (!folder && !getcwd(cwd, sizeof cwd))
			return err_set(e, ERR_IO, "%s: %s: relative, but the working folder cannot be found", where,
				       row->key);
		n = snprintf(full, sizeof full, "%s/%s", folder ? folder : cwd, text);
	}
	if (n >= PATH_MAX)
		return err_set(e, ERR_INVALID, "%s: %s: longer than %d bytes", where, row->key, PATH_MAX - 1);
	*out = strdup(full);
	return check_length(row, full, where, e);
}

static int check_private(const struct tunnel_option_spec *row, const char *path, const char *where, struct err *e)
{
	if (!(row->flags & TUNNEL_OPTION_PRIVATE))
		return 0;
	return secret_check_file(path, e) == 0 ? 0 : err_wrap(e, "%s: %s", where, row->key);
}

/* Text as written in a file to the text that is handed over. */
static int convert(const struct tunnel_option_spec *row, const char *text, const char *folder, const char *where,
		   char **out, struct err *e)
{
	int rc = 0;
	*out = NULL;
	switch (row->type) {
	case TUNNEL_OPTION_INT:
	case TUNNEL_OPTION_DURATION:
	case TUNNEL_OPTION_SIZE:
		rc = convert_number(row, text, where, out, e);
		break;
	case TUNNEL_OPTION_PATH:
		rc = convert_path(row, text, folder, where, out, e);
		break;
	case TUNNEL_OPTION_BOOL:
	case TUNNEL_OPTION_ENUM: {
		const char *choices = row->type == TUNNEL_OPTION_BOOL ? "true|false" : row->choices;
		if (!is_choice(choices, text))
			return err_set(e, ERR_INVALID, "%s: %s: \"%s\" is unknown; allowed: %s", where, row->key,
				       shown(row, text), choices);
		*out = strdup(text);
		break;
	}
	case TUNNEL_OPTION_STRING:
		rc = check_length(row, text, where, e);
		*out = rc == 0 ? strdup(text) : NULL;
		break;
	}
	if (rc == 0 && !*out)
		rc = err_set(e, ERR_NOMEM, "out of memory");
	if (rc != 0)
		secret_free_text(out);
	return rc;
}

bool plugin_options_are_ours(const char *key)
{
	return strcmp(key, "plugin") == 0 || strcmp(key, "provider") == 0;
}

static bool is_option_key(const char *key)
{
	size_t n = strlen(key);
	return n > 0 && n <= 64 && key[0] >= 'a' && key[0] <= 'z' && !plugin_options_are_ours(key) &&
	       strspn(key, "abcdefghijklmnopqrstuvwxyz0123456789_") == n;
}

static int check_row(const struct plugin *p, size_t i, const struct tunnel_option_spec *row, size_t stride,
		     struct err *e)
{
	struct tunnel_option_spec other;
	if (row->size != stride)
		return err_set(e, ERR_INVALID, "%s: option row %zu has size %zu; expected %zu, as the first row",
			       p->file, i, row->size, stride);
	if (!is_option_key(row->key))
		return err_set(e, ERR_INVALID,
			       "%s: option row %zu: key \"%s\"; expected a-z, 0-9, _ and not \"plugin\"", p->file, i,
			       row->key);
	if ((unsigned)row->type > TUNNEL_OPTION_ENUM)
		return err_set(e, ERR_INVALID, "%s: option %s has type %d; expected 0 to %d", p->file, row->key,
			       (int)row->type, TUNNEL_OPTION_ENUM);
	if (row->type == TUNNEL_OPTION_ENUM && !row->choices)
		return err_set(e, ERR_INVALID, "%s: option %s is an enum without choices", p->file, row->key);
	if ((row->flags & TUNNEL_OPTION_PRIVATE) && row->type != TUNNEL_OPTION_PATH)
		return err_set(e, ERR_INVALID, "%s: option %s has TUNNEL_OPTION_PRIVATE; expected that of a path alone",
			       p->file, row->key);
	for (size_t k = 0; k < i && plugin_options_row(p, k, &other); k++)
		if (strcmp(other.key, row->key) == 0)
			return err_set(e, ERR_INVALID, "%s: option %s has two rows", p->file, row->key);
	char *value = NULL;
	int rc = row->def ? convert(row, row->def, "/", "default", &value, e) : 0;
	secret_free_text(&value);
	return rc == 0 ? 0 : err_wrap(e, "%s", p->file);
}

int plugin_options_check_table(const struct plugin *p, struct err *e)
{
	struct tunnel_option_spec row;
	size_t stride = 0;
	for (size_t i = 0; plugin_options_row(p, i, &row); i++) {
		if (i == 0)
			stride = row.size;
		if (stride < ROW_MIN)
			return err_set(e, ERR_INVALID, "%s: its option rows have %zu bytes; expected at least %zu",
				       p->file, stride, ROW_MIN);
		if (i == ROWS_MAX)
			return err_set(e, ERR_INVALID,
				       "%s: more than %u options; expected a last row whose key is NULL", p->file,
				       ROWS_MAX);
		int rc = check_row(p, i, &row, stride, e);
		if (rc != 0)
			return rc;
	}
	return 0;
}

static int add_value(struct option_values *to, const struct tunnel_option_spec *row, const char *text,
		     const char *folder, const char *where, struct err *e)
{
	char *value;
	int rc = convert(row, text, folder, where, &value, e);
	if (rc == 0)
		rc = check_private(row, value, where, e);
	if (rc != 0) {
		secret_free_text(&value);
		return rc;
	}
	struct tunnel_option *at = realloc(to->at, (to->n + 1) * sizeof *at);
	char *place = strdup(where);
	if (at)
		to->at = at;
	if (!at || !place) {
		secret_free_text(&value);
		free(place);
		return err_set(e, ERR_NOMEM, "out of memory");
	}
	to->at[to->n++] = (struct tunnel_option){ .size = sizeof *at, .key = row->key, .value = value, .where = place };
	return 0;
}

static int take_row(const struct plugin *p, const struct tunnel_option_spec *row, const struct conf_section *section,
		    struct option_values *out, struct err *e)
{
	const struct conf_pair *earlier = NULL;
	for (size_t i = 0; i < section->n; i++) {
		const struct conf_pair *pair = &section->pairs[i];
		if (strcmp(pair->key, row->key) != 0)
			continue;
		if (earlier && !(row->flags & TUNNEL_OPTION_LIST))
			return err_set(e, ERR_INVALID, "%s: %s: given twice (first at %s); allowed: once", pair->where,
				       row->key, earlier->where);
		earlier = pair;
		int rc = add_value(out, row, pair->value, section->folder, pair->where, e);
		if (rc != 0)
			return rc;
	}
	if (earlier)
		return 0;
	if (row->def)
		return add_value(out, row, row->def, section->folder, "default", e);
	if (row->flags & TUNNEL_OPTION_REQUIRED)
		return err_set(e, ERR_INVALID, "%s: %s is missing, which plugin %s needs (%s)", section->where,
			       row->key, p->name, row->help ? row->help : type_words[row->type]);
	return 0;
}

static int refuse_unknown(const struct plugin *p, const struct conf_section *section, struct err *e)
{
	struct tunnel_option_spec row;
	bool auth = p->desc.kind == TUNNEL_KIND_AUTH; /* a store needs no name of its own */
	for (size_t i = 0; i < section->n; i++) {
		const struct conf_pair *pair = &section->pairs[i];
		if (strcmp(pair->key, "plugin") == 0 || (auth && plugin_options_are_ours(pair->key)) ||
		    find_row(p, pair->key, &row))
			continue;
		char names[120] = "plugin";
		struct nearest nearest = { .wanted = pair->key };
		if (auth) {
			nearest_offer(&nearest, "provider");
			text_list_add(names, sizeof names, "provider");
		}
		for (size_t k = 0; plugin_options_row(p, k, &row); k++) {
			nearest_offer(&nearest, row.key);
			text_list_add(names, sizeof names, row.key);
		}
		return err_set(e, ERR_INVALID, "%s: %s: unknown option of %s;%s allowed: %s", pair->where, pair->key,
			       p->name, nearest_words(&nearest), names);
	}
	return 0;
}

int plugin_options_check(const struct plugin *p, const struct conf_section *section, struct option_values *out,
			 struct err *e)
{
	struct option_values values = { NULL, 0 };
	struct tunnel_option_spec row;
	int rc = refuse_unknown(p, section, e);
	for (size_t i = 0; rc == 0 && plugin_options_row(p, i, &row); i++)
		rc = take_row(p, &row, section, &values, e);
	if (rc != 0)
		plugin_options_free(&values);
	else
		*out = values;
	return rc;
}

void plugin_options_free(struct option_values *values)
{
	for (size_t i = 0; i < values->n; i++) {
		struct tunnel_option *o = &values->at[i];
		secret_wipe((char *)(uintptr_t)o->value, strlen(o->value));
		free((char *)(uintptr_t)o->value);
		free((char *)(uintptr_t)o->where);
	}
	free(values->at);
	values->at = NULL;
	values->n = 0;
}

static void describe_range(FILE *to, const struct tunnel_option_spec *row)
{
	if (row->type == TUNNEL_OPTION_ENUM)
		fprintf(to, " %s", row->choices);
	else if (row->min || row->max)
		fprintf(to, " %" PRId64 "..%" PRId64 "%s", row->min, row->max,
			row->type == TUNNEL_OPTION_DURATION ? " ms"
			: row->type == TUNNEL_OPTION_INT    ? ""
							    : " bytes");
}

void plugin_options_describe(const struct plugin *p, FILE *to)
{
	struct tunnel_option_spec row;
	for (size_t i = 0; plugin_options_row(p, i, &row); i++) {
		fprintf(to, "  %-20s %s", row.key, type_names[row.type]);
		describe_range(to, &row);
		if (row.flags & TUNNEL_OPTION_REQUIRED)
			fputs(", required", to);
		if (row.flags & TUNNEL_OPTION_LIST)
			fputs(", may be an array", to);
		if (row.flags & TUNNEL_OPTION_SECRET)
			fputs(", secret", to);
		if (row.flags & TUNNEL_OPTION_PRIVATE)
			fputs(", of mode 0600", to);
		if (row.def)
			fprintf(to, ", default %s", shown(&row, row.def));
		fprintf(to, "\n  %-20s %s\n", "", row.help ? row.help : "");
	}
}
