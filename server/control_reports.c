/* What agents report about sessions. Reports carry numbers. The last number taken is kept per target beside the audit
 * log (collection "reports"), so a report that an agent repeats because it never saw the ack is acknowledged again and
 * recorded once. Those of streams, which are many, are gathered while they come one behind the other, and cost one
 * writing of the log, one of the number and one ack. The audit records are written before the number: after a crash
 * between the two they are there twice rather than not at all. */
#include "server/control_message.h"

#include "base/json.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/text.h"
#include "server/audit.h"
#include "server/server.h"
#include "server/session_record.h"
#include "server/sessions.h"
#include "server/store.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int send_to(struct message *m, const json_t *json)
{
	char *text = json_text(json);
	if (text)
		wsconn_send_text_anythread(m->server, m->conn, text);
	free(text);
	return 0;
}

/* 0 and the session's record, or NULL for one that is forgotten; 1: it is another target's, and nothing that this agent
 * says of it counts. That is no mistake of the agent's: a machine that was enrolled again under another name still has
 * reports of its earlier one. */
static int own_session(struct message *m, const char *session, json_t **out_doc)
{
	json_auto_t *doc = NULL;
	/* Of one that is forgotten the id is all there is to go into the record. */
	if (!text_is_id(session))
		return err_set(&m->e, ERR_PROTOCOL, "session: not a session id");
	int rc = record_get_blocking(m->server, session, &doc, NULL, &m->e);
	if (rc == ERR_NOT_FOUND)
		return 0;
	if (rc)
		return rc;
	if (strcmp(record_text(doc, "target"), m->target) != 0) {
		log_with(LOG_LEVEL_WARN,
			 FIELDS({ "target", m->target }, { "session", session }, { "of", record_text(doc, "target") }),
			 "what an agent says of another target's session is left out");
		return 1;
	}
	*out_doc = json_incref(doc);
	return 0;
}

/* Texts of agents end up in records and on terminals. */
static void clean(const char *text, char out[256])
{
	text_print(out, 256, "%.200s", text);
	for (char *c = out; *c; c++)
		if ((unsigned char)*c < 0x20 || *c == 0x7f)
			*c = ' ';
}

/* What it says of an earlier generation than the session's ends nothing. */
static int end_session(struct message *m, const char *session, int64_t generation, unsigned code, const char *text)
{
	struct err e;
	int rc = sessions_end_generation_blocking(m->server, session, generation, code, text, "agent", &e);
	if (rc == 0 || rc == ERR_CONFLICT || rc == ERR_NOT_FOUND)
		return 0;
	return err_set(&m->e, rc, "%s", e.text);
}

int control_on_refused(struct message *m)
{
	const char *session = NULL, *text = "";
	int64_t code = 0, generation = 1;
	char words[256], reason[300];
	json_auto_t *doc = NULL;
	const struct json_field fields[] = { { "session", JSON_FIELD_STRING, true, 1, LIMIT_ID, &session },
					     CONTROL_GENERATION(&generation),
					     { "code", JSON_FIELD_INT, true, 0, 65535, &code },
					     { "text", JSON_FIELD_STRING, false, 0, 0, &text },
					     { .name = NULL } };
	int rc = json_read(m->json, "refused", false, fields, &m->e);
	if (rc == 0)
		rc = control_check_sender_blocking(m);
	if (rc == 0)
		rc = own_session(m, session, &doc);
	if (rc || !doc)
		return rc < 0 ? rc : 0;
	clean(text, words);
	snprintf(reason, sizeof reason, "the target's agent refused the session: %s", words);
	/* When the store is away the sweep ends it: the row is marked. */
	rc = end_session(m, session, generation, 4013, reason);
	return rc == ERR_UNAVAILABLE || rc == ERR_TIMEOUT ? 0 : rc;
}

/* ---- reports ---- */

struct report {
	int64_t seq, generation;
	const char *session;
};

static int save_seq(struct message *m, int64_t seq)
{
	json_auto_t *doc = json_pack("{s:I, s:s}", "last", (json_int_t)seq, "identity", m->identity);
	int rc = store_put_blocking(m->server->store, "reports", m->target, doc, TUNNEL_VERSION_ANY, 0, NULL, NULL,
				    &m->e);
	if (rc == 0)
		agent_table_set_seq(m->control->agents, m->target, m->conn, (uint64_t)seq);
	return rc;
}

