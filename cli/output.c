#include "cli/output.h"

#include "base/text.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CELL_MAX 4096 /* bytes; what is longer is cut */

/* Text from elsewhere must not steer the terminal. */
static void put_clean(char *out, size_t size, const char *text)
{
	size_t n = strlen(out);
	for (; *text && n + 1 < size; text++)
		out[n++] = (unsigned char)*text < 0x20 || *text == 0x7f ? '?' : *text;
	out[n] = '\0';
	text_make_plain(out); /* what is left: C1 controls */
}

static void cell_text(const json_t *v, char *out, size_t size);

/* Within others they stand in brackets, so that it is seen where they end. */
static void put_members(const json_t *v, char *out, size_t size)
{
	bool object = json_is_object(v), inner = *out != '\0';
	const char *key, *comma = "";
	json_t *value;
	size_t i;
	put_clean(out, size, !inner ? "" : object ? "{" : "[");
	json_object_foreach((json_t *)(uintptr_t)v, key, value)
	{
		put_clean(out, size, comma);
		put_clean(out, size, key);
		put_clean(out, size, "=");
		cell_text(value, out, size);
		comma = ",";
	}
	json_array_foreach(v, i, value)
	{
		put_clean(out, size, comma);
		cell_text(value, out, size);
		comma = ",";
	}
	put_clean(out, size, !inner ? "" : object ? "}" : "]");
}

static void cell_text(const json_t *v, char *out, size_t size)
{
	char number[32];
	switch (v ? json_typeof(v) : JSON_NULL) {
	case JSON_STRING:
		put_clean(out, size, json_string_value(v));
		break;
	case JSON_INTEGER:
		snprintf(number, sizeof number, "%" JSON_INTEGER_FORMAT, json_integer_value(v));
		put_clean(out, size, number);
		break;
	case JSON_REAL:
		snprintf(number, sizeof number, "%g", json_real_value(v));
		put_clean(out, size, number);
		break;
	case JSON_TRUE:
	case JSON_FALSE:
		put_clean(out, size, json_is_true(v) ? "yes" : "no");
		break;
	case JSON_OBJECT:
	case JSON_ARRAY:
		put_members(v, out, size);
		break;
	case JSON_NULL:
		put_clean(out, size, "-");
		break;
	}
}

static size_t columns_wide(const char *text)
{
	size_t n = 0;
	for (; *text; text++)
		n += ((unsigned char)*text & 0xc0) != 0x80; /* UTF-8 continuation bytes take no column */
	return n;
}

static void print_cell(const char *text, size_t width, int last)
{
	fputs(text, stdout);
	for (size_t n = columns_wide(text); !last && n < width + 2; n++)
		fputc(' ', stdout);
}

static void widen(struct table *t, const json_t *rows)
{
	size_t i;
	const json_t *row;
	for (size_t c = 0; t->columns[c].heading; c++) {
		if (!t->headed)
			t->width[c] = strlen(t->columns[c].heading);
		json_array_foreach(rows, i, row)
		{
			char text[CELL_MAX] = "";
			cell_text(json_object_get(row, t->columns[c].member), text, sizeof text);
			if (columns_wide(text) > t->width[c])
				t->width[c] = columns_wide(text);
		}
	}
}

void output_rows(struct table *t, const json_t *rows)
{
	const struct column *columns = t->columns;
	size_t i;
	const json_t *row;
	widen(t, rows);
	for (size_t c = 0; !t->headed && columns[c].heading; c++)
		print_cell(columns[c].heading, t->width[c], !columns[c + 1].heading);
	if (!t->headed)
		fputc('\n', stdout);
	t->headed = true;
	json_array_foreach(rows, i, row)
	{
		for (size_t c = 0; columns[c].heading; c++) {
			char text[CELL_MAX] = "";
			cell_text(json_object_get(row, columns[c].member), text, sizeof text);
			print_cell(text, t->width[c], !columns[c + 1].heading);
		}
		fputc('\n', stdout);
	}
}

void output_table(const json_t *rows, const struct column *columns)
{
	struct table t = { .columns = columns };
	output_rows(&t, rows);
}

void output_object(const json_t *object)
{
	const char *key;
	json_t *value;
	json_object_foreach((json_t *)(size_t)object, key, value)
	{
		char name[256] = "", text[1024] = "";
		put_clean(name, sizeof name, key);
		cell_text(value, text, sizeof text);
		printf("%-20s %s\n", name, text);
	}
}

/* DEL and C1 controls, which JSON may hold as they are, can stand in its texts alone: there they become escapes. */
static void print_json(const json_t *json, size_t flags)
{
	char *text = json_dumps(json, flags);
	for (const unsigned char *c = (const unsigned char *)text; c && *c; c++) {
		if (c[0] == 0xc2 && c[1] >= 0x80 && c[1] < 0xa0)
			printf("\\u%04x", *++c);
		else if (*c == 0x7f)
			fputs("\\u007f", stdout);
		else
			fputc(*c, stdout);
	}
	fputc('\n', stdout);
	free(text);
}

void output_json(const json_t *json)
{
	print_json(json, JSON_INDENT(2) | JSON_ENCODE_ANY);
}

void output_json_line(const json_t *json)
{
	print_json(json, JSON_COMPACT);
}
