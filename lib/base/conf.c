/* libconfig parses; this file walks the parsed tree against the table. libconfig itself refuses a repeated key of a
 * group
 * ("duplicate setting name"), with its line. */
#include "base/conf.h"

#include "base/limits.h"
#include "base/nearest.h"
#include "base/text.h"

#include <errno.h>
#include <inttypes.h>
#include <libconfig.h>
#include <libgen.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct walk {
	const struct conf_row *rows;
	char *settings;
	const char *folder; /* of the file, for relative paths */
	struct err *e;
};

static const char *const type_names[] = { "string",
					  "path",
					  "integer",
					  "true or false",
					  "duration (\"300ms\", \"30s\", \"15m\", \"12h\", \"30d\")",
					  "size (\"4096\", \"256k\", \"4M\")",
					  "one of",
					  "string or array of strings",
					  "group",
					  "group or list of groups" };

static void where_text(const config_setting_t *s, char *out, size_t size)
{
	const char *file = config_setting_source_file(s);
	const char *slash = file ? strrchr(file, '/') : NULL;
	snprintf(out, size, "%s:%u", slash ? slash + 1 : file ? file : "config", config_setting_source_line(s));
}

static int set_number(const struct conf_row *row, const char *text, const char *where, char *at, struct err *e)
{
	int64_t v = 0;
	int rc = row->type == CONF_INT           ? text_parse_int(text, INT64_MIN, INT64_MAX, &v)
		 : row->type == CONF_DURATION_MS ? text_parse_duration_ms(text, &v)
						 : text_parse_size(text, &v);
	if (rc != 0)
		return err_set(e, ERR_INVALID, "%s: %s: \"%s\" is not a value for it; allowed: %s", where, row->key,
			       text, type_names[row->type]);
	if (v < row->min || v > row->max)
		return err_set(e, ERR_INVALID, "%s: %s: %s is out of range; allowed: %" PRId64 " to %" PRId64 "%s",
			       where, row->key, text, row->min, row->max,
			       row->type == CONF_DURATION_MS ? " ms"
			       : row->type == CONF_SIZE      ? " bytes"
							     : "");
	memcpy(at, &v, sizeof v);
	return 0;
}

static int set_enum(const struct conf_row *row, const char *text, const char *where, char *at, struct err *e)
{
	int index = 0;
	size_t len = strlen(text);
	for (const char *p = row->choices; p; index++) {
		const char *bar = strchr(p, '|');
		size_t n = bar ? (size_t)(bar - p) : strlen(p);
		if (n == len && memcmp(p, text, n) == 0) {
			memcpy(at, &index, sizeof index);
			return 0;
		}
		p = bar ? bar + 1 : NULL;
	}
	return err_set(e, ERR_INVALID, "%s: %s: \"%s\" is unknown; allowed: %s", where, row->key, text, row->choices);
}

static int set_text(char *at, char *copy, struct err *e)
{
	if (!copy)
		return err_set(e, ERR_NOMEM, "out of memory");
	char *old;
	memcpy(&old, at, sizeof old);
	free(old);
	memcpy(at, &copy, sizeof copy);
	return 0;
}

static int add_string(struct conf_strings *list, const char *text, struct err *e)
{
	char **at = realloc(list->at, (list->n + 1) * sizeof *at);
	char *copy = strdup(text);
	if (at)
		list->at = at;
	if (!at || !copy) {
		free(copy);
		return err_set(e, ERR_NOMEM, "out of memory");
	}
	list->at[list->n++] = copy;
	return 0;
}

/* An empty list is an answer: its default does not take its place. */
static int give_strings(struct conf_strings *list, struct err *e)
{
	if (!list->at && !(list->at = calloc(1, sizeof *list->at)))
		return err_set(e, ERR_NOMEM, "out of memory");
	return 0;
}

static int check_length(const struct conf_row *row, const char *text, const char *where, struct err *e)
{
	if (!*text && (row->min > 0 || row->flags & CONF_REQUIRED))
		return err_set(e, ERR_INVALID, "%s: %s: is empty; expected: %s", where, row->key, row->help);
	if (row->max && strlen(text) > (size_t)row->max)
		return err_set(e, ERR_INVALID, "%s: %s: longer than %" PRId64 " characters", where, row->key, row->max);
	return 0;
}

