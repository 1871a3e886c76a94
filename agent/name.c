#include "agent/name.h"

#include "base/text.h"

#include <stdio.h>
#include <string.h>

void name_make(const char *session, int64_t generation, char out[WORKER_NAME])
{
	if (generation > 1)
		snprintf(out, WORKER_NAME, "%.*s@%u", (int)LIMIT_ID, session,
			 (unsigned)generation % (LIMIT_GENERATION + 1));
	else
		snprintf(out, WORKER_NAME, "%.*s", (int)LIMIT_ID, session);
}

bool name_parse(const char *name, char out_session[LIMIT_ID + 1], int64_t *out_generation)
{
	char session[LIMIT_ID + 1], again[WORKER_NAME];
	const char *at = strchr(name, '@');
	size_t len = at ? (size_t)(at - name) : strlen(name);
	int64_t generation = 1;
	if (len > LIMIT_ID)
		return false;
	memcpy(session, name, len);
	session[len] = '\0';
	if (at)
		for (generation = 0, at++; *at >= '0' && *at <= '9' && generation <= LIMIT_GENERATION; at++)
			generation = generation * 10 + (*at - '0');
	if (!text_is_id(session) || generation < 1 || generation > LIMIT_GENERATION)
		return false;
	name_make(session, generation, again); /* "s@1", "s@02" and "s@2x" are nobody's */
	if (strcmp(name, again) != 0)
		return false;
	strcpy(out_session, session);
	*out_generation = generation;
	return true;
}
