/* Each operation has its two sides here, one below the other: what is put into the question, and what is done with it.
 * A question carries the caller's identity as the asking node has established it. No secret is in a question or an
 * answer: of a client's token it has the hash, and the token of the offer is made where the agent is. */
#include "server/session_peers.h"

#include "base/clock.h"
#include "base/json.h"
#include "base/text.h"
#include "server/control.h"
#include "server/nodes.h"
#include "server/revocations.h"
#include "server/server.h"
#include "server/session_home.h"
#include "server/session_record.h"
#include "server/session_renew.h"
#include "server/session_state.h"

#include <stdlib.h>
#include <string.h>

#define START_MS 8000 /* of the 12 s that an API call has */
#define END_MS 3000
#define REVOKE_MS 9500 /* longer than what the other node waits for */
#define AGAIN_MS 2000

bool session_peers_is_theirs(struct server *server, const json_t *record, const char **out_node)
{
	*out_node = record_text(record, "node");
	return strcmp(*out_node, server->node) != 0 && nodes_lives(server->nodes, *out_node);
}

/* ---- starting and resuming ---- */

/* client_token NULL: what is asked for gives out none. */
static json_t *question_of(const struct session_caller *caller, const char *session, const json_t *body,
			   const char *client_token)
{
	const struct identity *id = caller->id;
	char hash[SESSION_TOKEN_HASH] = "";
	if (client_token)
		record_hash_token(client_token, hash);
	return json_pack("{s:{s:s, s:s, s:s, s:O, s:O, s:I}, s:s, s:s, s:O?, s:s}", "identity", "principal",
			 id->subject, "credential", id->credential, "provider", id->provider, "groups", id->groups,
			 "claims", id->claims, "identity_expires_ms", (json_int_t)id->expires_ms, "remote_address",
			 caller->remote_address, "session", session, "body", body, "client_hash", hash);
}

static json_t *answer_of(int rc, const struct session_started *started, const struct err *e)
{
	return json_pack("{s:i, s:s, s:O?, s:O?, s:O?}", "rc", rc, "text", rc ? e->text : "", "answer", started->answer,
			 "offline", started->offline, "ended", started->ended);
}

static int read_caller(const json_t *question, struct identity *id, struct session_caller *out, struct err *e)
{
	*out = (struct session_caller){ .id = id,
					.remote_address = record_text(question, "remote_address"),
					.sent_on = true,
					.request_hash = record_text(question, "request_hash"),
					.client_hash = record_text(question, "client_hash") };
	return record_identity(json_object_get(question, "identity"), id, e);
}

static json_t *member(const json_t *answer, const char *name)
{
	json_t *value = json_object_get(answer, name);
	return json_is_object(value) ? json_incref(value) : NULL;
}

static int ask_to_start(struct server *server, const char *node, const char *op, json_t *question,
			const char *client_token, struct session_started *out, struct err *e)
{
	json_auto_t *answer = NULL;
	int rc = question ? peers_ask_blocking(server->peers, node, op, question, START_MS, &answer, e)
			  : err_set(e, ERR_NOMEM, "out of memory");
	json_decref(question);
	if (rc)
		return rc;
	*out = (struct session_started){ .answer = member(answer, "answer"),
					 .offline = member(answer, "offline"),
					 .ended = member(answer, "ended") };
	rc = (int)record_int(answer, "rc");
	if (rc)
		return err_set(e, rc, "%s", record_text(answer, "text"));
	if (!out->answer)
		return err_set(e, ERR_INTERNAL, "node %.64s gave an answer that says nothing", node);
	json_object_set_new(out->answer, "token", json_string(client_token));
	return 0;
}

int session_peers_start_blocking(struct server *server, const char *node, const struct session_caller *caller,
				 const json_t *body, const char *request_hash, const char *client_token,
				 struct session_started *out, struct err *e)
{
	json_t *question = question_of(caller, "", body, client_token);
	json_object_set_new(question, "request_hash", json_string(request_hash));
	return ask_to_start(server, node, "start", question, client_token, out, e);
}