int conf_set(const struct conf_row *row, const char *text, const char *where, void *settings, struct err *e)
{
	int rc;
	char *at = (char *)settings + row->offset;
	switch (row->type) {
	case CONF_STRING:
	case CONF_PATH:
		rc = check_length(row, text, where, e);
		return rc == 0 ? set_text(at, strdup(text), e) : rc;
	case CONF_INT:
	case CONF_DURATION_MS:
	case CONF_SIZE:
		return set_number(row, text, where, at, e);
	case CONF_BOOL: {
		bool v = strcmp(text, "true") == 0;
		if (!v && strcmp(text, "false") != 0)
			return err_set(e, ERR_INVALID, "%s: %s: \"%s\" is not a value for it; allowed: true or false",
				       where, row->key, text);
		memcpy(at, &v, sizeof v);
		return 0;
	}
	case CONF_ENUM:
		return set_enum(row, text, where, at, e);
	case CONF_STRINGS:
		return add_string((struct conf_strings *)(void *)at, text, e);
	case CONF_SECTION:
	case CONF_SECTIONS:
		break;
	}
	return err_set(e, ERR_INVALID, "%s: %s: cannot be set from text", where, row->key);
}

/* A scalar as the text that conf_set takes; false for groups, lists and arrays. */
static bool scalar_text(const config_setting_t *s, char *out, size_t size)
{
	switch (config_setting_type(s)) {
	case CONFIG_TYPE_STRING:
		return (size_t)snprintf(out, size, "%s", config_setting_get_string(s)) < size;
	case CONFIG_TYPE_INT:
	case CONFIG_TYPE_INT64:
		snprintf(out, size, "%lld", config_setting_get_int64(s));
		return true;
	case CONFIG_TYPE_BOOL:
		snprintf(out, size, "%s", config_setting_get_bool(s) ? "true" : "false");
		return true;
	default:
		return false;
	}
}

static void pair_free(struct conf_pair *p)
{
	free(p->key);
	free(p->value);
	free(p->where);
}

static void section_free(struct conf_section *s)
{
	for (size_t i = 0; i < s->n; i++)
		pair_free(&s->pairs[i]);
	free(s->pairs);
	free(s->where);
	free(s->folder);
	memset(s, 0, sizeof *s);
}

int conf_section_key(const struct conf_section *section, const char *key, const struct conf_pair **out, struct err *e)
{
	*out = NULL;
	for (size_t i = 0; i < section->n; i++) {
		if (strcmp(section->pairs[i].key, key) != 0)
			continue;
		if (*out)
			return err_set(e, ERR_INVALID, "%s: %s: given twice (first at %s); allowed: once",
				       section->pairs[i].where, key, (*out)->where);
		*out = &section->pairs[i];
	}
	return 0;
}

static int section_add(struct conf_section *to, const char *key, const config_setting_t *value, struct err *e)
{
	char where[256], text[4096];
	where_text(value, where, sizeof where);
	if (!scalar_text(value, text, sizeof text))
		return err_set(e, ERR_INVALID,
			       "%s: %s: expected a string, a number, true or false, or an array of them", where, key);
	struct conf_pair *pairs = realloc(to->pairs, (to->n + 1) * sizeof *pairs);
	if (!pairs)
		return err_set(e, ERR_NOMEM, "out of memory");
	to->pairs = pairs;
	pairs[to->n] = (struct conf_pair){ strdup(key), strdup(text), strdup(where) };
	to->n++;
	if (!pairs[to->n - 1].key || !pairs[to->n - 1].value || !pairs[to->n - 1].where)
		return err_set(e, ERR_NOMEM, "out of memory");
	return 0;
}

static int read_section(const config_setting_t *group, const char *folder, struct conf_section *out, struct err *e)
{
	char where[256];
	where_text(group, where, sizeof where);
	out->where = strdup(where);
	out->folder = folder ? realpath(folder, NULL) : NULL;
	if (!config_setting_is_group(group))
		return err_set(e, ERR_INVALID, "%s: expected a group { … }", where);
	for (int i = 0; i < config_setting_length(group); i++) {
		const config_setting_t *s = config_setting_get_elem(group, (unsigned)i);
		const char *key = config_setting_name(s);
		int rc = 0;
		if (config_setting_is_array(s) || config_setting_is_list(s))
			for (int k = 0; rc == 0 && k < config_setting_length(s); k++)
				rc = section_add(out, key, config_setting_get_elem(s, (unsigned)k), e);
		else
			rc = section_add(out, key, s, e);
		if (rc != 0)
			return rc;
	}
	return 0;
}

