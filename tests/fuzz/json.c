/* JSON from strangers: the strict parser, the table of fields, and the second opinion of the store plugins, which read
 * JSON by themselves. */
#include "fuzz.h"

#include "base/json.h"

#include <store_rules.h>
#include <stdlib.h>

struct values {
	const char *text;
	int64_t number;
	bool truth;
	json_t *object, *array, *texts;
};

static int read_values(json_t *json, bool strict, struct values *v, struct err *e)
{
	const struct json_field fields[] = {
		{ "text", JSON_FIELD_STRING, true, 1, 8, &v->text },
		{ "number", JSON_FIELD_INT, false, -5, 1000, &v->number },
		{ "truth", JSON_FIELD_BOOL, false, 0, 0, &v->truth },
		{ "object", JSON_FIELD_OBJECT, false, 0, 0, &v->object },
		{ "array", JSON_FIELD_ARRAY, false, 0, 3, &v->array },
		{ "texts", JSON_FIELD_STRINGS, false, 0, 3, &v->texts },
		{ .name = NULL },
	};
	int rc = json_read(json, "it", strict, fields, e);
	FUZZ_CHECK(rc == 0 || (rc == ERR_INVALID && e->code == rc && e->text[0]));
	return rc;
}

static void check_fields(json_t *json)
{
	struct values loose = { .number = 7 }, strict = { .number = 7 };
	struct err e;
	int rc = read_values(json, false, &loose, &e);
	FUZZ_CHECK(rc == 0 || read_values(json, true, &strict, &e) != 0);
	if (rc != 0)
		return;
	FUZZ_CHECK(strlen(loose.text) >= 1 && strlen(loose.text) <= 8);
	FUZZ_CHECK(loose.number >= -5 && loose.number <= 1000);
	FUZZ_CHECK(!loose.object || json_is_object(loose.object));
	FUZZ_CHECK(json_array_size(loose.array) <= 3 && json_array_size(loose.texts) <= 3);
	for (size_t i = 0; i < json_array_size(loose.texts); i++)
		FUZZ_CHECK(json_string_value(json_array_get(loose.texts, i)));
	if (read_values(json, true, &strict, &e) == 0)
		FUZZ_CHECK(json_object_size(json) <= 6 && strict.text == loose.text);
}

static bool is_too_deep(const json_t *json, unsigned left)
{
	json_t *value;
	if (!json_is_object(json) && !json_is_array(json))
		return false;
	for (size_t i = 0; left > 0 && i < json_array_size(json); i++)
		if (is_too_deep(json_array_get(json, i), left - 1))
			return true;
	for (void *it = json_object_iter((json_t *)(uintptr_t)json); left > 0 && it;
	     it = json_object_iter_next((json_t *)(uintptr_t)json, it)) {
		value = json_object_iter_value(it);
		if (is_too_deep(value, left - 1))
			return true;
	}
	return left == 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	json_t *json = NULL, *again = NULL;
	struct err e;
	bool plausible = is_json((const char *)data, size);
	int rc = json_parse((const char *)data, size, &json, &e);
	FUZZ_CHECK(rc == 0 || (rc == ERR_INVALID && !json && e.code == rc && e.text[0]));
	if (rc != 0)
		return 0;
	FUZZ_CHECK(plausible || is_too_deep(json, 512));
	check_fields(json);
	char *text = json_text(json);
	FUZZ_CHECK(text && is_json(text, strlen(text)) == plausible);
	FUZZ_CHECK(json_parse(text, strlen(text), &again, &e) == 0 && json_equal(json, again));
	free(text);
	json_decref(again);
	json_decref(json);
	return 0;
}