static json_t *answer_start(struct server *server, const json_t *question)
{
	struct identity id = { .groups = NULL };
	struct session_caller caller;
	struct session_started started = { .answer = NULL };
	struct err e;
	int rc = read_caller(question, &id, &caller, &e);
	if (rc == 0)
		rc = session_start_blocking(server, &caller, json_object_get(question, "body"), &started, &e);
	json_t *answer = answer_of(rc, &started, &e);
	session_started_free(&started);
	identity_free(&id);
	return answer;
}

int session_peers_resume_blocking(struct server *server, const char *node, const struct session_caller *caller,
				  const char *session, const json_t *body, const char *client_token,
				  struct session_started *out, struct err *e)
{
	return ask_to_start(server, node, "resume", question_of(caller, session, body, client_token), client_token, out,
			    e);
}

static json_t *answer_resume(struct server *server, const json_t *question)
{
	struct identity id = { .groups = NULL };
	struct session_caller caller;
	struct session_started started = { .answer = NULL };
	struct err e;
	int rc = read_caller(question, &id, &caller, &e);
	if (rc == 0)
		rc = session_resume_blocking(server, &caller, record_text(question, "session"),
					     json_object_get(question, "body"), &started, &e);
	json_t *answer = answer_of(rc, &started, &e);
	session_started_free(&started);
	identity_free(&id);
	return answer;
}

/* ---- renewing ---- */

int session_peers_renew_blocking(struct server *server, const char *node, const struct session_caller *caller,
				 const char *session, json_t **out_record, json_t **out_end, struct err *e)
{
	json_auto_t *question = question_of(caller, session, NULL, NULL);
	json_auto_t *answer = NULL;
	int rc = question ? peers_ask_blocking(server->peers, node, "renew", question, START_MS, &answer, e)
			  : err_set(e, ERR_NOMEM, "out of memory");
	if (rc)
		return rc;
	*out_end = member(answer, "ended");
	rc = (int)record_int(answer, "rc");
	return rc ? err_set(e, rc, "%s", record_text(answer, "text"))
		  : record_get_blocking(server, session, out_record, NULL, e);
}

static json_t *answer_renew(struct server *server, const json_t *question)
{
	struct identity id = { .groups = NULL };
	struct session_caller caller;
	json_auto_t *record = NULL;
	json_auto_t *end = NULL;
	struct err e;
	int rc = read_caller(question, &id, &caller, &e);
	if (rc == 0)
		rc = session_renew_blocking(server, &caller, record_text(question, "session"), &record, &end, &e);
	identity_free(&id);
	return json_pack("{s:i, s:s, s:O?}", "rc", rc, "text", rc ? e.text : "", "ended", end);
}

/* ---- ending ---- */

int session_peers_end_blocking(struct server *server, const json_t *record, int64_t generation, unsigned code,
			       const char *text, const char *by, struct err *e)
{
	const char *id = record_text(record, "id"), *node;
	json_auto_t *question = json_pack("{s:s, s:I, s:i, s:s, s:s}", "session", id, "generation",
					  (json_int_t)generation, "code", (int)code, "text", text, "by", by);
	json_auto_t *answer = NULL;
	if (session_peers_is_theirs(server, record, &node) && question &&
	    peers_ask_blocking(server->peers, node, "end", question, END_MS, &answer, e) == 0) {
		int rc = (int)record_int(answer, "rc");
		return rc ? err_set(e, rc, "%s", record_text(answer, "text")) : 0;
	}
	return sessions_end_generation_blocking(server, id, generation, code, text, by, e);
}

static json_t *answer_end(struct server *server, const json_t *question)
{
	struct err e;
	int rc = sessions_end_generation_blocking(
		server, record_text(question, "session"), record_int(question, "generation"),
		(unsigned)record_int(question, "code"), record_text(question, "text"), record_text(question, "by"), &e);
	return json_pack("{s:i, s:s}", "rc", rc, "text", rc ? e.text : "");
}

