/* A session goes on with a new client: the old one is lost, with its keys and tokens, and the same person comes with
 * others. The record's next generation says who is meant from then on: tokens, legs, and what the agent reports carry
 * it, so what is late from the old client ends nothing and reaches nobody.
 *
 * Order: claim the live row (one resumption at a time; ends by the old client wait for its outcome), compare-and-set
 * the record with the audit record owed, close the old legs, pay the audit record, offer, answer. A crash in between
 * leaves a live session whose tokens nobody has: it can be resumed again, and the sweep pays what is owed. */
#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "base/secret.h"
#include "base/text.h"
#include "server/control.h"
#include "server/endpoint_text.h"
#include "server/metrics.h"
#include "server/server.h"
#include "server/session_home.h"
#include "server/session_peers.h"
#include "server/session_record.h"
#include "server/session_start.h"
#include "server/session_state.h"
#include "server/targets.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct resume {
	struct server *server;
	const struct session_caller *caller;
	const struct identity *id;
	const char *remote_address, *session;
	json_t *doc;        /* as it was looked at, then as it was changed */
	int64_t generation; /* the new one */
	char client_pin[KEY_PIN_TEXT];
	char client_token[SECRET_TOKEN_TEXT],
		target_token[SECRET_TOKEN_TEXT]; /* client_token "": another node has it */
	char client_hash[SESSION_TOKEN_HASH];
};

/* ---- may it be ---- */

static int read_request(struct resume *r, json_t *body, struct err *e)
{
	const char *client_key = NULL;
	const struct json_field fields[] = { { "client_key", JSON_FIELD_STRING, true, 0, 0, &client_key },
					     { .name = NULL } };
	int rc = json_read(body, "body", true, fields, e);
	return rc ? rc : record_client_pin(client_key, r->client_pin, e);
}

static int find(struct resume *r, struct err *e)
{
	int rc = record_get_blocking(r->server, r->session, &r->doc, NULL, e);
	/* Whoever did not start it does not learn whether it exists. */
	if (rc == 0 && !record_is_of(r->doc, r->id))
		rc = err_set(e, ERR_NOT_FOUND, "no session '%s'", r->session);
	return rc;
}

static int closed(const struct attach_decision *d, struct session_started *out, struct err *e)
{
	out->ended = json_pack("{s:i, s:s}", "code", (int)d->close_code, "text", d->text);
	return err_set(e, ERR_CLOSED, "the session has ended: %.200s", d->text);
}

static int check_state(struct resume *r, struct session_started *out, struct err *e)
{
	struct attach_decision d = { .close_code = 0 };
	session_check_alive_blocking(r->server, r->doc, &d);
	if (d.close_code)
		return closed(&d, out, e);
	if (strcmp(record_text(r->doc, "kind"), "tcp") != 0)
		return err_set(e, ERR_CONFLICT,
			       "an SSH session ends with its client: only tcp sessions can be resumed");
	if (strcmp(record_text(r->doc, "node"), r->server->node) != 0 &&
	    !session_home_claim_blocking(r->server, r->doc))
		return err_set(e, ERR_UNAVAILABLE, "the session is changing its node, try again");
	return 0;
}

/* As at an attach, for who started it and for who he is by now. */
static int judge(struct resume *r, struct err *e)
{
	const struct identity *const callers[] = { NULL, r->id };
	struct attach_decision d = { .close_code = 0 };
	for (size_t i = 0; i < 2 && d.close_code == 0; i++)
		session_judge_attach_blocking(r->server, r->doc, callers[i], r->remote_address, &d);
	if (d.close_code == 0)
		return 0;
	return err_set(e, d.close_code == 4503 ? ERR_UNAVAILABLE : ERR_DENIED, "%s", d.text);
}

static int check_agent(struct resume *r, struct session_started *out, struct err *e)
{
	const char *target = record_text(r->doc, "target");
	json_auto_t *target_doc = NULL;
	int rc = targets_get_blocking(r->server, target, &target_doc, e);
	if (rc)
		return rc;
	if (!control_is_connected_anythread(r->server->control, target))
		return session_offline(target_doc, out, e);
	return endpoint_text_check_agent(target_doc, json_object_get(r->doc, "allow"), e);
}