static int read_sections(const config_setting_t *s, const char *folder, struct conf_sections *out, struct err *e)
{
	bool many = config_setting_is_list(s);
	size_t n = many ? (size_t)config_setting_length(s) : 1;
	out->at = calloc(n ? n : 1, sizeof *out->at);
	if (!out->at)
		return err_set(e, ERR_NOMEM, "out of memory");
	for (size_t i = 0; i < n; i++) {
		out->n = i + 1;
		int rc = read_section(many ? config_setting_get_elem(s, (unsigned)i) : s, folder, &out->at[i], e);
		if (rc != 0)
			return rc;
	}
	return 0;
}

static int read_value(struct walk *w, const struct conf_row *row, const config_setting_t *s)
{
	char where[256], text[4096];
	where_text(s, where, sizeof where);
	char *at = w->settings + row->offset;
	if (row->type == CONF_SECTION)
		return read_section(s, w->folder, (struct conf_section *)(void *)at, w->e);
	if (row->type == CONF_SECTIONS)
		return read_sections(s, w->folder, (struct conf_sections *)(void *)at, w->e);
	if (row->type == CONF_STRINGS && (config_setting_is_array(s) || config_setting_is_list(s))) {
		int rc = give_strings((struct conf_strings *)(void *)at, w->e);
		for (int i = 0; rc == 0 && i < config_setting_length(s); i++) {
			const char *item = config_setting_get_string_elem(s, i);
			if (!item)
				return err_set(w->e, ERR_INVALID, "%s: %s[%d]: expected a string", where, row->key, i);
			rc = add_string((struct conf_strings *)(void *)at, item, w->e);
		}
		return rc;
	}
	bool is_text = config_setting_type(s) == CONFIG_TYPE_STRING;
	bool wants_text = row->type == CONF_STRING || row->type == CONF_PATH || row->type == CONF_ENUM ||
			  row->type == CONF_STRINGS;
	if (!scalar_text(s, text, sizeof text) || (wants_text && !is_text))
		return err_set(w->e, ERR_INVALID, "%s: %s: expected %s", where, row->key, type_names[row->type]);
	if (row->type == CONF_PATH && text[0] != '/' && text[0] != '\0' && w->folder) {
		char full[4096 + 4096];
		snprintf(full, sizeof full, "%s/%s", w->folder, text);
		return conf_set(row, full, where, w->settings, w->e);
	}
	return conf_set(row, text, where, w->settings, w->e);
}

static const struct conf_row *find_row(const struct conf_row *rows, const char *key)
{
	for (; rows->key; rows++)
		if (strcmp(rows->key, key) == 0)
			return rows;
	return NULL;
}

static bool is_group_prefix(const struct conf_row *rows, const char *key)
{
	size_t n = strlen(key);
	for (; rows->key; rows++)
		if (strncmp(rows->key, key, n) == 0 && rows->key[n] == '.')
			return true;
	return false;
}

/* Tells of an unknown key, with the names that the same group knows. */
static int refuse_key(const struct walk *w, const char *where, const char *prefix, const char *key)
{
	size_t n = strlen(prefix);
	char last[64] = "", names[120] = "";
	struct nearest nearest = { .wanted = key + n };
	for (const struct conf_row *row = w->rows; row->key; row++) {
		if (strncmp(row->key, prefix, n) != 0)
			continue;
		char name[64];
		snprintf(name, sizeof name, "%.*s", (int)strcspn(row->key + n, "."), row->key + n);
		if (strcmp(name, last) == 0)
			continue;
		nearest_offer(&nearest, name);
		text_list_add(names, sizeof names, name);
		snprintf(last, sizeof last, "%s", name);
	}
	return err_set(w->e, ERR_INVALID, "%s: %s: unknown setting;%s allowed: %s", where, key, nearest_words(&nearest),
		       names);
}

