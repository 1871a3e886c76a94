/* Agents' control connections. A connection counts from its hello on; before that only its assertion is known. Messages
 * are rows of a table: type, handler. One that cannot be read or is not legal now closes the connection with 4008, an
 * unknown type is a newer agent's and passes.
 *
 * An enrolment may replace the target's keys at any moment. Therefore a connection keeps the pin of the key it came
 * with, hello is taken only while the target still has that key, and is asked again once the connection can be found:
 * whichever of hello and enrolment comes second sees the other. */
#include "server/control_message.h"
#include "server/guesses.h"

#include "base/clock.h"
#include "base/json.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/secret.h"
#include "base/text.h"
#include "ident/key.h"
#include "ident/proof.h"
#include "ident/sshcert.h"
#include "server/audit.h"
#include "server/metrics.h"
#include "server/nodes.h"
#include "server/server.h"
#include "server/session_home.h"
#include "server/session_record.h"
#include "server/sessions.h"
#include "server/store.h"
#include "server/target_key.h"
#include "server/targets.h"

#include <stdlib.h>
#include <string.h>

#define HEARTBEAT_S 5
#define ANSWER_MOST 256u /* bytes */
#define ASSERTION_SKEW_MS 60000

int control_new(struct server *server, struct control **out_control, struct err *e)
{
	struct control *c = calloc(1, sizeof *c);
	if (!c)
		return err_set(e, ERR_NOMEM, "out of memory");
	c->server = server;
	secret_random(c->nonce_key, sizeof c->nonce_key);
	c->agents = agent_table_new(server);
	c->assertions = replay_new(LIMIT_REPLAY, LIMIT_REPLAY_SHARE);
	if (!c->agents || !c->assertions) {
		control_free(&c);
		return err_set(e, ERR_NOMEM, "out of memory");
	}
	*out_control = c;
	return 0;
}

void control_free(struct control **control)
{
	if (!*control)
		return;
	agent_table_free(&(*control)->agents);
	replay_free(&(*control)->assertions);
	free(*control);
	*control = NULL;
}

/* ---- who is it ---- */

static void refuse(struct control_decision *out, unsigned code, const char *fmt, ...) PRINTF_LIKE(3, 4);
static void refuse(struct control_decision *out, unsigned code, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	text_vprint(out->text, sizeof out->text, fmt, ap);
	va_end(ap);
	out->close_code = code;
}

struct assertion {
	char pin[KEY_PIN_TEXT], jti[PROOF_JTI_MAX];
	int64_t exp_ms;
};

static int check_signature(const char *assertion, const char *key_text, const char *target, int64_t now_ms,
			   struct assertion *out, struct err *e)
{
	EVP_PKEY *key = NULL;
	unsigned char pin[32];
	int rc = key_from_public_text(key_text, &key, e);
	if (rc == 0)
		rc = proof_check_assertion(assertion, key, target, "tunnel-server", now_ms, out->jti, &out->exp_ms, e);
	if (rc == 0)
		rc = key_pin(key, pin, e);
	if (rc == 0)
		key_pin_text(pin, out->pin);
	EVP_PKEY_free(key);
	return rc;
}

static void check_assertion(struct server *server, const char *assertion, const json_t *doc, const char *target,
			    struct control_decision *out)
{
	struct assertion a;
	struct err e, next;
	int64_t now_ms = clock_wall_ms();
	const char *next_key = record_text(doc, "next_identity_key");
	int rc = check_signature(assertion, record_text(doc, "identity_key"), target, now_ms, &a, &e);
	if (rc == ERR_DENIED && *next_key) {
		rc = check_signature(assertion, next_key, target, now_ms, &a, &next);
		e = rc == ERR_DENIED ? e : next;
	}
	if (rc) {
		refuse(out,
		       rc == ERR_TIMEOUT                       ? 4402
		       : rc == ERR_DENIED || rc == ERR_INVALID ? 4401
							       : 4503,
		       "%.250s", e.text);
		return;
	}
	memcpy(out->identity, a.pin, sizeof out->identity);
	enum replay_result seen = replay_check(server->control->assertions, target, strlen(target), a.jti,
					       a.exp_ms + ASSERTION_SKEW_MS, now_ms);
	if (seen == REPLAY_SEEN)
		refuse(out, 4401, "assertion: its jti was used before");
	else if (seen == REPLAY_FULL)
		refuse(out, 4503, "too many assertions at once, try again");
}