/* ---- the row ---- */

struct claim {
	bool busy;
	struct attach_decision ending;
};

static void claim_row(struct session_live *row, void *arg)
{
	struct claim *c = arg;
	if (row->end_code) {
		c->ending.close_code = row->end_code;
		text_print(c->ending.text, sizeof c->ending.text, "%s", row->end_text);
		return;
	}
	c->busy = row->resuming;
	if (row->resuming)
		return;
	row->resuming = true;
	row->held_code = 0;
}

static int claim(struct resume *r, struct session_started *out, struct err *e)
{
	struct claim c = { .busy = false };
	if (!session_table_change(r->server->sessions->live, r->session, claim_row, &c))
		return err_set(e, ERR_UNAVAILABLE, "session %s ends or is being taken in, try again", r->session);
	if (c.ending.close_code)
		return closed(&c.ending, out, e);
	return c.busy ? err_set(e, ERR_CONFLICT, "another client resumes the session at this moment") : 0;
}

static void release_row(struct session_live *row, void *arg)
{
	unsigned *held_code = arg;
	*held_code = row->held_code;
	row->resuming = false;
	row->held_code = 0;
}

/* An end by the old client that came meanwhile counts if he still is the client. */
static void release(struct resume *r, bool resumed)
{
	unsigned held_code = 0;
	struct err e;
	session_table_change(r->server->sessions->live, r->session, release_row, &held_code);
	if (held_code && !resumed)
		sessions_end_generation_blocking(r->server, r->session, r->generation - 1, held_code,
						 "one of its ends closed the session", "server", &e);
}

static void renew_row(struct session_live *row, void *arg)
{
	const struct resume *r = arg;
	session_row_times(row, r->doc);
	row->generation = r->generation;
	snprintf(row->client_address, sizeof row->client_address, "%s", r->remote_address);
	snprintf(row->credential, sizeof row->credential, "%s", r->id->credential);
	row->accepted = false;
	row->missing_mono_ms = 0;
	row->here_mono_ms = row->active_mono_ms = clock_mono_ms();
}

/* ---- the record ---- */

static int change_to_resumed(void *arg, json_t *doc, struct err *e)
{
	const struct resume *r = arg;
	char hash[SESSION_TOKEN_HASH];
	if (record_ended(doc))
		return err_set(e, ERR_CLOSED, "the session has ended: %.200s", record_end_text(doc));
	if (json_is_true(json_object_get(doc, "unfinished")))
		return err_set(e, ERR_UNAVAILABLE, "the session is being started or resumed, try again");
	if (record_generation(doc) != r->generation - 1)
		return err_set(e, ERR_CONFLICT, "another client resumed the session in between");
	int rc = session_home_check(r->server, doc, e);
	if (rc)
		return rc;
	record_retire_tokens(doc);
	json_object_set_new(doc, "client_token", json_string(r->client_hash));
	record_hash_token(r->target_token, hash);
	json_object_set_new(doc, "target_token", json_string(hash));
	json_object_set_new(doc, "client_pin", json_string(r->client_pin));
	json_object_set_new(doc, "generation", json_integer(r->generation));
	record_take_identity(doc, r->id);
	record_owe(r->server, doc);
	json_object_set_new(doc, "resume_owed",
			    json_pack("{s:I, s:s, s:s}", "generation", (json_int_t)r->generation, "remote_address",
				      r->remote_address, "credential", r->id->credential));
	return 0;
}

