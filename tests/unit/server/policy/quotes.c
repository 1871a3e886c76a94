#include "quotes.h"

#include "base/json.h"
#include "support/case.h"

json_t *quotes_json(const char *text)
{
	if (!text)
		return NULL;
	char *copy = strdup(text);
	for (char *c = copy; *c; c++)
		*c = *c == '\'' ? '"' : *c == '`' ? '\'' : *c;
	json_t *json = NULL;
	struct err e = { 0 };
	if (json_parse(copy, strlen(copy), &json, &e) != 0)
		fail_msg("%s: %s", copy, e.text);
	free(copy);
	return json;
}