static void authorize(struct server *server, const char *assertion, struct control_decision *out)
{
	json_auto_t *doc = NULL;
	char target[65];
	struct err e;
	if (atomic_load(&server->draining)) {
		refuse(out, 4503, "this node is going away, connect elsewhere or later");
		return;
	}
	if (proof_assertion_target(assertion, target, &e) || !text_is_id(target)) {
		refuse(out, 4401, "the credential is not an agent's assertion");
		return;
	}
	int rc = targets_get_blocking(server, target, &doc, &e);
	if (rc == ERR_NOT_FOUND)
		refuse(out, 4403, "target %s is not enrolled (any more)", target);
	else if (rc)
		refuse(out, 4503, "the target could not be looked up, try again: %.180s", e.text);
	else
		check_assertion(server, assertion, doc, target, out);
	if (out->close_code == 0)
		memcpy(out->target, target, sizeof out->target);
}

void control_authorize_blocking(struct server *server, const char *assertion, const char *remote_address,
				struct control_decision *out)
{
	char target[65], text[160];
	struct guess who = { .kind = GUESS_AGENT, .address = remote_address };
	struct err e;
	*out = (struct control_decision){ .close_code = 0 };
	if (proof_assertion_target(assertion, target, &e) == 0 && text_is_id(target))
		who.credential = target;
	int64_t wait_s = guess_wait_s(server, &who);
	if (wait_s) {
		refuse(out, 4503, "%s", guess_wait_text(wait_s, text, sizeof text));
		return;
	}
	authorize(server, assertion, out);
	if (out->close_code == 0)
		guess_right(server, &who);
	if (out->close_code == 4401 || out->close_code == 4403)
		guess_wrong_blocking(server, &who);
	if (out->close_code == 0)
		return;
	metrics_add(server->metrics, METRIC_AUTH_DENIED, 1);
	log_with(LOG_LEVEL_WARN, FIELDS({ "remote", remote_address }, { "reason", out->text }), "an agent was refused");
}

/* ---- messages ---- */

/* Those that are keys, in the one spelling: clients copy them into known_hosts files. */
static json_t *plain_keys(struct message *m, const json_t *keys)
{
	json_t *out = json_array();
	for (size_t i = 0; i < json_array_size(keys); i++) {
		char key[SSHCERT_KEY_TEXT];
		struct err e;
		if (sshkey_check_public(json_string_value(json_array_get(keys, i)), key, &e) == 0)
			json_array_append_new(out, json_string(key));
		else
			log_with(LOG_LEVEL_WARN, FIELDS({ "target", m->target }, { "error", e.text }),
				 "a host key of the agent's is left out");
	}
	return out;
}

static json_t *server_urls(const struct server *server)
{
	const struct conf_strings *urls = &server->settings->server_urls;
	json_t *out = json_array();
	for (size_t i = 0; i < urls->n; i++)
		json_array_append_new(out, json_string(urls->at[i]));
	if (urls->n == 0)
		json_array_append_new(out, json_string(server->public_url));
	return out;
}

static int read_hello(struct message *m, struct targets_agent *out, json_t *out_running)
{
	json_t *sessions = NULL;
	const struct json_field fields[] = {
		{ "version", JSON_FIELD_STRING, true, 1, LIMIT_ID, &out->version },
		{ "ssh_host_keys", JSON_FIELD_STRINGS, true, 0, LIMIT_HOST_KEYS, &out->ssh_host_keys },
		{ "ssh_loopback", JSON_FIELD_BOOL, false, 0, 0, &out->ssh_loopback },
		{ "features", JSON_FIELD_STRINGS, false, 0, LIMIT_AGENT_FEATURES, &out->features },
		{ "sessions", JSON_FIELD_ARRAY, true, 0, LIMIT_AGENT_SESSIONS, &sessions },
		{ .name = NULL },
	};
	int rc = json_read(m->json, "hello", false, fields, &m->e);
	if (rc == 0)
		rc = targets_check_version(out->version, &m->e);
	for (size_t i = 0; rc == 0 && i < json_array_size(sessions); i++) {
		const char *id = NULL;
		int64_t generation = 1;
		const struct json_field one[] = { { "id", JSON_FIELD_STRING, true, 1, LIMIT_ID, &id },
						  CONTROL_GENERATION(&generation),
						  { .name = NULL } };
		rc = json_read(json_array_get(sessions, i), "hello.sessions", false, one, &m->e);
		if (rc == 0 && !text_is_id(id))
			rc = err_set(&m->e, ERR_PROTOCOL, "hello.sessions[%zu].id: not a session id", i);
		if (rc == 0)
			json_array_append_new(out_running,
					      json_pack("{s:s, s:I}", "id", id, "generation", (json_int_t)generation));
	}
	return rc;
}