static int walk_group(struct walk *w, const config_setting_t *group, const char *prefix)
{
	for (int i = 0; i < config_setting_length(group); i++) {
		const config_setting_t *s = config_setting_get_elem(group, (unsigned)i);
		char key[256], where[256];
		snprintf(key, sizeof key, "%s%s", prefix, config_setting_name(s));
		where_text(s, where, sizeof where);
		const struct conf_row *row = find_row(w->rows, key);
		int rc;
		if (row) {
			rc = read_value(w, row, s);
		} else if (config_setting_is_group(s) && is_group_prefix(w->rows, key)) {
			strncat(key, ".", sizeof key - strlen(key) - 1);
			rc = walk_group(w, s, key);
		} else if (is_group_prefix(w->rows, key)) {
			rc = err_set(w->e, ERR_INVALID, "%s: %s: expected a group, %s: { … }", where, key,
				     config_setting_name(s));
		} else {
			rc = refuse_key(w, where, prefix, key);
		}
		if (rc != 0)
			return rc;
	}
	return 0;
}

static bool is_set(const struct conf_row *row, const char *settings)
{
	const char *at = settings + row->offset;
	switch (row->type) {
	case CONF_STRING:
	case CONF_PATH: {
		char *s;
		memcpy(&s, at, sizeof s);
		return s != NULL;
	}
	case CONF_STRINGS:
		return ((const struct conf_strings *)(const void *)at)->at != NULL;
	case CONF_SECTION:
		return ((const struct conf_section *)(const void *)at)->where != NULL;
	case CONF_SECTIONS:
		return ((const struct conf_sections *)(const void *)at)->n > 0;
	default:
		return true; /* scalars: the default is written first, the file overwrites it */
	}
}

static bool is_scalar(enum conf_type t)
{
	return t == CONF_INT || t == CONF_BOOL || t == CONF_DURATION_MS || t == CONF_SIZE || t == CONF_ENUM;
}

static int fill_rest(const struct conf_row *rows, char *settings, const char *path, struct err *e)
{
	for (const struct conf_row *r = rows; r->key; r++) {
		bool empty = r->type == CONF_STRINGS &&
			     ((const struct conf_strings *)(const void *)(settings + r->offset))->n == 0;
		if (is_scalar(r->type) || (is_set(r, settings) && !(empty && r->flags & CONF_REQUIRED)))
			continue;
		if (r->def) {
			int rc = conf_set(r, r->def, "default", settings, e);
			if (rc != 0)
				return rc;
		} else if (r->flags & CONF_REQUIRED) {
			return err_set(e, ERR_INVALID, "%s: %s is missing (%s)", path ? path : "config", r->key,
				       r->help);
		}
	}
	return 0;
}

static int find_group(config_t *cfg, const char *path, const char *name, const config_setting_t **out, struct err *e)
{
	const config_setting_t *root = config_root_setting(cfg);
	char names[160] = "";
	for (int i = 0; i < config_setting_length(root); i++) {
		const config_setting_t *s = config_setting_get_elem(root, (unsigned)i);
		char where[256];
		where_text(s, where, sizeof where);
		if (!config_setting_is_group(s))
			return err_set(e, ERR_INVALID, "%s: %s: expected a group { … }", where, config_setting_name(s));
		if (strcmp(config_setting_name(s), name) == 0) {
			*out = s;
			return 0;
		}
		size_t used = strlen(names);
		snprintf(names + used, sizeof names - used, "%s%s", used ? ", " : "", config_setting_name(s));
	}
	return err_set(e, ERR_NOT_FOUND, "%s: no group \"%s\"; there is: %s", path, name, names[0] ? names : "none");
}

static int read_file(config_t *cfg, const char *path, const char *folder, struct err *e)
{
	config_set_include_dir(cfg, folder);
	if (access(path, R_OK) != 0)
		return err_set_errno(e, ERR_NOT_FOUND, errno, "%s: cannot be read", path);
	if (config_read_file(cfg, path) == CONFIG_TRUE)
		return 0;
	const char *file = config_error_file(cfg);
	return err_set(e, ERR_INVALID, "%s:%d: %s", file ? file : path, config_error_line(cfg), config_error_text(cfg));
}

