#include "base/conf.h"

#include <stdio.h>
#include <string.h>

static bool same_text(const char *a, const char *b)
{
	return strcmp(a ? a : "", b ? b : "") == 0;
}

static bool same_strings(const struct conf_strings *a, const struct conf_strings *b)
{
	bool same = a->n == b->n;
	for (size_t i = 0; same && i < a->n; i++)
		same = same_text(a->at[i], b->at[i]);
	return same;
}

static bool same_section(const struct conf_section *a, const struct conf_section *b)
{
	bool same = a->n == b->n;
	for (size_t i = 0; same && i < a->n; i++)
		same = same_text(a->pairs[i].key, b->pairs[i].key) && same_text(a->pairs[i].value, b->pairs[i].value);
	return same;
}

static bool same_sections(const struct conf_sections *a, const struct conf_sections *b)
{
	bool same = a->n == b->n;
	for (size_t i = 0; same && i < a->n; i++)
		same = same_section(&a->at[i], &b->at[i]);
	return same;
}

static bool same_value(const struct conf_row *row, const void *a, const void *b)
{
	switch (row->type) {
	case CONF_STRING:
	case CONF_PATH:
		return same_text(*(char *const *)a, *(char *const *)b);
	case CONF_INT:
	case CONF_SIZE:
	case CONF_DURATION_MS:
		return *(const int64_t *)a == *(const int64_t *)b;
	case CONF_BOOL:
		return *(const bool *)a == *(const bool *)b;
	case CONF_ENUM:
		return *(const int *)a == *(const int *)b;
	case CONF_STRINGS:
		return same_strings(a, b);
	case CONF_SECTION:
		return same_section(a, b);
	case CONF_SECTIONS:
		return same_sections(a, b);
	}
	return false;
}

void conf_left(const struct conf_row *rows, const void *now, const void *fresh, char *out, size_t size)
{
	size_t len = 0;
	*out = '\0';
	for (const struct conf_row *row = rows; row->key; row++)
		if (!(row->flags & CONF_RELOAD) && len < size &&
		    !same_value(row, (const char *)now + row->offset, (const char *)fresh + row->offset))
			len += (size_t)snprintf(out + len, size - len, "%s%s", len ? ", " : "", row->key);
}