static int load_seq(struct message *m, uint64_t *out_seq)
{
	json_auto_t *doc = NULL;
	int rc = store_get_blocking(m->server->store, "reports", m->target, &doc, NULL, &m->e);
	/* Numbers of an agent with another key mean nothing to this one. */
	if (rc == 0 && strcmp(record_text(doc, "identity"), m->identity) == 0)
		*out_seq = (uint64_t)record_int(doc, "last");
	return rc == ERR_NOT_FOUND ? 0 : rc;
}

static void audit_agent(struct message *m, const char *event, const char *key, const char *value)
{
	audit_note_blocking(m->server->audit, event,
			    json_pack("{s:s, s:s}", "target", m->target, key, value ? value : ""));
}

static int welcome(struct message *m, const json_t *keys, uint64_t last_seq, uint64_t *out_ssh)
{
	wsconn_id old = 0;
	char nonce[CONTROL_NONCE];
	control_nonce(m->control, m->conn, nonce);
	json_auto_t *json = control_ssh_message(m->server, "welcome", m->target, keys, out_ssh);
	json_auto_t *more = json_pack("{s:s, s:s, s:i, s:o}", "nonce", nonce, "node", m->server->node, "heartbeat_s",
				      HEARTBEAT_S, "server_urls", server_urls(m->server));
	char *text = json && more && json_object_update(json, more) == 0 ? json_text(json) : NULL;
	bool ok = text && agent_table_set(m->control->agents, m->target, m->conn, m->identity, last_seq, text, &old);
	free(text);
	if (!ok)
		return err_set(&m->e, ERR_UNAVAILABLE, "out of memory");
	if (old)
		wsconn_close_anythread(m->server, old, 4001, "a newer connection of the same target took its place");
	metrics_set(m->server->metrics, METRIC_AGENTS_CONNECTED, (int64_t)agent_table_count(m->control->agents));
	return 0;
}

static int still_enrolled(struct message *m)
{
	int rc = control_check_sender_blocking(m);
	if (rc)
		agent_table_remove(m->control->agents, m->target, m->conn);
	return rc;
}

static int on_hello(struct message *m)
{
	struct targets_agent agent = { .version = NULL };
	uint64_t last_seq = 0, ssh = 0;
	bool changed = false;
	json_auto_t *running = json_array();
	if (agent_table_get(m->control->agents, m->target) == m->conn)
		return err_set(&m->e, ERR_PROTOCOL, "a second hello");
	int rc = read_hello(m, &agent, running);
	if (rc)
		return rc;
	json_auto_t *plain = plain_keys(m, agent.ssh_host_keys);
	agent.ssh_host_keys = plain;
	rc = targets_seen_blocking(m->server, m->target, m->identity, m->conn, &agent, &changed, &m->e);
	if (rc == 0)
		rc = load_seq(m, &last_seq);
	if (rc == 0)
		rc = welcome(m, plain, last_seq, &ssh);
	if (changed)
		control_tell_target_changed_blocking(m->server, m->target);
	if (rc == 0)
		rc = still_enrolled(m);
	if (rc)
		return rc == ERR_NOT_FOUND || rc == ERR_DENIED
			       ? rc
			       : err_set(&m->e, ERR_UNAVAILABLE, "the hello could not be recorded");
	log_with(LOG_LEVEL_INFO, FIELDS({ "target", m->target }, { "version", agent.version }), "agent connected");
	audit_agent(m, "agent.connect", "version", agent.version);
	control_tell_ssh_blocking(m->server, m->target, ssh);
	session_home_take_blocking(m->server, m->target);
	sessions_on_agent_blocking(m->server, m->target, running);
	return 0;
}

/* Its assertion is right, or nothing of it would be read: that, and the time, is all that who checks an agent's setup
 * wants to know. It takes no place in the table. */