static int load(const char *path, const char *group, const struct conf_row *rows, void *settings, struct err *e)
{
	config_t cfg;
	config_init(&cfg);
	char *copy = path ? strdup(path) : NULL;
	int rc = path && !copy ? err_set(e, ERR_NOMEM, "out of memory") : 0;
	for (const struct conf_row *r = rows; r->key && rc == 0; r++)
		if (is_scalar(r->type) && r->def)
			rc = conf_set(r, r->def, "default", settings, e);
	if (rc == 0 && path) {
		struct walk w = { rows, settings, dirname(copy), e };
		rc = read_file(&cfg, path, w.folder, e);
		const config_setting_t *top = rc == 0 ? config_root_setting(&cfg) : NULL;
		if (rc == 0 && group)
			rc = find_group(&cfg, path, group, &top, e);
		if (rc == 0)
			rc = walk_group(&w, top, "");
	}
	if (rc == 0)
		rc = fill_rest(rows, settings, path, e);
	if (rc != 0)
		conf_free(rows, settings);
	config_destroy(&cfg);
	free(copy);
	return rc;
}

int conf_load(const char *path, const struct conf_row *rows, void *settings, struct err *e)
{
	return load(path, NULL, rows, settings, e);
}

int conf_load_group(const char *path, const char *group, const struct conf_row *rows, void *settings, struct err *e)
{
	return load(path, group, rows, settings, e);
}

/* cfg is to be destroyed by the caller, also on failure. */
static int open_file(config_t *cfg, const char *path, struct err *e)
{
	config_init(cfg);
	char *copy = strdup(path);
	int rc = copy ? read_file(cfg, path, dirname(copy), e) : err_set(e, ERR_NOMEM, "out of memory");
	free(copy);
	return rc;
}

int conf_each_group(const char *path, void (*each)(void *user, const char *name), void *user, struct err *e)
{
	config_t cfg;
	int rc = open_file(&cfg, path, e);
	const config_setting_t *root = rc == 0 ? config_root_setting(&cfg) : NULL;
	for (int i = 0; root && i < config_setting_length(root); i++) {
		const config_setting_t *s = config_setting_get_elem(root, (unsigned)i);
		if (config_setting_is_group(s))
			each(user, config_setting_name(s));
	}
	config_destroy(&cfg);
	return rc;
}

void conf_where(const char *path, const char *key, char *out, size_t size)
{
	config_t cfg;
	const config_setting_t *s = open_file(&cfg, path, NULL) == 0 ? config_lookup(&cfg, key) : NULL;
	if (s)
		where_text(s, out, size);
	else
		snprintf(out, size, "%s", path);
	config_destroy(&cfg);
}

void conf_free(const struct conf_row *rows, void *settings)
{
	for (const struct conf_row *r = rows; r->key; r++) {
		char *at = (char *)settings + r->offset;
		if (r->type == CONF_STRING || r->type == CONF_PATH) {
			char *s;
			memcpy(&s, at, sizeof s);
			free(s);
			memset(at, 0, sizeof(void *));
		} else if (r->type == CONF_STRINGS) {
			struct conf_strings *list = (struct conf_strings *)(void *)at;
			for (size_t i = 0; i < list->n; i++)
				free(list->at[i]);
			free(list->at);
			memset(list, 0, sizeof *list);
		} else if (r->type == CONF_SECTION) {
			section_free((struct conf_section *)(void *)at);
		} else if (r->type == CONF_SECTIONS) {
			struct conf_sections *list = (struct conf_sections *)(void *)at;
			for (size_t i = 0; i < list->n; i++)
				section_free(&list->at[i]);
			free(list->at);
			memset(list, 0, sizeof *list);
		}
	}
}

static void print_quoted(FILE *to, const char *s)
{
	fputc('"', to);
	for (; *s; s++) {
		if (*s == '"' || *s == '\\')
			fputc('\\', to);
		fputc(*s, to);
	}
	fputc('"', to);
}