static int ack(struct message *m, uint64_t seq)
{
	json_auto_t *json = json_pack("{s:s, s:I}", "type", "ack", "seq", (json_int_t)seq);
	return send_to(m, json);
}

/* The number of the last report that was taken, or is about to be. */
static uint64_t last_seq(const struct message *m)
{
	uint64_t last = agent_table_seq(m->control->agents, m->target);
	return m->reports->seq > last ? m->reports->seq : last;
}

static void forget(struct control_reports *all)
{
	for (size_t i = 0; i < all->n; i++)
		json_decref(all->entries[i].fields);
	json_decref(all->record);
	*all = (struct control_reports){ .n = 0 };
}

int control_reports_write_blocking(struct message *m)
{
	struct control_reports *all = m->reports;
	int rc = 0;
	if (all->seq)
		rc = control_check_sender_blocking(m);
	if (rc == 0 && all->n)
		rc = audit_append_many_blocking(m->server->audit, all->entries, all->n, &m->e);
	if (rc == 0 && all->seq)
		rc = save_seq(m, (int64_t)all->seq);
	if (rc == 0 && (all->seq || all->repeated))
		rc = ack(m, last_seq(m));
	forget(all);
	return rc;
}

/* As own_session, which is asked once for reports of the same session. The record is the gathered reports'. */
static int look_up(struct message *m, const char *session)
{
	struct control_reports *all = m->reports;
	if (strcmp(all->session, session) == 0)
		return all->foreign;
	json_decref(all->record);
	all->record = NULL;
	all->session[0] = '\0';
	int rc = own_session(m, session, &all->record);
	if (rc < 0)
		return rc;
	snprintf(all->session, sizeof all->session, "%s", session);
	all->foreign = rc == 1;
	return rc;
}

/* Puts it to those that are gathered. fields are stolen. */
static int gather(struct message *m, const struct report *r, const char *event, json_t *fields)
{
	struct control_reports *all = m->reports;
	int rc = 0;
	if ((uint64_t)r->seq <= last_seq(m)) {
		all->repeated = true;
		json_decref(fields);
		return 0;
	}
	if (all->n == AUDIT_TOGETHER)
		rc = control_reports_write_blocking(m);
	if (rc == 0)
		rc = look_up(m, r->session);
	if (rc == 0 && !fields)
		rc = err_set(&m->e, ERR_NOMEM, "out of memory");
	if (rc) {
		json_decref(fields);
	} else {
		const char *principal = all->record ? record_text(all->record, "principal") : "";
		json_object_set_new(fields, "target", json_string(m->target));
		json_object_set_new(fields, "session", json_string(r->session));
		json_object_set_new(fields, "principal", json_string(principal));
		json_object_set_new(fields, "generation", json_integer(r->generation));
		json_object_set_new(fields, "report", json_integer(r->seq));
		all->entries[all->n++] = (struct audit_entry){ event, fields };
	}
	if (rc >= 0) /* another target's counts as taken */
		all->seq = (uint64_t)r->seq;
	return rc < 0 ? rc : 0;
}

int control_on_stream_opened(struct message *m)
{
	struct report r = { .generation = 1 };
	int64_t stream = 0, at_ms = 0;
	const char *kind = "", *endpoint = "";
	char kind_words[256], endpoint_words[256];
	const struct json_field fields[] = { { "seq", JSON_FIELD_INT, true, 1, INT64_MAX, &r.seq },
					     { "session", JSON_FIELD_STRING, true, 1, LIMIT_ID, &r.session },
					     CONTROL_GENERATION(&r.generation),
					     { "stream", JSON_FIELD_INT, true, 0, UINT32_MAX, &stream },
					     { "kind", JSON_FIELD_STRING, true, 1, 16, &kind },
					     { "endpoint", JSON_FIELD_STRING, true, 0, 512, &endpoint },
					     { "at_ms", JSON_FIELD_INT, true, 0, 253402300799999, &at_ms },
					     { .name = NULL } };
	int rc = json_read(m->json, "stream-opened", false, fields, &m->e);
	if (rc)
		return rc;
	clean(kind, kind_words);
	clean(endpoint, endpoint_words);
	return gather(m, &r, "stream.open",
		      json_pack("{s:I, s:s, s:s, s:o}", "stream", (json_int_t)stream, "kind", kind_words, "endpoint",
				endpoint_words, "opened_at", record_time(at_ms)));
}