static int on_check(struct message *m)
{
	char text[64];
	snprintf(text, sizeof text, "{\"type\":\"clock\",\"now_ms\":%lld}", (long long)clock_wall_ms());
	wsconn_send_text_anythread(m->server, m->conn, text);
	return 0;
}

static int on_accepted(struct message *m)
{
	const char *session = NULL;
	int64_t generation = 1;
	const struct json_field fields[] = { { "session", JSON_FIELD_STRING, true, 1, LIMIT_ID, &session },
					     CONTROL_GENERATION(&generation),
					     { .name = NULL } };
	int rc = json_read(m->json, "accepted", false, fields, &m->e);
	if (rc == 0)
		sessions_on_accepted_anythread(m->server->sessions, session, generation, m->target);
	return rc;
}

/* The answer to a terminate, once nothing of the session runs there. */
static int on_terminated(struct message *m)
{
	const char *session = NULL;
	const struct json_field fields[] = { { "session", JSON_FIELD_STRING, true, 1, LIMIT_ID, &session },
					     { .name = NULL } };
	int rc = json_read(m->json, "terminated", false, fields, &m->e);
	if (rc == 0)
		sessions_on_terminated_anythread(m->server->sessions, session, m->target);
	return rc;
}

bool control_on_answer_anythread(struct server *server, wsconn_id conn, const char *target, const char *text,
				 size_t len)
{
	static const char begin[] = "{\"type\":\"terminated\",";
	struct message m = { .server = server, .control = server->control, .conn = conn, .target = target };
	if (len < sizeof begin - 1 || len > ANSWER_MOST || memcmp(text, begin, sizeof begin - 1) != 0 ||
	    agent_table_get(server->control->agents, target) != conn || json_parse(text, len, &m.json, &m.e) != 0)
		return false; /* whatever is wrong with it is told in its turn */
	bool taken = on_terminated(&m) == 0;
	json_decref(m.json);
	return taken;
}

static const struct {
	const char *type;
	int (*handle)(struct message *m);
	bool before_hello;
	bool gathers; /* with others of its kind; all other messages find written what came before them */
} messages[] = {
	{ "hello", on_hello, true, false },
	{ "check", on_check, true, false },
	{ "accepted", on_accepted, false, false },
	{ "refused", control_on_refused, false, false },
	{ "terminated", on_terminated, false, false },
	{ "stream-opened", control_on_stream_opened, false, true },
	{ "stream-closed", control_on_stream_closed, false, true },
	{ "session-closed", control_on_session_closed, false, false },
	{ "rotate", control_on_rotate, false, false },
};

static int dispatch(struct message *m)
{
	const char *type = json_string_value(json_object_get(m->json, "type"));
	bool in = agent_table_get(m->control->agents, m->target) == m->conn;
	if (!type)
		return err_set(&m->e, ERR_PROTOCOL, "a message without type");
	for (size_t i = 0; i < sizeof messages / sizeof *messages; i++)
		if (strcmp(messages[i].type, type) == 0) {
			if (!in && !messages[i].before_hello)
				return err_set(&m->e, ERR_PROTOCOL, "%s before hello", type);
			int rc = messages[i].gathers ? 0 : control_reports_write_blocking(m);
			return rc ? rc : messages[i].handle(m);
		}
	return in ? 0 : err_set(&m->e, ERR_PROTOCOL, "%.32s before hello", type);
}

static unsigned close_code_of(int rc)
{
	switch (rc) {
	case ERR_INVALID:
	case ERR_PROTOCOL:
		return 4008;
	case ERR_NOT_FOUND:
	case ERR_DENIED:
		return 4403;
	default:
		return 4503;
	}
}

bool control_is_report(const char *text, size_t len)
{
	static const char begin[] = "{\"type\":\"stream-";
	return len >= sizeof begin - 1 && memcmp(text, begin, sizeof begin - 1) == 0;
}

/* From its id's first letter, with the length; NULL: it is not written as our agents write it. */
static const char *session_of(const char *text, size_t len, size_t *out_len)
{
	static const char key[] = "\"session\":\"";
	const char *at = memmem(text, len, key, sizeof key - 1), *end;
	if (!at)
		return NULL;
	at += sizeof key - 1;
	end = memchr(at, '"', len - (size_t)(at - text));
	*out_len = end ? (size_t)(end - at) : 0;
	return end ? at : NULL;
}