void session_tell_ended_blocking(struct server *server, const json_t *record)
{
	const char *node;
	json_auto_t *body = json_pack("{s:s}", "session", record_text(record, "id"));
	if (session_peers_is_theirs(server, record, &node))
		peers_tell_blocking(server->peers, node, "ended", body);
}

/* It has ended by its record; here it may not know. */
static json_t *answer_ended(struct server *server, const json_t *question)
{
	json_auto_t *record = NULL;
	const char *id = record_text(question, "session");
	struct session_live row;
	struct err e;
	if (session_table_get(server->sessions->live, id, &row) &&
	    record_get_blocking(server, id, &record, NULL, &e) == 0 && record_ended(record))
		sessions_end_blocking(server, id, record_end_code(record), record_end_text(record), "server", &e);
	return json_object();
}

/* ---- revoking ---- */

/* recorded: it is in the store. */
static json_t *ask_of(const struct session_revocation *what, bool recorded)
{
	return json_pack("{s:s*, s:s*, s:s*, s:s*, s:s, s:s, s:b}", "principal", what->principal, "credential",
			 what->credential, "session", what->session, "target", what->target, "text", what->text, "by",
			 what->by, "recorded", recorded);
}

static const char *text_or_null(const json_t *question, const char *name)
{
	return json_string_value(json_object_get(question, name));
}

static json_t *answer_revoke(struct server *server, const json_t *question)
{
	const struct session_revocation what = { .principal = text_or_null(question, "principal"),
						 .credential = text_or_null(question, "credential"),
						 .session = text_or_null(question, "session"),
						 .target = text_or_null(question, "target"),
						 .text = record_text(question, "text"),
						 .by = record_text(question, "by") };
	bool changed;
	struct err e;
	if (!!what.principal + !!what.credential + !!what.session != 1)
		return NULL;
	/* Then it is in force here before anything is ended, so nothing starts behind it. The message about it may be
	 * late. Without that there is no answer: it would say so. */
	if (json_is_true(json_object_get(question, "recorded")) &&
	    revocations_reload_blocking(server->revocations, &changed, &e) != 0)
		return NULL;
	struct revoking *revoking = sessions_revoke_begin_anythread(server, &what);
	return sessions_revoke_finish_blocking(&revoking);
}

static void add(json_t *sum, const json_t *one)
{
	static const char *const lists[] = { "unreached", "unconfirmed" };
	json_object_set_new(sum, "sessions", json_integer(record_int(sum, "sessions") + record_int(one, "sessions")));
	for (size_t i = 0; i < sizeof lists / sizeof *lists; i++)
		json_array_extend(json_object_get(sum, lists[i]), json_object_get(one, lists[i]));
}

/* A session's own node revokes it; NULL: it is this one, or does not answer, and is then in silent. */
static json_t *revoke_there(struct server *server, const struct session_revocation *what, json_t *silent)
{
	json_auto_t *record = NULL;
	json_auto_t *question = ask_of(what, false);
	json_t *answer = NULL;
	const char *node;
	struct err e;
	if (record_get_blocking(server, what->session, &record, NULL, &e) != 0 ||
	    !session_peers_is_theirs(server, record, &node))
		return NULL;
	if (peers_ask_blocking(server->peers, node, "revoke", question, REVOKE_MS, &answer, &e) == 0)
		json_object_set(answer, "silent", silent);
	else
		json_array_append_new(silent, json_string(node));
	return answer;
}

struct revoking_everywhere {
	struct server *server;
	const struct session_revocation *what;
	struct revoking *here;
	json_t *nodes;         /* the others */
	struct peers_ask *ask; /* NULL: nobody was asked */
};

