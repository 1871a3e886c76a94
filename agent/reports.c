#include "agent/reports.h"

#include "agent/exits.h"
#include "base/log.h"

#include <stdlib.h>
#include <string.h>

struct reports {
	const char *session;
	json_t *waiting;
	size_t sent;  /* of those that wait, from the first one on; the channel takes no more at once */
	size_t bytes; /* of those that wait, as text */
	uint64_t next;
	struct channel *channel;
	bool full;
};

struct reports *reports_new(const char *session)
{
	struct reports *r = calloc(1, sizeof *r);
	if (r) {
		r->session = session;
		r->waiting = json_array();
	}
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

static size_t text_size(const json_t *report)
{
	return json_dumpb(report, NULL, 0, JSON_COMPACT) + 1;
}

/* In order and without a gap: who knows a report's number is taken to know all before it. */
static void send_waiting(struct reports *r)
{
	while (r->channel && r->sent < json_array_size(r->waiting) &&
	       channel_send(r->channel, json_array_get(r->waiting, r->sent)) == 0)
		r->sent++;
}

void reports_add(struct reports *r, json_t *body)
{
	const char *type = json_string_value(json_object_get(body, "type"));
	bool last = type && strcmp(type, "session-closed") == 0;
	if (r->bytes >= EXITS_REPORTS && !last) {
		if (!r->full)
			log_with(LOG_LEVEL_ERROR, FIELDS({ "session", r->session }),
				 "%zu reports wait for a supervisor; streams are not reported until one comes",
				 json_array_size(r->waiting));
		r->full = true;
		json_decref(body);
		return;
	}
	json_t *wrapped =
		body ? json_pack("{s:s, s:I, s:o}", "type", "report", "n", (json_int_t)r->next, "body", body) : NULL;
	if (!wrapped || json_array_append_new(r->waiting, wrapped)) {
		log_with(LOG_LEVEL_ERROR, FIELDS({ "session", r->session }), "a report was lost: out of memory");
		return;
	}
	r->next++;
	r->bytes += text_size(wrapped);
	send_waiting(r);
}

void reports_ack(struct reports *r, uint64_t number)
{
	while (json_array_size(r->waiting)) {
		const json_t *first = json_array_get(r->waiting, 0);
		json_int_t n = json_integer_value(json_object_get(first, "n"));
		if ((uint64_t)n > number)
			break;
		r->bytes -= text_size(first);
		r->sent -= r->sent > 0;
		json_array_remove(r->waiting, 0);
	}
	r->full = false;
	send_waiting(r);
}

void reports_attach(struct reports *r, struct channel *channel)
{
	r->channel = channel;
	r->sent = 0;
	send_waiting(r);
}

bool reports_empty(const struct reports *r)
{
	return json_array_size(r->waiting) == 0;
}

const json_t *reports_waiting(const struct reports *r)
{
	return r->waiting;
}