bool control_same_session(const char *a, size_t a_len, const char *b, size_t b_len)
{
	size_t a_n, b_n;
	a = session_of(a, a_len, &a_n);
	b = session_of(b, b_len, &b_n);
	return a && b && a_n == b_n && memcmp(a, b, a_n) == 0;
}

static int take_text(struct message *m, const struct control_text *text)
{
	json_auto_t *json = NULL;
	int rc = json_parse(text->at, text->len, &json, &m->e);
	m->json = json;
	if (rc == 0)
		rc = dispatch(m);
	m->json = NULL;
	return rc;
}

/* Up to one that cannot be taken. What was gathered before that one is taken. */
static int take_texts(struct message *m, const struct control_text *texts, size_t n)
{
	int rc = 0;
	for (size_t i = 0; rc == 0 && i < n; i++)
		rc = take_text(m, &texts[i]);
	struct err why = m->e;
	int written = control_reports_write_blocking(m);
	if (written)
		return written;
	m->e = why;
	return rc;
}

void control_on_texts_blocking(struct server *server, wsconn_id conn, const char *target, const char *identity,
			       const struct control_text *texts, size_t n)
{
	struct control_reports reports = { .n = 0 };
	struct message m = { .server = server,
			     .control = server->control,
			     .conn = conn,
			     .target = target,
			     .identity = identity,
			     .reports = &reports };
	/* It is being closed. A report that is taken behind one that was not makes the agent forget both. */
	if (agent_table_has_failed(m.control->agents, target, conn))
		return;
	int rc = take_texts(&m, texts, n);
	if (rc == 0)
		return;
	agent_table_set_failed(m.control->agents, target, conn);
	/* Also when the store is away: the agent keeps what was not acknowledged and comes back with it. */
	log_with(LOG_LEVEL_WARN, FIELDS({ "target", target }, { "reason", m.e.text }),
		 "an agent's message could not be taken, its connection is closed");
	wsconn_close_anythread(server, conn, close_code_of(rc), m.e.text);
}

static void agent_left(struct server *server, wsconn_id conn, const char *target, const char *why)
{
	struct message m = { .server = server, .control = server->control, .conn = conn, .target = target };
	metrics_set(server->metrics, METRIC_AGENTS_CONNECTED, (int64_t)agent_table_count(server->control->agents));
	log_with(LOG_LEVEL_INFO, FIELDS({ "target", target }, { "reason", why }), "agent disconnected");
	sessions_on_agent_gone_anythread(server->sessions, target);
	int rc = targets_seen_blocking(server, target, NULL, conn, NULL, NULL, &m.e);
	if (rc && rc != ERR_NOT_FOUND)
		log_with(LOG_LEVEL_ERROR, FIELDS({ "target", target }, { "error", m.e.text }),
			 "the target's record could not say that its agent is gone");
	audit_agent(&m, "agent.disconnect", "reason", why);
}

void control_on_closed_blocking(struct server *server, wsconn_id conn, const char *target, const char *why)
{
	if (agent_table_remove(server->control->agents, target, conn))
		agent_left(server, conn, target, why);
}

/* ---- for the others ---- */

bool control_is_connected_anythread(struct control *control, const char *target)
{
	return agent_table_get(control->agents, target) != 0;
}

size_t control_sessions_anythread(struct control *control, const char *target)
{
	return sessions_count_anythread(control->server->sessions, target) +
	       nodes_sessions(control->server->nodes, target);
}

size_t control_agents_anythread(struct control *control)
{
	return agent_table_count(control->agents);
}

bool control_send_anythread(struct control *control, const char *target, const json_t *message)
{
	char *text = json_text(message);
	bool sent = text && agent_table_send(control->agents, target, text);
	free(text);
	return sent;
}

void control_drop_blocking(struct server *server, wsconn_id conn, const char *target, unsigned code, const char *reason)
{
	if (!agent_table_remove(server->control->agents, target, conn))
		return;
	wsconn_close_anythread(server, conn, code, reason);
	agent_left(server, conn, target, reason);
}

void control_disconnect_blocking(struct server *server, const char *target, unsigned code, const char *reason)
{
	wsconn_id conn = agent_table_get(server->control->agents, target);
	if (conn)
		control_drop_blocking(server, conn, target, code, reason);
}

void control_drain_anythread(struct control *control)
{
	agent_table_send_all(control->agents, "{\"type\":\"drain\"}");
}
