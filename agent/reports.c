#include "agent/reports.h"

#include "base/limits.h"
#include "base/log.h"

#include <stdlib.h>
#include <string.h>

#define WAITING_MAX 65536u /* reports: about as many as the spool takes */

struct reports {
	json_t *waiting;
	uint64_t next;
	struct channel *channel;
	bool full;
};

struct reports *reports_new(void)
{
	struct reports *r = calloc(1, sizeof *r);
	if (r)
		r->waiting = json_array();
	if (!r || !r->waiting) {
		free(r);
		return NULL;
	}
	r->next = 1;
	return r;
}

void reports_free(struct reports **reports)
{
	if (*reports)
		json_decref((*reports)->waiting);
	free(*reports);
	*reports = NULL;
}

void reports_add(struct reports *r, json_t *body)
{
	const char *type = json_string_value(json_object_get(body, "type"));
	bool last = type && strcmp(type, "session-closed") == 0;
	if (json_array_size(r->waiting) >= WAITING_MAX && !last) {
		if (!r->full)
			log_error("%u reports wait for a supervisor; streams are not reported until one comes",
				  WAITING_MAX);
		r->full = true;
		json_decref(body);
		return;
	}
	json_t *wrapped =
		body ? json_pack("{s:s, s:I, s:o}", "type", "report", "n", (json_int_t)r->next, "body", body) : NULL;
	if (!wrapped || json_array_append_new(r->waiting, wrapped)) {
		log_error("a report was lost: out of memory");
		return;
	}
	r->next++;
	if (r->channel)
		channel_send(r->channel, wrapped); /* on failure the next supervisor gets it */
}

void reports_ack(struct reports *r, uint64_t number)
{
	while (json_array_size(r->waiting)) {
		json_int_t n = json_integer_value(json_object_get(json_array_get(r->waiting, 0), "n"));
		if ((uint64_t)n > number)
			break;
		json_array_remove(r->waiting, 0);
	}
	r->full = false;
}

void reports_attach(struct reports *r, struct channel *channel)
{
	r->channel = channel;
	for (size_t i = 0; channel && i < json_array_size(r->waiting); i++)
		if (channel_send(channel, json_array_get(r->waiting, i)))
			break;
}

bool reports_empty(const struct reports *r)
{
	return json_array_size(r->waiting) == 0;
}

const json_t *reports_waiting(const struct reports *r)
{
	return r->waiting;
}