int control_on_stream_closed(struct message *m)
{
	struct report r = { .generation = 1 };
	int64_t stream = 0, bytes_in = 0, bytes_out = 0, duration_ms = 0;
	const char *reason = "";
	char words[256];
	const struct json_field fields[] = { { "seq", JSON_FIELD_INT, true, 1, INT64_MAX, &r.seq },
					     { "session", JSON_FIELD_STRING, true, 1, LIMIT_ID, &r.session },
					     CONTROL_GENERATION(&r.generation),
					     { "stream", JSON_FIELD_INT, true, 0, UINT32_MAX, &stream },
					     { "bytes_in", JSON_FIELD_INT, true, 0, INT64_MAX, &bytes_in },
					     { "bytes_out", JSON_FIELD_INT, true, 0, INT64_MAX, &bytes_out },
					     { "duration_ms", JSON_FIELD_INT, true, 0, INT64_MAX, &duration_ms },
					     { "reason", JSON_FIELD_STRING, false, 0, 0, &reason },
					     { .name = NULL } };
	int rc = json_read(m->json, "stream-closed", false, fields, &m->e);
	if (rc)
		return rc;
	clean(reason, words);
	return gather(m, &r, "stream.close",
		      json_pack("{s:I, s:I, s:I, s:I, s:s}", "stream", (json_int_t)stream, "bytes_in",
				(json_int_t)bytes_in, "bytes_out", (json_int_t)bytes_out, "duration_ms",
				(json_int_t)duration_ms, "reason", words));
}

/* The agent tells a leg's close code or a link's code; a session's end has a code of its own list. */
static unsigned end_code_of(int64_t code)
{
	static const struct {
		int64_t from;
		unsigned to;
	} table[] = { { 0, 4000 },    { 1000, 4000 }, { 4, 4006 },    { 9, 4003 },    { 11, 4004 },   { 4000, 4000 },
		      { 4003, 4003 }, { 4004, 4004 }, { 4005, 4005 }, { 4006, 4006 }, { 4007, 4007 }, { 4011, 4011 } };
	for (size_t i = 0; i < sizeof table / sizeof *table; i++)
		if (table[i].from == code)
			return table[i].to;
	return 4013;
}

/* Nothing is gathered any more: what was said of its streams is recorded before. */
static int take_session_closed(struct message *m, const struct report *r, unsigned code, const char *words)
{
	json_auto_t *record = NULL;
	uint64_t last = last_seq(m);
	if ((uint64_t)r->seq <= last)
		return ack(m, last);
	int rc = control_check_sender_blocking(m);
	if (rc == 0)
		rc = own_session(m, r->session, &record);
	if (rc == 0)
		rc = end_session(m, r->session, r->generation, code,
				 *words ? words : "the target's end closed the session");
	if (rc >= 0)
		rc = save_seq(m, r->seq);
	return rc ? rc : ack(m, (uint64_t)r->seq);
}

int control_on_session_closed(struct message *m)
{
	struct report r = { .generation = 1 };
	const char *text = "";
	int64_t code = 0;
	char words[256];
	const struct json_field fields[] = { { "seq", JSON_FIELD_INT, true, 1, INT64_MAX, &r.seq },
					     { "session", JSON_FIELD_STRING, true, 1, LIMIT_ID, &r.session },
					     CONTROL_GENERATION(&r.generation),
					     { "code", JSON_FIELD_INT, true, 0, 65535, &code },
					     { "text", JSON_FIELD_STRING, false, 0, 0, &text },
					     { .name = NULL } };
	int rc = json_read(m->json, "session-closed", false, fields, &m->e);
	if (rc)
		return rc;
	clean(text, words);
	return take_session_closed(m, &r, end_code_of(code), words);
}