static int write_record(struct resume *r, struct session_started *out, struct err *e)
{
	json_t *now = NULL;
	r->generation = record_generation(r->doc) + 1;
	int rc = 0;
	if (json_object_get(r->doc, "resume_owed")) /* of an earlier one, which could not be written */
		rc = session_settle_blocking(r->server, r->session, false, NULL, e);
	if (rc == 0)
		rc = record_change_blocking(r->server, r->session, change_to_resumed, r, &now, e);
	if (rc == 0) {
		json_decref(r->doc);
		r->doc = now;
	} else if (rc == ERR_CLOSED) {
		json_auto_t *doc = NULL;
		struct err why;
		if (record_get_blocking(r->server, r->session, &doc, NULL, &why) == 0)
			out->ended = record_end_view(doc);
	}
	return rc;
}

/* From here the old client has lost the session, whatever fails. */
static int hand_over(struct resume *r, struct err *e)
{
	struct sessions *s = r->server->sessions;
	session_table_change(s->live, r->session, renew_row, r);
	relay_renew_anythread(r->server->relay, r->session, r->generation);
	if (session_settle_blocking(r->server, r->session, true, NULL, e))
		return err_set(e, ERR_UNAVAILABLE, "the resumption could not be recorded, try again");
	session_table_keep_token(s->live, r->session, r->target_token);
	/* An agent that has gone in between is offered it when it is back. */
	session_send_offer(r->server, r->doc, r->target_token);
	return session_judge_started_blocking(r->server, r->session, record_text(r->doc, "target"),
					      json_object_get(r->doc, "grant"), e);
}

static int take_over(struct resume *r, struct session_started *out, struct err *e)
{
	int rc = claim(r, out, e);
	if (rc)
		return rc;
	rc = write_record(r, out, e);
	bool resumed = rc == 0;
	if (resumed)
		rc = hand_over(r, e);
	release(r, resumed);
	return rc;
}

static int answer(struct resume *r, struct session_started *out, struct err *e)
{
	out->answer = json_pack("{s:o, s:s, s:s, s:s}", "session", record_view(r->server, r->doc), "token",
				r->client_token, "relay_url", record_text(r->doc, "relay_url"), "target_pin",
				record_text(r->doc, "target_pin"));
	if (!out->answer)
		return err_set(e, ERR_INTERNAL, "the answer could not be made");
	char generation[24];
	snprintf(generation, sizeof generation, "%lld", (long long)r->generation);
	metrics_add(r->server->metrics, METRIC_SESSIONS_RESUMED, 1);
	log_with(LOG_LEVEL_INFO,
		 FIELDS({ "session", r->session }, { "principal", r->id->subject }, { "remote", r->remote_address },
			{ "generation", generation }),
		 "session resumed by a new client");
	return 0;
}

static void make_tokens(struct resume *r)
{
	secret_token(r->target_token);
	if (r->caller->sent_on) {
		snprintf(r->client_hash, sizeof r->client_hash, "%s", r->caller->client_hash);
	} else {
		secret_token(r->client_token);
		record_hash_token(r->client_token, r->client_hash);
	}
}

static int resume_here(struct resume *r, struct session_started *out, struct err *e)
{
	int rc = check_state(r, out, e);
	if (rc == 0)
		rc = judge(r, e);
	if (rc == 0)
		rc = check_agent(r, out, e);
	if (rc == 0)
		rc = take_over(r, out, e);
	return rc ? rc : answer(r, out, e);
}

int session_resume_blocking(struct server *server, const struct session_caller *caller, const char *session,
			    json_t *body, struct session_started *out, struct err *e)
{
	struct resume r = { .server = server,
			    .caller = caller,
			    .id = caller->id,
			    .remote_address = caller->remote_address ? caller->remote_address : "",
			    .session = session };
	const char *node;
	*out = (struct session_started){ .answer = NULL };
	make_tokens(&r);
	int rc = read_request(&r, body, e);
	if (rc == 0)
		rc = find(&r, e);
	if (rc == 0 && !caller->sent_on && session_peers_is_theirs(server, r.doc, &node))
		rc = session_peers_resume_blocking(server, node, caller, session, body, r.client_token, out, e);
	else if (rc == 0)
		rc = resume_here(&r, out, e);
	json_decref(r.doc);
	secret_wipe(r.client_token, sizeof r.client_token);
	secret_wipe(r.target_token, sizeof r.target_token);
	return rc;
}