static void print_section(FILE *to, const struct conf_section *s,
			  bool (*is_secret)(const struct conf_section *, const char *))
{
	fputs("{", to);
	for (size_t i = 0; i < s->n; i++) {
		bool first = i == 0 || strcmp(s->pairs[i].key, s->pairs[i - 1].key) != 0;
		bool more = i + 1 < s->n && strcmp(s->pairs[i].key, s->pairs[i + 1].key) == 0;
		if (first)
			fprintf(to, " %s = %s", s->pairs[i].key, more ? "[ " : "");
		print_quoted(to, is_secret && is_secret(s, s->pairs[i].key) ? "***" : s->pairs[i].value);
		fputs(more ? ", " : first ? ";" : " ];", to);
	}
	fputs(" }", to);
}

static void print_enum_word(FILE *to, const char *choices, int index)
{
	for (; index > 0; index--)
		choices = strchr(choices, '|') + 1;
	fprintf(to, "\"%.*s\"", (int)strcspn(choices, "|"), choices);
}

static void print_value(FILE *to, const struct conf_row *r, const char *at,
			bool (*is_secret)(const struct conf_section *, const char *))
{
	int64_t n;
	char *s;
	int index;
	switch (r->type) {
	case CONF_STRING:
	case CONF_PATH:
		memcpy(&s, at, sizeof s);
		print_quoted(to, r->flags & CONF_SECRET ? "***" : s);
		break;
	case CONF_INT:
	case CONF_SIZE:
		memcpy(&n, at, sizeof n);
		fprintf(to, "%" PRId64 "%s", n, n > INT32_MAX || n < INT32_MIN ? "L" : "");
		break;
	case CONF_DURATION_MS:
		memcpy(&n, at, sizeof n);
		fprintf(to, n % 1000 ? "\"%" PRId64 "ms\"" : "\"%" PRId64 "s\"", n % 1000 ? n : n / 1000);
		break;
	case CONF_BOOL:
		fputs(*(const bool *)(const void *)at ? "true" : "false", to);
		break;
	case CONF_ENUM:
		memcpy(&index, at, sizeof index);
		print_enum_word(to, r->choices, index);
		break;
	case CONF_STRINGS: {
		const struct conf_strings *list = (const struct conf_strings *)(const void *)at;
		fputs("[", to);
		for (size_t i = 0; i < list->n; i++) {
			fputs(i ? ", " : " ", to);
			print_quoted(to, list->at[i]);
		}
		fputs(" ]", to);
		break;
	}
	case CONF_SECTION:
		print_section(to, (const struct conf_section *)(const void *)at, is_secret);
		break;
	case CONF_SECTIONS: {
		const struct conf_sections *list = (const struct conf_sections *)(const void *)at;
		fputs("( ", to);
		for (size_t i = 0; i < list->n; i++) {
			fputs(i ? ",\n  " : "", to);
			print_section(to, &list->at[i], is_secret);
		}
		fputs(" )", to);
		break;
	}
	}
}

void conf_print(FILE *to, const struct conf_row *rows, const void *settings,
		bool (*is_secret)(const struct conf_section *, const char *key))
{
	char open[64] = ""; /* the group that is being printed, with its dot */
	for (const struct conf_row *r = rows; r->key; r++) {
		if (!is_set(r, settings))
			continue;
		const char *dot = strrchr(r->key, '.');
		size_t n = dot ? (size_t)(dot - r->key) + 1 : 0;
		if (strlen(open) != n || strncmp(open, r->key, n) != 0) {
			if (open[0])
				fputs("};\n", to);
			snprintf(open, sizeof open, "%.*s", (int)n, r->key);
			if (n)
				fprintf(to, "%.*s: {\n", (int)n - 1, r->key);
		}
		fprintf(to, "%s%s = ", n ? "  " : "", r->key + n);
		print_value(to, r, (const char *)settings + r->offset, is_secret);
		fputs(";\n", to);
	}
	if (open[0])
		fputs("};\n", to);
}

void conf_describe(FILE *to, const struct conf_row *rows)
{
	for (const struct conf_row *r = rows; r->key; r++) {
		fprintf(to, "%s (%s%s%s)", r->key, r->type == CONF_ENUM ? "one of " : type_names[r->type],
			r->type == CONF_ENUM ? r->choices : "", r->flags & CONF_REQUIRED ? ", required" : "");
		if (r->def)
			fprintf(to, ", default %s", *r->def ? r->def : "\"\"");
		fprintf(to, "%s\n    %s\n", r->flags & CONF_RELOAD ? ", reloaded on SIGHUP" : "", r->help);
	}
}