/* Takes out of nodes those who have not answered, and returns them. */
static json_t *without_silent(json_t *nodes, const json_t *answers)
{
	json_t *silent = json_array();
	for (size_t i = json_array_size(nodes); i-- > 0;) {
		json_t *node = json_array_get(nodes, i);
		if (json_object_get(answers, json_string_value(node)))
			continue;
		json_array_append(silent, node);
		json_array_remove(nodes, i);
	}
	return silent;
}

struct revoking_everywhere *session_peers_revoke_begin_blocking(struct server *server,
								const struct session_revocation *what,
								struct revoking **here)
{
	struct revoking_everywhere *r = *here ? calloc(1, sizeof *r) : NULL;
	if (!r) {
		sessions_revoke_free(here);
		return NULL;
	}
	*r = (struct revoking_everywhere){ .server = server, .what = what, .here = *here };
	*here = NULL;
	r->nodes = what->session ? json_array() : nodes_others(server->nodes);
	json_auto_t *question = ask_of(what, false);
	if (json_array_size(r->nodes))
		r->ask = peers_begin_blocking(server->peers, r->nodes, "revoke", question, REVOKE_MS);
	return r;
}

/* What has begun there since they were asked is ended, and nothing begins any more. */
static void ask_again(struct revoking_everywhere *r, json_t *silent)
{
	json_auto_t *question = ask_of(r->what, true);
	struct peers_ask *ask = json_array_size(r->nodes)
					? peers_begin_blocking(r->server->peers, r->nodes, "revoke", question, AGAIN_MS)
					: NULL;
	json_auto_t *answers = ask ? peers_finish_blocking(ask) : NULL;
	json_auto_t *more = without_silent(r->nodes, answers);
	json_array_extend(silent, more);
}

static json_t *finish(struct revoking_everywhere *r, bool recorded)
{
	json_auto_t *silent = json_array();
	json_t *sum = r->what->session ? revoke_there(r->server, r->what, silent) : NULL;
	if (sum)
		return sum;
	int64_t begun_ms = sessions_revoke_begun_ms(r->here);
	sum = sessions_revoke_finish_blocking(&r->here);
	if (r->ask) {
		json_auto_t *answers = peers_finish_blocking(r->ask);
		json_auto_t *none = without_silent(r->nodes, answers);
		json_array_extend(silent, none);
		for (size_t i = 0; sum && i < json_array_size(r->nodes); i++)
			add(sum, json_object_get(answers, json_string_value(json_array_get(r->nodes, i))));
		json_object_set_new(sum, "took_ms", json_integer(clock_mono_ms() - begun_ms));
	}
	if (recorded)
		ask_again(r, silent);
	json_object_set(sum, "silent", silent);
	return sum;
}

json_t *session_peers_revoke_finish_blocking(struct revoking_everywhere **revoking, bool recorded)
{
	struct revoking_everywhere *r = *revoking;
	if (!r)
		return NULL;
	json_t *out = finish(r, recorded);
	sessions_revoke_free(&r->here);
	json_decref(r->nodes);
	free(r);
	*revoking = NULL;
	return out;
}

/* ---- homes ---- */

static json_t *answer_moved(struct server *server, const json_t *question)
{
	const char *target = record_text(question, "target");
	struct err e;
	control_check_target_blocking(server, target, &e);
	session_home_release_blocking(server, target);
	return json_object();
}

static json_t *answer_take(struct server *server, const json_t *question)
{
	session_home_take_late_blocking(server, record_text(question, "target"));
	return json_object();
}

static json_t *answer_target_changed(struct server *server, const json_t *question)
{
	struct err e;
	control_check_target_blocking(server, record_text(question, "target"), &e);
	return json_object();
}

const struct peers_op session_peers_ops[] = {
	{ "start", answer_start }, { "resume", answer_resume }, { "renew", answer_renew },
	{ "end", answer_end },     { "ended", answer_ended },   { "revoke", answer_revoke },
	{ "moved", answer_moved }, { "take", answer_take },     { "target-changed", answer_target_changed },
	{ .name = NULL },
};
